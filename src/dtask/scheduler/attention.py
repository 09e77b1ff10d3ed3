"""What an operator should look at now, in sentences. Soft: it begins anew with the scheduler."""

from collections.abc import Iterator
from typing import Any, Final

from dtask.core.jobs.events import Misfit, QueueView, Stats, TaskChanged
from dtask.core.jobs.states import State
from dtask.core.placement.events import FleetCounts
from dtask.wire.live import Attention

#: Jobs that failed within so many seconds are worth a word; so many of them are counted.
FAILED_S: Final = 3_600.0
FAILED_MAX: Final = 10_000

#: A task that waits for a slot longer than this is, too.
WAIT_S: Final = 600.0

#: A loop that wakes up so much too late is.
LATE_S: Final = 0.25


class Watch:
    """Of one scheduler."""

    def __init__(self) -> None:
        #: When jobs failed that have not gone on since, the oldest first.
        self._failed: dict[int, float] = {}

    def perform(self, effect: Any) -> None:  # noqa: ANN401 (any effect)
        """Take in an effect, if it is a job that failed, or one that failed and goes on."""
        if type(effect) is TaskChanged and effect.task is None:
            self._failed.pop(effect.job_id, None)
            if effect.state is State.FAILED:
                self._failed[effect.job_id] = effect.at
                if len(self._failed) > FAILED_MAX:
                    del self._failed[next(iter(self._failed))]

    def look(
        self,
        now: float,
        *,
        fleet: FleetCounts,
        stats: Stats | None,
        queues: list[QueueView] | None,
        misfits: list[Misfit] | None,
        store_is_late: bool,
        late_s: float,
    ) -> list[Attention]:
        """Everything there is, the worst first. What is None is not known for the moment."""
        found = [
            *_of_the_store(stats, is_late=store_is_late),
            *_of_the_loop(late_s),
            *_of_the_fleet(fleet, stats),
            *self._of_jobs(now),
            *(one for queue in queues or () for one in _of_a_queue(queue, now)),
            *map(_of_a_misfit, misfits or ()),
        ]
        return sorted(found, key=lambda one: one.level != "serious")

    def _of_jobs(self, now: float) -> Iterator[Attention]:
        for job_id in [one for one, at in self._failed.items() if at < now - FAILED_S]:
            del self._failed[job_id]
        if count := len(self._failed):
            yield Attention(
                "jobs_failed",
                "warning",
                f"{_number(count, 'job')} failed in the last hour.",
                count,
                "#/failed",
            )


def _of_the_store(stats: Stats | None, *, is_late: bool) -> Iterator[Attention]:
    if is_late:
        yield Attention(
            "store_slow", "serious", "The store is slow: answers about jobs wait for its disk."
        )
    elif stats is None:
        yield Attention(
            "store_failed",
            "serious",
            "The store can't be used: jobs are neither taken nor shown. The scheduler's log says "
            "why.",
        )


def _of_the_loop(late_s: float) -> Iterator[Attention]:
    if late_s >= LATE_S:
        yield Attention(
            "loop_late",
            "warning",
            f"The scheduler's loop was {late_s:.1f} s late: its machine is overloaded, or it is.",
        )


def _of_the_fleet(fleet: FleetCounts, stats: Stats | None) -> Iterator[Attention]:
    total = fleet.online + fleet.suspect + fleet.offline
    if fleet.offline:
        yield Attention(
            "workers_offline",
            "serious" if 10 * fleet.offline > total else "warning",
            f"{fleet.offline:,} of {_number(total, 'worker')} "
            f"{'is' if fleet.offline == 1 else 'are'} offline.",
            fleet.offline,
            "#/workers?status=offline",
        )
    if fleet.suspect:
        yield Attention(
            "workers_suspect",
            "warning",
            f"{fleet.suspect:,} of {_number(total, 'worker')} "
            f"{'is' if fleet.suspect == 1 else 'are'} suspect: silent, and the last to be chosen.",
            fleet.suspect,
            "#/workers?status=suspect",
        )
    waiting = 0 if stats is None else stats.tasks["queued"]
    if waiting and not fleet.attached:
        yield Attention(
            "no_worker",
            "serious",
            f"{_number(waiting, 'task')} {'waits' if waiting == 1 else 'wait'}, and no worker is "
            f"there that takes jobs.",
            waiting,
            "#/workers",
        )


def _of_a_queue(queue: QueueView, now: float) -> Iterator[Attention]:
    link = f"#/jobs?state=queued&queue={queue.name}"
    if queue.paused and queue.queued:
        yield Attention(
            "queue_paused",
            "warning",
            f"The queue {queue.name} is paused, and {_number(queue.queued, 'task')} "
            f"{'waits' if queue.queued == 1 else 'wait'} in it.",
            queue.queued,
            link,
        )
    elif queue.oldest_queued_at is not None and now - queue.oldest_queued_at > WAIT_S:
        minutes = (now - queue.oldest_queued_at) / 60
        waited = f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"  # noqa: PLR2004
        yield Attention(
            "long_wait",
            "warning",
            f"A task of the queue {queue.name} has waited for a slot for {waited}.",
            queue.queued,
            link,
        )


def _of_a_misfit(misfit: Misfit) -> Attention:
    tags = ", ".join(misfit.tags)
    return Attention(
        "fits_nowhere",
        "warning",
        f"No worker that is there could ever take {misfit.name}: it needs {tags}.",
        None,
        f"#/jobs/{misfit.job_id}",
    )


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
