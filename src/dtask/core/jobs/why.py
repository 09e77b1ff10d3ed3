"""Why does it wait? Each task that has not ended, in words, before anybody asks the logs."""

from collections.abc import Iterator
from typing import Any

from dtask.core.jobs.events import Reason, Why
from dtask.core.jobs.job import PENDING, QUEUED, RUNNING, SCHEDULED, Element, Job, Task
from dtask.core.jobs.seats import Seats
from dtask.core.jobs.states import State

#: Elements that are named one by one; the others of an array are counted.
NAMED_MAX = 20

#: What each reason of placement's is called: (of workers) one, and several.
_WORKERS = {
    "offline": ("is offline", "are offline"),
    "draining": ("is draining", "are draining"),
    "untrusted": ("heartbeats without the token", "heartbeat without the token"),
    "detached": ("has no open channel", "have no open channel"),
    "full": ("is full", "are full"),
}


def explain(job: Job, tasks: list[Task], index: int | None, seats: Seats, now: float) -> Why:
    """The reasons of these tasks, or of one element of the first of them."""
    reasons: list[Reason] = []
    for task in tasks:
        reasons.extend(_of_task(task, index, seats, now))
    return Why(job.job_id, job.state, tuple(reasons))


def _of_task(task: Task, index: int | None, seats: Seats, now: float) -> Iterator[Reason]:
    if index is None or index >= task.fresh:
        code = task.rest_code()
        if code == PENDING:
            yield _pending(task, now)
        elif code == QUEUED:
            yield _queued(task, str(task), task.rest, seats)
    named = 0
    for element in list(task.elements.values()):
        if index is not None and element.index != index:
            continue
        if element.code in (PENDING, QUEUED, SCHEDULED, RUNNING):
            named += 1
            if named <= NAMED_MAX:
                yield _of_element(element, seats, now)
    if named > NAMED_MAX:
        yield Reason(
            str(task),
            task.state,
            "more",
            f"{named - NAMED_MAX} more elements run or wait; ask for one of them by its index.",
            count=named - NAMED_MAX,
        )


def _pending(task: Task, now: float) -> Reason:
    """Why untouched elements are not eligible yet."""
    job = task.job
    if job.after:
        names = ", ".join(str(job_id) for job_id in sorted(job.after)[:5])
        sentence = f"It comes after job {names}, which has not ended."
        return _reason(task, "after", sentence)
    if job.waits_until is not None:
        until = job.waits_until
        sentence = f"It is not to start before a time that is {_seconds(until - now)} ahead."
        return _reason(task, "not_before", sentence, until=until)
    unmet = [need for need in task.spec.needs if not job.tasks[need].ended]
    shown = ", ".join(f"{need} ({job.tasks[need].state})" for need in unmet[:5])
    return _reason(task, "needs", f"It needs tasks that have not ended: {shown}.")


def _of_element(element: Element, seats: Seats, now: float) -> Reason:
    task = element.task
    name = str(element)
    attempt = element.attempt
    if attempt is not None:
        state = State.SCHEDULED if attempt.started_at is None else State.RUNNING
        worker = attempt.worker_id
        silent = seats.incarnation(worker) is None
        beyond = " Its channel is gone for the moment." if silent else ""
        if attempt.stopping:
            return Reason(name, state, "stopping", f"Worker {worker} is stopping it.{beyond}")
        if attempt.started_at is None:
            sentence = f"Worker {worker} was given it and has not started it yet.{beyond}"
            return Reason(name, state, "starting", sentence)
        return Reason(name, state, "running", f"It runs on worker {worker}.{beyond}")
    if element.not_before is not None:
        left = _seconds(element.not_before - now)
        sentence = (
            f"Attempt {element.number} came to nothing ({element.cause or 'returned'}); the next "
            f"one comes in {left}."
        )
        return Reason(name, State.PENDING, "backoff", sentence, until=element.not_before)
    if element.code == PENDING:
        return _pending(task, now)
    return _queued(task, name, 1, seats)


def _queued(task: Task, name: str, count: int, seats: Seats) -> Reason:
    """Why something eligible has no slot."""
    queue = task.job.queue
    facts: dict[str, Any] = {}
    if queue.paused:
        code, sentence = "paused", f"The queue {queue.name} is paused."
    elif not queue.may_run:
        code = "queue_limit"
        sentence = f"The queue {queue.name} runs {queue.held} tasks, which is its limit."
    else:
        facts = seats.explain(task.tags)
        code, sentence = _workers(task, facts)
    return Reason(name, State.QUEUED, code, sentence, count, facts=facts)


def _workers(task: Task, facts: dict[str, Any]) -> tuple[str, str]:
    """What the workers lack, as a code and a sentence."""
    total = facts["workers"]
    wanted = ", ".join(task.tags) or "any worker"
    if not total:
        return "no_worker", "No worker is known: start one with `dtask-worker`."
    parts = [
        f"{count} {_WORKERS[word][count != 1]}"
        for word in _WORKERS
        if (count := facts.get(word, 0))
    ]
    parts += [f"{count} lack{'s' * (count == 1)} {tag}" for tag, count in facts["missing"].items()]
    able = facts.get("full", 0)
    if able:
        others = [part for part in parts if " full" not in part]
        rest = f" Of the others, {', '.join(others)}." if others else ""
        workers = "worker that fits is" if able == 1 else f"{able} workers that fit are"
        return "full", f"The {workers} full: it waits for a free slot.{rest}"
    if facts.get("free", 0):
        return "turn", "It is about to be given a slot."
    noun = "worker" if total == 1 else "workers"
    sentence = f"No worker can take it ({wanted}). Of {total} {noun}, {', '.join(parts)}."
    for unknown, near in facts.get("did_you_mean", {}).items():
        sentence += f" No worker has {unknown}: did you mean {' or '.join(near)}?"
    return "no_worker", sentence


def _reason(task: Task, code: str, sentence: str, *, until: float | None = None) -> Reason:
    return Reason(str(task), State.PENDING, code, sentence, task.rest or 1, until)


def _seconds(seconds: float) -> str:
    """A duration as people say it."""
    seconds = max(0.0, seconds)
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"  # noqa: PLR2004 (one more digit)
