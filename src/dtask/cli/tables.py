"""Jobs, tasks, attempts and queues as tables for a terminal."""

import time
from collections.abc import Iterable, Mapping, Sequence

from dtask.cli import columns, ending
from dtask.cli.columns import Cell
from dtask.cli.escapes import plain
from dtask.cli.seconds import told
from dtask.client.job_results import (
    AttemptAnswer,
    ElementAnswer,
    JobResult,
    JobSummary,
    QueueView,
    TaskSummary,
)
from dtask.core.jobs.states import ENDS, HELD, Cause, State

#: States in the order in which counts of them are told.
_ORDER = (
    State.RUNNING,
    State.SCHEDULED,
    State.QUEUED,
    State.PENDING,
    State.FAILED,
    State.CANCELLED,
    State.SKIPPED,
    State.SUCCEEDED,
)

#: What ends a task that waits.
_WITHOUT_ATTEMPT = (Cause.STOPPED, Cause.QUEUE_TIMEOUT, Cause.UPSTREAM)


def jobs(found: Sequence[JobSummary], *, now: float, width: int | None) -> list[str]:
    """One line a job. `now`: epoch seconds."""
    heads = ("JOB", "STATE", "QUEUE", "PRIORITY", "SUBMITTED", "TOOK", "NAME")
    rows = [
        (
            Cell(str(job.job_id), bold=True, right=True),
            _state(job.state, cancelled=job.cancelled),
            Cell(job.queue),
            Cell(str(job.priority) if job.priority else "", right=True),
            Cell(f"{told(max(0.0, now - job.submitted_at))} ago", dim=True),
            Cell("" if job.ended_at is None else told(job.ended_at - job.submitted_at)),
            Cell(plain(job.name)),
        )
        for job in found
    ]
    return columns.lines(heads, rows, width=width)


def job(found: JobResult, *, now: float, width: int | None) -> list[str]:
    """How a job stands, and one line a task."""
    lines = [headline(found, now=now), ""]
    heads = ("TASK", "STATE", "ATTEMPTS", "WORKER", "TOOK", "NOTES")
    rows = [
        (
            Cell(name, bold=True),
            _state(task.state),
            Cell(str(task.number) if task.number else "", right=True),
            Cell((_of_now(task) and task.worker_id) or ""),
            Cell(_took(task.started_at, task.ended_at, now) if _of_now(task) else ""),
            Cell(_notes(task, now)),
        )
        for name, task in found.tasks.items()
    ]
    return lines + columns.lines(heads, rows, width=width)


def headline(found: JobResult, *, now: float) -> str:
    """`Job 42 "render" is running, submitted 3 min 20 s ago, queue default.`."""
    name = f" {found.name!r}" if found.name else ""
    state = _state(found.state, cancelled=found.cancelled)
    ago = told(max(0.0, now - found.submitted_at))
    parts = [f"Job {found.job_id}{name}: {state.styled(0)}", f"submitted {ago} ago"]
    if found.ended_at is not None:
        parts.append(f"took {told(max(0.0, found.ended_at - _begun_at(found)))}")
    parts.append(f"queue {found.queue}")
    if found.priority:
        parts.append(f"priority {found.priority}")
    return ", ".join(parts)


def attempts(
    found: Sequence[tuple[str, AttemptAnswer]], *, now: float, width: int | None
) -> list[str]:
    """One line an attempt, each with its name."""
    heads = ("ATTEMPT", "STATE", "WORKER", "STARTED", "TOOK", "CPU", "MEMORY", "NOTES")
    rows = [
        (
            Cell(name, bold=True),
            Cell(ending.shown_state(one), fg=ending.COLOURS[one.state]),
            Cell(one.worker_id),
            Cell("" if one.started_at is None else _clock(one.started_at), dim=True),
            Cell(_took(one.started_at, one.ended_at, now)),
            Cell("" if one.cpu_s is None else told(one.cpu_s)),
            Cell("" if one.max_rss_bytes is None else size(one.max_rss_bytes)),
            Cell(_attempt_notes(one)),
        )
        for name, one in found
    ]
    return columns.lines(heads, rows, width=width)


def elements(found: Sequence[tuple[str, ElementAnswer]], *, width: int | None) -> list[str]:
    """One line an element, each with its name."""
    rows = [
        (
            Cell(name, bold=True),
            _state(one.state),
            Cell(str(one.number) if one.number else "", right=True),
            Cell(ending.told(one) if one.state in ENDS else ""),
        )
        for name, one in found
    ]
    return columns.lines(("ELEMENT", "STATE", "ATTEMPTS", "NOTES"), rows, width=width)


def queues(found: Iterable[QueueView], *, width: int | None) -> list[str]:
    """One line a queue."""
    heads = (
        "QUEUE",
        "RUNNING",
        "MAX RUNNING",
        "QUEUED",
        "MAX QUEUED",
        "PENDING",
        "WEIGHT",
        "NOTES",
    )
    rows = [
        (
            Cell(queue.name, bold=True),
            Cell(str(queue.running), right=True),
            Cell("" if queue.max_running is None else str(queue.max_running), right=True),
            Cell(str(queue.queued), right=True),
            Cell("" if queue.max_queued is None else str(queue.max_queued), right=True),
            Cell(str(queue.pending), right=True),
            Cell(f"{queue.weight:g}", right=True),
            Cell("paused" if queue.paused else "", fg="yellow"),
        )
        for queue in found
    ]
    return columns.lines(heads, rows, width=width)


def counts(by_state: Mapping[State, int]) -> str:
    """`3 running, 1 failed, 12 succeeded`."""
    return ", ".join(f"{by_state[state]:,} {state}" for state in _ORDER if by_state.get(state))


def size(count: int) -> str:
    """Bytes as people say them."""
    number = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:  # noqa: PLR2004 (the step between units)
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def _state(state: State, *, cancelled: bool = False) -> Cell:
    text = f"{state} (stopping)" if cancelled and state not in ENDS else str(state)
    return Cell(text, fg=ending.COLOURS[state], dim=ending.COLOURS[state] is None)


def _of_now(task: TaskSummary) -> bool:
    """Whether its last attempt is how it stands, and not what came before it waited again."""
    if task.state not in ENDS:
        return task.state in HELD
    return task.exit_code is not None or task.cause not in _WITHOUT_ATTEMPT


def _begun_at(found: JobResult) -> float:
    """When an ended job began: one of one task, that was retried perhaps, with its last attempt."""
    tasks = list(found.tasks.values())
    started_at = tasks[0].started_at if len(tasks) == 1 and _of_now(tasks[0]) else None
    return found.submitted_at if started_at is None else started_at


def _took(started_at: float | None, ended_at: float | None, now: float) -> str:
    if started_at is None:
        return ""
    return told(max(0.0, (ended_at if ended_at is not None else now) - started_at))


def _notes(task: TaskSummary, now: float) -> str:
    """What is to be said of a task, or of the elements of an array."""
    if task.counts is not None:
        return counts(task.counts)
    if task.state in ENDS:
        return "" if task.state is State.SUCCEEDED else ending.told(task)
    if task.not_before is not None and task.not_before > now and task.failures:
        return f"runs again in {told(task.not_before - now)}"
    if task.state not in HELD and task.failures:
        return f"failed {task.failures} times so far" if task.failures > 1 else "failed once so far"
    return ""


def _attempt_notes(one: AttemptAnswer) -> str:
    notes = [] if one.state in (*HELD, State.SUCCEEDED) else [ending.told(one)]
    if one.truncated:
        notes.append("its output was cut")
    if one.log_lost:
        notes.append("some output was lost with its worker")
    return ", ".join(notes)


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
