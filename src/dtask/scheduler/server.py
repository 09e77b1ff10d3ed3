"""One scheduler from its socket to its end: bind, serve, stop without cutting off a request."""

import asyncio
import contextlib
import gc
import random
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol

import uvicorn
import uvloop

from dtask.addresses import join_host_port
from dtask.clock import SystemClock
from dtask.core.cluster import Cluster
from dtask.credentials import find_token
from dtask.listening import BACKLOG, bind
from dtask.scheduler import log
from dtask.scheduler.api.access import Access
from dtask.scheduler.api.app import App
from dtask.scheduler.api.pages import Page
from dtask.scheduler.api.parts import JobParts, PageParts
from dtask.scheduler.attention import Watch
from dtask.scheduler.channels import Channels
from dtask.scheduler.data import Data
from dtask.scheduler.feed import Feed
from dtask.scheduler.history import History
from dtask.scheduler.job_lines import JobLines
from dtask.scheduler.lag import watch_lag
from dtask.scheduler.leftovers import remove_leftovers
from dtask.scheduler.live import ChangedJobs, Live
from dtask.scheduler.loop import Loop
from dtask.scheduler.metrics import Metrics
from dtask.scheduler.protocol import Sweep, connection_class
from dtask.scheduler.sessions import Sessions
from dtask.scheduler.settings import Settings
from dtask.scheduler.tallies import Tallies
from dtask.scheduler.websocket import socket_class
from dtask.wire.frames import MESSAGE_BYTES_MAX

#: Connections at a time, if the process may open so many files: a worker or two a slot of the
#: largest fleet, and its clients.
CONNECTIONS_MAX: Final = 200_000

#: Files of the process that are not connections: sockets, logs, libraries.
OTHER_FILES: Final = 64

#: Seconds between two pings of a channel, and until a channel that answers none is closed. A
#: worker that is cut off is offline by then.
PING_S: Final = 10.0

#: Seconds after which a thread that waits for the interpreter gets it.
SWITCH_S: Final = 0.0005

#: Seconds between two looks whether to stop, and between two dates in the answers.
_TICK_S: Final = 1.0


class SchedulerServer:
    """A scheduler bound to its address, with its data open; `pages` are handed out to browsers.

    Raises what `bind`, `find_token` and `Data` raise.
    """

    def __init__(self, settings: Settings, pages: Mapping[str, Page] | None = None) -> None:
        self.settings = settings
        self.token = find_token(settings.token_file)
        clock = SystemClock()
        self.cluster = Cluster(clock.now(), settings.core(), random.random)
        self._sweep = Sweep(settings.patience, _connections_max())
        self._socket = bind(settings.host, settings.port, host_flag="--host", port_flag="--port")
        try:
            self._data = Data(settings.data, log_bytes_max=settings.log_max_mb * 1024**2)
        except BaseException:
            self._socket.close()
            raise
        self.url = url_of(self._socket)
        self._feed = Feed(clock.now())
        self._sessions = Sessions(
            self._data.directory / "sessions", port=self._socket.getsockname()[1], now=clock.now
        )
        access = Access(settings, self.token, self._sessions)
        channels = Channels(access, logs=self._data.logs, clock=clock)
        self.tallies = Tallies()
        watch, changed = Watch(), ChangedJobs()
        self._loop = Loop(
            self.cluster,
            clock,
            self._data.store,
            perform=[
                channels.perform,
                self._data.logs.perform,
                self._feed.perform,
                JobLines().perform,
                watch.perform,
                changed.perform,
            ],
            tallies=self.tallies,
        )
        channels.serve(self._loop)
        self._history = History(self._loop, clock)
        self._live = Live(self._loop, self._history, watch, changed, clock)
        self._metrics = Metrics(self._loop, clock, (self._feed.readers, self._live.readers))
        parts = JobParts(self._feed, self._data.logs, self._data.blobs, self._data.directory)
        for_pages = PageParts(self._sessions, clock, pages or {}, self._live, self._history)
        self._server = _Server(
            uvicorn.Config(
                App(self._loop, access, parts, for_pages, self._metrics),
                http=connection_class(self._sweep),
                ws=socket_class(channels, self._sweep),
                ws_max_size=MESSAGE_BYTES_MAX,
                ws_ping_interval=PING_S,
                ws_ping_timeout=PING_S,
                ws_per_message_deflate=False,
                lifespan="off",
                interface="asgi3",
                log_config=None,
                log_level="warning",
                access_log=False,
                proxy_headers=False,  # they would let a client choose its address
                server_header=False,
                backlog=BACKLOG,
                # The sweep ends what does not end by itself; this only bounds the sweep.
                timeout_graceful_shutdown=settings.patience.stop_s + 1,
            ),
            (self._sweep, self._feed, self._live),
        )

    async def serve(self, *, started: Callable[[], None] = lambda: None) -> None:
        """Serve until `stop`, SIGTERM or SIGINT; then finish what is under way.

        `started` is called when signals are heeded and connections are taken. Raises Unavailable
        if the store can't be read, and what ended a part of it that should never end.
        """
        self._server.on_started = started
        helpers: list[asyncio.Task[None]] = []
        try:
            await self._loop.load()
            for never_ending in (
                self._loop.run(),
                watch_lag(self.tallies),
                self._sweep.run(self._server.server_state),
                self._history.run(),
                self._live.run(),
                remove_leftovers(self._loop, self._data.logs, self._data.blobs),
            ):
                helper = asyncio.create_task(never_ending)
                helper.add_done_callback(self._mourn)
                helpers.append(helper)
            await self._server.serve(sockets=[self._socket])
            for helper in helpers:
                if helper.done():
                    helper.result()
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            self._metrics.stop()
            self._loop.stop()
            self._sessions.close()
            self._data.close()
            self._socket.close()

    def stop(self) -> None:
        """Ask `serve` to end. From the same thread."""
        self._server.stop()

    def _mourn(self, helper: "asyncio.Task[None]") -> None:
        """A scheduler without one of its parts would answer, and never do what it says."""
        if not helper.cancelled():
            log.logger.error(
                "a part of the scheduler ended; this is a bug in dtask",
                exc_info=helper.exception(),
            )
            self.stop()


