"""What becomes of jobs, as lines of the log: one for the end of each, none for each task.

Only attempts that came to nothing by no fault of their task have a line of their own, since that
is about workers. There may be as many of those as the fleet has slots, so they are rationed.
"""

import logging
from typing import Any, Final

from dtask.core.jobs.events import TaskChanged
from dtask.core.jobs.names import attempt_text
from dtask.core.jobs.states import ENDS, Cause, State
from dtask.scheduler import log

#: Lines of attempts a second.
LINES_MAX: Final = 100

#: Jobs with a failure that have not ended, of which the first failure is remembered.
FAILURES_MAX: Final = 10_000

#: Why an attempt came to nothing that its task is not to blame for, and how loud that is.
_SENTENCES: Final = {
    Cause.LOST: (logging.WARNING, "attempt lost with its worker"),
    Cause.WORKER_FAILED: (logging.WARNING, "attempt failed by its worker"),
    Cause.RETURNED: (logging.INFO, "attempt returned by its worker"),
}


class JobLines:
    """Writes them; `perform` is to be called with the core's effects, in order."""

    def __init__(self) -> None:
        self._attempts = log.Rationed("more attempts came to nothing", lines_max=LINES_MAX)
        #: By job: the first task of it that failed.
        self._failed: dict[int, TaskChanged] = {}

    def perform(self, effect: Any) -> None:  # noqa: ANN401 (any effect)
        """Write a line, if this is worth one."""
        if type(effect) is not TaskChanged:
            return
        if effect.task is None:
            if effect.state in ENDS:
                self._end(effect)
        elif effect.cause is not None:
            if effect.state is State.FAILED and len(self._failed) < FAILURES_MAX:
                self._failed.setdefault(effect.job_id, effect)
            if effect.cause in _SENTENCES and effect.state is not State.CANCELLED:
                self._come_to_nothing(effect)

    def _end(self, job: TaskChanged) -> None:
        first = self._failed.pop(job.job_id, None)
        facts = {} if first is None or job.state is not State.FAILED else _of_failure(first)
        level = logging.WARNING if job.state is State.FAILED else logging.INFO
        log.say(
            "job ended", level=level, job_id=job.job_id, state=job.state, queue=job.queue, **facts
        )

    def _come_to_nothing(self, task: TaskChanged) -> None:
        assert task.cause is not None
        level, sentence = _SENTENCES[task.cause]
        self._attempts.say(
            sentence,
            level=level,
            job_id=task.job_id,
            task=task.task,
            attempt=_attempt(task),
            worker_id=task.worker_id,
            cause=task.cause,
            # queued or pending: it runs again; failed: it was given up
            state=task.state,
            error=task.error,
        )


def _of_failure(task: TaskChanged) -> dict[str, Any]:
    """What the end of a job tells of the first of its tasks that failed."""
    return {
        "task": task.task,
        "attempt": _attempt(task),
        "cause": task.cause,
        "exit_code": task.exit_code if task.cause is Cause.EXIT else None,
        "worker_id": task.worker_id,
        "error": task.error,
    }


def _attempt(task: TaskChanged) -> str:
    assert task.task is not None
    return attempt_text(task.job_id, task.task, task.index, task.number)
