from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dtask.core import attempts as core
from dtask.core.attempts import (
    Attempts,
    Drain,
    Drop,
    Ended,
    Exited,
    Forget,
    Freed,
    Gone,
    Heard,
    Held,
    Kill,
    Launch,
    LaunchFailed,
    Prepare,
    Prepared,
    Restore,
    Start,
    Stop,
    StopAll,
    Terminate,
    Tick,
)
from dtask.errors import Busy, Conflict, DtaskError, NotFound, Unavailable


class Env:
    """A worker's tasks with a time that is told; checks the machine after every event."""

    def __init__(self, slots: int = 1, grace_s: float = 10.0) -> None:
        self.attempts = Attempts(slots, grace_s)
        self.now = 1000.0

    def handle(self, event: Any) -> list[Any]:
        effects = self.attempts.handle(event, self.now)
        self.attempts.check()
        return effects

    def start(self, task: str = "t", fence: int = 1, timeout_s: float | None = None) -> list[Any]:
        return self.handle(start(task, fence, timeout_s))

    def finish(self, task: str = "t", fence: int = 1, code: int = 0, log_bytes: int = 0) -> None:
        self.handle(Exited(task, fence, code))
        self.handle(Gone(task, fence, log_bytes))

    def advance(self, seconds: float) -> list[Any]:
        self.now += seconds
        return self.handle(Tick())

    def find(self, task: str = "t", fence: int = 1) -> core.Attempt:
        found = self.attempts.find(task, fence)
        assert found is not None
        return found


def start(task: str = "t", fence: int = 1, timeout_s: float | None = None) -> Start:
    return Start(task, fence, ("true",), {}, timeout_s)


def test_a_task_is_launched_and_ends_with_its_exit_code() -> None:
    env = Env()
    assert env.start() == [Held("t", 1), Launch(start())]
    assert env.find().state == "running"
    env.now += 5
    assert env.handle(Exited("t", 1, 3)) == [Kill("t", 1)]
    assert env.attempts.held() == [("t", 1)]
    assert env.handle(Gone("t", 1, 42)) == [Ended("t", 1), Freed("t", 1)]
    ended = env.find()
    assert (ended.state, ended.exit_code, ended.cause) == ("ended", 3, None)
    assert (ended.started_at, ended.ended_at, ended.log_bytes) == (1000.0, 1005.0, 42)
    assert env.attempts.held() == []


def test_the_same_id_and_fence_starts_nothing_twice_even_after_it_ended() -> None:
    env = Env()
    env.start()
    assert env.start() == []
    env.finish()
    assert env.start() == []
    env.handle(Drain())
    assert env.start() == []
    assert env.find().state == "ended"


def test_a_lower_fence_is_refused_while_it_runs_and_after_it_ended() -> None:
    env = Env()
    env.start(fence=7)
    with pytest.raises(Conflict, match="fence 7") as refused:
        env.start(fence=6)
    assert refused.value.code == "stale_fence"
    env.finish(fence=7)
    with pytest.raises(Conflict, match="fence 7"):
        env.start(fence=6)


def test_full_slots_refuse_and_say_how_many_there_are() -> None:
    env = Env(slots=2)
    env.start("a")
    env.start("b")
    with pytest.raises(Busy, match="All 2 slots") as refused:
        env.start("c")
    assert refused.value.code == "slots_full"
    env.finish("a")
    assert Launch(start("c")) in env.start("c")


def test_draining_refuses_new_tasks_and_lets_the_others_end() -> None:
    env = Env(slots=2)
    env.start("a")
    env.handle(Drain())
    with pytest.raises(Unavailable) as refused:
        env.start("b")
    assert refused.value.code == "draining"
    env.finish("a")
    assert env.find("a").exit_code == 0


def test_a_timeout_terminates_then_kills_after_the_grace() -> None:
    env = Env(grace_s=3)
    env.start(timeout_s=60)
    assert env.attempts.next_deadline() == 1060.0
    assert env.advance(59) == []
    assert env.advance(1) == [Terminate("t", 1)]
    assert env.attempts.next_deadline() == 1063.0
    assert env.advance(3) == [Kill("t", 1)]
    assert env.attempts.next_deadline() is None
    env.finish(code=-9)
    assert (env.find().cause, env.find().exit_code) == ("timeout", -9)


