"""How tasks end: in words for people, and as the exit code of `dtask run`."""

import signal
from typing import Final

from dtask.cli.escapes import plain
from dtask.client.job_results import AttemptAnswer, ElementAnswer, Event, TaskSummary
from dtask.core.jobs.states import Cause, State

#: Exit codes of `dtask run` where the command itself has none to give; as of `timeout` and `env`.
TIMED_OUT: Final = 124
NOT_RUN: Final = 125
NOT_STARTED: Final = 127
#: Added to the number of the signal that ended the command.
SIGNAL: Final = 128

#: Colours of states.
COLOURS: Final[dict[State, str | None]] = {
    State.PENDING: None,
    State.QUEUED: "yellow",
    State.SCHEDULED: "cyan",
    State.RUNNING: "cyan",
    State.SUCCEEDED: "green",
    State.FAILED: "red",
    State.CANCELLED: "magenta",
    State.SKIPPED: None,
}

#: What a task did that ended for this reason.
_SENTENCES: Final[dict[Cause, str]] = {
    Cause.EXIT: "failed",
    Cause.TIMEOUT: "ran longer than its timeout and was stopped",
    Cause.START_FAILED: "could not be started",
    Cause.WORKER_FAILED: "failed on the worker's side",
    Cause.RESULT_TOO_LARGE: "left a result that is too large",
    Cause.LOST: "was lost with its worker, as often as its crash limit allows",
    Cause.QUEUE_TIMEOUT: "got no slot in the time that it may be queued",
    Cause.STOPPED: "was stopped",
    Cause.RETURNED: "was returned by its worker",
    Cause.UPSTREAM: "was skipped, because what it needs did not succeed",
}

#: How an attempt came to nothing that nobody cancelled; its task runs again.
_CAME_TO_NOTHING: Final[dict[Cause | None, str]] = {
    Cause.LOST: "was lost with its worker",
    Cause.RETURNED: "was returned by its worker",
}

Ended = TaskSummary | ElementAnswer | AttemptAnswer | Event


def shown_state(attempt: AttemptAnswer) -> str:
    """The word for how an attempt stands: `lost` and `returned` are no cancels."""
    if attempt.state is State.CANCELLED and attempt.cause in _CAME_TO_NOTHING:
        return str(attempt.cause)
    return str(attempt.state)


def told(task: Ended) -> str:
    """What an ended task did: `failed with exit code 3`, `was ended by SIGKILL`."""
    if task.state is State.SUCCEEDED:
        return "succeeded"
    code = task.exit_code
    if task.cause in (None, Cause.EXIT) and code:
        said = f"failed with exit code {code}" if code > 0 else f"was ended by {signal_name(-code)}"
    elif task.cause is None:
        return "was skipped" if task.state is State.SKIPPED else f"was {task.state}"
    elif task.state is State.CANCELLED:
        said = _CAME_TO_NOTHING.get(task.cause, "was cancelled")
    elif task.cause is Cause.UPSTREAM and task.error:
        said = "was skipped"
    else:
        said = _SENTENCES[task.cause]
    return f"{said}: {plain(task.error).rstrip('.')}" if task.error else said


def exit_code(task: TaskSummary) -> int:
    """What `dtask run` exits with."""
    if task.state is State.SUCCEEDED:
        return 0
    if task.cause is Cause.TIMEOUT:
        return TIMED_OUT
    if task.cause is Cause.START_FAILED:
        return NOT_STARTED
    if task.state is State.FAILED and task.cause in (None, Cause.EXIT) and task.exit_code:
        return task.exit_code if task.exit_code > 0 else SIGNAL - task.exit_code
    return NOT_RUN


def signal_name(number: int) -> str:
    """`SIGKILL`; of real-time signals the number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
