"""The simulation's own power: each of these bugs, put into the core, must be found.

The core's own `check()` is switched off for them: they must be seen from outside.
"""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from dtask.core.cluster import Cluster, Event, Settings, Step
from dtask.core.placement import hear, leases, place
from dtask.core.placement.events import Ask, Heartbeat, Placement, Release
from dtask.core.placement.fleet import Fleet, Worker
from dtask.core.placement.leases import Lease, Leases
from dtask.sim.world import simulate

#: Each bug must show within so many seeds.
SEEDS = 30


class Unchecked(Cluster):
    """A core whose invariants nobody looks at from inside."""

    def check(self) -> None:
        pass


def found_by(make: Callable[[float, Settings], Cluster]) -> str:
    """What the first run that fails says."""
    for seed in range(SEEDS):
        outcome = simulate(seed, make=make)
        if outcome.failure is not None:
            return outcome.failure
    pytest.fail(f"not found within {SEEDS} seeds")


def test_a_sound_core_passes_with_its_own_checks_off() -> None:
    assert all(simulate(seed, make=Unchecked).failure is None for seed in range(5))


def test_it_finds_heartbeats_that_erase_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    report = hear._report

    def erase(all_leases: Leases, worker: Worker, beat: Heartbeat, at: float) -> None:
        report(all_leases, worker, beat, at)
        for lease in list(worker.leases.values()):
            if not lease.confirmed:
                all_leases.end(lease)

    monkeypatch.setattr(hear, "_report", erase)
    assert "w" in found_by(Unchecked)


def test_it_finds_slots_granted_above_max_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    settle = Fleet.settle

    def settle_generously(fleet: Fleet, worker: Worker) -> None:
        worker.max_tasks += 1
        settle(fleet, worker)
        worker.max_tasks -= 1

    def grant(self: Leases, task_id: str, worker: Worker, ttl_s: float, at: float) -> Lease:
        worker.max_tasks += 1
        lease = granted(self, task_id, worker, ttl_s, at)
        worker.max_tasks -= 1
        return lease

    granted = Leases.grant
    monkeypatch.setattr(Fleet, "settle", settle_generously)
    monkeypatch.setattr(Leases, "grant", grant)
    assert "slots taken" in found_by(Unchecked)


def test_it_finds_late_heartbeats_taken_as_new() -> None:
    class IgnoresSeq(Unchecked):
        def handle(self, event: Event, now: float) -> Step:
            if isinstance(event, Heartbeat):
                event = structs.replace(event, seq=None)
            return super().handle(event, now)

    assert "shows" in found_by(IgnoresSeq)


def test_it_finds_stalls_that_count_against_workers() -> None:
    class CountsStalls(Unchecked):
        def _advance(self, now: float) -> float:
            self._now = max(self._now, now)
            if self._now >= self._due:
                self._expire(self._now)
            return self._now

    assert "suspect" in found_by(CountsStalls) or "offline" in found_by(CountsStalls)


def test_it_finds_fences_that_start_over_with_each_scheduler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leases, "FENCES_PER_S", 0)
    assert "a fence does not grow" in found_by(Unchecked)


def test_it_finds_fences_that_reports_do_not_lift(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Leases, "lift", lambda *_: None)
    assert "a fence does not grow" in found_by(Unchecked)


def test_it_finds_the_same_question_answered_twice() -> None:
    class Forgetful(Unchecked):
        def handle(self, event: Event, now: float) -> Step:
            if isinstance(event, Ask):
                lease = self._leases.by_task.get(event.task_id)
                if lease is not None and lease.live:
                    self._leases.end(lease)
            return super().handle(event, now)

    assert "the same question" in found_by(Forgetful)


def test_it_finds_draining_workers_that_are_placed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "_stands", lambda *_: True)
    found_by(Unchecked)


def test_it_finds_releases_with_an_old_fence() -> None:
    class IgnoresFence(Unchecked):
        def handle(self, event: Event, now: float) -> Step:
            if isinstance(event, Release):
                event = Release(event.task_id)
            return super().handle(event, now)

    assert "released" in found_by(IgnoresFence)


def test_it_finds_superseded_lives_that_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    succeed = hear._succeed

    def forget(all_leases: Leases, worker: Worker, beat: Heartbeat) -> None:
        succeed(all_leases, worker, beat)
        worker.superseded = ()

    monkeypatch.setattr(hear, "_succeed", forget)
    assert "superseded" in found_by(Unchecked)


def test_it_finds_leases_that_never_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Leases, "expire", lambda *_: None)
    found_by(Unchecked)


def test_it_finds_two_steps_instead_of_one() -> None:
    """Choosing now and taking the slot later, as the peer does, hands out full workers."""

    class Hesitant(Unchecked):
        chosen: Any = None

        def handle(self, event: Event, now: float) -> Step:
            step = super().handle(event, now)
            if isinstance(event, Ask) and isinstance(step.answer, Placement):
                previous, self.chosen = self.chosen, step.answer
                if previous is not None and previous.fence < step.answer.fence:
                    wrong = structs.replace(
                        step.answer, worker_id=previous.worker_id, address=previous.address
                    )
                    return Step(wrong, step.changes, step.effects)
            return step

    found_by(Hesitant)