def test_a_stop_terminates_once_and_leaves_its_children_the_grace() -> None:
    env = Env(grace_s=3)
    env.start()
    assert env.handle(Stop("t", 1)) == [Terminate("t", 1)]
    assert env.handle(Stop("t", 1)) == []
    assert env.handle(Exited("t", 1, -15)) == []  # its children may still be saving their work
    assert env.advance(3) == [Kill("t", 1)]
    assert env.handle(Gone("t", 1)) == [Ended("t", 1), Freed("t", 1)]
    assert env.handle(Stop("t", 1)) == []
    assert env.find().cause == "stopped"


def test_a_task_that_ended_in_time_is_not_timed_out_while_its_strays_are_killed() -> None:
    env = Env()
    env.start(timeout_s=5)
    env.handle(Exited("t", 1, 0))
    assert env.advance(60) == []
    env.handle(Gone("t", 1))
    assert env.find().cause is None


def test_a_failed_launch_ends_the_task_with_its_sentence() -> None:
    env = Env()
    env.start()
    assert env.handle(LaunchFailed("t", 1, "No such file.")) == [Ended("t", 1), Freed("t", 1)]
    failed = env.find()
    assert (failed.state, failed.cause, failed.error) == ("ended", "start_failed", "No such file.")
    assert failed.exit_code is None


def test_a_newer_fence_stops_the_old_run_and_starts_when_nothing_is_left_of_it() -> None:
    env = Env()
    env.start(fence=1)
    assert env.start(fence=2) == [Held("t", 2), Terminate("t", 1), Freed("t", 1)]
    assert env.find(fence=2).state == "waiting"
    assert env.attempts.held() == [("t", 2)]
    assert env.handle(Exited("t", 1, -15)) == []
    env.now += 1
    assert env.handle(Gone("t", 1)) == [Ended("t", 1), Launch(start(fence=2))]
    assert env.find(fence=1).cause == "superseded"
    assert env.find(fence=2).state == "running"
    assert env.find(fence=2).started_at == 1001.0


def test_a_third_fence_takes_the_place_of_the_waiting_one() -> None:
    env = Env()
    env.start(fence=1)
    env.start(fence=2)
    assert env.start(fence=3) == [Held("t", 3), Ended("t", 2), Freed("t", 2)]
    assert env.find(fence=2).cause == "superseded"
    env.handle(Exited("t", 1, -15))
    assert Launch(start(fence=3)) in env.handle(Gone("t", 1))


def test_a_waiting_run_that_is_stopped_never_starts() -> None:
    env = Env()
    env.start(fence=1)
    env.start(fence=2)
    assert env.handle(Stop("t", 2)) == []
    assert env.find(fence=2).state == "stopping"
    env.handle(Exited("t", 1, -15))
    assert env.handle(Gone("t", 1)) == [Ended("t", 1), Ended("t", 2), Freed("t", 2)]
    assert env.find(fence=2).cause == "stopped"
    assert env.attempts.held() == []


def test_a_stop_that_overtakes_its_start_keeps_it_from_ever_running() -> None:
    env = Env()
    assert env.handle(Stop("t", 5)) == [Ended("t", 5)]
    assert env.start(fence=5) == []
    assert (env.find(fence=5).state, env.find(fence=5).cause) == ("ended", "stopped")
    with pytest.raises(NotFound):
        env.handle(Stop("t", 4))


def test_a_forgotten_attempt_is_released_but_its_fence_still_guards() -> None:
    env = Env()
    env.start()
    env.finish()
    assert env.attempts.next_deadline() == 1000.0 + core.REMEMBERED_S
    assert env.advance(core.REMEMBERED_S) == [Forget("t", 1)]
    assert env.attempts.find("t", 1) is None
    with pytest.raises(Conflict):
        env.start(fence=1)
    assert env.attempts.next_deadline() is None


def test_only_so_many_ended_attempts_and_bytes_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(core, "REMEMBERED_MAX", 3)
    monkeypatch.setattr(core, "REMEMBERED_BYTES_MAX", 100)
    monkeypatch.setattr(core, "FENCES_MAX", 5)
    env = Env()
    for number in range(10):
        env.start(f"t{number}")
        env.finish(f"t{number}")
    assert [number for number in range(10) if env.attempts.find(f"t{number}", 1)] == [7, 8, 9]
    env.start("large")
    env.finish("large", log_bytes=1000)
    assert env.attempts.find("large", 1) is not None
    assert env.attempts.find("t9", 1) is None
    assert len(env.attempts._fences) == 5


