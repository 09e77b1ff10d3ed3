"""The bodies of placement: heartbeat, schedule, workers."""

from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from dtask.core.placement import tags
from dtask.errors import InvalidRequest
from dtask.wire import limits

#: What `str.isprintable` means and what a tag and a requirement are, as JSON Schema says it. For
#: readers of the schema alone: decoding would pay for a regular expression on every string.
_PRINTABLE: Final = r"[\p{L}\p{M}\p{N}\p{P}\p{S} ]"
_IN_TAG: Final = r"(?![|!<>, ])" + _PRINTABLE
_TAG: Final = rf"(?:{_IN_TAG}){{1,{tags.TAG_CHARS_MAX}}}"
_ALTERNATIVE: Final = rf"{_TAG}(?:[<>]=?[0-9]+(?:\.[0-9]+)*)?"


def _pattern(regex: str) -> dict[str, str]:
    return {"pattern": f"^{regex}$"}


Id = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=limits.ID_CHARS_MAX,
        description="1 to 128 printable characters",
        extra_json_schema=_pattern(_PRINTABLE + "+"),
    ),
]
Fence = Annotated[int, Meta(ge=0, le=limits.FENCE_MAX)]
Address = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=limits.ADDRESS_CHARS_MAX,
        extra_json_schema=_pattern(_PRINTABLE + "+"),
    ),
]
Tag = Annotated[
    str,
    Meta(min_length=1, max_length=tags.TAG_CHARS_MAX, extra_json_schema=_pattern(_TAG)),
]
RequirementText = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=tags.REQUIREMENT_CHARS_MAX,
        extra_json_schema=_pattern(rf"!?{_ALTERNATIVE}(?:\|{_ALTERNATIVE})*"),
    ),
]
#: A name or a word of a heartbeat's metrics.
MetricText = Annotated[
    str, Meta(max_length=limits.METRIC_CHARS_MAX, extra_json_schema=_pattern(_PRINTABLE + "*"))
]
_EXACT: Final = Meta(ge=-limits.FENCE_MAX, le=limits.FENCE_MAX)
#: A number of a heartbeat's metrics, one that every JSON reader can read.
MetricNumber = Annotated[float, _EXACT] | Annotated[int, _EXACT]


class HeldTask(Struct, frozen=True, gc=False):
    """A task that a worker holds or has ended, by name and fence."""

    task_id: Id
    fence: Fence


Named = Annotated[tuple[Id | HeldTask, ...], Meta(max_length=limits.NAMED_TASKS_MAX)]


class HeartbeatBody(Struct, frozen=True, gc=False):
    """`POST /api/v1/heartbeat`: "I live, this is my load". Unknown fields are ignored."""

    worker_id: Id
    address: Address
    resource_tags: Annotated[tuple[Tag, ...], Meta(max_length=tags.TAGS_MAX)] | None
    max_tasks: Annotated[int, Meta(ge=1, le=limits.MAX_TASKS_MAX)]
    current_tasks: Annotated[int, Meta(ge=0, le=10 * limits.MAX_TASKS_MAX)] | None = None
    #: When the worker sent it, by its own clock. Nothing depends on it: clocks disagree.
    timestamp: float | str | None = None
    #: One life of the worker; another incarnation is another life.
    incarnation: Id | None = None
    #: Grows with every heartbeat of an incarnation; an older one changes nothing.
    seq: Annotated[int, Meta(ge=0, le=limits.FENCE_MAX)] | None = None
    #: What the worker holds now. With it the worker reports by name.
    tasks: Named | None = None
    #: What ended since the last answered heartbeat, repeated until one is answered.
    ended: Named | None = None
    #: The worker takes no new tasks.
    draining: bool = False
    #: The worker is about to end; its slots are gone at once.
    leaving: bool = False
    #: What the last answer said of an operator's drain, so that it outlives the scheduler.
    drained: bool = False
    metrics: (
        Annotated[
            dict[MetricText, MetricNumber | MetricText | bool | None],
            Meta(max_length=limits.METRICS_MAX),
        ]
        | None
    ) = None


class HeartbeatAnswer(Struct, frozen=True, omit_defaults=True):
    """The answer to a heartbeat that was taken in."""

    status: Literal["ok"]
    #: An operator drains this worker: it should report `"drained": true` from now on.
    drained: bool = False
    #: Of the scheduler's store. A worker of several schedulers tells each what it holds of its own.
    cluster_id: str | None = None


