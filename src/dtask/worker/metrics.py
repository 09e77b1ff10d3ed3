"""What a worker tells Prometheus: a table of metrics, and where the values of each come from."""

import asyncio
import platform
from typing import Final, NamedTuple

from dtask import __version__
from dtask.exposition import Described, Exposition
from dtask.worker.channels import Channels
from dtask.worker.heartbeat import Heartbeat
from dtask.worker.runner import Runner
from dtask.worker.tallies import Tallies


class Reading(NamedTuple):
    """What one scrape sees."""

    tallies: Tallies
    slots: int
    running: int
    spool_bytes: int
    heartbeats_answered: int
    heartbeats_failed: int
    channels: int


class Metrics:
    """The metrics of one worker."""

    def __init__(self, runner: Runner, heartbeat: Heartbeat, channels: Channels) -> None:
        self._runner = runner
        self._heartbeat = heartbeat
        self._channels = channels
        self._exposition = Exposition(METRICS)

    async def page(self, accept: str) -> tuple[bytes, str]:
        """All of them as text, and its content type. Raises Busy."""
        with self._exposition.scraped():
            return await asyncio.to_thread(self._exposition.page, self._read(), accept)

    def _read(self) -> Reading:
        return Reading(
            tallies=self._runner.tallies,
            slots=self._runner.max_tasks,
            running=len(self._runner.held()),
            spool_bytes=self._runner.spool_bytes(),
            heartbeats_answered=self._heartbeat.answers,
            heartbeats_failed=self._heartbeat.failures,
            channels=self._channels.attached,
        )


METRICS: Final[tuple[Described[Reading], ...]] = (
    Described(
        "dtask_worker_build_info",
        "gauge",
        "1, with the versions of dtask and of Python.",
        lambda _: [((__version__, platform.python_version()), 1)],
        ("version", "python"),
    ),
    Described(
        "dtask_worker_slots",
        "gauge",
        "How many tasks this worker takes at once.",
        lambda reading: reading.slots,
    ),
    Described(
        "dtask_worker_tasks_running",
        "gauge",
        "Slots that are taken, by tasks with a ticket and by tasks of jobs.",
        lambda reading: reading.running,
    ),
    Described(
        "dtask_worker_tasks_started_total",
        "counter",
        "Tasks whose process was started.",
        lambda reading: reading.tallies.started,
    ),
    Described(
        "dtask_worker_tasks_ended_total",
        "counter",
        "Tasks that have ended: well (succeeded), with another exit code (exit), or by a cause.",
        lambda reading: [((outcome,), n) for outcome, n in reading.tallies.ended.items()],
        ("outcome",),
    ),
    Described(
        "dtask_worker_heartbeats_total",
        "counter",
        "Heartbeats to all schedulers, by whether they were answered (ok) or failed.",
        lambda reading: [
            (("ok",), reading.heartbeats_answered),
            (("failed",), reading.heartbeats_failed),
        ],
        ("outcome",),
    ),
    Described(
        "dtask_worker_channel_up",
        "gauge",
        "How many schedulers have an open channel to this worker: 1 or 0 if it knows but one.",
        lambda reading: reading.channels,
    ),
    Described(
        "dtask_worker_spool_bytes",
        "gauge",
        "Output, results and files of tasks in the spool, their working directories left out.",
        lambda reading: reading.spool_bytes,
    ),
    Described(
        "dtask_worker_log_bytes_total",
        "counter",
        "What tasks wrote to stdout and stderr, counted when they have ended.",
        lambda reading: reading.tallies.log_bytes,
    ),
)