def test_a_refused_event_changes_nothing() -> None:
    env = Env()
    env.start(fence=5)
    before = (env.attempts.held(), env.find(fence=5), env.attempts.next_deadline())
    for event in (start(fence=4), start("other"), Stop("t", 3), Stop("t", 4)):
        with pytest.raises(DtaskError):
            env.handle(event)
    assert before == (env.attempts.held(), env.find(fence=5), env.attempts.next_deadline())


def kept(task: str = "t", fence: int = 1, **fields: Any) -> Start:
    return Start(task, fence, ("true",), {}, kept=True, **fields)


def test_a_kept_end_is_remembered_until_it_is_heard_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(core, "REMEMBERED_MAX", 2)
    env = Env()
    for fence in range(10):
        env.handle(kept("t", fence))
        env.finish("t", fence, log_bytes=core.REMEMBERED_BYTES_MAX)
    assert env.attempts.next_deadline() is None
    assert env.advance(2 * core.REMEMBERED_S) == []
    assert all(env.attempts.find("t", fence) for fence in range(10))
    assert env.handle(Heard("t", 3)) == [Forget("t", 3)]
    assert env.handle(Heard("t", 3)) == []
    assert env.attempts.find("t", 3) is None
    assert env.attempts.find("t", 4) is not None


def test_a_kept_attempt_that_is_still_held_is_not_forgotten_by_a_word_too_early() -> None:
    env = Env()
    env.handle(kept())
    assert env.handle(Heard("t", 1)) == []
    assert env.find().state == "running"


def test_a_refused_kept_attempt_ends_as_returned_and_says_why() -> None:
    env = Env(slots=1)
    env.handle(kept("a", 5))
    for start, why in ((kept("b", 6), "All 1 slots"), (kept("a", 4), "fence 5")):
        name = (start.task_id, start.fence)
        assert env.handle(start) == [Ended(*name)]
        assert env.find(*name).cause == "returned"
        assert why in (env.find(*name).error or "")
    env.handle(Drain())
    env.handle(kept("c", 7))
    assert "draining" in (env.find("c", 7).error or "")
    assert env.attempts.held() == [("a", 5)]


def test_a_dropped_attempt_is_stopped_and_leaves_no_memory() -> None:
    env = Env()
    env.handle(kept())
    assert env.handle(Drop("t", 1)) == [Terminate("t", 1)]
    env.handle(Exited("t", 1, -15))
    assert env.handle(Gone("t", 1)) == [Forget("t", 1), Freed("t", 1)]
    assert env.attempts.find("t", 1) is None
    env.handle(kept("t", 2))
    env.finish("t", 2)
    assert env.handle(Drop("t", 2)) == [Forget("t", 2)]
    assert env.handle(Drop("t", 3)) == []


def test_files_are_prepared_before_the_launch_and_only_then_time_runs() -> None:
    env = Env()
    start = kept(prepare=True, timeout_s=5)
    assert env.handle(start) == [Held("t", 1), Prepare(start)]
    assert env.find().state == "waiting"
    assert env.advance(60) == []
    assert env.handle(Prepared("t", 1)) == [Launch(start)]
    assert env.handle(Prepared("t", 1)) == []
    assert env.find().started_at == 1060.0
    assert env.advance(5) == [Terminate("t", 1)]


def test_a_stop_while_files_are_prepared_ends_it_and_what_comes_later_changes_nothing() -> None:
    env = Env()
    env.handle(kept(prepare=True))
    assert env.handle(Stop("t", 1)) == [Ended("t", 1), Freed("t", 1)]
    for late in (Prepared("t", 1), LaunchFailed("t", 1, "It did not come.", "worker_failed")):
        assert env.handle(late) == []
    assert (env.find().state, env.find().cause, env.find().error) == ("ended", "stopped", None)


def test_a_worker_that_is_shut_down_gives_back_what_is_kept() -> None:
    env = Env(slots=5)
    env.handle(start("ticket"))
    env.handle(kept("runs"))
    env.handle(kept("waits", prepare=True))
    env.handle(kept("cancelled"))
    env.handle(Stop("cancelled", 1))
    assert env.handle(StopAll()) == [
        Terminate("ticket", 1),
        Terminate("runs", 1),
        Ended("waits", 1),
        Freed("waits", 1),
    ]
    for task in ("ticket", "runs", "cancelled"):
        env.handle(Exited(task, 1, -15))
        env.handle(Gone(task, 1))
    causes = {task: env.find(task).cause for task in ("ticket", "runs", "waits", "cancelled")}
    assert causes == {
        "ticket": "stopped",
        "runs": "returned",
        "waits": "returned",
        "cancelled": "stopped",
    }
    assert env.find("runs").error == env.find("waits").error == "Its worker was shut down."


