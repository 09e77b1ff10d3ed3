"""When the step under way happens, for all that take part in it."""

from msgspec import Struct


class Moment(Struct):
    """One step's time."""

    #: Core time: epoch seconds less the scheduler's own stalls.
    at: float = 0.0
    #: Epoch seconds.
    now: float = 0.0
