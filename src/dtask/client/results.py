"""What the SDK answers."""

from dataclasses import dataclass, field

from dtask.wire.placement import WorkerRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A slot that is held for a task: run it on this worker."""

    task_id: str
    worker_id: str
    #: Where the worker listens, as it says itself: HOST:PORT or a URL.
    address: str
    #: Grows with every placement of every task; tells this one from an older one.
    fence: int
    #: Epoch seconds. The slot is held until then, and longer if the worker reports the task.
    expires_at: float
    #: Shown to the worker's listener to run the task there; None if the request had no token.
    ticket: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a command ended that was run on a worker."""

    task_id: str
    worker_id: str
    fence: int
    #: Negative for a signal; None if the command could not be started or its end was not seen.
    exit_code: int | None
    #: Why it ended other than by itself: `stopped`, `timeout`, `superseded` (the task was placed
    #: again, by somebody else), `start_failed`; else None.
    cause: str | None
    #: The sentence that goes with the cause, if there is one.
    error: str | None
    #: Epoch seconds, by the worker's clock.
    started_at: float
    ended_at: float
    #: The first bytes of what it wrote.
    stdout: bytes
    stderr: bytes
    #: It wrote more than what is here.
    truncated: bool

    @property
    def ok(self) -> bool:
        """Whether the command ran and returned 0."""
        return self.exit_code == 0 and self.cause is None


class Worker(WorkerRow, frozen=True):
    """A worker as the scheduler sees it; the fields of a row of `GET /api/v1/workers`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInCode:
    """What signs one browser in, once."""

    code: str = field(repr=False)
    #: Epoch seconds, by the scheduler's clock.
    expires_at: float
    #: The dashboard's address with the code in it: who opens it is signed in.
    url: str = field(repr=False)
