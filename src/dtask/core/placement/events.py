"""What happens to the placement half, what it answers, and what the shell is told to note.

Values only. Events go into `Cluster.handle(event, now)`; its `Step` carries one answer for the
one who asked, and effects for whoever watches.
"""

from typing import Literal, NamedTuple

from msgspec import Struct

from dtask.core.placement.tags import Requirements

Strategy = Literal["least_loaded", "bin_pack"]
Status = Literal["online", "suspect", "offline"]

#: What can happen to a worker's standing: `joined` for the first time, `renewed` (another life
#: took over), `suspect`, `offline`, `back` from one of the two, `left` by its own word,
#: `forgotten`, `draining`, `undrained`.
Change = Literal[
    "joined",
    "renewed",
    "suspect",
    "offline",
    "back",
    "left",
    "forgotten",
    "draining",
    "undrained",
]

#: A task a worker names: (task_id, fence), the fence None if the worker does not know it.
Named = tuple[str, int | None]


# Events


class Heartbeat(Struct, frozen=True, gc=False):
    """A worker says that it lives and what it holds. Answer: Heard."""

    worker_id: str
    address: str
    tags: tuple[str, ...]
    max_tasks: int
    #: None: the worker does not count.
    current_tasks: int | None = None
    incarnation: str | None = None
    seq: int | None = None
    #: None: the worker does not name what it holds.
    tasks: tuple[Named, ...] | None = None
    ended: tuple[Named, ...] = ()
    draining: bool = False
    leaving: bool = False
    drained: bool = False
    metrics: dict[str, float | int | str | bool | None] | None = None
    #: It came with the token.
    trusted: bool = False


class Ask(Struct, frozen=True, gc=False):
    """Which worker should run this? Answer: Placement or Refusal."""

    task_id: str
    requirements: Requirements = ()
    preferred: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    strategy: Strategy = "least_loaded"
    ttl_s: float = 30.0
    trusted: bool = False


class AskEach(Struct, frozen=True):
    """Place each as if it had come alone. Answer: for each a Placement, a Refusal or Busy."""

    asks: tuple[Ask, ...]


class AskAll(Struct, frozen=True):
    """Place all of these or none. Answer: a list of Placement, or the first Refusal."""

    asks: tuple[Ask, ...]


class Release(Struct, frozen=True, gc=False):
    """The lease of a task is over. Answer: Released. Raises NotFound."""

    task_id: str
    #: None: whatever its fence.
    fence: int | None = None


class Drain(Struct, frozen=True):
    """An operator's word whether a worker takes new tasks. Answer: its WorkerView."""

    worker_id: str
    drained: bool


class ListWorkers(Struct, frozen=True):
    """Up to `limit` workers, by id, after the id `after`. Answer: a list of WorkerView.

    A listing of many is asked for in slices, so that none holds up the loop; `after` is an id
    and not a position, so that joins and leaves between two slices repeat and lose nobody.
    """

    limit: int
    after: str = ""


class Glance(Struct, frozen=True):
    """As ListWorkers, for whoever looks at all of them again and again.

    Answer: a list of Glimpse.
    """

    limit: int
    after: str = ""


class LookAtWorker(Struct, frozen=True):
    """One worker and what is held on it. Answer: WorkerLook. Raises NotFound."""

    worker_id: str


class CountFleet(Struct, frozen=True):
    """Answer: FleetCounts. It takes as long for many workers as for few."""


class Tick(Struct, frozen=True):
    """Nothing happened but time. Answer: None."""


# Answers


class Heard(Struct, frozen=True):
    """The heartbeat was taken in (or was older than one already taken in)."""

    drained: bool = False


class Placement(Struct, frozen=True, gc=False):
    """A slot is held for the task until `expires_at`, epoch seconds."""

    worker_id: str
    address: str
    fence: int
    expires_at: float


class Refusal(Struct, frozen=True):
    """No worker can take the task now, and why: each worker once, under the first that applies."""

    task_id: str
    offline: int
    draining: int
    excluded: int
    untrusted: int
    #: Workers by the text of the first requirement that they miss.
    missing: dict[str, int]
    full: int
    #: Near misses of tags that no worker carries.
    did_you_mean: dict[str, list[str]]
    retry_after_s: float
    warming_up: bool
    #: Which of an AskAll was refused.
    index: int | None = None


class Released(Struct, frozen=True, gc=False):
    """The lease that ended."""

    worker_id: str
    fence: int


class WorkerView(Struct, frozen=True):
    """What is known of a worker, ages and status as of now."""

    worker_id: str
    address: str
    tags: tuple[str, ...]
    max_tasks: int
    occupancy: int
    reported: int | None
    status: Status
    #: Epoch seconds.
    last_heartbeat: float
    trusted: bool
    #: By its own word or an operator's.
    draining: bool
    leases: int
    incarnation: str | None
    metrics: dict[str, float | int | str | bool | None]


class Glimpse(NamedTuple):
    """How a worker stands, and no more."""

    worker_id: str
    #: `left`: offline by its own word.
    status: Status | Literal["left"]
    draining: bool
    occupancy: int
    max_tasks: int
    #: Epoch seconds.
    last_heartbeat: float


class SlotHeld(Struct, frozen=True):
    """What takes a slot of a worker: a lease, or a name that it reports by itself."""

    #: None: an attempt of a job, known by its fence.
    task_id: str | None
    fence: int | None
    #: Epoch seconds of the grant; None if nobody asked here for it.
    since: float | None


class WorkerLook(Struct, frozen=True):
    """A worker and what is held on it."""

    view: WorkerView
    held: tuple[SlotHeld, ...]


class FleetCounts(Struct, frozen=True):
    """How many workers stand how, and what they have to offer.

    Those that left by their own word are not counted: nobody misses them.
    """

    online: int
    suspect: int
    offline: int
    #: Of workers that are not offline.
    draining: int
    attached: int
    #: Of workers that are not offline.
    slots: int
    occupied: int
    #: Those of jobs included.
    leases: int


# Effects


class WorkerChanged(Struct, frozen=True):
    """A worker's standing changed; worth a line in the log."""

    worker_id: str
    change: Change
    address: str
