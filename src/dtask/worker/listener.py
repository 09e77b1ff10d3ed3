"""The worker's HTTP listener: uvicorn on a socket of ours, inside the agent's loop.

uvicorn waits for ever for the head of a request, of any length. Here both have a bound, and so has
the number of connections: nobody can hold a worker up by sending slowly or much.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from dtask.clock import Clock
from dtask.errors import InvalidRequest
from dtask.listening import BACKLOG
from dtask.wire.codec import encode
from dtask.worker.api import Api
from dtask.worker.metrics import Metrics
from dtask.worker.runner import Runner

#: A task is asked about over a connection or two; a worker serves its own slots.
CONNECTIONS_MAX: Final = 4_096
#: Bytes of a request's line and headers. Precedents: Apache 8 KiB a line, nginx 32 KiB in all.
HEAD_BYTES_MAX: Final = 32 * 1024
#: Seconds in which they must arrive.
HEAD_S: Final = 10.0
#: Seconds that a connection is kept without a request.
KEEP_ALIVE_S: Final = 30
#: Answers under way when the listener stops get this long.
STOP_S: Final = 5

# uvicorn tells each connection's faults as warnings, of which any stranger can make many.
logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


class Connection(HttpToolsProtocol):
    """A client's connection, with bounds on the head of each request."""

    #: Bytes received since the last head was complete.
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_MAX:
            transport.abort()
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, unless the head is too long."""
        if self._head_timer is None and (self.cycle is None or self.cycle.response_complete):
            self._await_head()
        if self._head_timer is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_timer is not None and self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(
                InvalidRequest(
                    f"The head of the request is over {HEAD_BYTES_MAX} bytes: expected less.",
                    code="too_large",
                    limit_bytes=HEAD_BYTES_MAX,
                )
            )

    def on_message_begin(self) -> None:
        """The first byte of a request, which may come while another is being answered."""
        super().on_message_begin()
        if self._head_timer is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._stop_waiting()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Say as an error of ours that this is not HTTP."""
        del msg
        self._refuse(
            InvalidRequest(
                "This is not a well-formed HTTP/1.1 request.", code="malformed", field="head"
            )
        )

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(HEAD_S, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, error: InvalidRequest) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()  # the refusal would end up in the answer under way
            return
        body = encode(error.body())
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[error.status] + head % len(body) + body)
        self.transport.close()


class Listener:
    """Serves a runner's tasks. `start` it with a socket, `stop` it at the end; twice is once."""

    def __init__(self, runner: Runner, key: bytes, clock: Clock, metrics: Metrics) -> None:
        self._server = _Server(
            uvicorn.Config(
                Api(runner, key, clock, metrics),
                http=Connection,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=STOP_S,
            )
        )
        self._serving: asyncio.Task[None] | None = None

    @property
    def clients(self) -> int:
        """Connections that are open."""
        return len(self._server.server_state.connections)

    async def start(self, listening: socket.socket) -> None:
        """Serve on `listening`, which is ours from now on. Returns when requests are answered."""
        if self._serving is None:
            self._serving = asyncio.create_task(self._server.serve(sockets=[listening]))
            self._serving.add_done_callback(lambda _: self._server.ready.set())
            await self._server.ready.wait()
            if self._serving.done():
                await self._serving  # it raises why

    async def stop(self) -> None:
        """Accept nothing more, finish what is under way."""
        if self._serving is not None:
            self._server.should_exit = True
            self._server.wake.set()
            await self._serving


class _Server(uvicorn.Server):
    """uvicorn's server, without its signal handlers and without its ten looks a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self.wake = asyncio.Event()

    async def main_loop(self) -> None:
        """Refresh the Date header each second until it is time to stop."""
        self.ready.set()
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.wake.wait(), 1.0)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the agent's."""
        yield
