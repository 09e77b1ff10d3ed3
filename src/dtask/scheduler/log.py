"""The scheduler's log: one line for each change, none for a request that changes nothing.

How lines are written is the matter of `dtask.log_lines`.
"""

import asyncio
import logging
from typing import Any, Final

from dtask.core.placement.events import WorkerChanged
from dtask.log_lines import record_of

#: What each change of a worker's standing is called, and how loud it is.
_SENTENCES: Final = {
    "joined": (logging.INFO, "worker joined"),
    "renewed": (logging.INFO, "worker renewed: another life took over its id"),
    "suspect": (logging.WARNING, "worker suspect: no heartbeat for a while"),
    "offline": (logging.WARNING, "worker offline: its leases are over"),
    "back": (logging.INFO, "worker back"),
    "left": (logging.INFO, "worker left"),
    "forgotten": (logging.INFO, "worker forgotten"),
    "draining": (logging.INFO, "worker draining: it takes no new tasks"),
    "undrained": (logging.INFO, "worker takes tasks again"),
}

#: Seconds for which a ration lasts.
RATION_S: Final = 1.0

logger = logging.getLogger("dtask.scheduler")


def note(effect: WorkerChanged) -> None:
    """Write the line for a change."""
    level, sentence = _SENTENCES[effect.change]
    say(
        sentence,
        level=level,
        change=effect.change,
        worker_id=effect.worker_id,
        address=effect.address,
    )


def say(sentence: str, *, level: int = logging.INFO, **facts: Any) -> None:  # noqa: ANN401 (any JSON value)
    """Write one line: a sentence and the facts beside it, but for those that are None."""
    if logger.isEnabledFor(level):
        told = {name: value for name, value in facts.items() if value is not None}
        logger.handle(record_of(logger.name, level, sentence, told))


class Rationed:
    """Lines of a kind that may come by the thousand: so many a second, and how many more.

    To be used on the event loop. `more` is the sentence that tells of the others.
    """

    def __init__(self, more: str, *, lines_max: int) -> None:
        self._more = more
        self._lines_max = lines_max
        self._said = 0
        self._unsaid = 0
        #: When the next ration comes, in the loop's time.
        self._next_at = 0.0

    def say(self, sentence: str, *, level: int = logging.INFO, **facts: Any) -> None:  # noqa: ANN401 (any JSON value)
        """Write the line, or count it."""
        loop = asyncio.get_running_loop()
        if (now := loop.time()) >= self._next_at:
            self._next_at = now + RATION_S
            self._said = 0
        if self._said < self._lines_max:
            self._said += 1
            say(sentence, level=level, **facts)
            return
        self._unsaid += 1
        if self._unsaid == 1:
            loop.call_at(self._next_at, self._tell)

    def _tell(self) -> None:
        lines, self._unsaid = self._unsaid, 0
        say(self._more, level=logging.WARNING, lines=lines)