def test_an_heir_whose_turn_has_not_come_is_given_back_too() -> None:
    env = Env()
    env.handle(kept())
    env.handle(kept(fence=2))
    env.handle(StopAll())
    env.handle(Exited("t", 1, -15))
    env.handle(Gone("t", 1))
    assert (env.find(fence=1).cause, env.find(fence=2).cause) == ("superseded", "returned")


def test_files_that_cannot_be_prepared_end_the_attempt() -> None:
    env = Env()
    env.handle(kept(prepare=True))
    failed = LaunchFailed("t", 1, "It did not come.", "worker_failed")
    assert env.handle(failed) == [Ended("t", 1), Freed("t", 1)]
    assert (env.find().cause, env.find().error) == ("worker_failed", "It did not come.")


def test_a_newer_fence_takes_the_place_of_one_whose_files_are_prepared() -> None:
    env = Env()
    env.handle(kept(prepare=True))
    newer = kept(fence=2, prepare=True)
    assert env.handle(newer) == [Held("t", 2), Ended("t", 1), Prepare(newer), Freed("t", 1)]
    assert env.find(fence=1).cause == "superseded"
    assert env.handle(Prepared("t", 1)) == []
    assert env.handle(Prepared("t", 2)) == [Launch(newer)]


def test_an_heir_with_files_has_them_prepared_when_its_turn_comes() -> None:
    env = Env()
    env.handle(kept())
    heir = kept(fence=2, prepare=True)
    env.handle(heir)
    env.handle(Exited("t", 1, -15))
    assert env.handle(Gone("t", 1)) == [Ended("t", 1), Prepare(heir)]


def test_the_grace_is_the_attempts_own_or_that_of_its_stop() -> None:
    env = Env(grace_s=3)
    env.handle(kept(grace_s=60.0))
    env.handle(Stop("t", 1))
    assert env.attempts.next_deadline() == 1060.0
    env.handle(Stop("t", 1, grace_s=5.0))
    assert env.attempts.next_deadline() == 1005.0
    env.handle(Stop("t", 1, grace_s=100.0))  # a deadline never moves away
    assert env.attempts.next_deadline() == 1005.0


def test_what_was_wrong_with_the_end_gives_way_to_what_ended_it() -> None:
    env = Env(slots=2)
    for task in ("a", "b"):
        env.handle(kept(task))
    env.handle(Stop("b", 1))
    for task in ("a", "b"):
        env.handle(Exited(task, 1, 0))
        env.handle(Gone(task, 1, 0, "result_too_large", "It is too large."))
    assert (env.find("a").cause, env.find("a").error) == ("result_too_large", "It is too large.")
    assert (env.find("b").cause, env.find("b").error) == ("stopped", None)


def test_what_an_earlier_life_held_has_ended_and_is_kept() -> None:
    env = Env()
    lost = Restore("t", 1, 900.0, 1000.0, None, "lost", "The worker died.")
    assert env.handle(lost) == []
    assert (env.find().state, env.find().cause) == ("ended", "lost")
    assert env.attempts.held() == []
    assert env.handle(kept()) == []  # known, so not started again
    assert env.handle(Heard("t", 1)) == [Forget("t", 1)]


TASKS = st.sampled_from("abc")
FENCES = st.integers(1, 5)


