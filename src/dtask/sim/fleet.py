"""The machines: workers that are started, die, are started again, sometimes twice."""

import itertools
import random
from typing import Final

from msgspec import structs

from dtask.sim.site import Site
from dtask.sim.worker import Kind, Process, Style

STYLES: Final[tuple[Style, ...]] = ("fenced", "fenced", "named", "counted", "leased")


class Fleet:
    """Keeps one process for each worker alive; faults may make it none or two for a while."""

    def __init__(self, site: Site, rng: random.Random) -> None:
        self._site = site
        self._rng = rng
        self._kinds = {kind.worker_id: kind for kind in _kinds(rng)}
        self._lives = itertools.count(1)
        #: All that live.
        self.processes: list[Process] = []
        #: Whether processes that end come back at once.
        self.prompt = False
        for kind in self._kinds.values():
            self._start(kind, f"{kind.worker_id}:1")

    @property
    def worker_ids(self) -> list[str]:
        """All workers there ever were."""
        return list(self._kinds)

    def upgrade(self, worker_id: str) -> None:
        """From its next life on the worker reports in another way and has other slots."""
        kind = self._kinds[worker_id]
        self._kinds[worker_id] = structs.replace(
            kind, style=self._rng.choice(STYLES), max_tasks=self._rng.randint(2, 4)
        )

    def twin(self, process: Process) -> None:
        """A second process under the id of a living one; maybe a stranger without the token."""
        kind = self._kinds[process.kind.worker_id]
        if self._rng.random() < 0.3:  # noqa: PLR2004 (some are strangers)
            kind = structs.replace(kind, trusted=False)
        self._start(kind, self._address(kind.worker_id))

    def mend(self) -> None:
        """One process for each worker from now on, none frozen, and back at once if it ends."""
        self.prompt = True
        for process in list(self.processes):
            process.thaw()
        for worker_id, kind in self._kinds.items():
            alive = self._alive(worker_id)
            for process in alive:
                if process is not alive[-1] or process.kind.trusted != kind.trusted:
                    process.kill()
            self._start_unless_alive(worker_id, None)

    def _start(self, kind: Kind, address: str) -> None:
        life = f"{kind.worker_id}.{next(self._lives)}"
        self._site.note(f"{kind.worker_id} at {address} starts: {life}, {kind.style}")
        process = Process(
            self._site, self._rng, kind, address=address, incarnation=life, died=self._died
        )
        self.processes.append(process)
        self._site.listeners[address] = process

    def _died(self, process: Process) -> None:
        self.processes.remove(process)
        if self._site.listeners.get(process.address) is process:
            del self._site.listeners[process.address]
        rng = self._rng
        soon = self.prompt or rng.random() < 0.5  # noqa: PLR2004 (a supervisor, or a person)
        delay_s = rng.uniform(0, 0.1) if soon else rng.uniform(0.1, 40.0)
        address = process.address if rng.random() < 0.5 else None  # noqa: PLR2004 (same or other)
        worker_id = process.kind.worker_id
        self._site.timeline.after(delay_s, lambda: self._start_unless_alive(worker_id, address))

    def _start_unless_alive(self, worker_id: str, address: str | None) -> None:
        if not self._alive(worker_id):
            if address is None or address in self._site.listeners:
                address = self._address(worker_id)
            self._start(self._kinds[worker_id], address)

    def _alive(self, worker_id: str) -> list[Process]:
        return [one for one in self.processes if one.kind.worker_id == worker_id]

    def _address(self, worker_id: str) -> str:
        ports = (f"{worker_id}:{port}" for port in itertools.count(1))
        return next(address for address in ports if address not in self._site.listeners)


def _kinds(rng: random.Random) -> list[Kind]:
    """Two to five workers. The first is trusted and has a gpu, the second has none."""
    kinds = []
    for i in range(rng.randint(2, 5)):
        gpu = i == 0 or (i > 1 and rng.random() < 0.4)  # noqa: PLR2004 (some more have one)
        style = rng.choice(STYLES)
        kinds.append(
            Kind(
                worker_id=f"w{i}",
                tags=("cpu", "gpu" if gpu else "eu"),
                max_tasks=rng.randint(2, 4),
                style=style,
                numbered=style == "fenced" or rng.random() < 0.5,  # noqa: PLR2004 (plain ones)
                trusted=i == 0 or rng.random() < 0.5,  # noqa: PLR2004
            )
        )
    return kinds
