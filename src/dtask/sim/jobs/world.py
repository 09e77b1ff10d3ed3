"""One simulated run of the job half: faults for a while, then none, and then all jobs end."""

import itertools
import random
from collections.abc import Callable
from typing import Final

from dtask.core.cluster import Cluster
from dtask.core.jobs.events import CountJobs
from dtask.sim import SECONDS
from dtask.sim.dice import stream
from dtask.sim.jobs import client as clients
from dtask.sim.jobs.client import Client
from dtask.sim.jobs.disk import Disk
from dtask.sim.jobs.ledger import Ledger
from dtask.sim.jobs.scheduler import MakeCluster, Scheduler
from dtask.sim.jobs.site import Site
from dtask.sim.jobs.weather import CALM, Weather, draw
from dtask.sim.jobs.worker import Machine, Process
from dtask.sim.network import Network
from dtask.sim.outcome import Outcome, conduct
from dtask.sim.timeline import Timeline
from dtask.sim.trace import Trace

#: Virtual seconds within which, without faults, every job must have ended.
ENDED_S: Final = 3_000.0
#: So long after the last fault every worker has said hello, and stopped what nobody waits for.
CALM_S: Final = 60.0
#: And then the last news travels.
QUIET_S: Final = 45.0

CLIENTS: Final = 4

