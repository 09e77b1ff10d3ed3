"""Which store stands behind which scheduler's URL, and to which of them a channel is open.

Attempts belong to a store, by its cluster_id, and a worker may serve several. What a URL led to
is written down beside the spool's attempts, so that the next life says to each scheduler what it
holds of its own.
"""

import asyncio
import contextlib
import logging
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

import msgspec

_log: Final = logging.getLogger("dtask.worker")


class Claims:
    """The stores of the schedulers at `urls`, kept in the file `path`."""

    def __init__(self, urls: Iterable[str], path: Path) -> None:
        self._urls = tuple(urls)
        self._path = path
        self._clusters: dict[str, str] = {}
        #: The URL through which the channel to a store is open.
        self._open: dict[str, str] = {}
        self._closed = asyncio.Event()

    def load(self) -> None:
        """Read what an earlier life knew of these schedulers; nothing if that can't be read."""
        with contextlib.suppress(OSError, msgspec.DecodeError):
            known = msgspec.json.decode(self._path.read_bytes(), type=dict[str, str])
            self._clusters = {url: known[url] for url in self._urls if url in known}

    def of(self, url: str, held: Iterable[str] = ()) -> str | None:
        """The store behind `url`, as far as known.

        Of a URL that has never answered it may be the one among those `held` that nobody claims.
        """
        if url in self._clusters:
            return self._clusters[url]
        free = set(held) - set(self._clusters.values())
        return free.pop() if len(free) == 1 else None

    def orphans(self, held: Iterable[str]) -> set[str]:
        """Those of the stores `held` that are behind no URL."""
        if len(self._clusters) < len(self._urls):
            return set()  # one that has not answered yet may be behind the others
        return set(held) - set(self._clusters.values())

    def claim(self, url: str, cluster_id: str) -> None:
        """The scheduler at `url` has said which store it has."""
        if self._clusters.get(url) == cluster_id:
            return
        self._clusters[url] = cluster_id
        torn = self._path.with_suffix(".tmp")
        try:
            torn.write_bytes(msgspec.json.encode(self._clusters))
            torn.rename(self._path)
        except OSError as error:
            _log.warning(
                "The file %s can't be written (%s): if this worker dies, its next life may not "
                "know which scheduler to tell of what it held.",
                self._path,
                error.strerror,
            )

    def open(self, url: str) -> None:
        """The channel to the store behind `url` is open."""
        self._open[self._clusters[url]] = url

    def close(self, url: str) -> None:
        """It is not open any more, if it was, through this URL."""
        for cluster_id, opener in tuple(self._open.items()):
            if opener == url:
                del self._open[cluster_id]
                self._closed.set()
                self._closed = asyncio.Event()

    def opened(self) -> Collection[str]:
        """The stores to which a channel is open."""
        return self._open.keys()

    async def free(self, url: str) -> None:
        """Wait while another URL has an open channel to the same store.

        Two names of one scheduler would otherwise take the worker's one connection from each
        other for ever.
        """
        while self._open.get(self._clusters.get(url, ""), url) != url:
            await self._closed.wait()
