"""Errands of clients: have a task placed, start it there, wait for its end, release the lease.

Clients lose answers, ask again under the same task id, meet full, draining and dead workers, and
some just walk away from what they were given.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import structs

from dtask.core.attempts import Start
from dtask.core.cluster import Event
from dtask.core.placement.events import Ask, Placement, Refusal, Release
from dtask.errors import Conflict, DtaskError
from dtask.sim.network import Reply
from dtask.sim.scheduler import ADDRESS
from dtask.sim.site import Site

TIMEOUT_S: Final = 2.0

#: A worker that does not answer so often is given up, and another one asked for.
LOOKS_MAX: Final = 3


class Errand:
    """One task, from the question to the end of its lease.

    `done` is called when the client is through with it; `holds_on`: the task never ends.
    """

    def __init__(
        self,
        site: Site,
        rng: random.Random,
        client: str,
        ask: Ask,
        *,
        done: Callable[[], None],
        walks_away: bool = False,
        holds_on: bool = False,
    ) -> None:
        self.ask_for = ask
        self._site = site
        self._rng = rng
        self._client = client
        self._done = done
        self._walks_away = walks_away
        self._holds_on = holds_on
        self._duration_s = 1e9 if holds_on else min(15.0, rng.expovariate(0.4))
        self._looks = 0

    def ask(self) -> None:
        """Which worker should run it?"""
        self._call_scheduler((self.ask_for,), self._asked)

    def _asked(self, answers: list[Any] | None) -> None:
        self.take(None if answers is None else answers[0])

    def take(self, answer: Placement | Refusal | DtaskError | None) -> None:
        """The scheduler's answer, None if there was none."""
        if isinstance(answer, Placement):
            self._site.counts["placements"] += 1
            if self._walks_away:
                self._done()
            else:
                self._start(answer)
        elif isinstance(answer, Refusal):
            self._site.counts["refusals"] += 1
            self._ask_again(answer.retry_after_s * self._rng.uniform(0.8, 1.2))
        else:
            self._ask_again(self._rng.uniform(0.1, 1.0))

    def _ask_again(self, delay_s: float, excluded: tuple[str, ...] = ()) -> None:
        """The same task, so the same answer if it still stands; or any worker but those."""
        self.ask_for = structs.replace(self.ask_for, excluded=excluded)
        self._looks = 0
        self._site.timeline.after(delay_s, self.ask)

    # On the worker

    def _start(self, placement: Placement) -> None:
        command = ("sleep", str(self._duration_s))
        start = Start(self.ask_for.task_id, placement.fence, command, {})

        def serve(reply: Reply) -> None:
            process = self._site.listeners.get(placement.address)
            if process is not None:
                process.start(start, reply)

        self._call(placement.address, serve, lambda answer: self._started(placement, answer))

    def _started(self, placement: Placement, answer: str | DtaskError | None) -> None:
        if not isinstance(answer, DtaskError):  # no answer: look before assuming anything
            wait_s = 1.0 if answer is None or self._holds_on else self._duration_s
            self._later(wait_s, lambda: self._look(placement))
        elif isinstance(answer, Conflict):  # the worker has seen a newer fence
            excluded = (placement.worker_id,)
            self._release(placement.fence, lambda _: self._ask_again(1.0, excluded))
        else:
            self._site.counts["turned away"] += 1
            self._ask_again(self._rng.uniform(0, 0.5), (placement.worker_id,))

    def _look(self, placement: Placement) -> None:
        def serve(reply: Reply) -> None:
            process = self._site.listeners.get(placement.address)
            if process is not None:
                process.look(self.ask_for.task_id, placement.fence, reply)

        self._call(placement.address, serve, lambda state: self._looked(placement, state))

    def _looked(self, placement: Placement, state: str | None) -> None:
        if state == "ended":
            self._finish(placement)
        elif state == "unknown":
            self._ask_again(0.0)
        elif state is None:
            self._looks += 1
            if self._looks < LOOKS_MAX:
                self._later(1.0, lambda: self._look(placement))
            else:
                self._ask_again(0.0, (placement.worker_id,))
        elif self._holds_on:
            self._done()
        else:
            self._later(self._rng.uniform(0.2, 2.0), lambda: self._look(placement))

    def _finish(self, placement: Placement) -> None:
        """Release the lease, with its fence or without, or leave that to the scheduler."""
        chance = self._rng.random()
        if chance < 0.2:  # noqa: PLR2004 (some forget to)
            self._done()
        else:
            fence = placement.fence if chance < 0.8 else None  # noqa: PLR2004 (most know it)
            self._release(fence, lambda _: self._done())

    def _release(self, fence: int | None, done: Reply) -> None:
        def released(answers: list[Any] | None) -> None:
            if answers is None:
                self._later(1.0, lambda: self._release(fence, done))
            else:
                done(answers[0])

        self._call_scheduler((Release(self.ask_for.task_id, fence),), released)

    # Calls

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        self._site.timeline.after(delay_s, action)

    def _call(self, address: str, serve: Callable[[Reply], None], done: Reply) -> None:
        self._site.network.call(self._client, address, serve, done, timeout_s=TIMEOUT_S)

    def _call_scheduler(self, events: Sequence[Event], done: Reply) -> None:
        self._call(ADDRESS, lambda reply: self._site.scheduler.receive(events, reply), done)
