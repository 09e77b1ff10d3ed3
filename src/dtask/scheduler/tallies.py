"""What one scheduler counts of its own work: plain integers, for metrics and live views.

Whoever does the work adds to them, on the event loop. Nothing is reckoned or allocated until
somebody reads them, so that a placement pays less than a microsecond for being counted.

What happened to jobs is counted when it is durable, by the effects that tell of it.
"""

from typing import Any, Final

from dtask.core.jobs.events import TaskChanged
from dtask.core.jobs.states import ENDS, Cause, State
from dtask.histogram import Histogram

#: Upper bounds of the counts of placement latency, in seconds; one more count is for the rest.
LATENCY_BOUNDS_S: Final = (
    *(0.00005, 0.0001, 0.00025, 0.0005),
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5),
)

#: The same of a commit, of the wait from queued to started, and of a wake-up that came late.
COMMIT_BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 10)
DISPATCH_BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15, 60, 300, 1800, 7200)
LAG_BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Tallies:
    """All since the scheduler's start. `perform` is to be called with the core's effects."""

    def __init__(self) -> None:
        #: Questions that got a worker, and those that got none; those of batches included.
        self.placements = 0
        self.refusals = 0
        #: From the last byte of a question to its answer; those of batches left out.
        self.latency = Histogram(LATENCY_BOUNDS_S)
        #: The last of them in seconds, until `fold`: an append is all that a placement pays.
        self.latencies: list[float] = []
        #: Heartbeats that were taken in.
        self.heartbeats = 0
        #: Jobs that were taken.
        self.submitted = 0
        #: Attempts that their workers reported as started, and those that are over, however.
        self.starts = 0
        self.ends = 0
        #: From queued to started.
        self.dispatch = Histogram(DISPATCH_BOUNDS_S)
        #: Attempts that failed and whose task backed off; whose worker was lost while they ran;
        #: that came to nothing by no fault of their task (the lost ones too), which runs again.
        self.retried = 0
        self.lost = 0
        self.requeued = 0
        #: Reports of workers on attempts that are not theirs any more.
        self.refused = 0
        #: Tasks and elements that ended, by how.
        self.ended = dict.fromkeys((state for state in State if state in ENDS), 0)
        #: Commits by how long they took; those that failed are not among them.
        self.commit = Histogram(COMMIT_BOUNDS_S)
        self.commits_failed = 0
        #: Wake-ups by how late they came.
        self.lag = Histogram(LAG_BOUNDS_S)
        #: Bytes of messages on the channels of workers, and of what attempts wrote.
        self.received_bytes = 0
        self.sent_bytes = 0
        self.log_bytes = 0

    def fold(self) -> None:
        """Take in what was put aside. To be called often: ten times a second will do."""
        add = self.latency.add
        for latency_s in self.latencies:
            add(latency_s)
        self.latencies.clear()

    def perform(self, effect: Any) -> None:  # noqa: ANN401 (any effect)
        """Count what happened to a task, if the effect tells of that."""
        if type(effect) is not TaskChanged or effect.task is None:
            return
        state = effect.state
        if state in ENDS:
            self.ended[state] += effect.count
        if effect.worker_id is None:
            return
        if state is State.RUNNING:
            self.starts += 1
            if effect.queued_at is not None:
                self.dispatch.add(max(0.0, effect.at - effect.queued_at))
        elif state is not State.SCHEDULED:
            self._end(state, effect.cause)

    def _end(self, state: State, cause: Cause | None) -> None:
        """An attempt is over, and its task moved on like this."""
        self.ends += 1
        if cause is Cause.LOST:
            self.lost += 1
        if state is State.QUEUED or (state is State.PENDING and cause is Cause.RETURNED):
            self.requeued += 1
        elif state is State.PENDING:
            self.retried += 1
