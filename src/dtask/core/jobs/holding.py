"""Attempts that workers hold: given, started, ended, returned, lost.

What a worker says is heeded only of attempts that are its own, by fence. A worker may hold one as
long as it is in the register, whatever its channel does; it is lost when the worker is offline,
when its channel stays away for the offline period, or when its hello does not tell of it.
"""

from typing import Final

from msgspec import structs

from dtask.core.jobs import retry
from dtask.core.jobs.events import (
    Attach,
    Attached,
    AttemptName,
    ChannelOpened,
    CloseChannel,
    Detached,
    Ended,
    Heeded,
    ListHeld,
    Reports,
    StartAttempt,
    Started,
    StopAttempt,
)
from dtask.core.jobs.flow import Flow
from dtask.core.jobs.job import (
    CANCELLED,
    FAILED,
    RUNNING,
    SCHEDULED,
    SUCCEEDED,
    Attempt,
    Element,
)
from dtask.core.jobs.moment import Moment
from dtask.core.jobs.register import Register
from dtask.core.jobs.rows import AttemptRow
from dtask.core.jobs.seats import Seat, Seats
from dtask.core.jobs.states import Cause, State

#: Attempts dispatched in one step, so that none holds up the loop; the rest follow in the next.
DISPATCH_MAX: Final = 200

#: Ends that an attempt can have without a start.
_MAY_NOT_HAVE_RUN: Final = frozenset(
    {Cause.START_FAILED, Cause.WORKER_FAILED, Cause.RETURNED, Cause.LOST, Cause.STOPPED}
)

_ALL_HEEDED: Final = Heeded()


