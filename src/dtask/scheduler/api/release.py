"""`DELETE /api/v1/schedule/{task_id}`: the lease is over."""

from typing import Final

from dtask.core.placement.events import Release
from dtask.errors import NotFound
from dtask.scheduler.api.answers import Receive, Scope, Send, ok_start
from dtask.scheduler.api.query import number, parameters, path_text
from dtask.scheduler.loop import Loop
from dtask.wire.codec import encode
from dtask.wire.limits import FENCE_MAX
from dtask.wire.placement import check_id

#: A task id is all that follows, slashes included.
PREFIX: Final = "/api/v1/schedule/"
_RAW_PREFIX: Final = PREFIX.encode()


class Releases:
    """The endpoint."""

    def __init__(self, loop: Loop) -> None:
        self._handle = loop.handle

    async def __call__(self, scope: Scope, _receive: Receive, send: Send, _trusted: bool) -> None:
        """End one lease; with `?fence=`, only if it has this fence."""
        raw: bytes = scope["raw_path"]
        if not raw.startswith(_RAW_PREFIX):
            raise NotFound(f"There is no such path: expected {PREFIX}TASK_ID.", code="no_route")
        task_id = path_text(raw[len(_RAW_PREFIX) :], "task_id")
        check_id(task_id, "task_id")
        fence = None
        if scope["query_string"]:
            fence = number(parameters(scope, "fence"), "fence", least=0, most=FENCE_MAX)
        released = self._handle(Release(task_id, fence))
        body = encode(
            {"status": "released", "worker_id": released.worker_id, "fence": released.fence}
        )
        await send(ok_start(len(body)))
        await send({"type": "http.response.body", "body": body})
