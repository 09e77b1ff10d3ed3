"""What a scheduler tells Prometheus: a table of metrics, and where the values of each come from.

A scrape looks at the core on the loop, which takes no longer than a placement or two, and the
text is made in a thread beside it. Counts of jobs are shown when they are durable, as everything
of jobs is; while the store does not answer they are left out, and all else is there.
"""

import asyncio
import contextlib
import platform
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from dtask import __version__
from dtask.clock import Clock
from dtask.core.jobs.events import CountTasks, TaskCounts
from dtask.core.placement.events import CountFleet, FleetCounts
from dtask.errors import Unavailable
from dtask.exposition import Described, Exposition, Value
from dtask.scheduler.aside import Aside
from dtask.scheduler.loop import Loop
from dtask.scheduler.readers import Readers
from dtask.scheduler.tallies import Tallies

#: A store that has not answered in this time counts as down. Prometheus waits 10 s by default.
STORE_S: Final = 2.0


class Reading(NamedTuple):
    """What one scrape sees. The tallies go on meanwhile, each number by itself."""

    now: float
    tallies: Tallies
    fleet: FleetCounts
    #: None: the store does not answer.
    jobs: TaskCounts | None
    warming_up: bool
    stalled_s: float
    feed_readers: int


class Metrics:
    """The metrics of one scheduler, whose streams have these readers. `stop` it at the end."""

    def __init__(self, loop: Loop, clock: Clock, readers: Iterable[Readers] = ()) -> None:
        self._loop = loop
        self._readers = tuple(readers)
        self._clock = clock
        self._exposition = Exposition(METRICS)
        self._writer = Aside("dtask-metrics")

    async def page(self, accept: str) -> tuple[bytes, str]:
        """All of them as text, and its content type. Raises Busy."""
        with self._exposition.scraped():
            reading = await self._read()
            return await self._writer.do(lambda: self._exposition.page(reading, accept))

    def stop(self) -> None:
        """Let what is under way end."""
        self._writer.stop()

    async def _read(self) -> Reading:
        jobs: TaskCounts | None = None
        with contextlib.suppress(TimeoutError, Unavailable):
            jobs = await asyncio.wait_for(self._loop.post(CountTasks()), STORE_S)
        cluster = self._loop.cluster
        self._loop.tallies.fold()
        return Reading(
            now=self._clock.now(),
            tallies=self._loop.tallies,
            fleet=self._loop.handle(CountFleet()),
            jobs=jobs,
            warming_up=cluster.warm_in_s() > 0,
            stalled_s=cluster.stalled_s,
            feed_readers=sum(each.count for each in self._readers),
        )


# Where values come from


def _counted(name: str) -> Callable[[Reading], Value]:
    """A field of the tallies."""

    def read(reading: Reading) -> Value:
        value: Value = getattr(reading.tallies, name)
        return value

    return read


def _of_fleet(name: str) -> Callable[[Reading], Value]:
    """A field of the fleet's counts."""

    def read(reading: Reading) -> float:
        return float(getattr(reading.fleet, name))

    return read


def _workers(reading: Reading) -> Iterator[tuple[tuple[str], float]]:
    for status in ("online", "suspect", "offline"):
        yield (status,), getattr(reading.fleet, status)


def _placements(reading: Reading) -> Iterable[tuple[tuple[str], float]]:
    tallies = reading.tallies
    return ((("placed",), tallies.placements), (("refused",), tallies.refusals))


def _tasks(reading: Reading) -> Value:
    if reading.jobs is None:
        return None
    return [
        ((state, queue.name), getattr(queue, state))
        for queue in reading.jobs.queues
        for state in ("pending", "queued", "scheduled", "running")
    ]


def _oldest_waits(reading: Reading) -> Value:
    if reading.jobs is None:
        return None
    now = reading.now
    return [
        ((queue.name,), max(0.0, now - (queue.oldest_queued_at or now)))
        for queue in reading.jobs.queues
    ]


def _ended(reading: Reading) -> Iterable[tuple[tuple[str], float]]:
    return [((state.value,), count) for state, count in reading.tallies.ended.items()]


def _build(_reading: Reading) -> Iterable[tuple[tuple[str, str], float]]:
    return [((__version__, platform.python_version()), 1)]