def run(settings: Settings, pages: Mapping[str, Page], *, listening: Callable[[str], None]) -> None:
    """Be the scheduler process; `listening` is told the URL. Raises what SchedulerServer raises."""
    server = SchedulerServer(settings, pages)
    _spare_the_collector()
    _share_the_interpreter()

    def started() -> None:
        listening(server.url)
        log.say("scheduler started", url=server.url)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve(started=started))
    log.say("scheduler stopped")


def url_of(listener: socket.socket) -> str:
    """`http://127.0.0.1:8080`."""
    host, port = listener.getsockname()[:2]
    return f"http://{join_host_port(host, port)}"


class Stops(Protocol):
    """A part that lets those go who wait for something."""

    def stop(self) -> None:
        """The scheduler stops."""
        ...


class _Server(uvicorn.Server):
    """uvicorn's server, stopped at once instead of at its next look, and with exit code 0."""

    def __init__(self, config: uvicorn.Config, parts: tuple[Stops, ...]) -> None:
        super().__init__(config)
        self._parts = parts
        self._stop_asked = asyncio.Event()
        self.on_started: Callable[[], None] = lambda: None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take connections."""
        await super().startup(sockets)
        self.on_started()

    def stop(self) -> None:
        """Ask it to end."""
        self.should_exit = True
        for part in self._parts:
            part.stop()
        self._stop_asked.set()

    async def main_loop(self) -> None:
        """Refresh the Date header each second until it is time to stop."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop_asked.wait(), _TICK_S)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT ask to end. uvicorn would raise them again after a clean stop."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


def _connections_max() -> int:
    """As many as this process may have files open, after asking for as many as it may have."""
    wanted = CONNECTIONS_MAX + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted - OTHER_FILES
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(1, wanted - OTHER_FILES)


def _share_the_interpreter() -> None:
    """Let the threads of disk and logs have their turn soon.

    A thread that has waited for the disk waits again, for the interpreter: by default until the
    busy loop has had 5 ms. Measured beside one that never pauses: a commit took 22 ms then, and
    takes 1.6 ms with a tenth of that.
    """
    sys.setswitchinterval(SWITCH_S)


def _spare_the_collector() -> None:
    """Keep full garbage collections off the loop.

    A full collection walks every object of the process: with 50,000 workers and a million leases
    that is half a second in which nobody is answered. Nothing here makes cycles by the request, so
    what has been imported is frozen out of the collector's sight, and the rest is looked at seldom.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 1_000)
