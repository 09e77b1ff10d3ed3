"""The job half under faults: every seed holds, runs meet what they are to meet, bugs are found."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from dtask.core.cluster import Cluster, Settings
from dtask.core.jobs.events import Reports
from dtask.core.jobs.flow import Flow
from dtask.core.jobs.holding import Holding
from dtask.core.jobs.job import Element
from dtask.core.jobs.jobs import Jobs
from dtask.core.jobs.register import Register
from dtask.core.jobs.rows import TaskRow
from dtask.core.outbox import Outbox
from dtask.sim.jobs.world import simulate
from sim.seeds import failures

SEEDS = 500

#: Each bug must show within so many seeds.
FOUND_WITHIN = 40


def test_every_seed_holds() -> None:
    assert failures(simulate, range(SEEDS)) == ""


def test_runs_meet_what_they_are_to_meet() -> None:
    """Runs in which nothing happens would hold, too."""
    missing = {
        "and keeps the commit",
        "and drops the commit",
        "scheduler is killed between two commits",
        "scheduler is killed in the middle of a commit",
        "scheduler is killed after a commit and before its effects",
        "Submit during a commit -> known",
        "Explain during a commit",
        "Reports -> refused",
        "scheduler runs again",
        "clock is stepped",
        "its disk is lost",
        "an older copy is put in place",
        "a channel breaks",
        "'s channel is cut off",
        "is cut off",
        "thaws",
        "retires",
        "is forgotten",
        "queue_timeout",
        "upstream",
        "start_failed",
        "timeout",
        "pending exit",
        "stop fence",
        "failed lost",
        " offline",
        "-> store_failed",
        "-> unknown_queue",
        "-> job_ended",
    }

    def listen(line: str) -> None:
        missing.difference_update([thing for thing in missing if thing in line])

    seed = 0
    while missing and seed < SEEDS:
        simulate(seed, listen=listen)
        seed += 1
    assert not missing


# The simulation's own power: each of these bugs must be seen from outside.


class Unchecked(Cluster):
    """A core whose invariants nobody looks at from inside."""

    def check(self) -> None:
        pass


def found_by(make: Callable[[float, Settings, Callable[[], float]], Cluster] = Unchecked) -> str:
    """What the first run that fails says."""
    for seed in range(FOUND_WITHIN):
        outcome = simulate(seed, make=make)
        if outcome.failure is not None:
            return outcome.failure
    pytest.fail(f"not found within {FOUND_WITHIN} seeds")


def test_it_finds_effects_that_do_not_wait_for_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Outbox, "add", _eager(Outbox.add))
    assert "committed" in found_by()


def _eager(add: Callable[..., bool]) -> Callable[..., bool]:
    def eager(outbox: Outbox[Any], changes: tuple[Any, ...], letter: Any) -> bool:
        add(outbox, changes, letter._replace(effects=(), reply=lambda _: None))
        return False

    return eager


def test_it_finds_old_results_that_are_taken_for_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are of an attempt, by its fence: here they are taken as those of the task."""
    heed = Holding.heed
    elements: dict[int, Element] = {}

    def mistake(holding: Holding, event: Reports) -> Any:
        elements.update((one.fence, one.element) for one in holding._register.attempts.values())
        for report in event.reports:
            element = elements.get(report.fence)
            now = element.attempt if element is not None else None
            if report.fence not in holding._register.attempts and now is not None:
                reports = (structs.replace(report, fence=now.fence),)
                event = structs.replace(event, worker_id=now.worker_id, reports=reports)
        return heed(holding, event)

    monkeypatch.setattr(Holding, "heed", mistake)
    assert "ledger.py" in found_by()


def test_it_finds_held_attempts_that_nobody_waits_for_and_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attach = Holding.attach
    monkeypatch.setattr(Holding, "attach", lambda *args: structs.replace(attach(*args), refused=()))
    assert "nobody waits for" in found_by()


def test_it_finds_stale_reports_that_are_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worker has been sent a stop as well: this is the net beneath it."""
    heed = Holding.heed
    monkeypatch.setattr(Holding, "heed", lambda *args: structs.replace(heed(*args), refused=()))
    assert "nobody waits for" in found_by()


def test_it_finds_a_row_that_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    emit = Register.emit

    def forgetful(register: Register) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        changes, effects = emit(register)
        kept = tuple(c for c in changes if not (isinstance(c, TaskRow) and c.state == "succeeded"))
        return kept, effects

    monkeypatch.setattr(Register, "emit", forgetful)
    assert found_by()


def test_it_finds_a_worker_that_is_lost_too_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Jobs.__init__

    def hasty(jobs: Jobs, seats: Any, settings: Any, draw: Any) -> None:
        begin(jobs, seats, structs.replace(settings, away_s=0.0), draw)

    monkeypatch.setattr(Jobs, "__init__", hasty)
    assert "started again" in found_by()


def test_it_finds_heirs_that_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Flow, "wait_for_its_time", impatient_start)
    assert found_by()


def impatient_start(flow: Flow, job: Any) -> None:
    """Releases every task at once."""
    job.waits_until = None
    for task in job.tasks.values():
        flow._release(task)
