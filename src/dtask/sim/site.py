"""What every participant of a simulation can reach."""

from collections import Counter
from typing import TYPE_CHECKING

from dtask.sim.network import Network
from dtask.sim.scheduler import Scheduler
from dtask.sim.timeline import Timeline
from dtask.sim.trace import Trace

if TYPE_CHECKING:
    from dtask.sim.worker import Process


class Site:
    """Time, network, scheduler, and who listens at which address."""

    def __init__(
        self, timeline: Timeline, trace: Trace, network: Network, scheduler: Scheduler
    ) -> None:
        self.timeline = timeline
        self.network = network
        self.scheduler = scheduler
        #: Living worker processes by address.
        self.listeners: dict[str, Process] = {}
        #: How often what happened, for the summary.
        self.counts: Counter[str] = Counter()
        self._trace = trace

    def note(self, what: str) -> None:
        """A line for the trace."""
        self._trace.add(self.timeline.elapsed_s, what)
