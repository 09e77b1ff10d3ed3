"""Channels, losses, fences: what becomes of attempts when workers go and come."""

import pytest

from core.env import START, Env
from dtask.core.jobs.events import (
    Attach,
    CloseChannel,
    Detached,
    Ended,
    Heeded,
    ListHeld,
    Started,
    StopAttempt,
)
from dtask.core.jobs.states import Cause, State
from dtask.core.placement.events import Drain, LookAtWorker
from dtask.errors import Conflict, Denied, NotFound


def lost(env: Env, worker_id: str = "w1") -> None:
    """The worker says nothing until it is offline."""
    env.advance(20)
    env.take(worker_id, "suspect", "offline")


def test_attempts_go_to_workers_whose_channel_is_open_and_to_no_others(jobs: Env) -> None:
    jobs.worker("w1", incarnation="i", trusted=True)
    jobs.submit()
    jobs.quiet()
    jobs.attach("w1")
    assert jobs.given("1/main").worker_id == "w1"


def test_attempts_go_to_online_workers_only(jobs: Env) -> None:
    jobs.attach("w1")
    jobs.advance(10)
    jobs.take("w1", "suspect")
    jobs.submit()
    jobs.quiet()
    jobs.beat("w1")
    jobs.take("w1", "back")
    jobs.given("1/main")


def test_a_worker_without_the_token_gets_no_channel(jobs: Env) -> None:
    jobs.worker("w1", incarnation="i")
    with pytest.raises(Denied) as refused:
        jobs.attach("w1")
    assert refused.value.code == "untrusted"


def test_a_worker_says_hello_after_its_heartbeat(jobs: Env) -> None:
    with pytest.raises(NotFound, match="heartbeat first"):
        jobs.handle(Attach("w1", "i1"))
    jobs.worker("w1", incarnation="i1", trusted=True)
    with pytest.raises(NotFound, match="heartbeat first"):
        jobs.handle(Attach("w1", "i2"))


def test_an_earlier_life_gets_no_channel(jobs: Env) -> None:
    jobs.attach("w1")
    jobs.beat("w1", incarnation="w1-2")
    jobs.take("w1", "renewed")
    jobs.take(CloseChannel)
    with pytest.raises(Conflict) as refused:
        jobs.handle(Attach("w1", "w1-1"))
    assert refused.value.code == "superseded"


def test_a_slot_is_held_from_the_dispatch_to_the_end(jobs: Env) -> None:
    jobs.attach("w1")
    jobs.submit()
    start = jobs.given("1/main")
    assert jobs.occupancy("w1") == 1
    jobs.started(start)
    jobs.keep(30, "w1")
    assert jobs.occupancy("w1") == 1
    jobs.ended(start)
    assert jobs.occupancy("w1") == 0


def test_what_a_worker_holds_is_listed(jobs: Env) -> None:
    jobs.attach("w1")
    jobs.submit(array=2)
    starts = [jobs.given("1/main[0]"), jobs.given("1/main[1]")]
    names = jobs.handle(ListHeld("w1"))
    assert [(one.fence, one.job_id, one.task, one.index, one.number) for one in names] == [
        (start.fence, 1, "main", index, 1) for index, start in enumerate(starts)
    ]
    held = jobs.handle(LookAtWorker("w1")).held
    assert [(one.task_id, one.fence) for one in held] == [(None, start.fence) for start in starts]
    assert jobs.handle(ListHeld("nobody")) == []


def test_no_more_is_given_than_there_are_slots(jobs: Env) -> None:
    jobs.attach("w1", slots=2)
    jobs.place("t")
    jobs.submit(array=3)
    start = jobs.given("1/main[0]")
    jobs.quiet()
    jobs.release("t")
    jobs.tick()
    jobs.given("1/main[1]")
    jobs.started(start)
    jobs.ended(start)
    jobs.given("1/main[2]")


def test_a_lost_worker_s_running_task_runs_again_elsewhere(jobs: Env) -> None:
    jobs.attach("w1", "a")
    job = jobs.submit(tags="a")
    first = jobs.given("1/main")
    jobs.started(first)
    lost(jobs)
    jobs.take(CloseChannel)
    assert jobs.state(job) is State.QUEUED
    jobs.attach("w2", "a")
    second = jobs.given("1/main")
    assert (second.number, second.worker_id) == (2, "w2")
    assert second.fence > first.fence
    row = jobs.book.tasks[job, "main", -1]
    assert (row.crashes, row.failures) == (1, 0)
    assert jobs.book.attempts[job, "main", -1, 1].cause is Cause.LOST
    assert jobs.book.attempts[job, "main", -1, 1].log_lost


