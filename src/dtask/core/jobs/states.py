"""The states of a task and its legal moves. All that moves a task goes through this table.

A plain task has one state; an array has one for each element, and its own is the summary.
`docs/states.md` is drawn from `MOVES`, and a test compares the two.
"""

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a task or element stands."""

    #: Not eligible yet: needs unmet, `not_before` ahead, or backing off.
    PENDING = "pending"
    #: Eligible, no slot yet.
    QUEUED = "queued"
    #: A slot is held for it on a worker, which has not reported the start yet.
    SCHEDULED = "scheduled"
    #: The worker reported the start.
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    #: Final; the task keeps its cause.
    FAILED = "failed"
    CANCELLED = "cancelled"
    #: An upstream did not succeed.
    SKIPPED = "skipped"


#: From each state the ones that may follow, and what brings that about.
MOVES: Final[dict[State, dict[State, str]]] = {
    State.PENDING: {
        State.QUEUED: "its needs have ended, `not_before` has come, or the backoff is over",
        State.CANCELLED: "cancelled",
        State.SKIPPED: "an upstream did not succeed",
    },
    State.QUEUED: {
        State.SCHEDULED: "a slot was free",
        State.FAILED: "it waited longer than `max_queue_s`",
        State.CANCELLED: "cancelled",
    },
    State.SCHEDULED: {
        State.RUNNING: "the worker reported the start",
        State.QUEUED: "the start never happened: the worker was lost or did not start it in time",
        State.PENDING: "it could not be started, or was returned once more: backing off",
        State.FAILED: "it could not be started, and no retry is left",
        State.CANCELLED: "cancelled, and the worker confirmed the stop or is lost",
    },
    State.RUNNING: {
        State.SUCCEEDED: "exit code 0",
        State.QUEUED: "its worker was shut down, or was lost before `crash_limit`",
        State.PENDING: "it failed, and a retry is left: backing off",
        State.FAILED: "it failed, and no retry is left",
        State.CANCELLED: "cancelled, and the worker confirmed the stop or is lost",
    },
    State.SUCCEEDED: {},
    State.FAILED: {State.PENDING: "`retry` was asked for"},
    State.CANCELLED: {State.PENDING: "`retry` was asked for"},
    State.SKIPPED: {State.PENDING: "`retry` was asked for"},
}

#: States that nothing but an explicit retry leaves.
ENDS: Final = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.SKIPPED})

#: States of a task that a worker holds.
HELD: Final = frozenset({State.SCHEDULED, State.RUNNING})


class Cause(StrEnum):
    """Why a task failed, or one attempt of it ended other than by success."""

    #: Its exit code was not 0, or a signal ended it (then the code is negative).
    EXIT = "exit"
    #: It ran longer than `timeout_s`.
    TIMEOUT = "timeout"
    #: The command could not be started: the error says why.
    START_FAILED = "start_failed"
    #: The worker could not do its part, such as writing its spool.
    WORKER_FAILED = "worker_failed"
    #: Its result was over the limit.
    RESULT_TOO_LARGE = "result_too_large"
    #: The worker was lost while it ran, as often as `crash_limit` allows.
    LOST = "lost"
    #: It waited longer than `max_queue_s`.
    QUEUE_TIMEOUT = "queue_timeout"
    #: It was stopped by a cancel.
    STOPPED = "stopped"
    #: Its worker gave it back: draining, full, late, or shut down while it ran.
    RETURNED = "returned"
    #: An upstream did not succeed (a skipped task).
    UPSTREAM = "upstream"
