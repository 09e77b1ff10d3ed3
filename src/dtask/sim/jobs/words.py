"""Effects of the job half in a few words, for the trace."""

from dtask.core.jobs.events import (
    ChannelOpened,
    CloseChannel,
    JobForgotten,
    StartAttempt,
    StopAttempt,
    TaskChanged,
)
from dtask.core.jobs.names import Name
from dtask.core.placement.events import WorkerChanged


def line(effect: object) -> str:  # noqa: PLR0911 (a line for each kind)
    """What is done, in a line."""
    match effect:
        case TaskChanged():
            name = Name(effect.job_id, effect.task, effect.index, effect.number)
            words = [str(name), effect.state.value]
            words += [str(word) for word in (effect.cause, effect.worker_id) if word is not None]
            return "  " + " ".join(words)
        case StartAttempt():
            name = Name(effect.job_id, effect.task, effect.index, effect.number)
            return f"  start {name} on {effect.incarnation}, fence {short(effect.fence)}"
        case StopAttempt():
            return f"  stop fence {short(effect.fence)} on {effect.incarnation}"
        case ChannelOpened():
            return f"  channel of {effect.incarnation} opens"
        case CloseChannel():
            return f"  channel of {effect.incarnation} is closed"
        case JobForgotten():
            return f"  job {effect.job_id} is forgotten"
        case WorkerChanged():
            return f"  {effect.worker_id} {effect.change}"
        case _:
            return f"  {type(effect).__name__}"


def short(fence: int) -> str:
    """The second it was born in and its number there: fences have 16 digits."""
    return f"{(fence >> 20) % 100_000}.{fence & 0xFFFFF}"
