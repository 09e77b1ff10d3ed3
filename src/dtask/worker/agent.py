"""The worker process: heartbeats, a listener that runs tasks by ticket, channels, an orderly end.

It begins with the port, then the spool is taken and what an earlier life left running is killed,
and only then the first heartbeat offers slots; its answer opens the channel, over which attempts
of jobs come. It ends, on SIGTERM or Ctrl-C, by draining: it takes no more tasks and heartbeats
until those it holds have ended or the grace has passed, stops the rest, waits a little until its
schedulers have heard how attempts of jobs ended, and leaves. A second signal cuts it short.
"""

import asyncio
import contextlib
import logging
import math
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop

from dtask.addresses import join_host_port
from dtask.clock import SystemClock
from dtask.errors import InvalidRequest
from dtask.wire.placement import check_id
from dtask.wire.ticket import ticket_key
from dtask.worker import door
from dtask.worker.channels import Channels
from dtask.worker.devices import Devices
from dtask.worker.heartbeat import (
    INTERVAL_S,
    Heartbeat,
    checked_interval_s,
    checked_max_tasks,
    checked_tags,
)
from dtask.worker.listener import Listener
from dtask.worker.metrics import Metrics
from dtask.worker.runner import Runner
from dtask.worker.spool import spool_path

#: How long a drained worker waits for its tasks. With what stopping them takes it stays below the
#: 90 s after which systemd loses its patience.
DRAIN_S: Final = 60.0

#: After its last task a drained worker stays a little, as long as clients are connected and at
#: most this long: they may want to read how their tasks ended.
LINGER_S: Final = 2.0
QUIET_S: Final = 0.2

#: How long a drained worker waits for its schedulers to hear how attempts of jobs ended. What was
#: not heard waits in the spool for this worker's next life.
TELL_S: Final = 5.0

