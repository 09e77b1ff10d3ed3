"""What an explicit retry starts over: what did not succeed and would not be skipped again.

What needs something that did not succeed, and does not start over with it, stays as it is. If
that leaves nothing, the retry is refused with the name of what is to be retried first.
"""

from collections.abc import Iterable
from typing import Final

from dtask.core.jobs.job import SUCCEEDED, Job, Task
from dtask.core.jobs.rows import Past
from dtask.core.jobs.states import State
from dtask.errors import Conflict

#: What became of those that did not succeed.
DID: Final = {
    State.FAILED: "failed",
    State.CANCELLED: "was cancelled",
    State.SKIPPED: "was skipped",
}


def with_heirs(task: Task) -> list[Task]:
    """The task and all that come after it."""
    found = {task: None}
    for one in (queue := [task]):  # it grows while it is walked
        for heir in one.heirs:
            if heir not in found:
                found[heir] = None
                queue.append(heir)
    return list(found)


def startable(job: Job, chosen: Iterable[Task], codes: tuple[int, ...]) -> list[Task]:
    """The tasks of these that have something in one of the states `codes` to start over.

    Raises Conflict if all that have would be skipped again.
    """
    wanted = [task for task in chosen if any(task.counts[code] for code in codes)]
    again = dict.fromkeys(wanted)
    bad = [task for task in job.tasks.values() if task not in again and _came_to_nothing(task)]
    for task in bad:  # it grows while it is walked
        for heir in task.heirs:
            if heir in again and heir.spec.when == "all_succeeded":
                del again[heir]
                bad.append(heir)
    if wanted and not again:
        first = _first_bad(wanted[0])
        raise Conflict(
            f"{wanted[0]} would be skipped again: it needs {first}, which {DID[first.state]}. "
            f"Retry {first}, and {wanted[0]} starts over with it.",
            code="upstream",
            needs=str(first),
        )
    return list(again)


def check_after(job_id: int, earlier: Past) -> None:
    """Raise Conflict if the job would be skipped again for this one, which has ended."""
    if earlier.state is not State.SUCCEEDED:
        raise Conflict(
            f"Job {job_id} would be skipped again: it comes after job {earlier.job_id}, which "
            f"{DID[earlier.state]}. Retry job {earlier.job_id} first, and then job {job_id}, "
            f"which waits for it.",
            code="upstream",
            after=earlier.job_id,
        )


def _first_bad(task: Task) -> Task:
    """The first task upstream of one that would be skipped: what it is skipped for."""
    while task.spec.when == "all_succeeded":
        needs = (task.job.tasks[need] for need in task.spec.needs)
        bad = next(filter(_came_to_nothing, needs), None)
        if bad is None:
            break
        task = bad
    return task


def _came_to_nothing(task: Task) -> bool:
    return task.ended and task.counts[SUCCEEDED] < task.size
