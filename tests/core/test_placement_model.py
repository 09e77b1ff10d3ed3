"""The core against a model of itself, over random histories.

The model keeps reports and leases as plain sets and works occupancy out anew whenever it is
asked; the choice, or why there is none, comes from a linear scan (`naive`). All times are whole
halves of a second, so the model can age by stepping through every one of them.
"""

from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from core import naive
from core.env import START, Env
from dtask.core.cluster import Settings
from dtask.core.placement import tags
from dtask.core.placement.events import (
    Ask,
    AskEach,
    Drain,
    Heartbeat,
    Placement,
    Refusal,
    WorkerView,
)
from dtask.core.placement.fleet import Health
from dtask.errors import NotFound

FORGET_AFTER_S = 40.0

WORKERS = ["by-name", "by-count", "by-lease", "w3", "w4"]
TASKS = [f"t{n}" for n in range(6)]
TAGS = ["gpu", "tpu", "ssd", "cuda-11.8", "cuda-12", "cuda-12.4"]
REQUIREMENTS = ["gpu", "ssd", "gpu|tpu", "!gpu", "cuda>=12.0", "cuda<12.4", "!tpu|cuda>12", "npu"]

_REASONS = ["offline", "draining", "excluded", "untrusted", "full"]

some_tags = st.lists(st.sampled_from(TAGS), unique=True, max_size=4).map(tuple)
asks = st.builds(
    Ask,
    task_id=st.sampled_from(TASKS),
    requirements=st.just(())
    | st.lists(st.sampled_from(REQUIREMENTS), max_size=2).map(tuple).map(tags.parse),
    preferred=st.lists(st.sampled_from(TAGS), max_size=3).map(tuple),
    excluded=st.just(()) | st.lists(st.sampled_from(WORKERS), max_size=2).map(tuple),
    strategy=st.sampled_from(["least_loaded", "bin_pack"]),
    ttl_s=st.sampled_from([1.0, 5.0, 30.0]),
    trusted=st.sampled_from([False] * 7 + [True]),
)


@dataclass
class Lease:
    """A lease as the model keeps it."""

    worker_id: str
    life: int
    granted_at: float
    expires_at: float
    #: 0 until the core has said which.
    fence: int = 0
    confirmed: bool = False
    counted: bool = True


@dataclass
class Worker:
    """A worker: what is true of it, and what the scheduler has heard."""

    slot: int
    max_tasks: int
    way: str
    life: int = 0
    #: True, and not yet heard: tasks that run there, and that ended.
    holds: set[tuple[str, int | None]] = field(default_factory=set)
    ended: list[tuple[str, int | None]] = field(default_factory=list)
    #: Heard.
    heard_at: float = 0.0
    offline_at: float | None = None
    left: bool = False
    heard_way: str = ""
    listed: set[tuple[str, int | None]] = field(default_factory=set)
    #: Tasks beyond those listed; all of them, by count.
    more: int = 0
    leases: dict[str, Lease] = field(default_factory=dict)

    def occupancy(self) -> int:
        if self.heard_way == "name":
            names = {(task_id, lease.fence) for task_id, lease in self.leases.items()}
            return len(names | self.listed) + self.more
        return self.more + sum(lease.counted for lease in self.leases.values())

    def end(self, task_id: str, *, for_good: bool) -> None:
        """End a lease; `for_good`: the task is known to be over, so its name is gone too."""
        lease = self.leases.pop(task_id)
        if for_good:
            self.listed.discard((task_id, lease.fence))

    def hear(self, at: float, more: int) -> None:
        """Take a report in."""
        self.heard_at, self.offline_at, self.left = at, None, False
        if self.way != self.heard_way:
            self.listed = set()
            for lease in self.leases.values():
                lease.counted = True
                if lease.confirmed:
                    lease.confirmed, lease.expires_at = False, at + 30
        self.heard_way, self.more = self.way, 0 if self.way == "lease" else more
        for task_id, fence in self.ended:
            if task_id in self.leases and self.leases[task_id].fence == fence:
                self.end(task_id, for_good=True)
        if self.way == "name":
            self._hear_names()
        for lease in self.leases.values():
            lease.counted = self.way != "count" or at - lease.granted_at < 3

    def _hear_names(self) -> None:
        for task_id, lease in list(self.leases.items()):
            if (task_id, lease.fence) in self.holds:
                lease.confirmed = True
            elif lease.confirmed:
                self.end(task_id, for_good=True)
        self.listed = set(self.holds)


