"""uvicorn's HTTP protocol with bounds: on the head, on time, on what waits, on connections.

uvicorn reads a head of any length and waits for it for ever, which is right behind a proxy and
wrong in front of everyone. The bounds cost a few attributes a request and no timer: one `Sweep`
looks at all connections now and then, and closes those that take too long.
"""

import asyncio
import re
import time
from collections.abc import MutableMapping
from contextlib import suppress
from enum import Enum, auto
from typing import Any, Final, cast
from urllib.parse import unquote

import httptools
from uvicorn._types import HTTPScope
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from dtask.errors import DtaskError, InvalidRequest
from dtask.scheduler.settings import Patience
from dtask.scheduler.websocket import Socket, is_handshake
from dtask.wire.codec import encode

#: Bytes of a request's line and headers. Precedents: Apache 8 KiB a line, nginx 32 KiB in all.
HEAD_BYTES_MAX: Final = 32 * 1024

#: Once the scheduler stops, a connection that is silent this long is closed; a request that
#: crosses the stop on its way is answered.
LINGER_S: Final = 0.3

#: A body that comes at least so fast is waited for, however large it is.
BODY_BYTES_PER_S: Final = 64 * 1024

#: Looks of the sweep within the shortest patience.
LOOKS: Final = 8


#: A target that is nothing but a path, as most are.
_PLAIN_PATH: Final = re.compile(rb"/[A-Za-z0-9/_.:~-]*")

#: In a scope: when its request was complete, by `time.perf_counter`.
COMPLETE_AT: Final = "dtask.complete_at"

#: In a first message: its status line and headers as bytes.
_RENDERED: Final = "dtask.rendered"


class _HeadTooLarge(Exception):
    """Raised through the parser, which stops at it."""


class Phase(Enum):
    """What a connection is waiting for."""

    FIRST_BYTE = auto()
    NEXT_REQUEST = auto()
    REST_OF_HEAD = auto()
    REST_OF_BODY = auto()
    ANSWER = auto()


_IN_REQUEST: Final = (Phase.REST_OF_HEAD, Phase.REST_OF_BODY)


class Sweep:
    """Closes the connections whose clients are too slow."""

    def __init__(self, patience: Patience, connections_max: int) -> None:
        #: Seconds, as of the last look: near enough for all bounds, and costs no system call.
        self.now = time.monotonic()
        #: No request is read from connections over this number.
        self.connections_max = connections_max
        #: When the scheduler began to stop.
        self.stopping_since: float | None = None
        self._patience = patience
        self._limits = {
            Phase.FIRST_BYTE: patience.first_byte_s,
            Phase.NEXT_REQUEST: patience.keep_alive_s,
            Phase.REST_OF_HEAD: patience.head_s,
            Phase.REST_OF_BODY: patience.body_s,
        }
        self._every_s = min(1.0, min(*self._limits.values(), patience.unread_s) / LOOKS)
        self._stop_asked = asyncio.Event()

    async def run(self, state: ServerState) -> None:
        """Look at all connections, again and again. Ends when cancelled."""
        while True:
            if self.stopping_since is None:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop_asked.wait(), self._every_s)
            else:
                await asyncio.sleep(LINGER_S / 3)
            self.now = time.monotonic()
            for connection in list(state.connections):
                cast("Connection | Socket", connection).look(self.now)

    def stop(self) -> None:
        """From now on each answer is its connection's last one."""
        self.stopping_since = time.monotonic()
        self._stop_asked.set()

    def is_over(self, phase: Phase, since: float, now: float) -> bool:
        """Whether a connection has been in `phase` for too long."""
        if self.stopping_since is not None and phase in (Phase.FIRST_BYTE, Phase.NEXT_REQUEST):
            return now - max(since, self.stopping_since) > LINGER_S
        limit_s = self._limits.get(phase)
        return limit_s is not None and now - since > limit_s

    def is_stop_over(self, now: float) -> bool:
        """Whether the scheduler has been stopping for so long that nobody is waited for."""
        since = self.stopping_since
        return since is not None and now - since > self._patience.stop_s

    def is_unread(self, since: float, now: float) -> bool:
        """Whether a client has not read its answer for too long."""
        return now - since > self._patience.unread_s


