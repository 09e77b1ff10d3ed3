"""uvicorn's WebSocket protocol with this scheduler's bounds, and without its habits.

The HTTP protocol hands a connection over when its client asks for the worker channel with a
well-formed handshake; whatever else asks for an upgrade is answered as HTTP.
"""

import binascii
from collections.abc import Callable
from typing import Any, Final, Protocol

from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.protocol import State

from dtask.wire.frames import PATH

#: Bounds of the library, which would answer what breaks them with words of its own.
_HEADERS_MAX: Final = 128
_LINE_BYTES_MAX: Final = 8_000

_KEY_BYTES: Final = 16

#: The stop of a scheduler, in RFC 6455's words: it goes away.
CLOSE_GOING: Final = 1001


def is_handshake(method: str, path: str, version: str, headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a request asks for the worker channel as RFC 6455 has it."""
    if path != PATH or method != "GET" or version != "1.1" or len(headers) > _HEADERS_MAX:
        return False
    if any(len(name) + len(value) > _LINE_BYTES_MAX for name, value in headers):
        return False
    named = dict(headers)
    words = named.get(b"connection", b"").lower().split(b",")
    return (
        b"upgrade" in (word.strip() for word in words)
        and named.get(b"upgrade", b"").lower() == b"websocket"
        and named.get(b"sec-websocket-version") == b"13"
        and _is_key(named.get(b"sec-websocket-key", b""))
        and sum(name == b"sec-websocket-key" for name, _ in headers) == 1
        and b"content-length" not in named
        and b"transfer-encoding" not in named
    )


def _is_key(value: bytes) -> bool:
    try:
        return len(binascii.a2b_base64(value, strict_mode=True)) == _KEY_BYTES
    except binascii.Error:
        return False


class Bounds(Protocol):
    """How long a connection may take, as the sweep of the HTTP protocol has it."""

    def is_unread(self, since: float, now: float) -> bool:
        """Whether a peer has not read what was sent for too long."""
        ...

    def is_stop_over(self, now: float) -> bool:
        """Whether the scheduler has been stopping for so long that nobody is waited for."""
        ...


class Socket(WebSocketsSansIOProtocol):
    """One WebSocket."""

    #: Set by `socket_class`.
    application: Any
    bounds: Bounds

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
    ) -> None:
        super().__init__(config, server_state, app_state)
        self.app = self.application
        self._stuck_since: float | None = None

    def look(self, now: float) -> None:
        """Cut the connection if its peer has not read for too long; pings see to the rest."""
        if self.bounds.is_stop_over(now):
            self.transport.abort()
        elif self.writable.is_set() and not self.transport.is_closing():
            self._stuck_since = None
        elif self._stuck_since is None:
            self._stuck_since = now
        elif self.bounds.is_unread(self._stuck_since, now):
            self.transport.abort()

    def shutdown(self) -> None:
        """The scheduler stops: say so and close. Whoever was not heard will say it again."""
        self.stop_keepalive()
        # A worker that has just said goodbye itself needs no answer any more.
        still_open = self.conn.state is State.OPEN
        if self.handshake_complete and still_open and not self.close_sent:
            reason = "The scheduler stops."
            self.queue.put_nowait(
                {"type": "websocket.disconnect", "code": CLOSE_GOING, "reason": reason}
            )
            self.conn.send_close(CLOSE_GOING, reason)
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
        self.transport.close()


def socket_class(application: Callable[..., Any], bounds: Bounds) -> type[Socket]:
    """The protocol of one server: uvicorn wants a class, and makes the connections itself."""
    # An application that is a function would become a method.
    return type(
        "BoundSocket", (Socket,), {"application": staticmethod(application), "bounds": bounds}
    )
