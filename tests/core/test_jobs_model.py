"""The job half against a naive model of it, over random histories.

The model says where everything stands; what the core gives out, it says whether it may. After
every step the rows written so far must restore to what stands in memory. All times are whole
halves of a second, and pauses are as long as they may be, so the model can age step by step.
"""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from core.env import Env, a_job
from core.naive_jobs import Attempt, Element, Jobs, Line
from core.restored import must_restore
from dtask.core.jobs.events import Ended, StartAttempt, Started, StopAttempt
from dtask.core.jobs.states import Cause
from dtask.core.placement import tags as tags_of
from dtask.core.placement.events import Tick
from dtask.core.placement.tags import TagIndex
from dtask.errors import Conflict

WORKERS = {"w1": ("gpu", 2), "w2": ("cpu", 1), "w3": ("cpu,gpu,cuda-12", 1)}
QUEUES = ["default", "q2", "q3"]
NAMES = "abcd"

#: How attempts end: exit code and cause, and whether that can be before a start.
ENDS: list[tuple[int | None, Cause | None]] = [
    *[(0, None)] * 10,
    (1, None),
    (75, None),
    (-9, None),
    (None, Cause.TIMEOUT),
    (None, Cause.LOST),
    (None, Cause.RETURNED),
    (None, Cause.START_FAILED),
    (None, Cause.WORKER_FAILED),
    (-15, Cause.STOPPED),
]

tasks = st.fixed_dictionaries(
    {},
    optional={
        "array": st.sampled_from([1, 3]),
        "tags": st.sampled_from(["gpu", "cpu", "cpu|gpu", "!gpu", "cuda>=11", "gpu,cpu", "npu"]),
        "when": st.just("all_done"),
        "retry": st.fixed_dictionaries(
            {"max": st.integers(0, 2), "backoff_s": st.sampled_from([0.0, 1.0, 4.0])},
            optional={"on_exit": st.just([75])},
        ),
        "crash_limit": st.integers(1, 2),
        "max_queue_s": st.just(5.0),
        "start_timeout_s": st.just(3.0),
    },
)


def one_in(n: int) -> st.SearchStrategy[bool]:
    return st.sampled_from([True] + [False] * (n - 1))


@dataclass
class Worker:
    """A worker: what is true of it, and what the scheduler knows."""

    tags: str
    slots: int
    #: None: the scheduler does not know it.
    heard_at: float | None = None
    silent: bool = False
    attached: bool = False
    #: Since when its channel is gone, if it may hold anything.
    away_at: float | None = None
    life: int = 1

    def fits(self, element: Element) -> bool:
        index = TagIndex()
        index.add(0, tags_of.split(self.tags))
        return all(index.meeting(one, 1) for one in tags_of.parse(element.spec.tags))


