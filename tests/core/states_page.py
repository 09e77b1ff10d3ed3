"""`docs/states.md`, drawn from the table of legal moves. Run as a program it writes the page."""

from collections.abc import Iterable
from pathlib import Path

from dtask.core.jobs.states import ENDS, MOVES, Cause, State

PAGE = Path(__file__).resolve().parents[2] / "docs" / "states.md"

#: What a person should know of each, one line each.
STANDS = {
    State.PENDING: "not eligible yet: needs unmet, `not_before` ahead, or backing off",
    State.QUEUED: "eligible, no slot yet",
    State.SCHEDULED: "a slot is held for it on a worker, which has not reported the start yet",
    State.RUNNING: "the worker reported the start",
    State.SUCCEEDED: "exit code 0, and its result and log are here",
    State.FAILED: "it came to nothing, for the cause that it keeps",
    State.CANCELLED: "somebody stopped it",
    State.SKIPPED: "an upstream did not succeed, so it never ran",
}

CAUSES = {
    Cause.EXIT: "its exit code was not 0, or a signal ended it (then the code is negative)",
    Cause.TIMEOUT: "it ran longer than `timeout_s`",
    Cause.START_FAILED: "the command could not be started: the error says why",
    Cause.WORKER_FAILED: "the worker could not do its part, such as writing its spool",
    Cause.RESULT_TOO_LARGE: "its result was over the limit",
    Cause.LOST: "its worker was lost while it ran, as often as `crash_limit` allows",
    Cause.QUEUE_TIMEOUT: "it waited longer than `max_queue_s`",
    Cause.STOPPED: "it was stopped by a cancel",
    Cause.RETURNED: "its worker gave it back: draining, full, late, or shut down while it ran",
    Cause.UPSTREAM: "an upstream did not succeed (a skipped task)",
}

_TEXT = """\
# States of a task

A plain task has one state; an array has one for each element. This page is drawn from the table of
legal moves in `src/dtask/core/jobs/states.py`: nothing moves a task but along these arrows.

```mermaid
stateDiagram-v2
    [*] --> pending
{arrows}
```

| state | where it stands |
|---|---|
{states}

*ended* means succeeded, failed, cancelled or skipped. Ends are final: only an explicit `retry`
leaves them, and nothing leaves `succeeded`.

## Moves

| from | to | what brings it about |
|---|---|---|
{moves}

## Arrays and jobs

An array, and a job, has one state for all it holds: the first of running, scheduled, queued and
pending in which anything stands. Once all has ended: failed if anything failed, else cancelled if
anything was, else succeeded if anything did, else skipped.

## Causes

Why a task failed, or one attempt of it ended other than by success:

| cause | meaning |
|---|---|
{causes}

An attempt is scheduled and running like its task, and ends as succeeded, failed or cancelled.
Cancelled it is also when it came to nothing by no fault of the task, though nobody cancelled it:
`lost` or `returned`. Then the task is queued again. Tables and pages show the cause as its state.

| how an attempt came to nothing | it uses up |
|---|---|
| `exit`, `timeout`, `start_failed`, `result_too_large` | one of `retry.max` |
| `lost` after a reported start, `worker_failed` | one of `crash_limit` |
| `returned`, as it also is when the worker is lost before the start | nothing |
"""


def drawn() -> str:
    """The page as it should be."""
    moves = [(came, to, why) for came, row in MOVES.items() for to, why in row.items()]
    arrows = [f"    {came} --> {to}" for came, to, _ in moves]
    arrows += [f"    {state} --> [*]" for state in State if state in ENDS]
    return _TEXT.format(
        arrows="\n".join(arrows),
        states=_rows((f"`{state}`", STANDS[state]) for state in State),
        moves=_rows(moves),
        causes=_rows((f"`{cause}`", CAUSES[cause]) for cause in Cause),
    )


def _rows(rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    PAGE.write_text(drawn())
