"""Jobs in the plainest way: what follows from an event is looked for everywhere, until nothing
follows any more. No index, no queue, no shortcut; only what is promised.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from dtask.core.jobs.model import JobSpec, TaskSpec, size
from dtask.core.jobs.states import Cause

WAITING = ("pending", "queued")
HELD = ("scheduled", "running")
LIVE = (*WAITING, *HELD)


@dataclass(eq=False)
class Attempt:
    """One run, as long as the scheduler waits for it."""

    fence: int
    element: "Element"
    worker_id: str
    started: bool = False
    stopping: bool = False
    #: When it must have started, or nobody looks.
    start_by: float = 0.0


@dataclass(eq=False)
class Element:
    """A plain task, or an element of an array."""

    job: "Job"
    task: str
    index: int
    spec: TaskSpec
    state: str = "pending"
    number: int = 0
    failures: int = 0
    crashes: int = 0
    #: Times in a row that it was returned unstarted. (The scheduler's memory only.)
    trials: int = 0
    not_before: float | None = None
    queued_at: float = 0.0
    attempt: Attempt | None = None

    def turn(self) -> tuple[int, int, int, int]:
        """Of two in one queue the one with the lesser goes first."""
        place = list(self.job.spec.tasks).index(self.task)
        return -self.job.spec.priority, self.job.job_id, place, self.index

    def move(self, state: str) -> None:
        self.state = state
        self.not_before = None


@dataclass(eq=False)
class Job:
    """All of a job."""

    job_id: int
    spec: JobSpec
    after: set[int]
    tasks: dict[str, list[Element]] = field(default_factory=dict)
    #: It did not wait any more when it was last looked at: so it never does again.
    begun: bool = False

    def elements(self) -> list[Element]:
        return [element for task in self.tasks.values() for element in task]

    def ended(self) -> bool:
        return not any(element.state in LIVE for element in self.elements())

    def succeeded(self) -> bool:
        states = {element.state for element in self.elements()}
        return "succeeded" in states and not states & {"failed", "cancelled"}


@dataclass
class Line:
    """A queue's settings."""

    paused: bool = False
    max_running: int | None = None
    weight: float = 1.0