class JobLives(RuleBasedStateMachine):
    """Whatever happens, the core and the model say the same."""

    def __init__(self) -> None:
        super().__init__()
        self.env = Env(with_jobs=True)
        self.model = Jobs()
        self.workers = {name: Worker(tags, slots) for name, (tags, slots) in WORKERS.items()}
        #: Attempts that hold a slot: not after a restart, until their worker says hello.
        self.seated: set[int] = set()
        self.ended_fences: list[tuple[str, int]] = []
        self.sent: dict[str, tuple[Any, int]] = {}
        for name in self.workers:
            self.beat(name)
            self.hello(name, set())

    # Clients

    @rule(data=st.data())
    def submit(self, data: st.DataObject) -> None:
        known = sorted(self.model.jobs)
        names = data.draw(st.permutations(NAMES))[: data.draw(st.integers(1, 4))]
        order = data.draw(st.permutations(names))
        body = {}
        for name in names:
            needs = [need for need in order[: order.index(name)] if data.draw(one_in(3))]
            body[name] = {**data.draw(tasks), "needs": needs}
        fields = {
            "queue": data.draw(st.sampled_from([q for q in QUEUES if q in self.model.queues])),
            "priority": data.draw(st.integers(0, 1)),
            "when": data.draw(st.sampled_from(["all_succeeded", "all_done"])),
            "not_before": self.env.now + 5 if data.draw(one_in(6)) else None,
        }
        if known and data.draw(one_in(3)):
            fields["after"] = data.draw(st.lists(st.sampled_from(known), max_size=2))
        event = a_job(body, key=f"k{len(known)}", **fields)
        job_id = self.env.handle(event).job_id
        assert job_id == len(known) + 1
        self.sent[f"k{len(known)}"] = (event, job_id)
        self.model.submit(job_id, event.spec, self.env.now)
        self.follow()

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data())
    def change_one_s_mind(self, data: st.DataObject) -> None:
        minds = [self.submit_again, self.cancel, self.retry, self.retry, self.set_queue]
        data.draw(st.sampled_from(minds))(data)

    def submit_again(self, data: st.DataObject) -> None:
        event, job_id = self.sent[data.draw(st.sampled_from(sorted(self.sent)))]
        answer = self.env.handle(event)
        assert (answer.job_id, answer.known) == (job_id, True)
        self.follow()

    def cancel(self, data: st.DataObject) -> None:
        if not (live := self.live_jobs()):
            return
        job_id = data.draw(st.sampled_from(live))
        task = data.draw(st.sampled_from([None, *self.model.jobs[job_id].tasks]))
        self.env.cancel(job_id, task)
        to_stop = self.model.cancel(job_id, task, self.env.now)
        told = [one.fence for one in to_stop if self.workers[one.worker_id].attached]
        self.follow(stops=told)

    def retry(self, data: st.DataObject) -> None:
        again = data.draw(st.sampled_from(["unsuccessful", "failed"]))
        job_id = data.draw(st.sampled_from(sorted(self.model.jobs)))
        task = data.draw(st.sampled_from([None, *self.model.jobs[job_id].tasks]))
        expected = self.model.retry(job_id, task, again, self.env.now)
        if expected is None:
            with pytest.raises(Conflict):
                self.env.retry(job_id, task, again=again)
            assert self.env.changes == ()
        else:
            assert self.env.retry(job_id, task, again=again) == expected
        self.follow()

    def set_queue(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(QUEUES))
        paused = data.draw(one_in(4))
        max_running = data.draw(st.sampled_from([None, 0, 1, 2]))
        weight = data.draw(st.sampled_from([1.0, 3.0]))
        self.env.set_queue(name, paused=paused, max_running=max_running, weight=weight)
        line = self.model.queues.setdefault(name, Line())
        line.paused, line.weight = paused, weight
        if max_running is not None:
            line.max_running = max_running or None
        self.follow()

    # Workers

    @precondition(lambda self: self.reachable())
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        for fence in self.reachable():
            if data.draw(st.booleans()):
                self.start_one(self.model.attempts[fence])

    def start_one(self, attempt: Attempt) -> None:
        heeded = self.env.report(attempt.worker_id, Started(attempt.fence, self.env.now))
        assert heeded.refused == ()
        self.model.start(attempt)
        self.follow()

    @precondition(lambda self: self.reachable())
    @rule(data=st.data(), ends=st.lists(st.sampled_from(ENDS), min_size=1, max_size=6))
    def end(self, data: st.DataObject, ends: list[tuple[int | None, Cause | None]]) -> None:
        for exit_code, cause in ends:
            if reachable := self.reachable():
                attempt = self.model.attempts[data.draw(st.sampled_from(reachable))]
                self.end_one(attempt, exit_code, cause)

    def end_one(self, attempt: Attempt, exit_code: int | None, cause: Cause | None) -> None:
        if attempt.started and cause is Cause.START_FAILED:
            cause, exit_code = None, 0
        self.env.report(attempt.worker_id, Ended(attempt.fence, exit_code, cause))
        self.model.end(attempt, exit_code, cause, self.env.now)
        self.let_go(attempt)
        self.follow()

    @precondition(lambda self: self.ended_fences)
    @rule(data=st.data())
    def report_something_stale(self, data: st.DataObject) -> None:
        worker_id, fence = data.draw(st.sampled_from(self.ended_fences[-20:]))
        if self.workers[worker_id].attached:
            report = data.draw(st.sampled_from([Started(fence, 0.0), Ended(fence, 0)]))
            assert self.env.report(worker_id, report).refused == (fence,)
            assert self.env.changes == ()
            self.follow()

    @rule(name=st.sampled_from(sorted(WORKERS)), data=st.data())
    def meet_trouble(self, name: str, data: st.DataObject) -> None:
        troubles = [
            self.say_nothing_any_more,
            self.break_the_channel,
            self.begin_a_new_life,
            self.leave,
            self.restart,
            self.suspend,
        ]
        data.draw(st.sampled_from(troubles))(name)

    def say_nothing_any_more(self, name: str) -> None:
        self.workers[name].silent = True

    def speak_again(self, name: str) -> None:
        self.workers[name].silent = False
        self.beat(name)
        self.follow()

    def break_the_channel(self, name: str) -> None:
        worker = self.workers[name]
        if worker.attached:
            self.env.detach(name)
            worker.attached, worker.away_at = False, self.env.now
            self.follow()

    @rule(data=st.data())
    def mend(self, data: st.DataObject) -> None:
        for name, worker in self.workers.items():
            if worker.silent or worker.heard_at is None:
                self.speak_again(name)
            if not worker.attached or data.draw(one_in(6)):
                self.open_a_channel(name, data)

    def open_a_channel(self, name: str, data: st.DataObject) -> None:
        worker = self.workers[name]
        if worker.heard_at is None or worker.heard_at + 20 <= self.env.now:
            return
        held = set()
        for attempt in self.on(name):
            if not data.draw(one_in(6)):
                held.add((attempt.fence, attempt.started or data.draw(st.booleans())))
        self.hello(name, held)
        self.follow(stops=[fence for fence, _ in sorted(held) if self.stopping(fence)])

    def begin_a_new_life(self, name: str) -> None:
        worker = self.workers[name]
        if worker.heard_at is None:
            return
        worker.life += 1
        worker.silent = False
        if worker.attached:
            worker.attached, worker.away_at = False, self.env.now
        self.beat(name)
        self.follow()

    def leave(self, name: str) -> None:
        worker = self.workers[name]
        if worker.heard_at is None:
            return
        worker.silent = True
        self.env.beat(name, leaving=True)
        self.env._beats[name] = replace(self.env._beats[name], leaving=False)
        worker.heard_at = self.env.now - 20
        self.lose_all(name)
        self.follow()

    # Schedulers

    def suspend(self, _name: str) -> None:
        self.restart("", suspended=True)

    def restart(self, _name: str, *, suspended: bool = False) -> None:
        self.env.restart(suspended=suspended)
        self.model.restart()
        self.seated.clear()
        for name, worker in self.workers.items():
            worker.attached = False
            worker.away_at = self.env.now if self.on(name) else None
            if not suspended:
                worker.heard_at = None
        self.follow()

    @rule(halves=st.integers(1, 12) | st.just(45))
    def pass_time(self, halves: int) -> None:
        for _ in range(halves):
            self.env.advance(0.5)
            now = self.env.now
            for name, worker in self.workers.items():
                if worker.heard_at is not None and worker.heard_at + 20 == now:
                    self.lose_all(name)
            self.model.pass_time(now)
            stops = self.pass_time_of_workers(now)
            self.follow(stops=stops)
            for name, worker in self.workers.items():
                if not worker.silent:
                    self.beat(name)
            self.follow()

    def pass_time_of_workers(self, now: float) -> list[int]:
        stops = []
        for fence, attempt in list(self.model.attempts.items()):
            worker = self.workers[attempt.worker_id]
            if worker.away_at is not None and worker.away_at + 20 <= now:
                self.model.lose(attempt, now)
                self.let_go(attempt)
            elif (
                worker.attached
                and not attempt.started
                and not attempt.stopping
                and attempt.start_by == now
            ):
                self.model.again(attempt, Cause.RETURNED, now)
                self.let_go(attempt)
                stops.append(fence)
        for worker in self.workers.values():
            if worker.away_at is not None and worker.away_at + 20 <= now:
                worker.away_at = None
        return stops

    # What must hold

    @invariant()
    def everything_stands_where_the_model_says(self) -> None:
        book = self.env.book
        for job in self.model.jobs.values():
            for element in job.elements():
                index = element.index if element.spec.array else None
                place = (job.job_id, element.task, index)
                assert book.state(*place) == element.state, place
                row = book.tasks.get((job.job_id, element.task, -1 if index is None else index))
                if row is not None and row.number:
                    assert (row.number, row.failures, row.crashes, row.not_before) == (
                        element.number,
                        element.failures,
                        element.crashes,
                        element.not_before,
                    ), place
            over = job.job_id not in self.live_jobs()
            assert (book.jobs[job.job_id,].ended_at is not None) == over

    @invariant()
    def nothing_waits_that_could_run(self) -> None:
        if not self.env.cluster.hurries:
            for element in self.model.open():
                assert not any(self.could_take(name, element) for name in self.workers)

    @invariant()
    def the_rows_tell_all(self) -> None:
        must_restore(self.env)

    # How

    def follow(self, *, stops: list[int] | None = None) -> None:
        """The model follows what was given out; and what is due at once happens."""
        found = self.taken()
        while self.env.cluster.hurries or self.model.due(self.env.now):
            self.env.handle(Tick())
            self.model.pass_time(self.env.now)
            found += self.taken()
        assert sorted(found) == sorted(stops or [])

    def taken(self) -> list[int]:
        """Take the effects of what has happened: the fences of attempts to be stopped."""
        stopped = []
        for effect in self.env.take_all():
            if isinstance(effect, StartAttempt):
                self.dispatched(effect)
            elif isinstance(effect, StopAttempt):
                stopped.append(effect.fence)
        return stopped

    def dispatched(self, start: StartAttempt) -> None:
        element = self.model.jobs[start.job_id].tasks[start.task][start.index or 0]
        assert element.state == "queued", start
        assert start.number == element.number + 1
        assert start.incarnation == f"{start.worker_id}-{self.workers[start.worker_id].life}"
        assert self.could_take(start.worker_id, element), start
        choice = [e for e in self.model.open() if self.workers[start.worker_id].fits(e)]
        assert element in choice
        queue = element.job.spec.queue
        same = [other for other in choice if other.job.spec.queue == queue]
        assert element is min(same, key=Element.turn), start
        shares = {other.job.spec.queue: self.model.share(other.job.spec.queue) for other in choice}
        assert shares[queue] == min(shares.values())
        self.model.dispatch(Attempt(start.fence, element, start.worker_id), self.env.now)
        self.seated.add(start.fence)

    def could_take(self, name: str, element: Element) -> bool:
        worker = self.workers[name]
        online = worker.heard_at is not None and worker.heard_at + 10 > self.env.now
        free = len([one for one in self.on(name) if one.fence in self.seated]) < worker.slots
        return worker.attached and online and free and worker.fits(element)

    def hello(self, name: str, held: set[tuple[int, bool]]) -> None:
        worker = self.workers[name]
        before = self.on(name)
        self.env.attach(name, held=held)
        worker.attached, worker.away_at = True, None
        told = dict(held)
        for attempt in before:
            if attempt.fence not in told:
                self.model.lose(attempt, self.env.now)
                self.let_go(attempt)
                continue
            self.seated.add(attempt.fence)
            if told[attempt.fence]:
                self.model.start(attempt)
            elif not attempt.started:
                attempt.start_by = self.env.now + attempt.element.spec.start_timeout_s

    def beat(self, name: str) -> None:
        worker = self.workers[name]
        life = f"{name}-{worker.life}"
        if name in self.env._beats:
            self.env.beat(name, incarnation=life)
        else:
            self.env.worker(name, worker.tags, worker.slots, incarnation=life, trusted=True)
        worker.heard_at = self.env.now

    def lose_all(self, name: str) -> None:
        self.workers[name].attached = False
        self.workers[name].away_at = None
        for attempt in self.on(name):
            self.model.lose(attempt, self.env.now)
            self.let_go(attempt)

    def let_go(self, attempt: Attempt) -> None:
        self.seated.discard(attempt.fence)
        self.ended_fences.append((attempt.worker_id, attempt.fence))

    def on(self, name: str) -> list[Attempt]:
        return [one for one in self.model.attempts.values() if one.worker_id == name]

    def stopping(self, fence: int) -> bool:
        attempt = self.model.attempts.get(fence)
        return attempt is not None and attempt.stopping

    def reachable(self) -> list[int]:
        """Attempts whose worker can tell of them."""
        return sorted(
            fence
            for fence, one in self.model.attempts.items()
            if self.workers[one.worker_id].attached
        )

    def live_jobs(self) -> list[int]:
        return sorted(job_id for job_id, job in self.model.jobs.items() if not job.ended())


TestJobLives = JobLives.TestCase
TestJobLives.settings = settings(
    stateful_step_count=50,
    max_examples=settings.default.max_examples * 6 // 10,  # each step restores all there is
)
