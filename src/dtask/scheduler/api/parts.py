"""What the routes of jobs work with."""

from pathlib import Path
from typing import NamedTuple

from dtask.scheduler.blobs import Blobs
from dtask.scheduler.feed import Feed
from dtask.scheduler.logs import Logs


class JobParts(NamedTuple):
    """The parts of one scheduler that keep what the core does not."""

    feed: Feed
    logs: Logs
    blobs: Blobs
    #: Where a backup is written before it is sent: on the store's disk, for its owner alone.
    scratch: Path
