"""What follows when tasks move: heirs are released or skipped, jobs end, backoffs are over.

Everything here happens within a step, or because its time has come.
"""

from itertools import islice
from typing import Final

from msgspec import Struct

from dtask.core.jobs.events import JobForgotten, TaskChanged
from dtask.core.jobs.job import (
    FAILED,
    NO_JOBS,
    PENDING,
    QUEUED,
    SKIPPED,
    STATES,
    SUCCEEDED,
    Element,
    Job,
    Task,
)
from dtask.core.jobs.moment import Moment
from dtask.core.jobs.register import Register
from dtask.core.jobs.rows import Past
from dtask.core.jobs.states import ENDS, Cause, State
from dtask.core.jobs.timers import Timers

#: Ended jobs are kept so long, and so many of them at most, unless an operator says otherwise.
KEEP_S: Final = 30 * 86_400.0
KEEP_JOBS: Final = 100_000

#: Past jobs forgotten in one step for their age, how often anybody looks for some, and how soon
#: again if there are more.
FORGET_MAX: Final = 100
FORGET_EVERY_S: Final = 10.0
FORGET_AGAIN_S: Final = 0.1


class Settings(Struct, frozen=True):
    """What an operator can set of the job half."""

    #: Ended jobs are kept so long, and so many of them at most.
    keep_s: float = KEEP_S
    keep_jobs: int = KEEP_JOBS
    #: A worker whose channel is gone this long has lost its attempts: the offline period.
    away_s: float = 20.0


