"""The future of a call on the fleet."""

import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any


class FleetFuture(futures.Future[Any]):
    """A `concurrent.futures.Future` that can be cancelled while its call runs.

    Somebody cancels it, or its call ends: who comes first has it.
    """

    def __init__(self, on_cancel: "Callable[[FleetFuture], None]") -> None:
        super().__init__()
        self._on_cancel = on_cancel
        self._gate = threading.Lock()
        self._taken = False
        #: The call's job, task and index, once it was submitted.
        self.place: tuple[int, str, int | None] | None = None
        #: Its worker said that it runs.
        self.started = False

    def cancel(self) -> bool:
        """Stop the call, wherever it is. False if it has ended already.

        Of calls that were submitted together by `map`, those that run are stopped together, once
        nobody waits for any of them.
        """
        if not super().cancel():
            return False
        if self._take():
            self.set_running_or_notify_cancel()  # wakes who waits for several futures
            self._on_cancel(self)
        return True

    def running(self) -> bool:
        """Whether a worker runs the call now."""
        return self.started and not self.done()

    def begin(self) -> bool:
        """Claim the right to say how the call ended; False if it was cancelled."""
        return self._take() and self.set_running_or_notify_cancel()

    def _take(self) -> bool:
        with self._gate:
            taken, self._taken = self._taken, True
            return not taken