class Placements(RuleBasedStateMachine):
    """Whatever happens, the core and the model say the same."""

    def __init__(self) -> None:
        super().__init__()
        health = Health(forget_after_s=FORGET_AFTER_S)
        self.env = Env(Settings(health=health, warm_up_s=0.0))
        #: Seconds since the start, less stalls; and the stalls.
        self.at = 0.0
        self.stalled_s = 0.0
        self.fence = 0
        self.last_slot = -1
        self.workers: dict[str, Worker] = {}
        #: What each worker said last.
        self.beats: dict[str, Heartbeat] = {}
        self.seq = 0

    # What happens to workers

    @initialize()
    def some_join(self) -> None:
        for way in ("name", "count", "lease"):
            self.join(f"by-{way}", ("gpu", "cuda-12"), 2, way, trusted=True)

    @rule(
        worker_id=st.sampled_from(WORKERS),
        tags=some_tags,
        slots=st.integers(1, 4),
        way=st.sampled_from(["name", "count", "lease"]),
        trusted=st.booleans(),
    )
    def join(
        self, worker_id: str, tags: tuple[str, ...], slots: int, way: str, *, trusted: bool
    ) -> None:
        if worker_id in self.workers:
            return
        taken = {worker.slot for worker in self.workers.values()}
        slot = min(set(range(len(taken) + 1)) - taken)
        self.workers[worker_id] = Worker(slot, slots, way)
        self.beats[worker_id] = Heartbeat(worker_id, "host:1", tags, slots, trusted=trusted)
        self.beat(worker_id)

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), more=st.sampled_from([0, 0, 1, 3]), draining=st.booleans())
    def heartbeat(self, data: st.DataObject, more: int, *, draining: bool) -> None:
        self.beat(self.some_worker(data), more, draining=draining and more == 1)

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), tags=some_tags, slots=st.integers(1, 4))
    def change(self, data: st.DataObject, tags: tuple[str, ...], slots: int) -> None:
        worker_id = self.some_worker(data)
        self.workers[worker_id].max_tasks = slots
        self.beat(worker_id, tags=tags)

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), way=st.sampled_from(["name", "count", "lease"]))
    def report_another_way(self, data: st.DataObject, way: str) -> None:
        worker_id = self.some_worker(data)
        self.workers[worker_id].way = way
        self.beat(worker_id)

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def late_heartbeat(self, data: st.DataObject) -> None:
        beat = self.beats[self.some_worker(data)]
        self.env.handle(replace(beat, seq=0, max_tasks=9, tags=("npu",), current_tasks=9))

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def restart(self, data: st.DataObject) -> None:
        worker_id = self.some_worker(data)
        worker = self.workers[worker_id]
        worker.life += 1
        worker.holds, worker.ended, worker.listed = set(), [], set()
        for task_id in [t for t, lease in worker.leases.items() if lease.confirmed]:
            worker.end(task_id, for_good=True)
        self.beat(worker_id)

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        worker_id = self.some_worker(data)
        self.beat(worker_id, leaving=True)
        worker = self.workers[worker_id]
        worker.leases, worker.left, worker.offline_at = {}, True, self.at

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), drained=st.booleans())
    def drain(self, data: st.DataObject, *, drained: bool) -> None:
        self.env.handle(Drain(self.some_worker(data), drained))

    # What happens to tasks

    @precondition(lambda self: any(worker.leases for worker in self.workers.values()))
    @rule(data=st.data(), told=st.booleans())
    def task_starts(self, data: st.DataObject, *, told: bool) -> None:
        worker_id, task_id = data.draw(st.sampled_from(self.leased()))
        worker = self.workers[worker_id]
        worker.holds.add((task_id, worker.leases[task_id].fence))
        if told:
            self.beat(worker_id)

    @precondition(lambda self: any(worker.holds for worker in self.workers.values()))
    @rule(data=st.data(), told=st.booleans())
    def task_ends(self, data: st.DataObject, *, told: bool) -> None:
        running = [(w, held) for w, worker in self.workers.items() for held in sorted(worker.holds)]
        worker_id, held = data.draw(st.sampled_from(running))
        self.workers[worker_id].holds.remove(held)
        self.workers[worker_id].ended.append(held)
        if told:
            self.beat(worker_id)

    @rule(ask=asks)
    def ask(self, ask: Ask) -> None:
        rows = self.env.workers()
        answer = self.env.handle(ask)
        self.must_agree(self.decide(ask, rows), answer)

    @rule(questions=st.lists(asks, min_size=1, max_size=4))
    def ask_each(self, questions: list[Ask]) -> None:
        rows = self.env.workers()
        answers = self.env.handle(AskEach(tuple(questions)))
        for ask, answer in zip(questions, answers, strict=True):
            self.must_agree(self.decide(ask, rows), answer)

    @rule(questions=st.lists(asks, min_size=1, max_size=4))
    def ask_all(self, questions: list[Ask]) -> None:
        """As if asked one by one; if one is refused, as if never asked."""
        rows = self.env.workers()
        answer = self.env.ask_all(*questions)
        before = deepcopy(self.workers), self.last_slot
        leases: list[Lease] = []
        for index, ask in enumerate(questions):
            decided = self.decide(ask, rows)
            if isinstance(decided, Counter):
                assert isinstance(answer, Refusal)
                assert (answer.index, answer.task_id) == (index, ask.task_id)
                self.must_agree(decided, answer)
                self.workers, self.last_slot = before
                return
            leases.append(decided)
        assert isinstance(answer, list)
        for lease, placement in zip(leases, answer, strict=True):
            self.must_agree(lease, placement)

    @precondition(lambda self: any(worker.leases for worker in self.workers.values()))
    @rule(data=st.data(), fence=st.sampled_from(["none", "right", "wrong"]))
    def release(self, data: st.DataObject, fence: str) -> None:
        worker_id, task_id = data.draw(st.sampled_from(self.leased()))
        actual = self.workers[worker_id].leases[task_id].fence
        if fence == "wrong":
            with pytest.raises(NotFound):
                self.env.release(task_id, actual - 1)
            return
        self.env.release(task_id, actual if fence == "right" else None)
        self.workers[worker_id].end(task_id, for_good=True)

    # What happens to time

    @rule(halves=st.integers(1, 50))
    def silence(self, halves: int) -> None:
        self.env.advance(halves / 2)
        self.age(halves)

    @rule(halves=st.integers(1, 8), times=st.integers(1, 3))
    def all_heartbeat(self, halves: int, times: int) -> None:
        for _ in range(times):
            self.silence(halves)
            for worker_id in list(self.workers):
                self.beat(worker_id)

    @rule(seconds=st.integers(2, 3_000))
    def scheduler_stalls(self, seconds: int) -> None:
        self.env.stall(seconds)
        self.env.advance(0)
        self.stalled_s += seconds - 0.5
        self.age(1)

    # What must hold

    @invariant()
    def rows_agree(self) -> None:
        self.env.take_all()
        rows = {row.worker_id: row for row in self.env.workers()}
        assert list(rows) == sorted(self.workers)
        for worker_id, worker in self.workers.items():
            row = rows[worker_id]
            assert row.status == self.status(worker)
            assert (row.occupancy, row.leases) == (worker.occupancy(), len(worker.leases))
            assert row.max_tasks == worker.max_tasks
        assert self.leases_of_core() == {
            task_id: (lease.worker_id, lease.fence, lease.confirmed or lease.expires_at)
            for worker in self.workers.values()
            for task_id, lease in worker.leases.items()
        }

    def leases_of_core(self) -> dict[str, tuple[str, int, float]]:
        """(worker, fence, True if confirmed or else its end) by task, from inside the core."""
        return {
            task_id: (
                lease.worker.worker_id,
                lease.fence,
                lease.confirmed or lease.expires_at - START,
            )
            for task_id, lease in self.env.cluster._leases.by_task.items()
        }

    # The model's own steps

    def status(self, worker: Worker) -> str:
        silent_s = self.at - worker.heard_at
        if worker.left or silent_s >= 20:
            return "offline"
        return "suspect" if silent_s >= 10 else "online"

    def age(self, halves: int) -> None:
        for _ in range(halves):
            self.at += 0.5
            for worker_id, worker in list(self.workers.items()):
                if self.status(worker) == "offline":
                    worker.leases = {}
                    if worker.offline_at is None:
                        worker.offline_at = self.at
                    if self.at - worker.offline_at >= FORGET_AFTER_S:
                        del self.workers[worker_id]
                for task_id, lease in list(worker.leases.items()):
                    if not lease.confirmed and lease.expires_at <= self.at:
                        worker.end(task_id, for_good=False)

    def decide(self, ask: Ask, rows: list[WorkerView]) -> Lease | Counter[str]:
        """The lease that answers `ask`, or the reasons why none does, by the rules; `rows` tell
        what the workers are, the model how full they are by now."""
        for row in rows:
            worker = self.workers[row.worker_id]
            held = worker.leases.get(ask.task_id)
            if held is None:
                continue
            if held.life == worker.life and naive.why_not(row, ask) in (None, "full"):
                held.expires_at = max(held.expires_at, self.at + ask.ttl_s)
                return held
            worker.end(ask.task_id, for_good=False)
        places = [
            (worker.slot, replace(row, occupancy=worker.occupancy()))
            for row in rows
            if (worker := self.workers[row.worker_id])
        ]
        chosen = naive.choose(places, ask, self.last_slot)
        if chosen is None:
            return Counter(str(naive.why_not(row, ask)) for _, row in places)
        worker = self.workers[chosen]
        self.last_slot = worker.slot
        lease = Lease(chosen, worker.life, self.at, self.at + ask.ttl_s)
        worker.leases[ask.task_id] = lease
        return lease

    def must_agree(self, decided: Lease | Counter[str], answer: Any) -> None:
        if isinstance(decided, Counter):
            assert isinstance(answer, Refusal)
            reasons = {name: getattr(answer, name) for name in _REASONS}
            reasons |= {f"missing {text}": count for text, count in answer.missing.items()}
            assert Counter(reasons) == decided
            return
        assert isinstance(answer, Placement), answer
        assert answer.worker_id == decided.worker_id
        assert answer.expires_at == START + self.stalled_s + decided.expires_at
        if decided.fence:
            assert answer.fence == decided.fence
        else:
            assert answer.fence > self.fence
            decided.fence = self.fence = answer.fence

    def beat(self, worker_id: str, more: int = 0, *, leaving: bool = False, **changes: Any) -> None:
        worker = self.workers[worker_id]
        self.seq += 1
        tasks = tuple(sorted(worker.holds)) if worker.way == "name" else None
        beat = self.beats[worker_id] = replace(
            self.beats[worker_id],
            incarnation=str(worker.life),
            max_tasks=worker.max_tasks,
            seq=self.seq,
            tasks=tasks,
            current_tasks=None if worker.way == "lease" else more + len(tasks or ()),
            ended=tuple(worker.ended),
            **changes,
        )
        self.env.handle(replace(beat, leaving=leaving))
        worker.hear(self.at, more)
        worker.ended = []

    def some_worker(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.workers)))

    def leased(self) -> list[tuple[str, str]]:
        """(worker_id, task_id) of all leases."""
        return [(name, task) for name, worker in self.workers.items() for task in worker.leases]


TestPlacements = Placements.TestCase
TestPlacements.settings = settings(stateful_step_count=70)