METRICS: Final[tuple[Described[Reading], ...]] = (
    Described(
        "dtask_build_info",
        "gauge",
        "1, with the versions of dtask and of Python.",
        _build,
        ("version", "python"),
    ),
    Described(
        "dtask_warming_up",
        "gauge",
        "1 while the scheduler has just started and does not know all workers yet.",
        lambda reading: reading.warming_up,
    ),
    # Placement
    Described(
        "dtask_placements_total",
        "counter",
        "Questions which worker should run a task, those of batches included, by outcome.",
        _placements,
        ("outcome",),
    ),
    Described(
        "dtask_placement_seconds",
        "histogram",
        "From a question, once the loop has read it, to its answer; batches left out.",
        _counted("latency"),
    ),
    Described(
        "dtask_heartbeats_total",
        "counter",
        "Heartbeats that were taken in.",
        _counted("heartbeats"),
    ),
    Described(
        "dtask_workers",
        "gauge",
        "Workers by status, without those that left by their own word.",
        _workers,
        ("status",),
    ),
    Described(
        "dtask_workers_draining",
        "gauge",
        "Those that are not offline and take no new tasks, by their word or an operator's.",
        _of_fleet("draining"),
    ),
    Described(
        "dtask_workers_attached",
        "gauge",
        "Workers whose channel is open: tasks of jobs can be sent to them.",
        _of_fleet("attached"),
    ),
    Described(
        "dtask_slots",
        "gauge",
        "Slots of the workers that are not offline.",
        _of_fleet("slots"),
    ),
    Described(
        "dtask_slots_occupied",
        "gauge",
        "Slots of those workers that are taken; above dtask_slots if workers report more tasks "
        "than they have slots.",
        _of_fleet("occupied"),
    ),
    Described(
        "dtask_leases",
        "gauge",
        "Slots held by the scheduler's own grants, for placements and for tasks of jobs.",
        _of_fleet("leases"),
    ),
    # Jobs
    Described(
        "dtask_jobs_live",
        "gauge",
        "Jobs that have not ended.",
        lambda reading: None if reading.jobs is None else reading.jobs.jobs,
    ),
    Described(
        "dtask_jobs_kept",
        "gauge",
        "Jobs that are kept though they have ended.",
        lambda reading: None if reading.jobs is None else reading.jobs.past,
    ),
    Described(
        "dtask_jobs_submitted_total",
        "counter",
        "Jobs that were taken, each once however often it was sent.",
        _counted("submitted"),
    ),
    Described(
        "dtask_tasks",
        "gauge",
        "Tasks and elements of arrays that have not ended, by state and queue.",
        _tasks,
        ("state", "queue"),
    ),
    Described(
        "dtask_tasks_ended_total",
        "counter",
        "Tasks and elements of arrays that have ended, by how.",
        _ended,
        ("state",),
    ),
    Described(
        "dtask_queue_oldest_wait_seconds",
        "gauge",
        "How long the task of a queue has waited that has waited longest for a slot; 0 if none "
        "waits.",
        _oldest_waits,
        ("queue",),
    ),
    Described(
        "dtask_dispatch_seconds",
        "histogram",
        "From when a task was queued to when the report of its start was taken in.",
        _counted("dispatch"),
    ),
    Described(
        "dtask_attempts_started_total",
        "counter",
        "Attempts that their workers reported as started.",
        _counted("starts"),
    ),
    Described(
        "dtask_attempts_ended_total",
        "counter",
        "Attempts that are over, however: each that a worker was given, started or not.",
        _counted("ends"),
    ),
    Described(
        "dtask_attempts_retried_total",
        "counter",
        "Attempts that failed and whose task backs off to run again.",
        _counted("retried"),
    ),
    Described(
        "dtask_attempts_lost_total",
        "counter",
        "Attempts whose worker was lost while they ran.",
        _counted("lost"),
    ),
    Described(
        "dtask_attempts_requeued_total",
        "counter",
        "Attempts that came to nothing by no fault of their task, which runs again: the lost, and "
        "those that a worker returned.",
        _counted("requeued"),
    ),
    Described(
        "dtask_reports_refused_total",
        "counter",
        "Reports of workers on attempts that are not theirs any more.",
        _counted("refused"),
    ),
    # Store and process
    Described(
        "dtask_store_up",
        "gauge",
        "1 if the job store answers.",
        lambda reading: reading.jobs is not None,
    ),
    Described(
        "dtask_store_commit_seconds",
        "histogram",
        "Commits of the job store by how long they took, failed ones left out.",
        _counted("commit"),
    ),
    Described(
        "dtask_store_commits_failed_total",
        "counter",
        "Commits of the job store that failed.",
        _counted("commits_failed"),
    ),
    Described(
        "dtask_loop_lag_seconds",
        "histogram",
        "How late the event loop woke up, ten times a second.",
        _counted("lag"),
    ),
    Described(
        "dtask_loop_stalled_seconds_total",
        "counter",
        "Time in which the scheduler stood still; it counts against no worker and no lease.",
        lambda reading: reading.stalled_s,
    ),
    Described(
        "dtask_channel_received_bytes_total",
        "counter",
        "Messages of workers on their channels.",
        _counted("received_bytes"),
    ),
    Described(
        "dtask_channel_sent_bytes_total",
        "counter",
        "Messages to workers on their channels.",
        _counted("sent_bytes"),
    ),
    Described(
        "dtask_log_bytes_total",
        "counter",
        "Output and results of attempts that have arrived and were written.",
        _counted("log_bytes"),
    ),
    Described(
        "dtask_feed_readers",
        "gauge",
        "Requests that read a stream: events, or the live one.",
        lambda reading: reading.feed_readers,
    ),
)
