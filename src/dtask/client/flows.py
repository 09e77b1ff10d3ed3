"""What clients do with a scheduler, step by step, written once for both shells. No I/O.

**Asking again.** Every request to a scheduler may be sent twice: reads, a placement (the same
`task_id` gets the same answer), a release (by fence) and a drain. So a call that got no answer is
sent again, to the next address, and after each round of all addresses once more after a pause:
exponential, with full jitter.

**Outlasting a restart.** Calls of jobs go on asking for `patience_s` of silence, and after an
answer that says the store can't be used just now. But only of a scheduler that has answered this
client before, or may have received the request: at an address where nothing ever was, there is
more likely a slip than a restart.

**Which scheduler.** A client stays with the one that answers. Two schedulers do not know each
other's leases, so clients that are spread over them would be given the same slots. That is why a
refusal is an answer and never a reason to ask another one, and neither is `warming_up`: that
scheduler knows its workers a few seconds later, and all clients come back to the same one.

**Waiting.** `place` with a deadline asks again after `retry_after_s`, lengthened by up to half,
so that many who wait do not come back together, and no one earlier than is worth it. But where a
slot may come free at any moment, because workers are full or the scheduler still hears of them,
the first pauses are short, and a slot that this client frees itself ends the pause of one who
waits.
"""

import contextlib
import itertools
import uuid
from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Final, NamedTuple

from dtask.client import calls
from dtask.client.acts import Call, Flow, Freed, Open, Pause, Reply, Request, Unreached
from dtask.client.calls import Question
from dtask.client.results import Placement, SignInCode, Worker
from dtask.errors import DtaskError, NotFound, NoWorker, Unavailable

#: Rounds over all addresses, and the bound of the pause after the first of them.
ROUNDS: Final = 3
BACKOFF_S: Final = 0.1
#: The bound of later pauses: a scheduler that is back is found within a second.
BACKOFF_S_MAX: Final = 1.0

#: A scheduler that is there takes a connection at once; the rest of the time is for the answer.
CONNECT_S_MAX: Final = 2.0

#: The first pause of who waits for a slot; doubled each time up to what the scheduler says.
FULL_PAUSE_S: Final = 0.05
#: Pause when the scheduler does not say any.
PAUSE_S: Final = 1.0


class Sent(NamedTuple):
    """The first answer to a request."""

    reply: Reply
    #: An earlier try may have been received.
    repeated: bool
    #: Who answered.
    url: str