def test_a_lost_worker_s_task_that_never_started_uses_up_nothing(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit(start_timeout_s=60)
    jobs.given("1/main")
    lost(jobs)
    jobs.take(CloseChannel)
    row = jobs.book.tasks[job, "main", -1]
    assert (row.state, row.crashes, row.failures) == (State.QUEUED, 0, 0)


def test_a_task_whose_workers_are_lost_as_often_as_crash_limit_fails(jobs: Env) -> None:
    job = jobs.submit(crash_limit=2, retry={"max": 100})
    for n in (1, 2):
        jobs.attach(f"w{n}")
        jobs.started(jobs.given("1/main"))
        lost(jobs, f"w{n}")
        jobs.take(CloseChannel)
    row = jobs.book.tasks[job, "main", -1]
    assert (row.state, row.cause) == (State.FAILED, Cause.LOST)
    assert row.error == "Its worker was lost 2 times while it ran."
    jobs.attach("w3")


def test_a_worker_that_leaves_loses_its_attempts_at_once(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit()
    jobs.started(jobs.given("1/main"))
    jobs.beat("w1", leaving=True)
    jobs.take("w1", "left")
    jobs.take(CloseChannel)
    assert jobs.state(job) is State.QUEUED


def test_a_new_life_that_holds_nothing_has_lost_its_attempts(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    job = jobs.submit()
    jobs.started(jobs.given("1/main"))
    jobs.beat("w1", incarnation="w1-2")
    jobs.take("w1", "renewed")
    jobs.take(CloseChannel)
    assert jobs.state(job) is State.RUNNING, "nobody knows yet"
    jobs.attach("w1", held=[])
    assert jobs.given("1/main").number == 2
    assert jobs.occupancy("w1") == 1


def test_a_new_life_that_never_says_hello_has_lost_its_attempts_after_a_while(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit()
    jobs.started(jobs.given("1/main"))
    jobs.beat("w1", incarnation="w1-2")
    jobs.take("w1", "renewed")
    jobs.take(CloseChannel)
    jobs.keep(19.5, "w1")
    assert jobs.state(job) is State.RUNNING
    jobs.keep(0.5, "w1")
    assert jobs.state(job) is State.QUEUED


def test_a_channel_away_for_an_offline_period_loses_attempts_though_heartbeats_go_on(
    jobs: Env,
) -> None:
    jobs.attach("w1")
    job = jobs.submit()
    start = jobs.given("1/main")
    jobs.started(start)
    jobs.detach("w1")
    jobs.keep(19.5, "w1")
    assert jobs.state(job) is State.RUNNING
    jobs.keep(0.5, "w1")
    assert jobs.state(job) is State.QUEUED
    assert jobs.occupancy("w1") == 0
    assert jobs.attach("w1").refused == (start.fence,)
    jobs.given("1/main")


def test_a_channel_that_comes_back_in_time_goes_on_with_what_it_holds(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit()
    start = jobs.given("1/main")
    jobs.started(start)
    jobs.detach("w1")
    jobs.keep(19, "w1")
    attached = jobs.attach("w1")
    assert [kept.fence for kept in attached.kept] == [start.fence]
    jobs.keep(60, "w1")
    assert jobs.occupancy("w1") == 1
    jobs.ended(start)
    assert jobs.state(job) is State.SUCCEEDED


def test_the_end_of_a_connection_that_another_has_replaced_means_nothing(jobs: Env) -> None:
    jobs.attach("w1")
    jobs.beat("w1", incarnation="w1-2")
    jobs.take("w1", "renewed")
    jobs.take(CloseChannel)
    jobs.attach("w1")
    jobs.submit()
    jobs.given("1/main")
    jobs.handle(Detached("w1", jobs.connections["w1"] - 1))
    jobs.handle(Detached("w9", 1))
    jobs.quiet()


def test_a_worker_that_is_lost_as_another_s_channel_breaks_is_told_of_it(jobs: Env) -> None:
    jobs.attach("w1")
    jobs.advance(5)
    jobs.attach("w2")
    jobs.advance(14.9)
    jobs.take("w1", "suspect")
    jobs.take("w2", "suspect")
    jobs.now += 0.2
    jobs.detach("w2")
    jobs.take("w1", "offline")
    assert jobs.take(CloseChannel).worker_id == "w1"


def test_a_start_that_the_hello_tells_of_is_a_start(jobs: Env) -> None:
    """The report was lost with the connection; what the worker holds says the same."""
    jobs.attach("w1")
    job = jobs.submit()
    start = jobs.given("1/main")
    jobs.detach("w1")
    jobs.attach("w1", held=[(start.fence, True)])
    assert jobs.state(job) is State.RUNNING


def test_what_the_hello_does_not_hold_never_arrived_and_is_given_again(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit()
    first = jobs.given("1/main")
    jobs.attach("w1", held=[])
    second = jobs.given("1/main")
    assert (second.number, second.fence > first.fence) == (2, True)
    assert jobs.occupancy("w1") == 1
    row = jobs.book.tasks[job, "main", -1]
    assert (row.crashes, row.failures) == (0, 0)


def test_what_nobody_waits_for_is_refused_at_hello(jobs: Env) -> None:
    attached = jobs.attach("w1", held=[(17, True)])
    assert attached.refused == (17,)
    assert attached.kept == ()


def test_fences_grow_above_any_that_a_worker_holds(jobs: Env) -> None:
    """The store may be older than the workers' memory, and the clock may have been set back."""
    ahead = int((START + 3600) * 2**20)
    jobs.attach("w1", held=[(ahead, True)])
    jobs.submit()
    assert jobs.given("1/main").fence > ahead


def test_a_stale_fence_is_refused_whatever_it_reports(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    job = jobs.submit()
    old = jobs.given("1/main")
    jobs.started(old)
    lost(jobs)
    jobs.take(CloseChannel)
    jobs.attach("w2")
    new = jobs.given("1/main")
    jobs.beat("w1")
    jobs.take("w1", "back")
    assert jobs.attach("w1").refused == (old.fence,)
    before = jobs.book.tasks[job, "main", -1]
    assert jobs.report("w1", Started(old.fence, jobs.now), Ended(old.fence, 0)) == Heeded(
        (old.fence, old.fence)
    )
    assert jobs.book.tasks[job, "main", -1] == before
    jobs.started(new)
    jobs.ended(new, 3)
    assert jobs.state(job) is State.FAILED, "the accepted result is the new one"


def test_a_worker_can_not_report_another_s_attempt(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    job = jobs.submit()
    start = jobs.given("1/main")
    jobs.attach("w2")
    assert jobs.report("w2", Ended(start.fence, 0)) == Heeded((start.fence,))
    assert jobs.attach("w2", held=[(start.fence, True)]).refused == (start.fence,)
    assert jobs.state(job) is State.SCHEDULED


def test_an_end_that_is_told_twice_counts_once(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit(retry={"max": 5, "backoff_s": 100})
    start = jobs.given("1/main")
    jobs.ended(start, 1, started_at=jobs.now)
    assert jobs.ended(start, 1).refused == (start.fence,)
    assert jobs.book.tasks[job, "main", -1].failures == 1


def test_a_start_that_is_told_twice_is_one(jobs: Env) -> None:
    jobs.attach("w1")
    jobs.submit()
    start = jobs.given("1/main")
    assert jobs.started(start) == jobs.started(start) == Heeded()
    assert jobs.changes == ()


def test_an_end_says_by_itself_that_the_task_had_started(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit()
    jobs.ended(jobs.given("1/main"), 0, started_at=START - 1)
    assert jobs.state(job) is State.SUCCEEDED
    moves = [move.state for move in jobs.story if move.task]
    assert moves == ["queued", "scheduled", "running", "succeeded"]


def test_a_returned_start_uses_up_nothing_and_is_given_out_again(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    job = jobs.submit()
    jobs.ended(jobs.given("1/main"), None, Cause.RETURNED)
    assert jobs.given("1/main").number == 2
    row = jobs.book.tasks[job, "main", -1]
    assert (row.failures, row.crashes) == (0, 0)


def test_a_start_that_is_returned_again_and_again_backs_off(jobs: Env) -> None:
    """Else a worker that is wrong about its slots and the scheduler would play ball."""
    jobs.attach("w1", slots=1)
    job = jobs.submit()
    jobs.ended(jobs.given("1/main"), None, Cause.RETURNED)
    pauses = []
    for _ in range(8):
        start = jobs.given("1/main")
        jobs.ended(start, None, Cause.RETURNED)
        row = jobs.book.tasks[job, "main", -1]
        assert row.state is State.PENDING
        pauses.append(row.not_before - jobs.now)
        jobs.keep(pauses[-1], "w1")
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]
    row = jobs.book.tasks[job, "main", -1]
    assert (row.failures, row.crashes) == (0, 0)
    jobs.given("1/main")


def test_a_drained_worker_gets_nothing_and_what_it_returns_uses_up_nothing(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit()
    start = jobs.given("1/main")
    jobs.handle(Drain("w1", drained=True))
    jobs.take("w1", "draining")
    jobs.ended(start, None, Cause.RETURNED)
    jobs.quiet()
    row = jobs.book.tasks[job, "main", -1]
    assert (row.state, row.failures, row.crashes) == (State.QUEUED, 0, 0)
    jobs.handle(Drain("w1", drained=False))
    jobs.take("w1", "undrained")
    jobs.given("1/main")


def test_what_a_worker_stops_on_its_own_runs_again_and_uses_up_nothing(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    job = jobs.submit()
    start = jobs.given("1/main")
    jobs.started(start)
    jobs.stopped(start)
    row = jobs.book.tasks[job, "main", -1]
    assert (row.failures, row.crashes) == (0, 0)
    assert jobs.given("1/main").number == 2


def test_what_the_agent_s_death_killed_counts_as_lost_if_it_had_started(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    job = jobs.submit()
    start = jobs.given("1/main")
    jobs.started(start)
    jobs.ended(start, None, Cause.LOST, log_lost=True)
    assert jobs.book.tasks[job, "main", -1].crashes == 1
    again = jobs.given("1/main")
    jobs.ended(again, None, Cause.LOST)
    assert jobs.book.tasks[job, "main", -1].crashes == 1
    jobs.given("1/main")


def test_an_attempt_not_started_in_time_is_stopped_and_queued_again(jobs: Env) -> None:
    jobs.attach("w1", slots=1)
    job = jobs.submit(start_timeout_s=5)
    first = jobs.given("1/main")
    jobs.keep(4.5, "w1")
    jobs.quiet()
    jobs.keep(0.5, "w1")
    assert jobs.take(StopAttempt).fence == first.fence
    second = jobs.given("1/main")
    row = jobs.book.tasks[job, "main", -1]
    assert (row.number, row.failures, row.crashes) == (2, 0, 0)
    assert jobs.started(first).refused == (first.fence,)
    jobs.started(second)
    jobs.keep(10, "w1")


def test_a_stall_of_the_scheduler_is_not_counted_against_a_start(jobs: Env) -> None:
    jobs.attach("w1")
    jobs.submit(start_timeout_s=5)
    start = jobs.given("1/main")
    jobs.stall(60)
    jobs.beat("w1")
    jobs.keep(4, "w1")
    jobs.started(start)
    jobs.keep(10, "w1")


def test_a_start_is_not_timed_while_the_worker_can_not_tell_of_it(jobs: Env) -> None:
    """It may have started long ago: the hello will tell, or the worker is lost."""
    jobs.attach("w1")
    job = jobs.submit(start_timeout_s=5)
    start = jobs.given("1/main")
    jobs.keep(1, "w1")
    jobs.detach("w1")
    jobs.keep(15, "w1")
    assert jobs.state(job) is State.SCHEDULED
    jobs.attach("w1", held=[(start.fence, True)])
    assert jobs.state(job) is State.RUNNING


def test_a_held_start_has_its_time_again_after_the_hello(jobs: Env) -> None:
    jobs.attach("w1")
    jobs.submit(start_timeout_s=5)
    start = jobs.given("1/main")
    jobs.keep(4, "w1")
    jobs.detach("w1")
    jobs.attach("w1")
    jobs.keep(4.5, "w1")
    jobs.quiet()
    jobs.keep(0.5, "w1")
    assert jobs.take(StopAttempt).fence == start.fence
    jobs.given("1/main")


def test_a_held_start_is_timed_after_a_restart_too(jobs: Env) -> None:
    jobs.attach("w1")
    jobs.submit(start_timeout_s=5)
    start = jobs.given("1/main")
    jobs.restart()
    jobs.beat("w1")
    jobs.take("w1", "joined")
    jobs.attach("w1")
    jobs.keep(5, "w1")
    assert jobs.take(StopAttempt).fence == start.fence
    jobs.given("1/main")


def test_a_refused_event_leaves_what_time_brought_about_for_the_next_step(jobs: Env) -> None:
    jobs.attach("w1")
    job = jobs.submit()
    jobs.started(jobs.given("1/main"))
    jobs.advance(19.9)
    jobs.take("w1", "suspect")
    jobs.now += 0.2
    with pytest.raises(NotFound):
        jobs.cancel(77)
    jobs.tick()
    jobs.take("w1", "offline")
    jobs.take(CloseChannel)
    assert jobs.state(job) is State.QUEUED