class Flow:
    """Jobs on their way from pending to their end."""

    def __init__(self, register: Register, settings: Settings, moment: Moment) -> None:
        self._register = register
        self._lines = register.lines
        self._settings = settings
        self._moment = moment
        #: By epoch seconds, and by core time.
        self.wall = Timers()
        self.core = Timers()
        #: Tasks of live jobs.
        self.tasks_live = 0
        #: Tasks and elements that ended since the start, by how.
        self.ends = dict.fromkeys((state.value for state in STATES if state in ENDS), 0)

    def cascade(self) -> None:
        """Tasks that have ended release or skip their heirs, and jobs end with their last task."""
        ended = self._register.ended
        for task in ended:  # it grows while it is walked
            succeeded = task.counts[SUCCEEDED] == task.size
            for heir in task.heirs:
                if heir.ended:
                    continue
                heir.unmet -= 1
                if not succeeded and heir.spec.when == "all_succeeded":
                    self._skip(heir)
                elif heir.unmet == 0:
                    self._release(heir)
            job = task.job
            if job.ended and job.job_id in self._register.jobs:
                self._end_job(job)
        ended.clear()

    def _end_job(self, job: Job) -> None:
        register = self._register
        job.ended_at = self._moment.now
        register.touch_job(job, anyhow=True)
        register.remove(job)
        self.tasks_live -= len(job.tasks)
        for code, state in enumerate(STATES):
            if state.value in self.ends:
                self.ends[state.value] += job.counts[code]
        self.tell(job)
        for heir_id in sorted(register.heirs.get(job.job_id, ())):
            heir = register.jobs[heir_id]
            if job.job_id not in heir.after:
                continue
            heir.after = heir.after - {job.job_id} or NO_JOBS
            if job.state is not State.SUCCEEDED and heir.spec.when == "all_succeeded":
                self.skip_job(heir)
            else:
                self.take_up(heir)
        for past in list(islice(register.past.values(), 2)):  # two for one, if there were more
            if len(register.past) > self._settings.keep_jobs:
                self._forget(past)

    def skip_job(self, job: Job) -> None:
        """A job that it comes after did not succeed."""
        job.after = NO_JOBS
        for task in job.tasks.values():
            self._skip(task)

    def _skip(self, task: Task) -> None:
        """An upstream did not succeed. (Then nothing of it was ever touched, but by a retry.)"""
        if task.rest_code() == PENDING:
            self._register.move_rest(task, SKIPPED, self._moment.now, cause=Cause.UPSTREAM)
        for element in list(task.elements.values()):
            if element.code == PENDING:
                element.not_before = None
                self.end(element, SKIPPED, Cause.UPSTREAM)

    def take_up(self, job: Job) -> None:
        """Begin or go on with a job: what may be queued is, the rest is waited for."""
        for task in job.tasks.values():
            task.unmet = sum(not job.tasks[need].ended for need in task.spec.needs)
        self.wait_for_its_time(job)

    def wait_for_its_time(self, job: Job) -> None:
        """Release the tasks that need nothing, when the job's time has come."""
        if job.after:
            return
        if job.under_way:
            job.waits_until = None  # whatever the clock says by now
        if job.waits_until is not None and job.waits_until > self._moment.now:
            self.wall.add(job.waits_until, _waits_until, self.wait_for_its_time, job)
            return
        job.waits_until = None
        for task in job.tasks.values():
            if task.unmet == 0:
                self._release(task)

    def _release(self, task: Task) -> None:
        """All that its needs held back is queued."""
        if task.job.after or task.job.waits_until is not None:
            return
        if task.rest_code() == PENDING:
            task.queued_at = self._moment.now
            self._register.move_rest(task, QUEUED, self._moment.now)
            self._line_up_rest(task)
        for element in list(task.elements.values()):
            if element.code == PENDING and element.not_before is None:
                self.queue_again(element)

    def line_up(self, task: Task) -> None:
        """After a restart: what was queued stands in line again, what backed off is waited for."""
        if task.rest_code() == QUEUED:
            self._line_up_rest(task)
        for element in task.elements.values():
            if element.code == QUEUED:
                self.line_up_element(element)
            elif element.code == PENDING and element.not_before is not None:
                self._await_backoff(element, element.not_before)

    def _line_up_rest(self, task: Task) -> None:
        self._lines.add(task)
        if task.spec.max_queue_s is not None and task.queued_at is not None:
            due = task.queued_at + task.spec.max_queue_s
            self.wall.add(due, _rest_waits_since, self._rest_waited_too_long, task, task.queued_at)

    def line_up_element(self, element: Element) -> None:
        """It is queued, and no worker holds it: it stands in line."""
        self._lines.add(element)
        most_s = element.task.spec.max_queue_s
        if most_s is not None and element.queued_at is not None:
            due = element.queued_at + most_s
            self.wall.add(due, _waits_since, self._waited_too_long, element, element.queued_at)

    def queue_again(self, element: Element) -> None:
        """It waits for a slot, from now on."""
        self.take_back(element, None)
        self.line_up_element(element)

    def take_back(self, element: Element, cause: Cause | None) -> None:
        """It is queued, and still to be lined up; `cause`: why the attempt came to nothing."""
        element.queued_at = self._moment.now
        self._register.move(element, QUEUED, self._moment.now, cause=cause)

    def back_off(self, element: Element, pause_s: float, cause: Cause | None) -> None:
        """It waits `pause_s` seconds before it is queued again, because of this cause."""
        element.not_before = self._moment.now + pause_s
        self._register.move(element, PENDING, self._moment.now, cause=cause)
        self._await_backoff(element, element.not_before)

    def _await_backoff(self, element: Element, not_before: float) -> None:
        self.wall.add(not_before, _backs_off, self._backoff_over, element, not_before)

    def _backoff_over(self, element: Element, _not_before: float) -> None:
        element.not_before = None
        self.queue_again(element)

    def _rest_waited_too_long(self, task: Task, _queued_at: float) -> None:
        self._register.move_rest(task, FAILED, self._moment.now, cause=Cause.QUEUE_TIMEOUT)

    def _waited_too_long(self, element: Element, _queued_at: float) -> None:
        self.end(element, FAILED, Cause.QUEUE_TIMEOUT)

    def end(self, element: Element, code: int, cause: Cause | None) -> None:
        """It has ended, in the state of this code."""
        element.cause = cause
        if cause is None:
            element.error = None
        self._register.move(element, code, self._moment.now, cause=cause)

    # Memory

    def begin_to_forget(self) -> None:
        """From now on look now and then for jobs that were kept long enough."""
        self.core.add(self._moment.at + FORGET_EVERY_S, _always, self._forget_some)

    def _forget_some(self) -> None:
        """Ended jobs are kept for a time; some that were kept so long are forgotten."""
        past = self._register.past
        oldest = list(islice(past.values(), FORGET_MAX))
        for one in oldest:
            if not self._kept_enough(one):
                break
            self._forget(one)
        self._lines.sweep()
        more = len(oldest) == FORGET_MAX and oldest[-1].job_id not in past
        pause_s = FORGET_AGAIN_S if more else FORGET_EVERY_S
        self.core.add(self._moment.at + pause_s, _always, self._forget_some)

    def _kept_enough(self, past: Past) -> bool:
        """Whether the job that ended first need not be kept any longer."""
        settings = self._settings
        too_many = len(self._register.past) > settings.keep_jobs
        return too_many or past.ended_at + settings.keep_s <= self._moment.now

    def _forget(self, past: Past) -> None:
        self._register.forget(past)
        self._register.effects.append(JobForgotten(past.job_id))

    def tell(self, job: Job) -> None:
        """Tell whoever watches how it stands with a job."""
        self._register.effects.append(
            TaskChanged(job.job_id, None, None, job.state, self._moment.now, job.queue.name)
        )


# Whether what a timer was set for is still to be done


def _always() -> bool:
    return True


def _waits_until(job: Job) -> bool:
    return job.waits_until is not None and not job.ended


def _backs_off(element: Element, not_before: float) -> bool:
    return element.code == PENDING and element.not_before == not_before


def _waits_since(element: Element, queued_at: float) -> bool:
    return element.code == QUEUED and element.queued_at == queued_at


def _rest_waits_since(task: Task, queued_at: float) -> bool:
    return task.rest_code() == QUEUED and task.queued_at == queued_at
