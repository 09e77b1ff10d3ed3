"""What the routes of jobs, and those of pages, work with."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from dtask.clock import Clock
from dtask.scheduler.api.pages import Page
from dtask.scheduler.blobs import Blobs
from dtask.scheduler.feed import Feed
from dtask.scheduler.history import History
from dtask.scheduler.live import Live
from dtask.scheduler.logs import Logs
from dtask.scheduler.sessions import Sessions


class JobParts(NamedTuple):
    """The parts of one scheduler that keep what the core does not."""

    feed: Feed
    logs: Logs
    blobs: Blobs
    #: Where a backup is written before it is sent: on the store's disk, for its owner alone.
    scratch: Path


class PageParts(NamedTuple):
    """What browsers get, and what lets them in."""

    sessions: Sessions
    clock: Clock
    #: The files below `/dashboard/`, by their path there.
    pages: Mapping[str, Page]
    live: Live
    history: History
