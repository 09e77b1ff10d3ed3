"""An HTTP server of a few lines that records what it is sent and answers as a test says.

It stands where a worker or scheduler is expected: one that is full, drains, drops connections, or
is something else altogether.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Recorded:
    """One request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    @property
    def everything(self) -> str:
        """All that was sent, as one text to search."""
        return f"{self.method} {self.target} {self.headers} {self.raw!r}"


#: Status and body, JSON or raw; None drops the connection without an answer.
Answer = tuple[int, object] | None


class StandIn:
    """Where it listens, what it was sent."""

    def __init__(self, answer: Callable[[Recorded], Answer]) -> None:
        self.answer = answer
        self.requests: list[Recorded] = []
        self.address = ""

    @property
    def lines(self) -> list[str]:
        """`METHOD PATH`, without query and what all paths have in common."""
        return [
            f"{one.method} {one.target.partition('?')[0].removeprefix('/api/v1')}"
            for one in self.requests
        ]


@contextmanager
def standing_in(answer: Callable[[Recorded], Answer]) -> Iterator[StandIn]:
    """A stand-in that listens on a free port of loopback."""
    stand_in = StandIn(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_one(self) -> None:
            size = int(self.headers.get("content-length", "0"))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Recorded(self.command, self.path, headers, self.rfile.read(size))
            stand_in.requests.append(request)
            answer = stand_in.answer(request)
            if answer is None:
                self.close_connection = True
                return
            status, body = answer
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            if 300 <= status < 400:
                self.send_header("location", content.decode())
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = handle_one  # noqa: N815 (names of http.server)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        stand_in.address = f"127.0.0.1:{server.server_address[1]}"
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield stand_in
        finally:
            server.shutdown()
            thread.join(10)


def error(code: str, status: int) -> Answer:
    """An answer of a dtask process that is an error."""
    return status, {"error": f"This is {code}.", "code": code}


def runs_at_once(request: Recorded) -> Answer:
    """What a worker answers if every task ends well the moment it starts, and writes `hi`."""
    if request.target.partition("?")[0].endswith("/log"):
        return 200, b"hi\n"
    assert request.method == "POST", request
    return 202, ended(request)


def ended(request: Recorded, **fields: object) -> dict[str, Any]:
    """The task of a start, ended."""
    return {
        "task_id": request.body["task_id"],
        "fence": request.body["fence"],
        "worker_id": "any",
        "state": "ended",
        "started_at": 1.0,
        "ended_at": 2.0,
        "exit_code": 0,
        "stdout_bytes": 3,
    } | fields
