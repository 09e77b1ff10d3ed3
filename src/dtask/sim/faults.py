"""Everything that can go wrong beside the network's own losses."""

import random
from collections.abc import Callable
from typing import Final

from dtask.core.placement.events import Drain
from dtask.sim.fleet import Fleet
from dtask.sim.site import Site
from dtask.sim.weather import Weather
from dtask.sim.worker import Process

#: Seconds, from and to. Workers are suspect after 10 s and offline after 20 s of silence.
CUT_OFF_S: Final = (0.5, 30.0)
FREEZE_S: Final = (0.5, 40.0)
DOWN_S: Final = (0.01, 10.0)
STALL_S: Final = (0.3, 40.0)
STEP_S: Final = (0.1, 120.0)
SHIFT_S: Final = (-20.0, 20.0)


class Faults:
    """Lets faults happen as the weather says, until they are stopped."""

    def __init__(self, site: Site, fleet: Fleet, rng: random.Random, weather: Weather) -> None:
        self._site = site
        self._fleet = fleet
        self._rng = rng
        self._stopped = False
        acts: dict[str, Callable[[], None]] = {
            "cut_off": self._cut_off,
            "freeze": self._freeze,
            "kill": self._kill,
            "twin": self._twin,
            "retire": self._retire,
            "drain": self._drain,
            "crash": self._crash,
            "stall": self._stall,
            "step_clock": self._step_clock,
        }
        for kind, every_s in weather.every_s:
            self._again(acts[kind], every_s)

    def stop(self) -> None:
        """No further fault, and those that last are over (but for a stall)."""
        self._stopped = True
        self._site.note("faults stop")
        self._site.network.calm()
        self._site.scheduler.start_unless_up()
        self._fleet.mend()

    def _again(self, act: Callable[[], None], every_s: float) -> None:
        def happen() -> None:
            act()
            self._again(act, every_s)

        self._in(self._rng.expovariate(1 / every_s), happen)

    def _in(self, delay_s: float, act: Callable[[], None]) -> None:
        def happen() -> None:
            if not self._stopped:
                self._site.counts["faults"] += 1
                act()

        self._site.timeline.after(delay_s, happen)

    def _some_process(self) -> Process | None:
        processes = self._fleet.processes
        return self._rng.choice(processes) if processes else None

    # Workers

    def _cut_off(self) -> None:
        if process := self._some_process():
            address = process.address
            self._site.note(f"{address} is cut off")
            self._site.network.cut.add(address)
            self._site.timeline.after(
                self._rng.uniform(*CUT_OFF_S), lambda: self._site.network.cut.discard(address)
            )

    def _freeze(self) -> None:
        if process := self._some_process():
            process.freeze()
            self._site.timeline.after(self._rng.uniform(*FREEZE_S), process.thaw)

    def _kill(self) -> None:
        if process := self._some_process():
            if self._rng.random() < 0.3:  # noqa: PLR2004 (now and then it comes back changed)
                self._fleet.upgrade(process.kind.worker_id)
            process.kill()

    def _twin(self) -> None:
        if process := self._some_process():
            self._fleet.twin(process)

    def _retire(self) -> None:
        if process := self._some_process():
            process.retire()

    # Scheduler

    def _drain(self) -> None:
        """An operator drains or undrains a worker, by a reliable way."""
        worker_id = self._rng.choice(self._fleet.worker_ids)
        drained = self._rng.random() < 0.5  # noqa: PLR2004 (or undrains)
        self._site.scheduler.receive((Drain(worker_id, drained),), lambda _: None)

    def _crash(self) -> None:
        """The scheduler dies, and now and then soon again; another one may be on another clock."""
        scheduler = self._site.scheduler
        rng = self._rng
        scheduler.crash()
        down_s = rng.choice((0.05, rng.uniform(*DOWN_S)))
        shift_s = rng.uniform(*SHIFT_S) if rng.random() < 0.5 else 0.0  # noqa: PLR2004 (a standby)
        self._site.timeline.after(down_s, lambda: scheduler.start_unless_up(shift_s))
        if rng.random() < 0.3:  # noqa: PLR2004 (a crash loop)
            self._in(down_s + rng.uniform(0.0, 2.0), self._crash)

    def _stall(self) -> None:
        self._site.scheduler.stall(self._rng.uniform(*STALL_S))

    def _step_clock(self) -> None:
        self._site.scheduler.step_clock(self._rng.uniform(*STEP_S))
