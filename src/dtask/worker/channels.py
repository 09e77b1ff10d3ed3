"""A worker's channels, one to each of its schedulers, joined with the runner and the heartbeat.

    async with channels.open(runner, heartbeat):
        ...

An attempt belongs to the scheduler that sent it, and while the channel to that one is open, it is
told there and nowhere else: heartbeats to it leave the attempt out. Every other scheduler counts
it among this worker's taken slots.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import httpx

from dtask import certificates
from dtask.errors import Unavailable
from dtask.worker.blobs import Blobs
from dtask.worker.channel import Channel
from dtask.worker.claims import Claims
from dtask.worker.heartbeat import Heartbeat
from dtask.worker.run import Key
from dtask.worker.runner import Runner


class Channels:
    """The channels to the schedulers at `urls`; `path` is the file of what is known of them."""

    def __init__(self, urls: Iterable[str], *, token: str, path: Path) -> None:
        self._urls = tuple(urls)
        self._token = token
        self._claims = Claims(self._urls, path)
        self._channels: dict[str, Channel] = {}
        self._blobs: dict[str, Blobs] = {}
        self._runner: Runner | None = None
        self._heartbeat: Heartbeat | None = None
        #: An end was heard.
        self._told = asyncio.Event()

    @contextlib.asynccontextmanager
    async def open(self, runner: Runner, heartbeat: Heartbeat) -> AsyncIterator[None]:
        """Keep the channels open while the block runs. The runner has taken its spool."""
        self._runner = runner
        self._heartbeat = heartbeat
        self._claims.load()
        async with contextlib.AsyncExitStack() as stack:
            transport = httpx.AsyncHTTPTransport(verify=certificates.verified(self._urls))
            stack.push_async_callback(transport.aclose)
            for url in self._urls:
                self._blobs[url] = Blobs(url, token=self._token, transport=transport)
                self._channels[url] = Channel(
                    url,
                    worker_id=heartbeat.worker_id,
                    incarnation=heartbeat.incarnation,
                    token=self._token,
                    runner=runner,
                    claims=self._claims,
                    on_changed=self._on_changed,
                    on_told=self._told.set,
                )
            runs = [asyncio.create_task(one.run()) for one in self._channels.values()]
            try:
                yield
            finally:
                for run in runs:
                    run.cancel()
                await asyncio.gather(*runs, return_exceptions=True)

    @property
    def attached(self) -> int:
        """How many channels are open."""
        return len(self._claims.opened())

    # The heartbeat's side

    def answered(self, url: str, cluster_id: str | None) -> None:
        """The scheduler at `url` has answered a heartbeat, and said which store it has."""
        if cluster_id is not None:
            self._claims.claim(url, cluster_id)
        if (channel := self._channels.get(url)) is not None:
            channel.answered()

    def unnamed(self, url: str) -> int:
        """Slots taken by attempts that the scheduler at `url` does not know of by its channel."""
        if self._runner is None:
            return 0
        told = self._claims.of(url)
        if told not in self._claims.opened():
            told = None
        known_gone = set[Key]().union(*(one.dropped() for one in self._channels.values()))
        return sum(
            self._runner.attempt_end((cluster_id, fence)) is None
            for cluster_id in self._runner.clusters()
            for fence, _ in self._runner.attempts(cluster_id)
            if cluster_id != told or (cluster_id, fence) in known_gone
        )

    # The runner's side

    def started(self, key: Key, started_at: float) -> None:
        """An attempt's process runs since `started_at`, epoch seconds."""
        for channel in self._channels.values():
            channel.started(key, started_at)
        self._count_elsewhere(key)

    def ended(self, key: Key) -> None:
        """Nothing is left of an attempt."""
        if self._runner is None:
            return
        end = self._runner.attempt_end(key)
        assert end is not None
        for channel in self._channels.values():
            channel.ended(key, end)
        self._count_elsewhere(key)

    async def fetch(self, cluster_id: str, digest: str) -> bytes:
        """The blob of this SHA-256 from the scheduler with that store. Raises DtaskError."""
        for url, blobs in self._blobs.items():
            if self._claims.of(url) == cluster_id:
                return await blobs.fetch(digest)
        raise Unavailable(
            "The scheduler that sent the task is none of this worker's any more.",
            code="unreachable",
        )

    async def told(self) -> None:
        """Wait until all ends of attempts have been heard."""
        assert self._runner is not None
        while self._runner.clusters():
            self._told.clear()
            await self._told.wait()

    def _on_changed(self) -> None:
        """A channel has opened or closed, so heartbeats have something else to say."""
        assert self._heartbeat is not None
        self._heartbeat.wake()

    def _count_elsewhere(self, key: Key) -> None:
        """A slot was taken, or is free: some schedulers learn that from heartbeats alone."""
        opened = self._claims.opened()
        urls = [url for url in self._urls if key[0] not in opened or self._claims.of(url) != key[0]]
        if urls and self._heartbeat is not None:
            self._heartbeat.wake(urls)
