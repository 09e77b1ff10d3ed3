"""What nobody will ask for any more: logs of jobs that are not kept, blobs that no job names.

A job that is forgotten takes its logs along; a crash in between leaves them, and so does a store
that was put back from a backup. Blobs may be named by many jobs. So both are looked for now and
then.
"""

import asyncio
import logging
import re
from typing import Final

from dtask.core.jobs.events import Look
from dtask.errors import NotFound, Unavailable
from dtask.scheduler import log
from dtask.scheduler.blobs import Blobs
from dtask.scheduler.logs import Logs
from dtask.scheduler.loop import Loop
from dtask.store.base import Store

#: Seconds between two looks.
EVERY_S: Final = 3600.0

#: Jobs looked at between two turns of the loop, and read from the store at a time.
_SLICE: Final = 100

_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")


async def remove_leftovers(loop: Loop, logs: Logs, blobs: Blobs) -> None:
    """Look at once, and then now and then. Ends when cancelled."""
    while True:
        try:
            await remove_logs(loop, logs)
            await remove_blobs(loop, blobs)
        except (Unavailable, OSError) as error:
            log.say("leftovers can't be removed", level=logging.WARNING, error=str(error))
        except Exception:  # noqa: BLE001 (whatever the bug, it only keeps what nobody needs)
            log.logger.exception("leftovers can't be looked for; this is a bug in dtask")
        await asyncio.sleep(EVERY_S)


async def remove_logs(loop: Loop, logs: Logs) -> None:
    """Remove the logs of jobs that are not known."""
    for count, job_id in enumerate(await logs.jobs()):
        try:
            await loop.ask(Look(job_id))
        except NotFound:
            logs.forget(job_id)
        if count % _SLICE == 0:
            await asyncio.sleep(0)


async def remove_blobs(loop: Loop, blobs: Blobs) -> None:
    """Remove the blobs that no job names, and that nobody has asked for in a day."""
    unused = await loop.read(blobs.unused)
    before: int | None = None
    while unused:
        before, named = await loop.read(_named, loop.store, before)
        unused -= named
        if before is None:
            await loop.read(blobs.remove, unused)
            return


def _named(store: Store, before: int | None) -> tuple[int | None, set[str]]:
    """Blobs that some jobs name, and where to go on; None: that was all."""
    jobs = store.jobs(states=frozenset(), queue=None, before=before, limit=_SLICE)
    named: set[str] = set()
    for job in jobs:
        spec = store.spec(job.job_id)
        if spec is not None:
            named.update(_DIGEST.findall(spec))
    return (jobs[-1].job_id if jobs else None), named