#: Seconds, from and to.
CUT_OFF_S: Final = (0.5, 30.0)
FREEZE_S: Final = (0.5, 40.0)
DOWN_S: Final = (0.01, 10.0)
STALL_S: Final = (0.3, 40.0)
STEP_S: Final = (0.1, 120.0)
SHIFT_S: Final = (-20.0, 20.0)


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
    """All participants, the faults, and the two phases."""

    def __init__(self, seed: int, make: MakeCluster, trace: Trace) -> None:
        timeline = Timeline()
        self.trace = trace
        self._weather = draw(stream(seed, "weather"))
        self._rng = stream(seed, "faults")
        network = Network(timeline, self._weather, stream(seed, "network"))
        self._disk = Disk(timeline, stream(seed, "disk"), self._weather)
        ledger = Ledger(self._disk, workers_spared=self._weather.spares_workers)
        scheduler = Scheduler(
            timeline,
            stream(seed, "scheduler"),
            self._disk,
            ledger=ledger,
            make=make,
            note=lambda what: trace.add(timeline.elapsed_s, what),
        )
        self.site = Site(timeline, trace, network, scheduler, ledger, weather=self._weather)
        self._machines = _machines(stream(seed, "machines"))
        self._lives = itertools.count(1)
        self._processes: dict[str, Process] = {}
        self._stopped = False
        for machine in self._machines:
            self._start(machine)
        self._clients = [
            Client(self.site, stream(seed, f"client {i}"), f"c{i}", self._disk)
            for i in range(CLIENTS)
        ]
        self._begin_faults(self._weather)

    def run(self, seconds: float) -> None:
        """Faults for `seconds`, and then until everything has ended."""
        timeline = self.site.timeline
        timeline.run_for(seconds)
        self._stop_faults()
        for client in self._clients:
            client.stop()
        until = timeline.elapsed_s + ENDED_S
        while not self._all_ended():
            assert timeline.elapsed_s < until, f"jobs have not ended within {ENDED_S:g} s"
            clients.tidy_up(self.site)
            clients.cancel_stuck(self.site, list(self.site.ledger.known_jobs))
            timeline.run_for(5.0)
            if timeline.elapsed_s > seconds + CALM_S:
                self.site.ledger.assert_no_orphans()
        timeline.run_for(QUIET_S)
        self._assert_settled()

    def _all_ended(self) -> bool:
        if any(client.waiting for client in self._clients):
            return False
        stats = self.site.scheduler.ask(CountJobs())
        return bool(stats.jobs == 0)

    def _assert_settled(self) -> None:
        """Nothing is held anywhere, and the store agrees."""
        self.site.ledger.assert_settled()
        for process in self._processes.values():
            assert not process.busy, f"{process} still holds something"
        stats = self.site.scheduler.ask(CountJobs())
        assert stats.attached == len(self._machines), f"{stats.attached} channels are attached"
        assert not any(stats.tasks[state] for state in ("scheduled", "running", "queued"))
        assert not self._disk.load().jobs

    # Machines

    def _start(self, machine: Machine) -> None:
        life = f"{machine.worker_id}.{next(self._lives)}"
        self.site.note(f"{life} starts")
        self._processes[machine.worker_id] = Process(
            self.site, self._rng, machine, incarnation=life, died=self._died
        )

    def _died(self, process: Process) -> None:
        soon = self._stopped or self._rng.random() < 0.5  # noqa: PLR2004 (a supervisor, or a person)
        delay_s = self._rng.uniform(0.01, 0.1) if soon else self._rng.uniform(0.1, 60.0)
        self.site.timeline.after(delay_s, lambda: self._revive(process.machine))

    def _revive(self, machine: Machine) -> None:
        if not self._processes[machine.worker_id].alive:
            self._start(machine)

    # Faults

    def _begin_faults(self, weather: Weather) -> None:
        acts = {
            "cut_wire": self._cut_wire,
            "cut_off": self._cut_off,
            "deafen": self._deafen,
            "freeze": self._freeze,
            "kill": lambda: self._some().kill(),
            "retire": lambda: self._some().retire(),
            "crash": self._crash,
            "stall": lambda: self.site.scheduler.stall(self._rng.uniform(*STALL_S)),
            "step_clock": lambda: self.site.scheduler.step_clock(self._rng.uniform(*STEP_S)),
            "lose_store": lambda: self._crash(self._disk.lose, "its disk is lost"),
            "older_store": lambda: self._crash(self._disk.go_back, "an older copy is put in place"),
        }
        for kind, every_s in weather.every_s:
            self._again(acts[kind], every_s)

    def _again(self, act: Callable[[], None], every_s: float) -> None:
        def happen() -> None:
            if not self._stopped:
                self.site.counts["faults"] += 1
                act()
                self._again(act, every_s)

        self.site.timeline.after(self._rng.expovariate(1 / every_s), happen)

    def _stop_faults(self) -> None:
        self._stopped = True
        self.site.note("faults stop")
        self.site.network.calm()
        self._disk.weather = self.site.weather = CALM
        self.site.scheduler.start_unless_up()
        for process in list(self._processes.values()):
            process.thaw()
            process.hear_again()
            self._revive(process.machine)

    def _some(self) -> Process:
        return self._processes[self._rng.choice(self._machines).worker_id]

    def _cut_wire(self) -> None:
        wires = self.site.scheduler.wires()
        if wires:
            self.site.note("a channel breaks")
            self._rng.choice(wires).cut()

    def _cut_off(self) -> None:
        """Nothing passes between one worker and the scheduler."""
        process = self._some()
        worker_id = process.machine.worker_id
        self.site.note(f"{worker_id} is cut off")
        self.site.network.cut.add(worker_id)
        self._deafen(process)
        self.site.timeline.after(
            self._rng.uniform(*CUT_OFF_S), lambda: self.site.network.cut.discard(worker_id)
        )

    def _deafen(self, process: Process | None = None) -> None:
        """Heartbeats pass, the channel does not."""
        deaf = process or self._some()
        if process is None:
            self.site.note(f"{deaf}'s channel is cut off")
        deaf.deafen()
        self.site.timeline.after(self._rng.uniform(*CUT_OFF_S), deaf.hear_again)

    def _freeze(self) -> None:
        process = self._some()
        process.freeze()
        self.site.timeline.after(self._rng.uniform(*FREEZE_S), process.thaw)

    def _crash(self, meanwhile: Callable[[], None] | None = None, what: str = "") -> None:
        """The scheduler dies, and is started again, perhaps by another clock or on another disk."""
        scheduler = self.site.scheduler
        scheduler.crash()
        if meanwhile is not None:
            self.site.note(what)
            meanwhile()
        rng = self._rng
        down_s = rng.choice((0.05, rng.uniform(*DOWN_S)))
        shift_s = rng.uniform(*SHIFT_S) if rng.random() < 0.3 else 0.0  # noqa: PLR2004 (a standby)
        if self._weather.spares_workers:
            shift_s = 0.0
        self.site.timeline.after(down_s, lambda: scheduler.start_unless_up(shift_s))


def _machines(rng: random.Random) -> list[Machine]:
    """Two to four workers. The first has a gpu, the second has none."""
    machines = []
    for i in range(rng.randint(2, 4)):
        gpu = i == 0 or (i > 1 and rng.random() < 0.5)  # noqa: PLR2004
        tags = ("cpu", "gpu" if gpu else "eu")
        machines.append(Machine(f"w{i}", tags, rng.randint(1, 4), {}))
    return machines
