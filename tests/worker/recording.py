"""A scheduler of a few lines that records: a real HTTP server, for tests of what workers send."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    at: float
    line: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        return json.loads(self.raw)


Answer = Callable[[Request], Awaitable[tuple[int, Any]]]


async def ok(_: Request) -> tuple[int, Any]:
    return 200, {"status": "ok"}


async def hang_up(_: Request) -> tuple[int, Any]:
    raise ConnectionResetError


def always(status: int, body: Any) -> Answer:
    async def answer(_: Request) -> tuple[int, Any]:
        return status, body

    return answer


class Recorder:
    """`async with Recorder() as scheduler`: answers with `answer`, which may be replaced."""

    def __init__(self, answer: Answer = ok, *, port: int = 0) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self._port = port
        self._news = asyncio.Condition()
        self._open: set[asyncio.Task[Any]] = set()

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [request.body for request in self.requests]

    @property
    def last(self) -> dict[str, Any]:
        return self.requests[-1].body

    async def until(self, holds: Callable[[], bool], *, within_s: float = 10.0) -> None:
        """Wait for requests until the condition holds; fail the test if it never does."""
        async with asyncio.timeout(within_s), self._news:
            await self._news.wait_for(lambda: bool(self.requests) and holds())

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            while await self._serve_one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the worker gave up on this connection
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            self._open.discard(task)
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        raw = await reader.readexactly(int(headers.get("content-length", "0")))
        request = Request(time.monotonic(), head[0], headers, raw)
        async with self._news:
            self.requests.append(request)
            self._news.notify_all()
        status, body = await self.answer(request)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        writer.write(
            f"HTTP/1.1 {status} X\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content
        )
        await writer.drain()
        return True