class Worker(RuleBasedStateMachine):
    """Random events against a shell that does as told and remembers what lives."""

    def __init__(self) -> None:
        super().__init__()
        self.env = Env(slots=2, grace_s=3)
        self.fence = 0
        #: Name -> what its process tree was told last.
        self.trees: dict[core.Name, str] = {}
        self.names: set[core.Name] = set()
        self.ended: set[core.Name] = set()
        self.launched: set[core.Name] = set()
        #: Those whose files are fetched, or were when they ended.
        self.preparing: set[core.Name] = set()

    def act(self, event: core.Event) -> None:
        try:
            effects = self.env.handle(event)
        except DtaskError:
            return
        for effect in effects:
            self.perform(effect)

    def perform(self, effect: core.Effect) -> None:
        match effect:
            case Launch(begun):
                name = (begun.task_id, begun.fence)
                assert name not in self.launched
                assert begun.task_id not in {task for task, _ in self.trees}
                self.launched.add(name)
                self.trees[name] = "running"
            case Terminate(task, fence):
                assert self.trees[task, fence] == "running"
                self.trees[task, fence] = "terminated"
            case Kill(task, fence):
                assert self.trees[task, fence] in ("exited", "terminated")
                self.trees[task, fence] = "killed"
            case Prepare(begun):
                name = (begun.task_id, begun.fence)
                assert name not in self.launched
                self.preparing.add(name)
            case Held(task, fence):
                self.names.add((task, fence))
            case Freed(task, fence):
                self.names.remove((task, fence))
            case Ended(task, fence):
                assert (task, fence) not in self.trees
                assert (task, fence) not in self.ended
                self.ended.add((task, fence))
            case Forget(task, fence):
                assert (task, fence) not in self.trees
                self.ended.discard((task, fence))

    @rule(task=TASKS, fence=FENCES, timeout_s=st.none() | st.integers(1, 9))
    def start(self, task: str, fence: int, timeout_s: int | None) -> None:
        self.act(start(task, fence, timeout_s))

    @rule(task=TASKS, prepare=st.booleans(), timeout_s=st.none() | st.integers(1, 9))
    def start_kept(self, task: str, prepare: bool, timeout_s: int | None) -> None:
        self.fence += 1  # a scheduler gives out each fence once, in order
        self.act(kept(f"job-{task}", self.fence, prepare=prepare, timeout_s=timeout_s))

    @precondition(lambda self: self.preparing)
    @rule(data=st.data(), succeeds=st.booleans())
    def files_come_or_not(self, data: st.DataObject, succeeds: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.preparing)))
        self.preparing.remove(name)
        self.act(Prepared(*name) if succeeds else LaunchFailed(*name, "None.", "worker_failed"))

    @rule(data=st.data(), event=st.sampled_from([Stop, Drop, Heard]))
    def a_kept_one_is_spoken_of(self, data: st.DataObject, event: type) -> None:
        known = [name for name in self.env.attempts._attempts if name[0].startswith("job-")]
        if known:
            self.act(event(*data.draw(st.sampled_from(sorted(known)))))

    @rule(task=TASKS, fence=FENCES)
    def stop(self, task: str, fence: int) -> None:
        self.act(Stop(task, fence))

    @precondition(lambda self: "running" in self.trees.values())
    @rule(data=st.data())
    def main_process_ends(self, data: st.DataObject) -> None:
        running = sorted(name for name, told in self.trees.items() if told == "running")
        name = data.draw(st.sampled_from(running))
        self.trees[name] = "exited"
        self.act(Exited(*name, 0))

    @precondition(lambda self: "running" in self.trees.values())
    @rule(data=st.data())
    def launch_fails(self, data: st.DataObject) -> None:
        running = sorted(name for name, told in self.trees.items() if told == "running")
        name = data.draw(st.sampled_from(running))
        del self.trees[name]
        self.act(LaunchFailed(*name, "It can't be started."))

    @precondition(lambda self: {"killed", "terminated"} & set(self.trees.values()))
    @rule(data=st.data())
    def tree_is_gone(self, data: st.DataObject) -> None:
        told = sorted(name for name, told in self.trees.items() if told in ("killed", "terminated"))
        name = data.draw(st.sampled_from(told))
        self.act(Exited(*name, -9))
        del self.trees[name]
        self.act(Gone(*name))

    @rule(seconds=st.integers(0, 4))
    def time_passes(self, seconds: int) -> None:
        self.env.now += seconds
        self.act(Tick())

    @invariant()
    def names_and_trees_agree_with_the_machine(self) -> None:
        assert self.names == set(self.env.attempts.held())
        assert len(self.names) <= 2
        waiting = {name for name in self.preparing if name in self.names}
        assert {task for task, _ in {*self.trees, *waiting}} == {task for task, _ in self.names}

    def teardown(self) -> None:
        """Once all is stopped and time passes, every tree is killed and nothing is left."""
        for name in self.env.attempts.held():
            self.act(Stop(*name))
        for _ in range(20):
            self.env.now += 3
            self.act(Tick())
            for name in [name for name, told in self.trees.items() if told == "killed"]:
                self.act(Exited(*name, -9))
                del self.trees[name]
                self.act(Gone(*name))
        assert not self.trees
        assert not self.names
        assert self.env.attempts._kept == {
            name for name in self.ended if name[0].startswith("job-")
        }


TestWorker = Worker.TestCase
TestWorker.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
