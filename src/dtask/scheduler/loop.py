"""The one owner of the core: every event goes through here, and time does too."""

import asyncio
from typing import Any, Final

from dtask.clock import Clock
from dtask.core.cluster import Cluster, Event
from dtask.core.placement.events import Tick
from dtask.scheduler import log

#: After a tick that failed, so that a bug does not become a busy loop.
AFTER_BUG_S: Final = 0.5


class Loop:
    """Feeds one Cluster from one event loop. Not for other threads."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self.cluster = cluster
        self._now = clock.now
        self._handle = cluster.handle

    def handle(self, event: Event) -> Any:  # noqa: ANN401 (each event names the type of its answer)
        """Let the event happen now and return its answer. Raises what the core raises."""
        step = self._handle(event, self._now())
        if step.effects:
            for effect in step.effects:
                log.note(effect)
        return step.answer

    async def run(self) -> None:
        """Tell the core at each of its deadlines that time has passed. Ends when cancelled."""
        while True:
            try:
                self.handle(Tick())
                pause = self.cluster.next_deadline() - self._now()
            except Exception:  # noqa: BLE001 (whatever the bug, time must go on)
                log.logger.exception("a tick failed; this is a bug in dtask")
                pause = AFTER_BUG_S
            await asyncio.sleep(max(0.0, pause))
