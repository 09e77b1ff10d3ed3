"""A client: one round of errands after the other, asked for one by one, in batches, all or none."""

import itertools
import random
from typing import Any, Final

from dtask.core.placement import tags
from dtask.core.placement.events import Ask, AskAll, Placement, Refusal
from dtask.sim.errand import TIMEOUT_S, Errand
from dtask.sim.network import Reply
from dtask.sim.scheduler import ADDRESS
from dtask.sim.site import Site

#: What tasks need. Some worker of every fleet meets each of these.
NEEDS: Final = ((), (), (), ("cpu",), ("gpu",), ("gpu|eu",), ("!gpu",))

#: No worker has this: asked for once, and given up.
IMPOSSIBLE: Final = ("quantum",)


class Client:
    """Runs rounds until it is told to stop; `busy` while a round is not done."""

    def __init__(self, site: Site, rng: random.Random, name: str) -> None:
        self._site = site
        self._rng = rng
        self._name = name
        self._numbers = itertools.count(1)
        self._left = 0
        #: What it asked for last on its own; some of it is asked for again under the same id.
        self._last: Ask | None = None
        self._stopped = False
        self._rest()

    @property
    def busy(self) -> bool:
        """Whether it still wants something."""
        return self._left > 0

    def stop(self) -> None:
        """Begin no further round."""
        self._stopped = True

    def hold(self) -> Errand:
        """One more errand, a task that never ends under a lease of an hour."""
        return self._errand(Ask(self._task_id(), ttl_s=3_600.0), holds_on=True)

    def _rest(self) -> None:
        self._site.timeline.after(self._rng.expovariate(1.0), self._begin)

    def _begin(self) -> None:
        if self._stopped:
            return
        kind = self._rng.random()
        if kind < 0.7:  # noqa: PLR2004 (shares of the kinds of rounds)
            if self._last is None or self._rng.random() > 0.2:  # noqa: PLR2004
                self._last = self._ask()
            errand = self._errand(self._last, walks_away=self._rng.random() < 0.1)  # noqa: PLR2004
            errand.ask()
            if self._rng.random() < 0.2:  # noqa: PLR2004 (impatient: asks twice)
                self._call(errand.ask_for)
        elif kind < 0.8:  # noqa: PLR2004
            self._call(Ask(self._task_id(), requirements=tags.parse(IMPOSSIBLE)))
            self._rest()
        else:
            some = kind < 0.9  # noqa: PLR2004
            errands = [self._errand(self._ask()) for _ in range(3 if some else 2)]
            if some:
                self._ask_batch(errands)
            else:
                # Slots are taken in the order asked: of three, one that fits anywhere may take
                # the slot of a pickier one after it, for ever. Two slots there are for each need.
                self._ask_all(errands)

    def _ask(self) -> Ask:
        rng = self._rng
        needs = rng.choice(NEEDS)
        return Ask(
            self._task_id(),
            requirements=tags.parse(needs),
            strategy="bin_pack" if rng.random() < 0.2 else "least_loaded",  # noqa: PLR2004
            ttl_s=rng.choice((1.0, 5.0, 30.0)),
            trusted=not needs and rng.random() < 0.2,  # noqa: PLR2004
        )

    def _errand(self, ask: Ask, *, walks_away: bool = False, holds_on: bool = False) -> Errand:
        self._left += 1
        return Errand(
            self._site,
            self._rng,
            self._name,
            ask,
            done=self._done,
            walks_away=walks_away,
            holds_on=holds_on,
        )

    def _done(self) -> None:
        self._left -= 1
        if not self._left:
            self._rest()

    def _ask_batch(self, errands: list[Errand]) -> None:
        """All in one request; each is placed or refused on its own."""

        def answered(answers: list[Any] | None) -> None:
            for errand, answer in zip(errands, answers or [None] * len(errands), strict=True):
                errand.take(answer)

        self._call(*(errand.ask_for for errand in errands), done=answered)

    def _ask_all(self, errands: list[Errand]) -> None:
        """All or none; after a refusal the same again, later."""

        def answered(answers: list[Any] | None) -> None:
            answer: list[Placement] | Refusal | None = answers[0] if answers else None
            if isinstance(answer, list):
                for errand, placement in zip(errands, answer, strict=True):
                    errand.take(placement)
            else:
                self._site.timeline.after(1.0, lambda: self._ask_all(errands))

        self._call(AskAll(tuple(errand.ask_for for errand in errands)), done=answered)

    def _call(self, *events: Ask | AskAll, done: Reply = lambda _: None) -> None:
        self._site.network.call(
            self._name,
            ADDRESS,
            lambda reply: self._site.scheduler.receive(events, reply),
            done,
            timeout_s=TIMEOUT_S,
        )

    def _task_id(self) -> str:
        return f"{self._name}-{next(self._numbers)}"
