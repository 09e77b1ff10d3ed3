"""The scheduler's log: one line for each change, none for a request.

How lines are written is the matter of `dtask.log_lines`.
"""

import logging
from typing import Any, Final

from dtask.core.placement.events import WorkerChanged

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
    """Write one line: a sentence and the facts beside it."""
    logger.log(level, sentence, extra={"facts": facts})
