from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dtask.core import attempts as core
from dtask.core.attempts import (
    Attempts,
    Drain,
    Ended,
    Exited,
    Forget,
    Freed,
    Gone,
    Held,
    Kill,
    Launch,
    LaunchFailed,
    Start,
    Stop,
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


TASKS = st.sampled_from("abc")
FENCES = st.integers(1, 5)


class Worker(RuleBasedStateMachine):
    """Random events against a shell that does as told and remembers what lives."""

    def __init__(self) -> None:
        super().__init__()
        self.env = Env(slots=2, grace_s=3)
        #: Name -> what its process tree was told last.
        self.trees: dict[core.Name, str] = {}
        self.names: set[core.Name] = set()
        self.ended: set[core.Name] = set()
        self.launched: set[core.Name] = set()

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
            case Held(task, fence):
                self.names.add((task, fence))
            case Freed(task, fence):
                self.names.remove((task, fence))
            case Ended(task, fence):
                assert (task, fence) not in self.trees
                assert (task, fence) not in self.ended
                self.ended.add((task, fence))

    @rule(task=TASKS, fence=FENCES, timeout_s=st.none() | st.integers(1, 9))
    def start(self, task: str, fence: int, timeout_s: int | None) -> None:
        self.act(start(task, fence, timeout_s))

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
        assert {task for task, _ in self.trees} == {task for task, _ in self.names}

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


TestWorker = Worker.TestCase
TestWorker.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
