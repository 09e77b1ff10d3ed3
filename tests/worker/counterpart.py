"""A scheduler's side of the worker channel, with a real socket and no core behind it.

It holds workers to the protocol in every message and keeps what they said. Tests tell it when to
hear, when to welcome and when to cut the connection.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from dtask.wire import frames
from dtask.wire.frames import (
    Arrived,
    Down,
    DropFrame,
    EndedFrame,
    Hello,
    LogFrame,
    StartedFrame,
    StartFrame,
    StopFrame,
    Stream,
    Up,
    Welcome,
)

TOKEN = "a-token-of-the-tests"
CLUSTER = "cluster-1"


def start_frame(fence: int, *command: str, **changes: Any) -> StartFrame:
    fields: dict[str, Any] = {
        "fence": fence,
        "job_id": fence,
        "task": "main",
        "index": None,
        "number": 1,
        "command": command,
        "env": {},
        "timeout_s": None,
        "grace_s": 1.0,
        "files": {},
        "stdin": None,
        "cwd": None,
        "cpus": None,
        "memory_mb": None,
    }
    return StartFrame(**(fields | changes))


def shell(fence: int, line: str) -> StartFrame:
    return start_frame(fence, "sh", "-c", line)


class Front:
    """One address for two real servers: requests to post go to one, WebSockets to the other."""

    def __init__(self, posts: int, sockets: int) -> None:
        self._posts = posts
        self._sockets = sockets
        self._open: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        back: asyncio.StreamWriter | None = None
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            port = self._sockets if b"websocket" in head.lower() else self._posts
            forth, back = await asyncio.open_connection("127.0.0.1", port)
            back.write(head)
            await asyncio.gather(_copy(reader, back), _copy(forth, writer))
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # one end has gone, or the test is over
        finally:
            self._open.discard(task)
            writer.close()
            if back is not None:
                back.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


class Counterpart:
    """`async with Counterpart() as scheduler`: speaks with every worker that connects."""

    def __init__(self, cluster_id: str = CLUSTER, *, port: int = 0) -> None:
        self.cluster_id = cluster_id
        self.version = frames.VERSION
        #: Whether messages are heard as they come, and whether hellos are welcomed.
        self.hears = True
        self.welcomes = True
        #: Status and body that refuse the handshake.
        self.refusal: tuple[int, bytes] | None = None
        #: Whether the connection is to be cut instead of taking a message in.
        self.cuts: Callable[[Up], bool] = lambda _: False
        #: Fences that the next welcome says to stop.
        self.stop: tuple[int, ...] = ()
        #: What workers said.
        self.requests: list[Request] = []
        self.hellos: list[Hello] = []
        self.ups: list[Up] = []
        self.started: list[int] = []
        self.ends: list[EndedFrame] = []
        self.logs: dict[tuple[int, Stream], bytearray] = {}
        self.broken: list[AssertionError] = []
        self._port = port
        self._news = asyncio.Condition()
        self.connection: ServerConnection | None = None
        self._number = 0
        self._taken = 0
        self._heard = 0
        #: Bytes of logs in messages that were not heard, by number.
        self._window: dict[int, int] = {}

    # What tests say

    async def order(self, *orders: StartFrame | StopFrame | DropFrame) -> None:
        await self._say(orders)

    async def hear(self) -> None:
        """Hear all that came, and from now on whatever comes."""
        self.hears = True
        await self._say(())

    def cut(self) -> None:
        """Break the connection, with no word."""
        assert self.connection is not None
        self.connection.transport.abort()

    async def close(self, code: int, reason: str = "") -> None:
        assert self.connection is not None
        await self.connection.close(code, reason)

    def log(self, fence: int, stream: Stream = "stdout") -> bytes:
        return bytes(self.logs.get((fence, stream), b""))

    def end(self, fence: int) -> EndedFrame:
        """The one end that came of an attempt."""
        ends = {repr(end): end for end in self.ends if end.fence == fence}
        assert len(ends) == 1, ends
        return next(iter(ends.values()))

    def told(self, fence: int) -> int:
        """How often its end came."""
        return sum(end.fence == fence for end in self.ends)

    @property
    def unheard_bytes(self) -> int:
        return sum(self._window.values())

    async def until(self, holds: Callable[[], bool], *, within_s: float = 15.0) -> None:
        """Wait for what workers say until the condition holds; fail the test if it never does."""
        async with asyncio.timeout(within_s), self._news:
            await self._news.wait_for(lambda: bool(self.broken) or holds())
        assert not self.broken, self.broken

    async def greeted(self, times: int = 1) -> None:
        """Wait until so many hellos have come in all."""
        await self.until(lambda: len(self.hellos) >= times and self.connection is not None)

    # Life

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            self._port,
            process_request=self._handshake,
            compression=None,
            max_size=frames.MESSAGE_BYTES_MAX,
            close_timeout=1,
        )
        self.port: int = next(iter(self._server.sockets)).getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._server.close()
        await self._server.wait_closed()
        if kind is None:
            assert not self.broken, self.broken

    def _handshake(self, _: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        if self.refusal is None:
            return None
        status, body = self.refusal
        return Response(status, "X", Headers({"content-length": str(len(body))}), body)

    async def _serve(self, connection: ServerConnection) -> None:
        try:
            await self._speak(connection)
        except ConnectionClosed:
            pass  # the worker has gone, or the test cut it
        except AssertionError as error:
            self.broken.append(error)
        finally:
            async with self._news:
                if self.connection is connection:
                    self.connection = None
                self._news.notify_all()

    async def _speak(self, connection: ServerConnection) -> None:
        hello = frames.from_worker(await connection.recv(decode=False))
        assert isinstance(hello, Hello)
        if self.connection is not None:
            await self.connection.close(frames.CLOSE_REPLACED, "Another connection took over.")
        self.connection = connection
        self._number = self._taken = self._heard = 0
        self._window.clear()
        if self.welcomes:
            arrived = tuple(
                Arrived(one.fence, *(len(self.log(one.fence, name)) for name in _STREAMS))
                for one in hello.held
                if hello.cluster_id == self.cluster_id and one.fence not in self.stop
            )
            welcome = Welcome(self.version, self.cluster_id, self.stop, arrived)
            await connection.send(frames.encode(welcome))
        await self._note(self.hellos.append, hello)
        while True:
            up = frames.from_worker(await connection.recv(decode=False))
            assert isinstance(up, Up)
            if self.cuts(up):
                connection.transport.abort()
                return
            self._take(up)
            await self._note(self.ups.append, up)
            if self.hears and up.frames:
                await self._say(())

    async def _note(self, keep: Callable[[Any], None], message: Hello | Up) -> None:
        async with self._news:
            keep(message)
            self._news.notify_all()

    # The protocol

    async def _say(self, orders: tuple[StartFrame | StopFrame | DropFrame, ...]) -> None:
        assert self.connection is not None
        self._number += 1
        if self.hears:
            self._heard = self._taken
            self._window = {n: size for n, size in self._window.items() if n > self._heard}
        down = Down(self._number, self._heard, orders)
        await self.connection.send(frames.encode(down))

    def _take(self, up: Up) -> None:
        self._taken += 1
        assert up.number == self._taken
        assert up.heard <= self._number
        assert len(up.frames) <= frames.FRAMES_MAX
        for frame in up.frames:
            match frame:
                case StartedFrame():
                    self.started.append(frame.fence)
                case LogFrame():
                    self._take_log(up.number, frame)
                case EndedFrame():
                    self._check_end(frame)
                    self.ends.append(frame)
        assert self.unheard_bytes <= frames.WINDOW_BYTES

    def _take_log(self, number: int, frame: LogFrame) -> None:
        assert 0 < len(frame.data) <= frames.CHUNK_BYTES_MAX
        log = self.logs.setdefault((frame.fence, frame.stream), bytearray())
        assert frame.offset == len(log), "a gap, or bytes that had arrived"
        log += frame.data
        self._window[number] = self._window.get(number, 0) + len(frame.data)

    def _check_end(self, frame: EndedFrame) -> None:
        sizes = (frame.stdout_bytes, frame.stderr_bytes, frame.result_bytes)
        assert sizes == tuple(len(self.log(frame.fence, name)) for name in _STREAMS)


_STREAMS: tuple[Stream, ...] = ("stdout", "stderr", "result")