class _Flow(FlowControl):
    """Flow control that reads nothing more while requests wait for their turn.

    uvicorn goes on reading as soon as the first of several pipelined requests is taken up, so a
    client that sends faster than it is served would fill the memory.
    """

    def __init__(self, transport: asyncio.Transport, connection: "Connection") -> None:
        super().__init__(transport)
        self._waiting = connection.pipeline

    def resume_reading(self) -> None:
        if self.read_paused and not self._waiting:
            self.read_paused = False
            self._transport.resume_reading()


def prerender(start: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The first message of an answer with a content-length, made to be sent many times."""
    head = STATUS_LINE[start["status"]]
    for name, value in start["headers"]:
        head += b"%b: %b\r\n" % (name, value)
    return {**start, _RENDERED: head}


class _Cycle(RequestResponseCycle):
    """One request and its answer, whose head leaves in one write with the body.

    uvicorn writes them one after the other; the second system call, and the second wake-up of the
    client, cost more than a placement.
    """

    async def send(self, message: Any) -> None:  # noqa: ANN401 (an ASGI message)
        """Keep the head, write it with the first part of the body, then the other parts."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        # A reset connection is closed a turn of the loop before we are told that it is lost.
        if self.disconnected or self.transport.is_closing():
            return
        if not self.response_started:
            self.response_started = True
            self._head = self._render(message)
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if self.scope["method"] == "HEAD":
            body = b""
        elif self.chunked_encoding:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if not more:
                body += b"0\r\n\r\n"
        self.transport.write(self._head + body)
        self._head = b""
        if not more:
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()

    def _render(self, start: Any) -> bytes:  # noqa: ANN401 (an ASGI message)
        """The head of the answer. Our own endpoints write its headers: lower case, well-formed."""
        head: bytes | None = start.get(_RENDERED)
        if head is not None and self.keep_alive:
            self.chunked_encoding = False
            for name, value in self.default_headers:  # the date
                head += b"%b: %b\r\n" % (name, value)
            return head + b"\r\n"
        parts = [STATUS_LINE[start["status"]]]
        self.chunked_encoding = True
        for name, value in (*self.default_headers, *start["headers"]):
            if name == b"content-length":
                self.chunked_encoding = False
            parts += (name, b": ", value, b"\r\n")
        if self.scope["http_version"] == "1.0":
            self.chunked_encoding = False  # its bodies end with the connection
        if self.chunked_encoding:
            parts.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(b"\r\n")
        return b"".join(parts)


class Connection(HttpToolsProtocol):
    """One client's connection."""

    #: Set by `connection_class`.
    sweep: Sweep

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._phase = Phase.FIRST_BYTE
        #: When the phase began, and since when the client has not read what was written.
        self._since = self.sweep.now
        self._unread_since: float | None = None
        #: Bytes received since the last one of a body or of a whole request: those of a head, of
        #: trailers, or of what stands between two chunks.
        self._head_bytes = 0
        #: The request under way begins a WebSocket.
        self._upgrading = False

    def look(self, now: float) -> None:
        """Close the connection if its client is too slow."""
        if self.sweep.is_stop_over(now):
            self.transport.abort()
        elif self.flow.write_paused:
            if self._unread_since is None:
                self._unread_since = now
            elif self.sweep.is_unread(self._unread_since, now):
                self.transport.abort()
        else:
            self._unread_since = None
            if self.sweep.is_over(self._phase, self._since, now):
                self.transport.close()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept it, unless there are too many."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self)
        if len(self.connections) > self.sweep.connections_max:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Feed the parser. What does not parse is answered with 400, and the connection closed."""
        if self.transport.is_closing():
            return
        self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            if self._upgrading:
                self.handle_websocket_upgrade()
                return
            # Nothing else is spoken here but HTTP/1.1. The request is answered as that, and is the
            # last one: what else came with it is lost to the parser.
            self.cycle.keep_alive = False
            return
        except httptools.HttpParserError as error:
            too_large = isinstance(error.__context__, _HeadTooLarge)
            self._refuse(_HEAD_TOO_LARGE if too_large else _NOT_HTTP)
            return
        if self._phase not in _IN_REQUEST:
            self._head_bytes = 0
        elif self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(_HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._phase = Phase.REST_OF_HEAD
        self._since = self.sweep.now
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        # The rest comes with the head.
        self.scope = cast(
            "HTTPScope",
            {
                "type": "http",
                "client": self.client,
                "server": self.server,
                "scheme": "http",
                "root_path": "",
                "headers": self.headers,
            },
        )

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header. Trailers are not read: what they might say has been decided by then."""
        if self._phase is not Phase.REST_OF_HEAD:
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is complete: the request is handed to the application, or waits for its turn."""
        if self._head_bytes > HEAD_BYTES_MAX and self._head_length() > HEAD_BYTES_MAX:
            raise _HeadTooLarge
        self._phase = Phase.REST_OF_BODY
        self._since = self.sweep.now
        parser, scope = self.parser, self.scope
        version = parser.get_http_version()
        scope["http_version"] = version
        scope["method"] = parser.get_method().decode("ascii")
        if _PLAIN_PATH.fullmatch(self.url):
            scope["path"] = self.url.decode("ascii")
            scope["raw_path"] = self.url
            scope["query_string"] = b""
        else:
            url = httptools.parse_url(self.url)
            scope["path"] = unquote(url.path.decode("ascii"))
            scope["raw_path"] = url.path
            scope["query_string"] = url.query or b""
        before = self.cycle
        if parser.should_upgrade() and (before is None or before.response_complete):
            self._upgrading = self.sweep.stopping_since is None and is_handshake(
                scope["method"], scope["path"], version, self.headers
            )
            if self._upgrading:
                return
        self.cycle = cycle = _Cycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0"
            and parser.should_keep_alive()
            and self.sweep.stopping_since is None,
            on_response=self.on_response_complete,
        )
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def on_body(self, body: bytes) -> None:
        """A part of the body, which earns its client time for the rest."""
        self._head_bytes = 0
        self._since = min(self.sweep.now, self._since + len(body) / BODY_BYTES_PER_S)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The body is complete."""
        if self._upgrading:
            return
        cycle = self.cycle
        self._since = self.sweep.now
        if cycle.response_complete:
            self._phase = Phase.NEXT_REQUEST
            return
        self._phase = Phase.ANSWER
        scope: Any = cycle.scope  # which is typed as ASGI has it
        scope[COMPLETE_AT] = time.perf_counter()
        cycle.more_body = False
        cycle.message_event.set()

    def on_response_complete(self) -> None:
        """The answer is written. Instead of a timer for the next request, note the time."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._phase is Phase.ANSWER:
            self._phase = Phase.NEXT_REQUEST
            self._since = self.sweep.now
        self.flow.resume_reading()

    def resume_writing(self) -> None:
        """The client reads on, however slowly."""
        self._unread_since = None
        super().resume_writing()

    def shutdown(self) -> None:
        """The scheduler stops: the answer under way is the last one. The sweep does the rest."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False

    def _head_length(self) -> int:
        """Bytes of the head. What has been received may hold the body, and other requests, too."""
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _refuse(self, error: DtaskError) -> None:
        """Answer what is not a request, unless an answer to one before it is under way."""
        cycle = self.cycle
        if self._phase is not Phase.REST_OF_BODY:
            if cycle is not None and not cycle.response_complete:
                cycle.keep_alive = False  # then the one before is the last that is answered
                self.flow.pause_reading()
                return
        else:
            cycle.disconnected = True
            cycle.message_event.set()
            if self.pipeline:
                self.flow.pause_reading()
                return
            if cycle.response_started:
                self.transport.close()
                return
        body = encode(error.body())
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[error.status] + head % len(body) + body)
        self.transport.close()


def connection_class(sweep: Sweep) -> type[Connection]:
    """The protocol of one server: uvicorn wants a class, and makes the connections itself."""
    return type("SweptConnection", (Connection,), {"sweep": sweep})


_NOT_HTTP: Final = InvalidRequest(
    "This is not an HTTP/1.1 request: expected one, with a well-formed head and body.",
    code="malformed",
    field="head",
)
_HEAD_TOO_LARGE: Final = InvalidRequest(
    f"The head of the request is too large: expected at most {HEAD_BYTES_MAX} bytes.",
    code="too_large",
    limit_bytes=HEAD_BYTES_MAX,
)
