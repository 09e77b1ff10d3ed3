"""A network that loses, delays, repeats and so reorders requests and answers, and gets cut."""

import random
from collections.abc import Callable
from typing import Any, Final, Protocol

from dtask.sim.timeline import Action, Timeline
from dtask.sim.weather import CALM

#: Seconds on the way: usually, and for the few that are slow.
DELAY_S: Final = (0.001, 0.05)
SLOW_S: Final = (0.5, 30.0)


class Weather(Protocol):
    """Probabilities for each message."""

    @property
    def loss(self) -> float:
        """It never arrives."""
        ...

    @property
    def slow(self) -> float:
        """It arrives late."""
        ...

    @property
    def repeat(self) -> float:
        """It arrives twice."""
        ...


#: Takes an answer back to the caller.
Reply = Callable[[Any], None]
#: Lets a request arrive; it may reply now, later, or never.
Serve = Callable[[Reply], None]


class Network:
    """Carries calls between places that are named by their addresses."""

    def __init__(self, timeline: Timeline, weather: Weather, rng: random.Random) -> None:
        self._weather: Weather = weather
        #: Addresses that nothing reaches and nothing leaves.
        self.cut: set[str] = set()
        self._timeline = timeline
        self._rng = rng

    def calm(self) -> None:
        """From now on everything arrives, once and soon; what is under way stays late."""
        self._weather = CALM
        self.cut.clear()

    def call(
        self, caller: str, callee: str, serve: Serve, done: Reply, *, timeout_s: float
    ) -> None:
        """One request, delivered never, once or twice. `done` gets one answer, None if none came.

        A request may arrive after its caller has given up: that is how late ones come about.
        """
        waiting = [done]

        def finish(answer: object) -> None:
            if waiting:
                waiting.pop()(answer)

        def reply(answer: object) -> None:
            self._carry(callee, caller, lambda: finish(answer))

        for _ in range(1 + self._chance(self._weather.repeat)):
            self._carry(caller, callee, lambda: serve(reply))
        self._timeline.after(timeout_s, lambda: finish(None))

    def _carry(self, source: str, target: str, arrive: Action) -> None:
        if self._chance(self._weather.loss):
            return

        def pass_through() -> None:
            if source not in self.cut and target not in self.cut:
                arrive()

        slow = self._chance(self._weather.slow)
        self._timeline.after(self._rng.uniform(*(SLOW_S if slow else DELAY_S)), pass_through)

    def _chance(self, probability: float) -> bool:
        return self._rng.random() < probability
