"""A worker as the scheduler sees it: heartbeats and one channel, said by hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

import servers
from dtask.wire import frames
from dtask.wire.frames import (
    VERSION,
    Down,
    EndedFrame,
    HeldFrame,
    Hello,
    LogFrame,
    StartedFrame,
    StartFrame,
    Up,
    Welcome,
)

#: Longest that a scheduler may take to say something; reached only when it is broken.
PATIENCE_S = 10.0


class Peer:
    """One connection of a worker, from its hello on."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.number = 0
        self.heard = 0
        self.taken = 0
        #: Frames that came and were not asked for yet.
        self.frames: list[Any] = []

    def say(self, *said: StartedFrame | LogFrame | EndedFrame) -> None:
        """One message."""
        self.number += 1
        self.socket.send(frames.encode(Up(self.number, self.taken, said)))

    def take(self) -> Down:
        """The scheduler's next message."""
        down = frames.from_scheduler(self.recv())
        assert isinstance(down, Down)
        assert down.number == self.taken + 1
        assert down.heard >= self.heard
        self.taken, self.heard = down.number, down.heard
        self.frames.extend(down.frames)
        return down

    def next(self) -> Any:
        """The next frame."""
        while not self.frames:
            self.take()
        return self.frames.pop(0)

    def start(self) -> StartFrame:
        """The next frame, which is one."""
        frame = self.next()
        assert isinstance(frame, StartFrame)
        return frame

    def until_heard(self) -> None:
        """Wait until all that was said is durable."""
        while self.heard < self.number:
            self.take()

    def recv(self) -> bytes:
        """The next message as it is."""
        raw = self.socket.recv(PATIENCE_S)
        assert isinstance(raw, bytes)
        return raw

    def closed(self) -> tuple[int, str]:
        """Read to the end: code and reason of the close."""
        with pytest.raises(ConnectionClosed) as closed:
            self._read_all()
        said = closed.value.rcvd
        assert said is not None
        return said.code, said.reason

    def _read_all(self) -> None:
        while True:
            self.socket.recv(PATIENCE_S)


def ended(fence: int, exit_code: int | None = 0, **more: Any) -> EndedFrame:
    """An end by itself after nothing was written, unless `more` says otherwise."""
    fields = {
        "cause": None,
        "error": None,
        "started_at": 1_000.0,
        "ended_at": 1_001.0,
        "stdout_bytes": 0,
        "stderr_bytes": 0,
        "result_bytes": 0,
        "truncated": False,
        "log_lost": False,
        "cpu_s": None,
        "max_rss_bytes": None,
    } | more
    return EndedFrame(fence=fence, exit_code=exit_code, **fields)


def beat(scheduler: Any, worker_id: str, *, slots: int = 4, **fields: Any) -> None:
    """A heartbeat of a trusted worker whose only tag is its own name."""
    answer = servers.beat(
        scheduler.url,
        worker_id,
        token=scheduler.token,
        resource_tags=[worker_id],
        max_tasks=slots,
        **{"incarnation": "i1", "tasks": []} | fields,
    )
    assert answer.status_code == 200, answer.text


@contextmanager
def opened(scheduler: Any, **headers: str) -> Iterator[Peer]:
    """A connection before its hello, with the token."""
    with connect(
        scheduler.url.replace("http", "ws", 1) + frames.PATH,
        additional_headers=servers.bearer(scheduler.token) | headers,
        compression=None,
        max_size=frames.MESSAGE_BYTES_MAX,
        max_queue=1,  # what is not asked for is not read
        close_timeout=1,
    ) as socket:
        yield Peer(socket)


@contextmanager
def attached(
    scheduler: Any,
    worker_id: str,
    *,
    held: tuple[HeldFrame, ...] = (),
    cluster_id: str | None = None,
) -> Iterator[tuple[Peer, Welcome]]:
    """A connection that is welcome. The worker must have been heard."""
    with opened(scheduler) as peer:
        peer.socket.send(frames.encode(Hello(VERSION, worker_id, "i1", cluster_id, held)))
        welcome = frames.from_scheduler(peer.recv())
        assert isinstance(welcome, Welcome)
        yield peer, welcome


def submit(operator: httpx.Client, worker_id: str, **task: Any) -> int:
    """A job that only this worker can run."""
    answer = operator.post("/api/v1/jobs", json={"command": ["true"], "tags": [worker_id]} | task)
    assert answer.status_code == 201, answer.text
    job_id: int = answer.json()["job_id"]
    return job_id