class Holding:
    """Who holds which attempt."""

    def __init__(
        self,
        register: Register,
        seats: Seats,
        flow: Flow,
        moment: Moment,
        *,
        away_s: float,
        draw: retry.Draw,
    ) -> None:
        self._register = register
        self._lines = register.lines
        self._seats = seats
        self._flow = flow
        self._moment = moment
        self._away_s = away_s
        self._draw = draw
        #: Workers that may hold attempts and whose channel is gone: core time since when.
        self._away: dict[str, float] = {}
        #: More can be dispatched at once than one step may.
        self.hurries = False
        #: Since the start.
        self.counted = {"dispatched": 0, "requeued": 0, "refused": 0}

    def attach(self, event: Attach) -> Attached:
        """A worker says what it holds: what of it goes on, and what it was given comes back."""
        register = self._register
        self._away.pop(event.worker_id, None)
        its = register.by_worker.get(event.worker_id, {})
        kept, refused = [], []
        register.effects.append(ChannelOpened(event.worker_id, event.incarnation, event.connection))
        told = {held.fence for held in event.held}
        for attempt in [attempt for fence, attempt in its.items() if fence not in told]:
            self._lose(attempt)
        for held in event.held:
            found = register.attempts.get(held.fence)
            if found is None or found.worker_id != event.worker_id:
                refused.append(held.fence)
                continue
            kept.append(_name(found))
            if not found.seated:
                found.seated = True
                self._seats.adopt(found.worker_id, found.fence)
            if found.started_at is None:
                if held.started:
                    self._start(found, self._moment.now)
                else:
                    self._await_start(found)
            if found.stopping:
                self.stop(found)
        self.counted["refused"] += len(refused)
        return Attached(tuple(kept), tuple(refused))

    def held_by(self, event: ListHeld) -> list[AttemptName]:
        """The attempts that a worker holds, or may."""
        its = self._register.by_worker.get(event.worker_id, {})
        return [_name(attempt) for _, attempt in sorted(its.items())]

    def detached(self, event: Detached) -> None:
        """A worker's channel is gone."""
        self.note_away(event.worker_id)

    def note_away(self, worker_id: str) -> None:
        """Its channel is gone: if it stays away, its attempts are lost."""
        since = self._away[worker_id] = self._moment.at
        due = since + self._away_s
        self._flow.core.add(due, self._is_away, self._away_too_long, worker_id, since)

    def _is_away(self, worker_id: str, since: float) -> bool:
        return self._away.get(worker_id) == since

    def _away_too_long(self, worker_id: str, _since: float) -> None:
        self.lose(worker_id)

    def heed(self, event: Reports) -> Heeded:
        """A worker says what became of attempts."""
        register = self._register
        refused = []
        for report in event.reports:
            attempt = register.attempts.get(report.fence)
            if attempt is None or attempt.worker_id != event.worker_id:
                refused.append(report.fence)
            elif isinstance(report, Started):
                if attempt.started_at is None:
                    self._start(attempt, report.started_at)
            else:
                self._on_ended(attempt, report)
        self.counted["refused"] += len(refused)
        return Heeded(tuple(refused)) if refused else _ALL_HEEDED

    def _start(self, attempt: Attempt, started_at: float) -> None:
        attempt.started_at = started_at
        attempt.element.trials = 0
        self._register.move(attempt.element, RUNNING, self._moment.now)
        self._register.rows.append(attempt.row())

    def _on_ended(self, attempt: Attempt, report: Ended) -> None:
        """Nothing is left of the attempt: what follows for its task."""
        element = attempt.element
        cause = report.cause
        if cause is None and report.exit_code != 0:
            cause = Cause.EXIT
        ran = report.started_at is not None or cause not in _MAY_NOT_HAVE_RUN
        if attempt.started_at is None and ran:
            self._start(attempt, report.started_at or report.ended_at)
        if cause in (Cause.LOST, Cause.STOPPED, Cause.RETURNED) and not attempt.stopping:
            self._note_end(attempt, State.CANCELLED, cause, report)
            self._run_again(attempt, cause)
            return
        element.exit_code = report.exit_code
        element.error = report.error
        if attempt.stopping:
            self._note_end(attempt, State.CANCELLED, Cause.STOPPED, report)
            self._flow.end(element, CANCELLED, Cause.STOPPED)
        elif cause is None:
            self._note_end(attempt, State.SUCCEEDED, None, report)
            self._flow.end(element, SUCCEEDED, None)
        else:
            self._note_end(attempt, State.FAILED, cause, report)
            self._fail(element, cause)
        self._let_go(attempt)

    def _fail(self, element: Element, cause: Cause) -> None:
        """An attempt of it failed: it is backed off from, or that was the last one."""
        spec = element.task.spec
        element.cause = cause
        if cause is Cause.WORKER_FAILED:
            element.crashes += 1
            if element.crashes < spec.crash_limit:
                self._flow.back_off(
                    element, retry.worker_pause_s(element.crashes, self._draw), cause
                )
            else:
                self._flow.end(element, FAILED, cause)
            return
        element.failures += 1
        if retry.worth_it(spec.retry, element.failures, cause, element.exit_code):
            self._flow.back_off(
                element, retry.pause_s(spec.retry, element.failures, self._draw), cause
            )
        else:
            self._flow.end(element, FAILED, cause)

    def _lose(self, attempt: Attempt) -> None:
        """Its worker is lost, or does not hold it: it runs again, elsewhere or there."""
        started = attempt.started_at is not None
        cause = Cause.LOST if started else Cause.RETURNED
        self._note_end(attempt, State.CANCELLED, cause, None)
        self._run_again(attempt, cause)

    def _run_again(self, attempt: Attempt, cause: Cause) -> None:
        """The attempt came to nothing by no fault of the task (as far as anybody knows)."""
        element = attempt.element
        if attempt.stopping:
            self._flow.end(element, CANCELLED, Cause.STOPPED)
        elif cause is Cause.RETURNED and element.code == SCHEDULED and element.trials:
            # Returned before: whoever returned it may do so again and again.
            element.trials += 1
            self._flow.back_off(element, retry.worker_pause_s(element.trials, self._draw), cause)
        else:
            element.trials += cause is Cause.RETURNED and attempt.started_at is None
            element.crashes += cause is Cause.LOST and attempt.started_at is not None
            if cause is Cause.LOST and element.crashes >= element.task.spec.crash_limit:
                times = "once" if element.crashes == 1 else f"{element.crashes} times"
                element.error = f"Its worker was lost {times} while it ran."
                self._flow.end(element, FAILED, Cause.LOST)
            else:
                self.counted["requeued"] += 1
                self._flow.take_back(element, cause)
                self._let_go(attempt)  # a line may drop at once what is still held
                self._flow.line_up_element(element)
                return
        self._let_go(attempt)

    def _note_end(
        self, attempt: Attempt, state: State, cause: Cause | None, report: Ended | None
    ) -> None:
        """The attempt's last row."""
        row = attempt.row()
        if report is None:
            row = structs.replace(
                row,
                state=state,
                cause=cause,
                ended_at=self._moment.now,
                log_lost=row.started_at is not None,
            )
        else:
            row = AttemptRow(
                row.job_id,
                row.task,
                row.idx,
                row.number,
                row.fence,
                row.worker_id,
                state,
                row.scheduled_at,
                report.started_at or row.started_at,
                report.ended_at or self._moment.now,
                report.exit_code,
                cause,
                report.error,
                report.stdout_bytes,
                report.stderr_bytes,
                report.result_bytes,
                report.truncated,
                report.log_lost,
                report.cpu_s,
                report.max_rss_bytes,
                row.stopping,
            )
        self._register.rows.append(row)

    def _let_go(self, attempt: Attempt) -> None:
        self._register.let_go(attempt)
        self._seats.give_back(attempt.fence)

    def stop(self, attempt: Attempt) -> None:
        """Have the worker stop it, if it can be told; else it is told when it says hello."""
        incarnation = self._seats.incarnation(attempt.worker_id)
        if incarnation is not None:
            grace_s = attempt.element.task.spec.grace_s
            self._register.effects.append(
                StopAttempt(attempt.worker_id, incarnation, attempt.fence, grace_s)
            )

    def dispatch(self) -> None:
        """Give slots to whose turn it is, until nothing fits or the step is long enough."""
        self._lines.open(self._seats.opened())
        self.hurries = False
        for _ in range(DISPATCH_MAX):
            line = self._lines.next()
            if line is None:
                return
            seat = self._seats.take(line.demand.tags)
            if seat is None:
                self._lines.shut(line.demand)
            else:
                self._assign(line.first(), seat)
        self.hurries = True

    def _assign(self, element: Element, seat: Seat) -> None:
        register = self._register
        task = element.task
        element.number += 1
        attempt = Attempt(element, seat.fence, seat.worker_id, self._moment.now)
        register.hold(attempt)
        register.move(element, SCHEDULED, self._moment.now)
        register.rows.append(attempt.row())
        self.counted["dispatched"] += 1
        self._await_start(attempt)
        register.effects.append(
            StartAttempt(
                seat.worker_id,
                seat.incarnation,
                seat.fence,
                task.job.job_id,
                task.name,
                element.shown_index,
                element.number,
                task.spec,
            )
        )

    def _await_start(self, attempt: Attempt) -> None:
        """The worker has it, and some time to start it."""
        attempt.start_by = due = self._moment.at + attempt.element.task.spec.start_timeout_s
        self._flow.core.add(due, _is_to_start_by, self._not_started, attempt, due)

    def _not_started(self, attempt: Attempt, _start_by: float) -> None:
        """It was not started in time: it is stopped and queued again.

        But not while the worker's channel is gone: it may have started, and nobody could tell.
        Then either its hello does, or it is lost.
        """
        if attempt.stopping:
            return  # it has been told to stop, and says when it has
        if self._seats.incarnation(attempt.worker_id) is not None:
            self.stop(attempt)
            self._note_end(attempt, State.CANCELLED, Cause.RETURNED, None)
            self._run_again(attempt, Cause.RETURNED)

    def lose(self, worker_id: str) -> None:
        """The worker is offline or has left: its attempts are lost."""
        self._away.pop(worker_id, None)
        for attempt in list(self._register.by_worker.get(worker_id, {}).values()):
            self._lose(attempt)

    def cut(self, worker_id: str, incarnation: str) -> None:
        """The worker's channel is not heard any more, though it may still be open."""
        self._register.effects.append(CloseChannel(worker_id, incarnation))
        self.note_away(worker_id)


def _is_to_start_by(attempt: Attempt, start_by: float) -> bool:
    held = attempt.element.attempt is attempt
    return held and attempt.started_at is None and attempt.start_by == start_by


def _name(attempt: Attempt) -> AttemptName:
    element = attempt.element
    return AttemptName(
        attempt.fence,
        element.task.job.job_id,
        element.task.name,
        element.shown_index,
        attempt.number,
    )
