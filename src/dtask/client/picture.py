"""The fleet and its work at one moment: what `Client.live` hands out, and how updates change it.

The data of `GET /api/v1/live`; a scheduler that is newer may send more than is read here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

import msgspec
from msgspec import Struct
from msgspec.json import Decoder

from dtask.client.acts import Foreign
from dtask.client.server_sent import Message
from dtask.wire.live import Totals


class LiveWorker(Struct, frozen=True, array_like=True):
    """One worker, as short as it goes."""

    worker_id: str
    status: Literal["online", "suspect", "offline"]
    draining: bool
    #: Slots taken, placements included that the worker has not reported yet.
    current_tasks: int
    max_tasks: int
    #: Epoch seconds, as of the last change of any of the others.
    last_heartbeat: float

    @property
    def load(self) -> float:
        """The share of its slots that is taken; more than 1 if it holds more than it offers."""
        return self.current_tasks / self.max_tasks if self.max_tasks else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """The fleet and its work at one moment. It does not change; each update makes a new one."""

    #: False: the scheduler is not heard, and all the rest is how it was when it last was.
    connected: bool = True
    #: Why it is not connected, in a sentence.
    trouble: str | None = None
    #: The scheduler's clock, and its start by it: epoch seconds.
    now: float
    started_at: float
    version: str
    #: By id.
    workers: Mapping[str, LiveWorker]
    totals: Totals
    #: Jobs that have changed since the last picture; with `more_jobs`, others have, too.
    jobs: frozenset[int] = frozenset()
    more_jobs: bool = False

    def lost(self, trouble: str) -> "Picture":
        """The same, not connected."""
        return replace(self, connected=False, trouble=trouble, jobs=frozenset(), more_jobs=False)


class _Reset(Struct, frozen=True):
    now: float
    started_at: float
    version: str
    workers: list[LiveWorker]
    totals: Totals


class _Update(Struct, frozen=True):
    now: float
    totals: Totals
    workers: list[LiveWorker] = []
    gone: list[str] = []
    jobs: list[int] = []
    more_jobs: bool = False


_RESET: Final = Decoder(_Reset)
_UPDATE: Final = Decoder(_Update)


def follow(picture: Picture | None, message: Message) -> Picture | None:
    """The picture after a message of the stream; the one before if it tells nothing of that.

    Raises Foreign for one that can't be read.
    """
    try:
        if message.kind == "reset":
            return _begun(_RESET.decode(message.data))
        if message.kind == "update" and picture is not None:
            return _changed(picture, _UPDATE.decode(message.data))
    except msgspec.DecodeError as error:
        raise Foreign(
            f"The scheduler's live stream can't be read ({error}): is it of the same version?",
            code="malformed",
        ) from None
    return picture


def _begun(reset: _Reset) -> Picture:
    """A new picture. Any job may have changed meanwhile."""
    return Picture(
        now=reset.now,
        started_at=reset.started_at,
        version=reset.version,
        workers={worker.worker_id: worker for worker in reset.workers},
        totals=reset.totals,
        more_jobs=True,
    )


def _changed(picture: Picture, update: _Update) -> Picture:
    workers = picture.workers
    if update.workers or update.gone:
        workers = {**workers, **{worker.worker_id: worker for worker in update.workers}}
        for worker_id in update.gone:
            workers.pop(worker_id, None)
    return replace(
        picture,
        connected=True,
        trouble=None,
        now=update.now,
        workers=workers,
        totals=update.totals,
        jobs=frozenset(update.jobs),
        more_jobs=update.more_jobs,
    )