_log: Final = logging.getLogger("dtask.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One worker's settings, checked. Raises InvalidRequest that names the flag."""

    #: None: the host's name and the listener's port.
    worker_id: str | None = None
    #: Where it listens; without a port, on the first free one.
    host: str = "127.0.0.1"
    port: int | None = None
    #: What others are told; None: where the listener is reached from the schedulers.
    advertise: str | None = None
    tags: tuple[str, ...] = ()
    max_tasks: int
    #: GPUs that each task has for itself, of those that this worker sees; 0: they are shared.
    gpus_per_task: int = 0
    devices: tuple[str, ...] = ()
    schedulers: tuple[str, ...]
    interval_s: float = INTERVAL_S
    drain_s: float = DRAIN_S
    token: str
    #: None: a directory of this user's, by the worker's id.
    spool: Path | None = None

    def __post_init__(self) -> None:
        if self.worker_id is not None:
            check_id(self.worker_id, "--id")
        checked_tags(self.tags, "--tags")
        checked_max_tasks(self.max_tasks, "--max-tasks")
        Devices(
            self.devices, per_task=self.gpus_per_task, max_tasks=self.max_tasks, environ=os.environ
        )
        checked_interval_s(self.interval_s, "--interval")
        if not 0 <= self.drain_s < math.inf:
            raise InvalidRequest(
                f"--grace: expected seconds, 0 or more, got {self.drain_s:g}.",
                code="malformed",
                field="--grace",
            )
        if self.advertise is None:
            door.reached_host(self.host, self.schedulers)


class Agent:
    """A worker behind the socket `listening`. Use it once: `run` is its whole life."""

    def __init__(self, settings: Settings, listening: socket.socket) -> None:
        host, port = listening.getsockname()[:2]
        reached = settings.advertise or join_host_port(
            door.reached_host(host, settings.schedulers), port
        )
        self.worker_id = settings.worker_id or f"{socket.gethostname()}:{port}"
        self._settings = settings
        self._socket = listening
        self._address = reached
        self._spool = spool = settings.spool or spool_path(self.worker_id)
        self._channels = Channels(
            settings.schedulers, token=settings.token, path=spool / "schedulers.json"
        )
        self._beat = Heartbeat(
            worker_id=self.worker_id,
            address=reached,
            tags=settings.tags,
            max_tasks=settings.max_tasks,
            scheduler=settings.schedulers,
            interval_s=settings.interval_s,
            token=settings.token,
            unnamed=self._channels.unnamed,
            ready=self._has_room,
            metrics=lambda: {} if self._had_room else {"spool_full": True},
            on_answered=self._channels.answered,
        )
        self._runner = Runner(
            worker_id=self.worker_id,
            max_tasks=settings.max_tasks,
            path=spool,
            on_held=self._beat.hold,
            on_ended=self._beat.end,
            on_attempt_started=self._channels.started,
            on_attempt_ended=self._channels.ended,
            fetch=self._channels.fetch,
            gpus_per_task=settings.gpus_per_task,
            devices=settings.devices,
        )
        self._listener = Listener(
            self._runner,
            ticket_key(settings.token),
            SystemClock(),
            Metrics(self._runner, self._beat, self._channels),
        )
        #: As it was told last.
        self._had_room = True
        #: The first signal, and the second.
        self._stopping = asyncio.Event()
        self._hurrying = asyncio.Event()

    async def run(self, listening: Callable[[str], None]) -> None:
        """Work until a signal comes; `listening` is told the address once tasks are taken.

        Raises DtaskError if the spool can't be used or schedulers refuse this worker for good.
        """
        with self._signals():
            try:
                await self._runner.start()
                await self._listener.start(self._socket)
                async with self._beat, self._channels.open(self._runner, self._beat):
                    self._say_started()
                    listening(self._address)
                    await self._stopping.wait()
                    await self._drain()
            finally:
                await self._runner.stop()
                await self._listener.stop()
        _say("worker stopped", worker_id=self.worker_id)

    async def _drain(self) -> None:
        """Take no more tasks, let those that run end, stop those that take too long."""
        self._runner.drain()
        self._beat.drain()
        if held := self._runner.held():
            _say("worker draining", tasks=len(held), grace_s=self._settings.drain_s)
            await self._first(self._runner.idle(), within_s=self._settings.drain_s)
        if left := self._runner.held():
            _say("worker stops tasks", tasks=len(left))
            self._runner.stop_all()
            await self._runner.idle()
        await self._first(self._channels.told(), within_s=TELL_S)
        if held or self._listener.clients:
            await self._first(self._last_reader(), within_s=LINGER_S)

    async def _last_reader(self) -> None:
        """Wait until no client is connected; one may come back over a new connection."""
        await asyncio.sleep(QUIET_S)
        while self._listener.clients:  # noqa: ASYNC110 (uvicorn tells nobody when one leaves)
            await asyncio.sleep(QUIET_S)

    async def _first(self, end: Coroutine[Any, Any, object], *, within_s: float) -> None:
        """Wait for `end`, `within_s` at most, and no longer than until the second signal."""
        waits = [asyncio.ensure_future(end), asyncio.ensure_future(self._hurrying.wait())]
        try:
            await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _has_room(self) -> bool:
        """Whether the disk lets tasks be taken; says when that changes."""
        has_room = self._runner.has_room()
        if has_room != self._had_room:
            self._had_room = has_room
            what = "has room again" if has_room else "is full: no tasks are taken until it has room"
            level = logging.INFO if has_room else logging.WARNING
            _log.log(level, "The spool %s %s.", self._spool, what)
        return has_room

    def _say_started(self) -> None:
        _say(
            "worker started",
            worker_id=self.worker_id,
            address=self._address,
            tags=",".join(self._settings.tags),
            max_tasks=self._settings.max_tasks,
            schedulers=",".join(self._settings.schedulers),
        )

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGTERM, signal.SIGINT)
        for number in numbers:
            loop.add_signal_handler(number, self._on_signal)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _on_signal(self) -> None:
        if self._stopping.is_set():
            self._hurrying.set()
        self._stopping.set()


def run(settings: Settings, *, listening: Callable[[str], None]) -> None:
    """Be the worker process. Raises what `door.listen` and `Agent.run` raise."""
    with (
        contextlib.closing(door.listen(settings.host, settings.port)) as socket_,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(Agent(settings, socket_).run(listening))


def _say(sentence: str, **facts: object) -> None:
    _log.info(sentence, extra={"facts": facts})
