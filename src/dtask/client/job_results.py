"""What the SDK answers about jobs."""

from typing import Any

from dtask.core.jobs.events import QueueView, Reason, Stats, Why
from dtask.core.jobs.states import ENDS, State
from dtask.wire.job_answers import (
    AttemptAnswer,
    ElementAnswer,
    EventAnswer,
    JobAnswer,
    JobSummary,
    TaskAnswer,
    TaskSummary,
)

__all__ = [
    "AttemptAnswer",
    "ElementAnswer",
    "Event",
    "JobResult",
    "JobSummary",
    "QueueView",
    "Reason",
    "Stats",
    "TaskAnswer",
    "TaskFailed",
    "TaskSummary",
    "Why",
]


class TaskFailed(Exception):
    """A task did not succeed, and left nothing that tells more than this."""

    def __init__(self, name: str, task: TaskSummary | ElementAnswer | EventAnswer) -> None:
        super().__init__(name, task)
        #: `42/train`, `42/tile[7]`.
        self.name = name
        self.state = task.state
        self.exit_code = task.exit_code
        self.cause = task.cause
        self.error = task.error

    def __str__(self) -> str:
        return f"{self.name}: {_told(self)}"


class JobResult(JobAnswer, frozen=True, omit_defaults=True):
    """How a job and its tasks stand; the fields of `GET /api/v1/jobs/{job_id}`.

    A state compares with its word: `result.tasks["main"].state == "succeeded"`.
    """

    @property
    def id(self) -> int:
        """The job's number."""
        return self.job_id

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs or will run, unless a retry is asked for."""
        return self.state in ENDS

    @property
    def ok(self) -> bool:
        """Whether all of it succeeded."""
        return self.state is State.SUCCEEDED

    @property
    def exit_code(self) -> int | None:
        """The exit code of a job of one task; None of others, or if it has none."""
        codes = [task.exit_code for task in self.tasks.values()]
        return codes[0] if len(codes) == 1 else None

    def check(self) -> None:
        """Raise TaskFailed for the first task that failed, or else did not succeed."""
        states = (State.FAILED, State.CANCELLED, State.SKIPPED)
        for state in states:
            for name, task in self.tasks.items():
                if task.state is state:
                    raise TaskFailed(f"{self.job_id}/{name}", task)


class Event(EventAnswer, frozen=True, omit_defaults=True):
    """A task, an element or (no task named) a job moved."""

    #: Where to go on after it: `events(after=event.id)`.
    id: str = ""

    @property
    def ended(self) -> bool:
        """Whether what moved has ended."""
        return self.state in ENDS


def _told(failed: Any) -> str:  # noqa: ANN401 (any of the answers that have these fields)
    told = str(failed.state)
    if failed.cause == "exit" and failed.exit_code is not None:
        code = failed.exit_code
        told += f" with exit code {code}" if code >= 0 else f", ended by signal {-code}"
    elif failed.cause is not None:
        told += f" ({failed.cause})"
    return f"{told}: {failed.error}" if failed.error else f"{told}."
