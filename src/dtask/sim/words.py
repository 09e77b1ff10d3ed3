"""Events and answers in a few words, for the trace."""

from typing import Any

from dtask.core.cluster import Event
from dtask.core.placement.events import (
    Ask,
    AskAll,
    Drain,
    Heard,
    Heartbeat,
    Named,
    Placement,
    Refusal,
    Release,
    Released,
)
from dtask.errors import DtaskError


def line(event: Event, answer: Any) -> str:  # noqa: ANN401 (each event has its own answer)
    """What was asked, and what came of it."""
    return f"{_event(event)} -> {_answer(answer)}"


def _event(event: Event) -> str:
    match event:
        case Heartbeat():
            return _heartbeat(event)
        case Ask():
            return _ask(event)
        case AskAll():
            return "all of: " + "; ".join(map(_ask, event.asks))
        case Release():
            return f"release {event.task_id} fence {_short(event.fence)}"
        case Drain():
            return f"{'drain' if event.drained else 'undrain'} {event.worker_id}"
        case _:
            return type(event).__name__


def _heartbeat(beat: Heartbeat) -> str:
    words = [f"beat {beat.worker_id} at {beat.address}", f"max {beat.max_tasks}"]
    if beat.incarnation is not None:
        words.append(f"{beat.incarnation} #{beat.seq}")
    if beat.current_tasks is not None:
        words.append(f"count {beat.current_tasks}")
    if beat.tasks is not None:
        words.append(f"holds [{_names(beat.tasks)}]")
    if beat.ended:
        words.append(f"ended [{_names(beat.ended)}]")
    words.extend(flag for flag in ("draining", "leaving", "drained") if getattr(beat, flag))
    return " ".join(words)


def _names(names: tuple[Named, ...]) -> str:
    return " ".join(f"{task_id}/{_short(fence)}" for task_id, fence in names)


def _ask(ask: Ask) -> str:
    words = [f"ask {ask.task_id}", ",".join(r.text for r in ask.requirements), f"ttl {ask.ttl_s:g}"]
    if ask.excluded:
        words.append(f"not {','.join(ask.excluded)}")
    return " ".join(filter(None, words))


def _answer(answer: Any) -> str:  # noqa: ANN401 (any event's answer)
    match answer:
        case Placement():
            return f"{answer.worker_id} fence {_short(answer.fence)}"
        case list():
            return "; ".join(map(_answer, answer))
        case Refusal():
            return f"no worker: {answer.full} full" + " warming up" * answer.warming_up
        case Released():
            return f"released on {answer.worker_id}"
        case DtaskError():
            return answer.code
        case _:
            return "drained" if isinstance(answer, Heard) and answer.drained else "ok"


def _short(fence: int | None) -> str:
    """The second it was born in and its number there: fences have 16 digits."""
    return "-" if fence is None else f"{(fence >> 20) % 100_000}.{fence & 0xFFFFF}"