class Jobs:
    """What should be true."""

    def __init__(self) -> None:
        self.jobs: dict[int, Job] = {}
        self.queues: dict[str, Line] = {"default": Line()}
        self.attempts: dict[int, Attempt] = {}

    # What happens

    def submit(self, job_id: int, spec: JobSpec, now: float) -> None:
        job = self.jobs[job_id] = Job(job_id, spec, set())
        for name, task in spec.tasks.items():
            job.tasks[name] = [Element(job, name, i, task) for i in range(size(task))]
        job.after = {earlier for earlier in spec.after if not self.jobs[earlier].ended()}
        failed = [earlier for earlier in spec.after if not self.good(earlier)]
        if failed and spec.when == "all_succeeded":
            self.skip_all(job)
        self.settle(now)

    def start(self, attempt: Attempt) -> None:
        if not attempt.started:
            attempt.started = True
            attempt.element.trials = 0
            attempt.element.move("running")

    def end(self, attempt: Attempt, exit_code: int | None, cause: Cause | None, now: float) -> None:
        element, spec = attempt.element, attempt.element.spec
        if cause is None and exit_code != 0:
            cause = Cause.EXIT
        if cause in (None, Cause.EXIT, Cause.TIMEOUT):
            self.start(attempt)
        if cause in (Cause.LOST, Cause.STOPPED, Cause.RETURNED):
            self.again(attempt, cause, now)
            return
        if attempt.stopping:
            element.move("cancelled")
        elif cause is None:
            element.move("succeeded")
        elif cause is Cause.WORKER_FAILED:
            element.crashes += 1
            again = element.crashes < spec.crash_limit
            self.wait_or_fail(element, now + pause_s(element.crashes) if again else None)
        else:
            element.failures += 1
            retry = spec.retry
            worth = not retry.on_exit or (cause is Cause.EXIT and exit_code in retry.on_exit)
            again = worth and element.failures <= retry.max
            pause = pause_s(element.failures, retry.backoff_s, retry.backoff_max_s)
            self.wait_or_fail(element, now + pause if again else None)
        self.let_go(attempt)
        self.settle(now)

    def wait_or_fail(self, element: Element, not_before: float | None) -> None:
        element.move("pending" if not_before is not None else "failed")
        element.not_before = not_before

    def lose(self, attempt: Attempt, now: float) -> None:
        self.again(attempt, Cause.LOST if attempt.started else Cause.RETURNED, now)

    def again(self, attempt: Attempt, cause: Cause, now: float) -> None:
        """It came to nothing, by no fault of the task."""
        element = attempt.element
        element.crashes += cause is Cause.LOST and attempt.started and not attempt.stopping
        if attempt.stopping:
            element.move("cancelled")
        elif cause is Cause.LOST and element.crashes >= element.spec.crash_limit:
            element.move("failed")
        elif cause is Cause.RETURNED and not attempt.started and element.trials:
            element.trials += 1
            self.wait_or_fail(element, now + pause_s(element.trials))
        else:
            element.trials += cause is Cause.RETURNED and not attempt.started
            element.move("queued")
            element.queued_at = now
        self.let_go(attempt)
        self.settle(now)

    def cancel(self, job_id: int, task: str | None, now: float) -> list[Attempt]:
        """Returns what is to be stopped now."""
        job = self.jobs[job_id]
        stopped = []
        for element in job.elements() if task is None else job.tasks[task]:
            if element.state in WAITING:
                element.move("cancelled")
            elif element.attempt is not None and not element.attempt.stopping:
                element.attempt.stopping = True
                stopped.append(element.attempt)
        self.settle(now)
        return stopped

    def retry(self, job_id: int, task: str | None, again: str, now: float) -> int | None:
        """How many elements start over; None if some would, but for what they need."""
        job = self.jobs[job_id]
        was_over = job.ended()
        names = set(job.tasks if task is None else (task,))
        while more := {n for n, s in job.spec.tasks.items() if names & set(s.needs)} - names:
            names |= more
        codes = ("failed", "skipped") if again == "failed" else ("failed", "skipped", "cancelled")
        names = {name for name in names if any(e.state in codes for e in job.tasks[name])}
        wanted = bool(names)
        while hopeless := {name for name in names if self.hopeless(job, name, names)}:
            names -= hopeless
        comes_after = job.spec.after if was_over and job.spec.when == "all_succeeded" else ()
        if not all(map(self.good, comes_after)):
            names = set()
        if wanted and not names:
            return None
        chosen = [e for name in names for e in job.tasks[name] if e.state in codes]
        for element in chosen:
            element.move("pending")
            element.failures = element.crashes = element.trials = 0
        if was_over and chosen:
            job.begun = False
            job.after = {earlier for earlier in job.spec.after if not self.jobs[earlier].ended()}
            for other in self.jobs.values():
                if job_id in other.spec.after and not other.begun:
                    other.after.add(job_id)
        self.settle(now)
        return len(chosen)

    def hopeless(self, job: Job, name: str, again: set[str]) -> bool:
        """Whether a task needs another one that did not succeed and does not start over."""
        spec = job.spec.tasks[name]
        lasting = [{e.state for e in job.tasks[need]} for need in spec.needs if need not in again]
        bad = any(not states & {*LIVE} and states != {"succeeded"} for states in lasting)
        return bad and spec.when == "all_succeeded"

    def dispatch(self, attempt: Attempt, now: float) -> None:
        """A worker is given this."""
        element = attempt.element
        element.number += 1
        element.attempt = self.attempts[attempt.fence] = attempt
        attempt.start_by = now + element.spec.start_timeout_s
        element.move("scheduled")

    def pass_time(self, now: float) -> None:
        for element in self.elements():
            most_s = element.spec.max_queue_s
            waited_s = now - element.queued_at
            if element.state == "queued" and most_s is not None and waited_s >= most_s:
                element.move("failed")
            if element.not_before is not None and element.not_before <= now:
                element.move("queued")
                element.queued_at = now
        self.settle(now)

    def due(self, now: float) -> bool:
        """Whether some backoff of no time at all is over."""
        return any(e.not_before is not None and e.not_before <= now for e in self.elements())

    def restart(self) -> None:
        for element in self.elements():
            element.trials = 0

    # What follows

    def settle(self, now: float) -> None:
        """Go through everything until nothing follows any more."""
        before: list[Any] = []
        while before != (before := [e.state for e in self.elements()]):
            for job in self.jobs.values():
                self.settle_job(job, now)

    def settle_job(self, job: Job, now: float) -> None:
        for earlier in sorted(job.after):
            if self.jobs[earlier].ended():
                job.after.discard(earlier)
                if not self.good(earlier) and job.spec.when == "all_succeeded":
                    self.skip_all(job)
        for name, elements in job.tasks.items():
            needs = [job.tasks[need] for need in job.spec.tasks[name].needs]
            done = [not any(e.state in LIVE for e in need) for need in needs]
            good = [all(e.state == "succeeded" for e in need) for need in needs]
            hopeless = any(d and not g for d, g in zip(done, good, strict=True))
            for element in elements:
                if element.state != "pending" or element.not_before is not None:
                    continue
                if hopeless and element.spec.when == "all_succeeded":
                    element.move("skipped")
                elif all(done) and self.may_begin(job, now):
                    element.move("queued")
                    element.queued_at = now

    def may_begin(self, job: Job, now: float) -> bool:
        if not job.begun and not job.after:
            job.begun = job.spec.not_before is None or job.spec.not_before <= now
        return job.begun

    def skip_all(self, job: Job) -> None:
        job.after = set()
        for element in job.elements():
            if element.state == "pending":
                element.move("skipped")

    def let_go(self, attempt: Attempt) -> None:
        attempt.element.attempt = None
        del self.attempts[attempt.fence]

    # What is asked

    def good(self, job_id: int) -> bool:
        job = self.jobs[job_id]
        return not job.ended() or job.succeeded()

    def elements(self) -> Iterator[Element]:
        for job in self.jobs.values():
            yield from job.elements()

    def running(self, queue: str) -> int:
        return sum(e.state in HELD and e.job.spec.queue == queue for e in self.elements())

    def open(self) -> list[Element]:
        """Queued, and the queue may run one more."""
        may = {
            name
            for name, line in self.queues.items()
            if not line.paused
            and (line.max_running is None or self.running(name) < line.max_running)
        }
        return [e for e in self.elements() if e.state == "queued" and e.job.spec.queue in may]

    def share(self, queue: str) -> float:
        return self.running(queue) / self.queues[queue].weight


def pause_s(times: int, first_s: float = 1.0, most_s: float = 60.0) -> float:
    """The longest pause after so many failures."""
    return min(most_s, first_s * 2 ** (times - 1))
