"""Running a command on a worker: one slot, one live run, and knowing which. No I/O.

A run is placed, sent to its worker, waited for, and its lease released. The worker answers a
start that comes twice (same task id, same fence) with the same run, so a start may be sent again
to the *same* worker. What must never happen is a second run elsewhere while the first may live.
So the task goes elsewhere only on proof that nothing of this placement runs or will run:

* no connection was made: the worker has not seen the request;
* the worker answered that it did not start it: `slots_full`, `draining`;
* the ticket does not fit, or what answers is no dtask worker at all: the address has a new owner,
  so the process that we were told of is gone, and its guard has stopped what it ran;
* it was stopped, and the worker says that it has ended.

A start whose answer got lost proves nothing. Then the worker is *asked* for the task, and only if
it does not hold it, the start is sent once more. The first one may still be under way somewhere;
so the way from a lost start to another worker leads through a stop of this fence: a worker that
has not seen the fence remembers the stop and lets no later start of it pass.

A worker that had taken the task and does not know it any more is stopped in the same manner, and
that tells two things apart: a worker that was started anew takes the stop of a fence that it has
never seen (and has stopped what its earlier life left before it listens), so the task goes
elsewhere; one that has only forgotten how the task ended refuses the stop as `unknown_task`.

A worker that is silent proves nothing either: it may be paused, or cut off from us alone, and go
on running. It is asked for PATIENCE_S, and then the caller gets an Unavailable which says that the
outcome is not known. The lease is not released then, because the slot may well be taken; the
worker's own reports end it. The same holds for a stop that is not confirmed.

Whatever interrupts a run (KeyboardInterrupt, a cancelled task, an error) stops the command first.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from dtask.client import calls
from dtask.client.acts import Call, Flow, Foreign, Lost, Pause, Reply, Request, Unreached
from dtask.client.flows import Flows
from dtask.client.results import Outcome, Placement
from dtask.errors import (
    Busy,
    Denied,
    DtaskError,
    Internal,
    NotFound,
    NoWorker,
    Unavailable,
)
from dtask.wire.tasks import TaskAnswer

T = TypeVar("T")

#: A worker that can't be connected to in this time is replaced, well within a second.
CONNECT_S: Final = 0.3
#: A worker that is there answers at once; this long it may be busy.
ANSWER_S: Final = 5.0
#: How long the answer of a running task is held open.
WAIT_S: Final = 30.0
#: Times that a start is sent to one worker.
STARTS: Final = 2
#: How long a worker may be silent while it may hold the task. By then the scheduler has called a
#: dead worker offline (20 s), and one that was only slow has come back.
PATIENCE_S: Final = 30.0
#: Pauses between questions to a silent worker: the bound of the first, doubled up to the last.
BACKOFF_S: Final = 0.05
BACKOFF_S_MAX: Final = 1.0
#: How long who was interrupted waits for the confirmation of the stop.
STOP_S: Final = 2.0
#: Workers that are tried without a pause before it is no use to go on.
SHUNNED_MAX: Final = 100

#: Bytes of each of stdout and stderr that an outcome holds by default.
OUTPUT_BYTES: Final = 1024 * 1024


class Elsewhere(Exception):
    """Proof that nothing of this placement runs or will run on its worker, see above."""


def run_on(
    flows: Flows,
    asked: dict[str, Any],
    task: Mapping[str, Any],
    *,
    deadline: float | None,
    output_bytes: int,
) -> Flow[Outcome]:
    """Place the task, run it there, and return how it ended.

    Raises NoWorker if no place came free before the deadline, and Unavailable if the worker fell
    silent, so that it is not known how or whether the task ended.
    """
    asked = {**asked, "trusted": True}
    shunned: dict[str, str] = {}
    while len(shunned) < SHUNNED_MAX:
        placement = yield from _place(flows, asked, deadline, shunned)
        run = Run(flows, placement)
        try:
            ended = yield from run.through(task)
        except Elsewhere as proof:
            shunned[placement.worker_id] = str(proof)
            yield from flows.let_go(placement)
        except BaseException:
            yield from run.abandon()
            raise
        else:
            yield from flows.let_go(placement)
            return (yield from run.outcome(ended, output_bytes))
    raise Unavailable(
        f"{len(shunned)} workers were tried and none could take the task: {_told(shunned)}.",
        code="unreachable",
        tried=shunned,
    )


def _place(
    flows: Flows, asked: dict[str, Any], deadline: float | None, shunned: dict[str, str]
) -> Flow[Placement]:
    try:
        return (yield from flows.place(asked, deadline=deadline, shunned=shunned))
    except NoWorker as refusal:
        if not shunned:
            raise
        facts = {**refusal.facts, "tried": dict(shunned)}
        raise NoWorker(
            f"{refusal} Tried before: {_told(shunned)}.", code=refusal.code, **facts
        ) from None


def _told(shunned: Mapping[str, str], most: int = 3) -> str:
    told = [f"{worker_id} ({reason})" for worker_id, reason in list(shunned.items())[:most]]
    more = len(shunned) - len(told)
    return ", ".join(told) + (f", and {more} more" if more > 0 else "")


class Run:
    """One task on the worker where it was placed."""

    def __init__(self, flows: Flows, placement: Placement) -> None:
        self._flows = flows
        self._placement = placement
        self._url = calls.worker_url(placement.address)

    def through(self, task: Mapping[str, Any]) -> Flow[TaskAnswer]:
        """Start the task and wait until it ended. Raises Elsewhere, see above."""
        answer = yield from self._start(task)
        while answer.state != "ended":
            found = yield from self._look(wait_s=WAIT_S)
            if found is None:
                return (yield from self._settle("it was started anew while it ran the task"))
            answer = found
        return answer

    def outcome(self, ended: TaskAnswer, output_bytes: int) -> Flow[Outcome]:
        """The result of a task that ended, with what it wrote."""
        stdout = yield from self._output("stdout", min(ended.stdout_bytes, output_bytes))
        stderr = yield from self._output("stderr", min(ended.stderr_bytes, output_bytes))
        return Outcome(
            task_id=ended.task_id,
            worker_id=self._placement.worker_id,
            fence=ended.fence,
            exit_code=ended.exit_code,
            cause=ended.cause,
            error=ended.error,
            started_at=ended.started_at,
            ended_at=ended.ended_at if ended.ended_at is not None else ended.started_at,
            stdout=stdout,
            stderr=stderr,
            truncated=ended.truncated or max(ended.stdout_bytes, ended.stderr_bytes) > output_bytes,
        )

    def abandon(self) -> Flow[None]:
        """Stop the task if it runs, and release its lease once it is known to be over."""
        try:
            ended = yield from self._stop(wait_s=STOP_S, patience_s=0.0)
        except NotFound:
            ended = None
        except DtaskError:
            return
        if ended is None or ended.state == "ended":
            yield from self._flows.let_go(self._placement)

    def _start(self, task: Mapping[str, Any]) -> Flow[TaskAnswer]:
        request = calls.start(self._placement, task)
        for earlier in range(STARTS):
            try:
                return _started(self._placement, (yield self._call(request, read_s=ANSWER_S)))
            except Lost:
                pass
            except (Elsewhere, Unreached) as proof:
                if earlier:  # that proves nothing of a start that got lost
                    return (yield from self._settle(str(proof)))
                raise Elsewhere(str(proof)) from None
            found = yield from self._look()
            if found is not None:
                return found
        return (yield from self._settle("the connection broke whenever the task was sent"))

    def _settle(self, why: str) -> Flow[TaskAnswer]:
        """Make sure that nothing runs here, and raise Elsewhere, for the reason `why`.

        Returns the task if it turns out to have ended by itself.
        """
        try:
            ended = yield from self._stop(wait_s=WAIT_S, patience_s=PATIENCE_S)
        except NotFound:
            raise self._unknown("it ended, and the worker has forgotten how") from None
        if ended is not None and ended.state != "ended":
            raise self._unknown("the worker does not get it stopped")
        if ended is None or ended.cause == "stopped":
            raise Elsewhere(why)
        return ended

    def _stop(self, *, wait_s: float, patience_s: float) -> Flow[TaskAnswer | None]:
        """Stop the task and wait for its end, `wait_s` at most.

        None: what answers there has never heard of it. Raises NotFound if the worker has
        forgotten it, Unavailable if it is silent.
        """
        request = calls.stop(self._placement)
        answer = yield from self._insist(request, self._held, patience_s=patience_s)
        if answer is None or answer.state == "ended":
            return answer
        return (yield from self._see(wait_s=wait_s, patience_s=patience_s))

    def _look(self, *, wait_s: float = 0.0) -> Flow[TaskAnswer | None]:
        """The task as its worker sees it; None if who answers there does not know it."""
        try:
            return (yield from self._see(wait_s=wait_s, patience_s=PATIENCE_S))
        except NotFound:
            return None

    def _see(self, *, wait_s: float, patience_s: float) -> Flow[TaskAnswer | None]:
        """The task, once it ended or `wait_s` has passed; sooner if the worker was silent."""
        return (
            yield from self._insist(
                calls.look(self._placement, wait_s=wait_s),
                self._held,
                wait_s=wait_s,
                again=calls.look(self._placement),
                patience_s=patience_s,
            )
        )

    def _output(self, stream: calls.Stream, limit: int) -> Flow[bytes]:
        if not limit:
            return b""
        request = calls.log(self._placement, stream, limit=limit)
        try:
            return (yield from self._insist(request, calls.read_bytes, patience_s=PATIENCE_S))
        except DtaskError as error:
            raise self._unknown(f"it ended, but its {stream} can't be read: {error}") from None

    def _insist(
        self,
        request: Request,
        read: Callable[[Reply], T],
        *,
        wait_s: float = 0.0,
        again: Request | None = None,
        patience_s: float,
    ) -> Flow[T]:
        """Ask a worker that may hold the task until it answers. Raises Unavailable if it won't.

        `request` is held for up to `wait_s`; who was silent is asked `again`, for an answer at
        once, so that one that is paused is not taken for one that still waits.
        """
        give_up_at: float | None = None
        failures = 0
        while True:
            try:
                return read((yield self._call(request, read_s=wait_s + ANSWER_S)))
            except Unavailable as error:
                give_up_at = give_up_at or self._flows.now() + patience_s
                if self._flows.now() >= give_up_at:
                    raise self._unknown(f"the worker is silent ({error})") from None
                bound_s = min(BACKOFF_S_MAX, BACKOFF_S * 2.0**failures)
                failures += 1
                request, wait_s = again or request, 0.0
                yield Pause(seconds=self._flows.random.uniform(0, bound_s))

    def _held(self, reply: Reply) -> TaskAnswer | None:
        """The task; None if the address has a new owner. Raises NotFound if it isn't known.

        Raises Unavailable for an answer that says nothing about it.
        """
        try:
            return calls.read_task(self._placement, reply)
        except NotFound as error:
            if error.code == "unknown_task":
                raise
            return None
        except (Denied, Foreign):
            return None
        except (Busy, Internal) as error:
            raise Lost(str(error), code="unreachable") from None

    def _call(self, request: Request, *, read_s: float) -> Call:
        return Call(url=self._url, request=request, connect_s=CONNECT_S, read_s=read_s)

    def _unknown(self, what: str) -> Unavailable:
        placement = self._placement
        return Unavailable(
            f"The outcome of task {placement.task_id} on worker {placement.worker_id} is not "
            f"known: {what}. It may have run, or run still; it was not started elsewhere.",
            code="unreachable",
            task_id=placement.task_id,
            worker_id=placement.worker_id,
            fence=placement.fence,
        )


def _started(placement: Placement, reply: Reply) -> TaskAnswer:
    """The answer to a start. Raises Elsewhere, Lost, or the error that no other worker can mend."""
    try:
        return calls.read_task(placement, reply)
    except Lost:
        raise
    except Internal as error:
        raise Lost(str(error), code="unreachable") from None
    except (Busy, Denied, Foreign, NotFound, Unavailable) as refusal:
        raise Elsewhere(str(refusal)) from None
