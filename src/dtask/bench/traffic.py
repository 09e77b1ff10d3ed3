"""Load over raw sockets: connections that each follow a script, request by request.

A client that parsed HTTP as it should would be slower than the server it measures. This one
knows that answers carry a content-length, finds it, and asks its script for the next request.
"""

import asyncio
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

#: Yields the bytes of a request, is sent (status, body) of its answer.
Script = Generator[bytes, tuple[int, bytes], None]


@dataclass(slots=True)
class Tally:
    """What came of a run."""

    seconds: float = 0.0
    #: Answers by (method, status); the method is the first letter of the request.
    answers: dict[tuple[str, int], int] = field(default_factory=dict)
    #: Seconds each answer to a POST took; filled when asked for.
    latencies: list[float] = field(default_factory=list)

    def count(self, method: str, status: int) -> int:
        """Answers of this status to requests of this method."""
        return self.answers.get((method[0], status), 0)


class _Connection(asyncio.Protocol):
    """One keep-alive connection: the next request leaves when the answer has come."""

    def __init__(self, script: Script, tally: Tally, *, timed: bool) -> None:
        self._script = script
        self._tally = tally
        self._timed = timed
        self._buffer = b""
        self._method = ""
        self._sent_at = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not a subclass
        self._send(next(self._script))

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            self._buffer = buffer
            return
        at = buffer.find(b"content-length: ")
        size = end + 4 + int(buffer[at + 16 : buffer.find(b"\r", at)])
        if len(buffer) < size:
            self._buffer = buffer
            return
        self._buffer = b""
        tally = self._tally
        if self._timed and self._method == "P":
            tally.latencies.append(time.perf_counter() - self._sent_at)
        status = int(buffer[9:12])
        key = (self._method, status)
        tally.answers[key] = tally.answers.get(key, 0) + 1
        try:
            self._send(self._script.send((status, buffer[end + 4 : size])))
        except StopIteration:
            self._transport.close()
            self.done.set_result(None)
        except Exception as error:  # noqa: BLE001 (it must end the run, not vanish in the loop)
            self._transport.close()
            self.done.set_exception(error)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server closed the connection"))

    def _send(self, request: bytes) -> None:
        self._method = chr(request[0])
        if self._timed:
            self._sent_at = time.perf_counter()
        self._transport.write(request)


def run(url: str, scripts: list[Script], *, timed: bool = False) -> Tally:
    """Follow each script on a connection of its own until all have ended."""
    import uvloop  # noqa: PLC0415 (not needed by those who only build requests)

    return uvloop.run(_run(url, scripts, timed=timed))


async def _run(url: str, scripts: list[Script], *, timed: bool) -> Tally:
    host, port = endpoint(url)
    loop = asyncio.get_running_loop()
    tally = Tally()
    started = time.perf_counter()
    connections = []
    for script in scripts:
        _, connection = await loop.create_connection(
            lambda script=script: _Connection(script, tally, timed=timed),  # type: ignore[misc]
            host,
            port,
        )
        connections.append(connection)
    await asyncio.gather(*(connection.done for connection in connections))
    tally.seconds = time.perf_counter() - started
    return tally


def endpoint(url: str) -> tuple[str, int]:
    """Host and port of a server's URL."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def request(method: str, path: str, body: bytes = b"", *, token: str | None = None) -> bytes:
    """The bytes of one request to a server on loopback."""
    proof = b"" if token is None else b"authorization: Bearer %s\r\n" % token.encode()
    return (
        b"%s %s HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n%s"
        b"content-length: %d\r\n\r\n%s" % (method.encode(), path.encode(), proof, len(body), body)
    )


def until(seconds: float) -> Callable[[], bool]:
    """A condition that holds for so long from now on."""
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() < end