class Flows:
    """The calls of a client. Safe to share between threads; each flow belongs to one caller."""

    def __init__(
        self, urls: tuple[str, ...], *, timeout_s: float, random: Random, now: Callable[[], float]
    ) -> None:
        self._urls = urls
        self._timeout_s = timeout_s
        self.random = random
        #: Seconds of any clock that never runs back.
        self.now = now
        #: Which of the addresses answered last.
        self._current = 0
        #: Whether any of them ever did.
        self._met = False

    def question(self, given: Question) -> dict[str, Any]:
        """What is asked, as it goes on the wire, with a new task id if it has none."""
        made = uuid.UUID(int=self.random.getrandbits(128), version=4)
        return calls.question(given, made_id=str(made))

    def deadline(self, timeout_s: float | None) -> float | None:
        """When a wait of `timeout_s` from now is over; None if nothing is waited for."""
        return None if timeout_s is None else self.now() + timeout_s

    def place(
        self,
        asked: dict[str, Any],
        *,
        deadline: float | None = None,
        shunned: dict[str, str] | None = None,
    ) -> Flow[Placement]:
        """Place one task, asking again until the deadline.

        `shunned` are workers that would not take the task, with the reason of each. They are
        left out of the first question, and forgotten with the first pause: they may have
        recovered, and it may be that there are no others.
        """
        shunned = {} if shunned is None else shunned
        pauses = 0
        while True:
            try:
                sent = yield from self.send(calls.schedule(asked, excluded=shunned))
                return calls.read_placement(asked["task_id"], sent.reply)
            except (NoWorker, Unavailable) as refusal:
                left_s = 0.0 if deadline is None else deadline - self.now()
                if left_s <= 0:
                    raise
                shunned.clear()
                pause_s = self._pause_s(refusal, pauses)
                pauses += 1
                yield Pause(seconds=min(left_s, pause_s), until_freed=True)

    def place_many(
        self, tasks: Iterable[Question], *, all_or_nothing: bool
    ) -> Flow[list[Placement | DtaskError]]:
        """Place many tasks, as many batches as it takes.

        An error of a whole batch stands for each of its tasks, so that the placements of earlier
        batches are not lost with it; it is raised if there are none.
        """
        asked = [self.question(task) for task in tasks]
        ids = [one["task_id"] for one in asked]
        placed: list[Placement | DtaskError] = []
        for count, request in calls.batches(asked, all_or_nothing=all_or_nothing):
            names = ids[len(placed) : len(placed) + count]
            try:
                sent = yield from self.send(request)
                placed += calls.read_batch(names, sent.reply)
            except DtaskError as error:
                if not placed:
                    raise
                placed += [error] * count
        return placed

    def release(self, placement: Placement | str, fence: int | None) -> Flow[None]:
        """End the lease of a placement, or of a task by its id. Raises NotFound if there was none.

        If an earlier try may have been received, there being none is what was asked for.
        """
        if isinstance(placement, Placement):
            task_id, fence = placement.task_id, placement.fence
        else:
            task_id = placement
        sent = yield from self.send(calls.release(task_id, fence))
        try:
            calls.check(sent.reply)
        except NotFound:
            if not sent.repeated:
                raise
        yield Freed()

    def let_go(self, placement: Placement) -> Flow[None]:
        """End a lease that is not needed any more, if that works at the first try.

        Nobody waits for it: a lease that stays ends by its worker's report, or by its time. One
        who waits for a slot is woken in any case, as that report may have come first.
        """
        request = calls.release(placement.task_id, placement.fence)
        with contextlib.suppress(DtaskError):
            yield from self.send(request, rounds=1)
        yield Freed()

    def workers(self, *, tag: str | None, status: str | None) -> Flow[list[Worker]]:
        """All workers, by id, page by page."""
        found: list[Worker] = []
        while True:
            after = found[-1].worker_id if found else None
            sent = yield from self.send(calls.workers(tag=tag, status=status, after=after))
            page = calls.read_workers(sent.reply)
            found += page
            if len(page) < calls.PAGE_ROWS:
                return found

    def drain(self, worker_id: str, *, drained: bool) -> Flow[Worker]:
        """Tell whether a worker takes new tasks."""
        sent = yield from self.send(calls.drain(worker_id, drained=drained))
        return calls.read_worker(sent.reply)

    def sign_in_code(self) -> Flow[SignInCode]:
        """Ask for a code that lets a browser in."""
        sent = yield from self.send(calls.sign_in_code())
        return calls.read_sign_in_code(sent.url, sent.reply)

    def send(
        self,
        request: Request,
        *,
        rounds: int = ROUNDS,
        wait_s: float = 0.0,
        patience_s: float = 0.0,
        store_patience_s: float | None = None,
        opened: bool = False,
    ) -> Flow[Sent]:
        """Send to a scheduler, again until one answers. Raises Unavailable if none does.

        `wait_s`: how long the answer, or the next piece of one that is `opened` to be read, may be
        held back there. `patience_s`: see the top of this file; `store_patience_s`: what is
        left of it after the first answer that the store can't be used.
        """
        failures: dict[str, DtaskError] = {}
        repeated = False
        give_up_at = self.now() + patience_s
        for round_ in itertools.count():
            insists = (self._met or repeated) and self.now() < give_up_at
            if round_ >= rounds and not insists:
                break
            if round_:
                yield self.pause(round_)
            for _ in self._urls:
                url = self._urls[self._current]
                try:
                    reply = yield from self._call(url, request, wait_s, opened=opened)
                    if patience_s:
                        calls.check_serving(reply)
                    return Sent(reply, repeated, url)
                except Unavailable as error:
                    failures[url] = error
                    if error.code == "store_failed" and store_patience_s is not None:
                        give_up_at = min(give_up_at, self.now() + store_patience_s)
                        store_patience_s = None
                    repeated |= not isinstance(error, Unreached)
                    self._leave(url)
        raise _silence(failures)

    def pause(self, failures: int) -> Pause:
        """The pause after so many failures in a row."""
        bound_s = min(BACKOFF_S_MAX, BACKOFF_S * 2.0 ** min(failures, 16))
        return Pause(seconds=self.random.uniform(0, bound_s))

    def _call(self, url: str, request: Request, wait_s: float, *, opened: bool) -> Flow[Reply]:
        call = Call(
            url=url,
            request=request,
            to_scheduler=True,
            connect_s=min(CONNECT_S_MAX, self._timeout_s),
            read_s=self._timeout_s + wait_s,
        )
        reply: Reply = yield Open(call) if opened else call
        calls.check_sound(reply)
        self._met = True
        return reply

    def _leave(self, url: str) -> None:
        """Go on with the next address, unless another thread has done so already."""
        if self._urls[self._current] == url:
            self._current = (self._current + 1) % len(self._urls)

    def _pause_s(self, refusal: DtaskError, pauses: int) -> float:
        hint_s = refusal.facts.get("retry_after_s")
        pause_s = float(hint_s) if isinstance(hint_s, int | float) and hint_s > 0 else PAUSE_S
        reasons = refusal.facts.get("reasons")
        full = isinstance(reasons, dict) and (reasons.get("full") or reasons.get("excluded"))
        if full or refusal.code == "warming_up":
            pause_s = min(pause_s, FULL_PAUSE_S * 2.0 ** min(pauses, 16))
        return pause_s * self.random.uniform(1.0, 1.5)


def _silence(failures: dict[str, DtaskError]) -> Unavailable:
    told = "; ".join(str(error) for error in failures.values())
    last = list(failures.values())[-1]
    if isinstance(last, Unavailable) and last.code != "unreachable":
        return last  # a scheduler's own word
    return Unavailable(
        f"No scheduler answers ({told}): start dtask-scheduler there, or name another address in "
        f"DTASK_SCHEDULER.",
        code="unreachable",
        schedulers=list(failures),
    )
