"""What one worker counts of the tasks that it runs: plain integers, for metrics."""

from typing import Final

from dtask.core.attempts import Attempt

#: How a task can end here: well, with another exit code, or by a cause.
OUTCOMES: Final = (
    *("succeeded", "exit", "timeout", "start_failed", "worker_failed", "result_too_large"),
    *("stopped", "superseded", "returned"),
)


class Tallies:
    """All since the worker's start: tasks by ticket and attempts of jobs alike."""

    def __init__(self) -> None:
        #: Processes that were started.
        self.started = 0
        #: Tasks that were taken and have ended, by how.
        self.ended = dict.fromkeys(OUTCOMES, 0)
        #: Output of tasks that have ended.
        self.log_bytes = 0

    def end(self, attempt: Attempt) -> None:
        """One has ended."""
        well = "succeeded" if attempt.exit_code == 0 else "exit"
        self.ended[attempt.cause or well] += 1
