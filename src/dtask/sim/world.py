"""One simulated run: faults for a while, then none, and then everything must settle."""

from collections.abc import Callable
from typing import Final

from dtask.core.cluster import Cluster
from dtask.core.placement.events import Drain
from dtask.sim import SECONDS
from dtask.sim import weather as weathers
from dtask.sim.client import Client
from dtask.sim.dice import stream
from dtask.sim.faults import Faults
from dtask.sim.fleet import Fleet
from dtask.sim.network import Network
from dtask.sim.outcome import Outcome, conduct
from dtask.sim.scheduler import MakeCluster, Scheduler
from dtask.sim.site import Site
from dtask.sim.timeline import Timeline
from dtask.sim.trace import Trace

#: Virtual seconds within which, without faults, every client must have got what it asked for.
SERVED_S: Final = 300.0
#: And then all leases end (30 s at most), with those that late messages (30 s) still bring.
QUIET_S: Final = 62.0
#: Tasks that never end are placed, started and reported within this.
HELD_S: Final = 20.0

CLIENTS: Final = 6


def simulate(
    seed: int,
    *,
    seconds: float = SECONDS,
    make: MakeCluster = Cluster,
    listen: Callable[[str], None] | None = None,
) -> Outcome:
    """One run of `seed` with faults for `seconds`; `listen` gets each line of its trace."""
    return conduct(seed, World(seed, make, Trace(listen)), seconds)


class World:
    """All participants, and the two phases."""

    def __init__(self, seed: int, make: MakeCluster, trace: Trace) -> None:
        timeline = Timeline()
        weather = weathers.draw(stream(seed, "weather"))
        network = Network(timeline, weather, stream(seed, "network"))
        scheduler = Scheduler(
            timeline,
            stream(seed, "scheduler"),
            make,
            lambda what: trace.add(timeline.elapsed_s, what),
        )
        self.trace = trace
        self.site = Site(timeline, trace, network, scheduler)
        self._fleet = Fleet(self.site, stream(seed, "fleet"))
        self._clients = [
            Client(self.site, stream(seed, f"client {i}"), f"c{i}") for i in range(CLIENTS)
        ]
        self._faults = Faults(self.site, self._fleet, stream(seed, "faults"), weather)

    def run(self, seconds: float) -> None:
        """Faults for `seconds`, and then until everything has settled."""
        timeline = self.site.timeline
        timeline.run_for(seconds)
        self._faults.stop()
        for client in self._clients:
            client.stop()
        self._serve_all()
        timeline.run_for(QUIET_S)
        self._assert_settled()
        self._hold_some()
        timeline.run_for(HELD_S)
        self._assert_settled()

    def _serve_all(self) -> None:
        """Every client that still asks gets a place."""
        timeline = self.site.timeline
        until = timeline.elapsed_s + SERVED_S
        while any(client.busy for client in self._clients):
            assert timeline.elapsed_s < until, f"a client is not served within {SERVED_S:g} s"
            timeline.run_for(10.0)
            self._undrain_all()

    def _undrain_all(self) -> None:
        """The operator wants them all back, also those that told a new scheduler of a drain."""
        for worker_id in self._fleet.worker_ids:
            self.site.scheduler.receive((Drain(worker_id, drained=False),), lambda _: None)

    def _hold_some(self) -> None:
        """Tasks that stay, for half of the slots."""
        slots = sum(process.kind.max_tasks for process in self._fleet.processes)
        for i in range(slots // 2):
            self._clients[i % CLIENTS].hold().ask()

    def _assert_settled(self) -> None:
        """The scheduler knows every worker, and exactly what it holds."""
        assert not any(client.busy for client in self._clients), "a client is not served"
        views = self.site.scheduler.views()
        for process in self._fleet.processes:
            worker_id = process.kind.worker_id
            view = views[worker_id]
            held = len(process.attempts.held())
            assert (view.status, view.draining) == ("online", False), f"{worker_id} is not settled"
            assert (view.address, view.incarnation) == (process.address, process.incarnation)
            assert view.occupancy == held, f"{worker_id} holds {held}, not {view.occupancy}"
            assert view.leases == held, f"{worker_id} holds {held}, for {view.leases} leases"
        assert len(self._fleet.processes) == len(self._fleet.worker_ids) == len(views)
