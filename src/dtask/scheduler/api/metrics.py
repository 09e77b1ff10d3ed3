"""`GET /metrics`: the scheduler's own numbers, as Prometheus reads them."""

from typing import Final

from dtask.scheduler.api.answers import Receive, Scope, Send
from dtask.scheduler.api.query import parameters
from dtask.scheduler.metrics import Metrics

_OK: Final = 200


class Scrapes:
    """The endpoint. It answers while the store does not."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def __call__(self, scope: Scope, _receive: Receive, send: Send, _trusted: bool) -> None:
        """All metrics, in the format that the Accept header prefers. Raises Busy."""
        parameters(scope)
        accept = b",".join(value for name, value in scope["headers"] if name == b"accept")
        body, content_type = await self._metrics.page(accept.decode("latin-1"))
        headers = [
            (b"content-type", content_type.encode("latin-1")),
            (b"content-length", b"%d" % len(body)),
        ]
        await send({"type": "http.response.start", "status": _OK, "headers": headers})
        await send({"type": "http.response.body", "body": body})
