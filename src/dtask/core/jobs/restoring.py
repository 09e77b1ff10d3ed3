"""Jobs out of their rows, as they stood when the last of them was committed."""

import msgspec

from dtask.core.jobs.job import CODES, PENDING, STATES, SUCCEEDED, Attempt, Element, Job, Task
from dtask.core.jobs.model import JobSpec
from dtask.core.jobs.queues import Queue
from dtask.core.jobs.rows import WHOLE, JobRecord, TaskRow
from dtask.core.jobs.states import State

_SPEC = msgspec.json.Decoder(JobSpec)


def job(record: JobRecord, queue: Queue) -> Job:
    """The job, counted in its queue, without its attempts."""
    row = record.job
    found = Job(row.job_id, _SPEC.decode(row.spec), queue, row.submitted_at)
    found.key, found.digest, found.raw = row.key, row.digest, row.spec
    found.cancelled, found.ended_at, found.shown = row.cancelled, row.ended_at, row.state
    by_task: dict[str, list[TaskRow]] = {}
    for task_row in record.tasks:
        by_task.setdefault(task_row.task, []).append(task_row)
    for name, task in found.tasks.items():
        _fill(task, by_task.get(name, []))
    return found


def attempts(found: Job, record: JobRecord) -> list[Attempt]:
    """Its attempts that workers may hold; none has a slot until its worker says hello."""
    live = []
    for row in record.live:
        task = found.tasks[row.task]
        element = task.elements[0 if row.idx == WHOLE else row.idx]
        attempt = Attempt(element, row.fence, row.worker_id, row.scheduled_at)
        attempt.started_at = row.started_at
        attempt.stopping = row.stopping
        attempt.seated = False
        live.append(attempt)
    return live


def _fill(task: Task, rows: list[TaskRow]) -> None:
    """Take over what the rows of a task and of its elements remember."""
    before = list(task.counts)
    whole = next((row for row in rows if row.idx == WHOLE), None)
    touched = [row for row in rows if row.idx != WHOLE]
    if whole is not None and not task.is_array and whole.number:
        touched = [whole]
    task.fresh = 1 + max((max(row.idx, 0) for row in touched), default=-1)
    if whole is not None:
        rest = whole.rest if task.is_array else whole.state
        if rest is not None and task.fresh < task.size:
            task.states[task.fresh :] = bytes((CODES[rest],)) * (task.size - task.fresh)
        task.queued_at, task.ended_at, task.cause = whole.queued_at, whole.ended_at, whole.cause
    for row in touched:
        index = max(row.idx, 0)
        task.states[index] = CODES[row.state]
        if row.state is not State.SUCCEEDED or not task.is_array:
            element = task.elements[index] = Element(task, index)
            element.take(row)
    task.counts = [task.states.count(code) for code in range(len(STATES))]
    for counts in (task.job.counts, task.job.queue.counts):
        for code, count in enumerate(task.counts):
            counts[code] += count - before[code]


assert PENDING == 0, "a fresh bytearray stands for pending elements"
assert STATES[SUCCEEDED] is State.SUCCEEDED
