"""Why does it wait? Each task that has not ended, in words, before anybody asks the logs."""

from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice
from typing import Any, Final, NamedTuple

from dtask.core.jobs.events import Reason, Why
from dtask.core.jobs.job import ENDED, PENDING, QUEUED, Attempt, Element, Job, Task
from dtask.core.jobs.names import attempt_text
from dtask.core.jobs.seats import Seats, Tags
from dtask.core.jobs.states import State

#: Elements that are named one by one; the others of an array are counted.
NAMED_MAX: Final = 20
#: Tasks or jobs that something waits for and that are named.
NEEDS_MAX: Final = 5

#: What each reason of placement's is called: (of workers) one, and several.
_WORKERS = {
    "offline": ("is offline", "are offline"),
    "draining": ("is draining", "are draining"),
    "untrusted": ("heartbeats without the token", "heartbeat without the token"),
    "detached": ("has no open channel", "have no open channel"),
    "full": ("is full", "are full"),
}


class _Look(NamedTuple):
    """What is asked of workers, each demand once, and of the clock."""

    facts: Callable[[Tags], dict[str, Any]]
    incarnation: Callable[[str], str | None]
    now: float


def explain(job: Job, tasks: list[Task], index: int | None, seats: Seats, now: float) -> Why:
    """The reasons of these tasks, or of one element of the first of them, which is there."""
    look = _Look(cache(seats.explain), seats.incarnation, now)
    if index is not None:
        found = _of_index(tasks[0], index, look)
    else:
        found = [reason for task in tasks for reason in _of_task(task, look)]
    return Why(job.job_id, job.state, tuple(found))


def _of_index(task: Task, index: int, look: _Look) -> list[Reason]:
    element = task.elements.get(index)
    if element is not None:
        return [_of_element(element, look)] if element.code not in ENDED else []
    name = attempt_text(task.job.job_id, task.name, index)
    return list(_of_rest(task, name, 1, look)) if index >= task.fresh else []


def _of_task(task: Task, look: _Look) -> Iterator[Reason]:
    """Untouched elements as one, some of the others by name, and how many more there are."""
    yield from _of_rest(task, str(task), task.rest, look)
    left = sum(count for code, count in enumerate(task.counts) if code not in ENDED)
    if task.rest_code() not in ENDED:
        left -= task.rest
    live = (element for element in task.elements.values() if element.code not in ENDED)
    for element in islice(live, min(left, NAMED_MAX)):
        yield _of_element(element, look)
    if left > NAMED_MAX:
        left -= NAMED_MAX
        sentence = f"{left} more elements run or wait; ask for one of them by its index."
        yield Reason(str(task), task.state, "more", sentence, left)


def _of_rest(task: Task, name: str, count: int, look: _Look) -> Iterator[Reason]:
    code = task.rest_code()
    if code == PENDING:
        yield _pending(task, name, count, look.now)
    elif code == QUEUED:
        yield _queued(task, name, count, look)


def _pending(task: Task, name: str, count: int, now: float) -> Reason:
    """Why something is not eligible yet."""
    job = task.job
    until = None
    if job.after:
        names = ", ".join(str(job_id) for job_id in sorted(job.after)[:NEEDS_MAX])
        code, sentence = "after", f"It comes after job {names}, which has not ended."
    elif job.waits_until is not None:
        until = job.waits_until
        ahead = _seconds(until - now)
        code, sentence = "not_before", f"It is not to start before a time that is {ahead} ahead."
    else:
        unmet = (need for need in task.spec.needs if not job.tasks[need].ended)
        shown = ", ".join(f"{need} ({job.tasks[need].state})" for need in islice(unmet, NEEDS_MAX))
        code, sentence = "needs", f"It needs tasks that have not ended: {shown}."
    return Reason(name, State.PENDING, code, sentence, count, until)


def _of_element(element: Element, look: _Look) -> Reason:
    name = str(element)
    if element.attempt is not None:
        return _held(element.attempt, name, look)
    if element.not_before is not None:
        left = _seconds(element.not_before - look.now)
        sentence = (
            f"Attempt {element.number} came to nothing ({element.cause or 'returned'}); the next "
            f"one comes in {left}."
        )
        return Reason(name, State.PENDING, "backoff", sentence, until=element.not_before)
    if element.code == PENDING:
        return _pending(element.task, name, 1, look.now)
    return _queued(element.task, name, 1, look)


def _held(attempt: Attempt, name: str, look: _Look) -> Reason:
    """What its worker does with it."""
    worker = attempt.worker_id
    beyond = "" if look.incarnation(worker) else " Its channel is gone for the moment."
    state = State.SCHEDULED if attempt.started_at is None else State.RUNNING
    if attempt.stopping:
        return Reason(name, state, "stopping", f"Worker {worker} is stopping it.{beyond}")
    if state is State.RUNNING:
        return Reason(name, state, "running", f"It runs on worker {worker}.{beyond}")
    sentence = f"Worker {worker} was given it and has not started it yet.{beyond}"
    return Reason(name, state, "starting", sentence)


def _queued(task: Task, name: str, count: int, look: _Look) -> Reason:
    """Why something eligible has no slot."""
    queue = task.job.queue
    facts: dict[str, Any] = {}
    if queue.paused:
        code, sentence = "paused", f"The queue {queue.name} is paused."
    elif not queue.may_run:
        code = "queue_limit"
        sentence = f"The queue {queue.name} runs {queue.held} at a time, which is its limit."
    else:
        facts = look.facts(task.tags)
        code, sentence = _workers(task, facts)
    return Reason(name, State.QUEUED, code, sentence, count, facts=facts)


def _workers(task: Task, facts: dict[str, Any]) -> tuple[str, str]:
    """What the workers lack, as a code and a sentence."""
    total = facts["workers"]
    wanted = f" ({', '.join(task.tags)})" if task.tags else ""
    if not total:
        return "no_worker", "No worker is known: start one with `dtask-worker`."
    parts = [
        f"{count:,} {_WORKERS[word][count != 1]}"
        for word in _WORKERS
        if (count := facts.get(word, 0))
    ]
    parts += [f"{n:,} lack{'s' * (n == 1)} {tag}" for tag, n in facts["missing"].items()]
    able = facts.get("full", 0)
    if able:
        others = [part for part in parts if " full" not in part]
        rest = f" Of the others, {', '.join(others)}." if others else ""
        workers = "worker that fits is" if able == 1 else f"{able:,} workers that fit are"
        return "full", f"The {workers} full: it waits for a free slot.{rest}"
    if facts.get("free", 0):
        return "turn", "It is about to be given a slot."
    noun = "worker" if total == 1 else "workers"
    sentence = f"No worker can take it{wanted}. Of {total:,} {noun}, {', '.join(parts)}."
    for unknown, near in facts.get("did_you_mean", {}).items():
        sentence += f" No worker has {unknown}: did you mean {' or '.join(near)}?"
    return "no_worker", sentence


def _seconds(seconds: float) -> str:
    """A duration as people say it."""
    seconds = max(0.0, seconds)
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"  # noqa: PLR2004 (one more digit)
