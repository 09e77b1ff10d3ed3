"""What `GET /api/v1/live` and `GET /api/v1/history` tell. Times are epoch seconds."""

from typing import Literal

from msgspec import Struct

from dtask.core.jobs.events import QueueView
from dtask.core.placement.events import Glimpse


class WorkerCounts(Struct, frozen=True):
    """Workers by status; those that drain have one, too."""

    online: int
    suspect: int
    offline: int
    draining: int


class Rates(Struct, frozen=True):
    """How much of what happened a second, over the last ten."""

    placements: float
    refusals: float
    heartbeats: float
    #: Of attempts of jobs.
    starts: float
    ends: float


class Attention(Struct, frozen=True, omit_defaults=True):
    """Something that an operator should look at now."""

    #: A stable word.
    code: str
    level: Literal["warning", "serious"]
    #: For people.
    sentence: str
    #: How many of what the sentence is about.
    count: int | None = None
    #: Where the pages show more.
    link: str | None = None


class Totals(Struct, frozen=True):
    """Everything at a glance. What is told of jobs is null while their store can't be used."""

    #: The scheduler has just started, and may not know all its workers yet.
    warming_up: bool
    workers: WorkerCounts
    #: Of workers that are not offline.
    slots: int
    occupied: int
    #: Of jobs that have not ended, by state; and tasks that have ended since the start.
    tasks: dict[str, int] | None
    ended: dict[str, int]
    jobs: int | None
    queues: list[QueueView] | None
    rates: Rates
    #: Of placements in the last ten seconds, inside the scheduler; null if there were none.
    placement_p99_ms: float | None
    attention: list[Attention]


class LiveReset(Struct, frozen=True):
    """Everything, from which updates go on."""

    now: float
    started_at: float
    version: str
    workers: list[Glimpse]
    totals: Totals


class LiveUpdate(Struct, frozen=True):
    """What has changed since the message before."""

    now: float
    workers: list[Glimpse]
    #: Workers that left or were forgotten.
    gone: list[str]
    #: Jobs of which anything has changed, and whether there were more than can be told.
    jobs: list[int]
    more_jobs: bool
    totals: Totals


class HistoryAnswer(Struct, frozen=True):
    """Series of equal length, the last point of each taken at `ends_at`."""

    every_s: float
    ends_at: float
    series: dict[str, list[float | None]]


class LoadHistory(Struct, frozen=True):
    """The load of one worker, the last point taken at `ends_at`; null while it was offline."""

    every_s: float
    ends_at: float
    load: list[float | None]


class HeldSlot(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What takes a slot of a worker."""

    #: As whoever asked for it calls it; of an attempt of a job its name; null if that is not known.
    task_id: str | None
    fence: int | None
    #: When it was granted; null if the worker took it up by itself.
    since: float | None
    #: Of an attempt of a job.
    job_id: int | None = None
    task: str | None = None
    index: int | None = None
    number: int | None = None


class WorkerDetail(Struct, frozen=True):
    """What `GET /api/v1/workers/{worker_id}` tells beside the worker's row."""

    #: Those that it reports by itself, then the oldest first.
    tasks: list[HeldSlot]
    history: LoadHistory
