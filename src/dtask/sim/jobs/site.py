"""What every participant of a simulation of jobs can reach."""

from collections import Counter

from dtask.sim.jobs.ledger import Ledger
from dtask.sim.jobs.scheduler import Scheduler
from dtask.sim.jobs.weather import Weather
from dtask.sim.network import Network
from dtask.sim.timeline import Timeline
from dtask.sim.trace import Trace


class Site:
    """Time, network, scheduler, and the account of what must hold."""

    def __init__(
        self,
        timeline: Timeline,
        trace: Trace,
        network: Network,
        scheduler: Scheduler,
        ledger: Ledger,
        *,
        weather: Weather,
    ) -> None:
        self.timeline = timeline
        self.network = network
        self.scheduler = scheduler
        self.ledger = ledger
        #: As it is now.
        self.weather = weather
        #: How often what happened, for the summary.
        self.counts: Counter[str] = Counter()
        self._trace = trace

    def note(self, what: str) -> None:
        """A line for the trace."""
        self._trace.add(self.timeline.elapsed_s, what)
