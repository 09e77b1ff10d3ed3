"""`GET /healthz`: the process serves. `GET /readyz`: and it knows its workers."""

from typing import Literal

from msgspec import Struct

from dtask.errors import NoWorker
from dtask.scheduler.api.answers import Receive, Scope, Send, send_json
from dtask.scheduler.api.query import parameters
from dtask.scheduler.loop import Loop


class HealthAnswer(Struct, frozen=True):
    """The process serves."""

    status: Literal["ok"]


class ReadyAnswer(Struct, frozen=True):
    """The process serves, and has had the time to hear from its workers."""

    status: Literal["ready"]


class Health:
    """The endpoint that says that the loop turns."""

    async def __call__(self, scope: Scope, _receive: Receive, send: Send, _trusted: bool) -> None:
        """Always 200."""
        parameters(scope)
        await send_json(send, {"status": "ok"})


class Readiness:
    """The endpoint that says whether placements can be trusted to see the whole fleet."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    async def __call__(self, scope: Scope, _receive: Receive, send: Send, _trusted: bool) -> None:
        """200, or 503 while warming up. Raises NoWorker."""
        parameters(scope)
        wait_s = self._loop.cluster.warm_in_s()
        if wait_s > 0:
            raise NoWorker(
                "The scheduler has just started and does not know all workers yet: "
                f"ask again in {wait_s:.1f} s.",
                code="warming_up",
                retry_after_s=round(wait_s, 3),
                warming_up=True,
            )
        await send_json(send, {"status": "ready"})