class ScheduleBody(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """`POST /api/v1/schedule`: which worker should run this?"""

    task_id: Id
    required_tags: (
        Annotated[tuple[RequirementText, ...], Meta(max_length=limits.REQUIREMENTS_MAX)] | None
    ) = None
    preferred_tags: Annotated[tuple[Tag, ...], Meta(max_length=limits.REQUIREMENTS_MAX)] | None = (
        None
    )
    exclude_workers: Annotated[tuple[Id, ...], Meta(max_length=limits.EXCLUDED_MAX)] | None = None
    strategy: Literal["least_loaded", "bin_pack"] = "least_loaded"
    ttl_s: Annotated[float, Meta(ge=limits.TTL_S_MIN, le=limits.TTL_S_MAX)] = limits.TTL_S_DEFAULT
    #: Only workers that heartbeat with the token. Needs the token.
    trusted: bool = False


class BatchBody(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /api/v1/schedule` for many tasks at once."""

    tasks: Annotated[
        tuple[ScheduleBody, ...], Meta(min_length=1, max_length=limits.BATCH_TASKS_MAX)
    ]
    all_or_nothing: bool = False


class PlacementAnswer(Struct, frozen=True, omit_defaults=True):
    """A slot is held for the task on this worker until `expires_at` (epoch seconds)."""

    worker_id: str
    address: str
    fence: int
    expires_at: float
    #: Shown to the worker's listener to run the task there. Only for requests with the token.
    ticket: str | None = None


class Reasons(Struct, frozen=True, omit_defaults=True):
    """How many workers can't take the task, each counted under the first reason that applies."""

    offline: int = 0
    draining: int = 0
    excluded: int = 0
    #: Only for requests that ask for trusted workers.
    untrusted: int = 0
    #: By the first requirement that the worker does not meet.
    missing_tag: dict[str, int] = {}
    full: int = 0


class ErrorAnswer(Struct, frozen=True, omit_defaults=True):
    """Every error: a sentence and a stable code, with facts beside them."""

    error: str
    code: str
    #: Where in the request the error is, such as `required_tags[0]`.
    field: str | None = None
    #: Of refused placements.
    reasons: Reasons | None = None
    #: Tags close to one that no worker carries.
    did_you_mean: dict[str, list[str]] | None = None
    #: Asking again is worth it after so many seconds.
    retry_after_s: float | None = None
    #: The scheduler has just started and may not know all workers yet.
    warming_up: bool | None = None
    #: Which element of an all_or_nothing batch was refused.
    index: int | None = None
    task_id: str | None = None
    #: Of `held` and `superseded`.
    holder: dict[str, Any] | None = None
    #: Of `too_large`.
    limit_bytes: int | None = None
    #: Of `key_taken`, and of what is not there: the job.
    job_id: int | None = None
    #: Of `bad_graph`: tasks that need each other, the first one again at the end.
    cycle: list[str] | None = None
    #: Of `missing_blobs`.
    blobs: list[str] | None = None
    #: Of `queue_full`.
    queue: str | None = None
    max_queued: int | None = None


class ReleaseAnswer(Struct, frozen=True):
    """The lease is over."""

    status: Literal["released"]
    worker_id: str
    fence: int


class WorkerRow(Struct, frozen=True):
    """One worker of `GET /api/v1/workers`."""

    worker_id: str
    address: str
    resource_tags: list[str]
    max_tasks: int
    #: Occupancy: what is taken, placements included that the worker has not reported yet.
    current_tasks: int
    #: What the worker itself said last; null if it does not say.
    reported_tasks: int | None
    available: int
    #: current_tasks / max_tasks
    load: float
    status: Literal["online", "suspect", "offline"]
    #: Epoch seconds.
    last_heartbeat: float
    #: It heartbeats with the token.
    trusted: bool
    draining: bool
    leases: int
    incarnation: str | None
    metrics: dict[str, Any]
    #: Of the requirements that were asked about, those that it does not meet.
    misses: list[str] | UnsetType = UNSET


def check_id(text: str, field: str) -> None:
    """Raise InvalidRequest unless `text` is 1 to 128 printable characters."""
    if not text.isprintable() or not 0 < len(text) <= limits.ID_CHARS_MAX:
        raise InvalidRequest(
            f"{field}: expected 1 to {limits.ID_CHARS_MAX} printable characters.",
            code="malformed",
            field=field,
        )
