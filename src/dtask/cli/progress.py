"""How far a job is, while somebody waits for it: on standard error.

On a terminal a bar, or for a single task a line that says why it waits. Elsewhere a line now and
then, and only if something has changed.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from dtask.cli import tables
from dtask.cli.output import StatusLine, live
from dtask.cli.seconds import told
from dtask.core.jobs.states import ENDS, State
from dtask.errors import Busy, DtaskError, Unavailable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from dtask.client import Client
    from dtask.client.job_results import JobResult

#: Seconds between two looks; the end itself is told at once.
LOOK_S: Final = 0.5
#: How long a scheduler may be silent, such as over a restart, until it is given up.
SILENCE_S: Final = 60.0
#: Seconds between two lines where there is no terminal.
LINE_S: Final = 10.0


def wait(
    client: "Client", job_id: int, *, timeout_s: float | None = None, silent: bool = False
) -> "JobResult":
    """Wait for the end of a job, over a restart of the scheduler too.

    Raises TimeoutError, and Unavailable after SILENCE_S without an answer; Ctrl-C interrupts it.
    """
    if silent:
        return client.wait(job_id, timeout_s=timeout_s)
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    found = client.job(job_id)
    heard_at = time.monotonic()
    with _teller(client, found) as teller:
        while not found.ended:
            left_s = LOOK_S if deadline is None else deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"Job {job_id} is {found.state} after {timeout_s:g} s.")
            try:
                found = client.wait(job_id, timeout_s=min(LOOK_S, left_s))
            except (TimeoutError, Busy):
                found = client.job(job_id)
            except Unavailable:  # within one look, which is no long silence
                if time.monotonic() - heard_at >= SILENCE_S:
                    raise
                continue
            heard_at = time.monotonic()
            teller.tell(found)
    return found


def counted(found: "JobResult") -> dict[State, int]:
    """How many tasks and elements of a job are in each state."""
    total: dict[State, int] = {}
    for task in found.tasks.values():
        for state, count in (task.counts or {task.state: 1}).items():
            total[state] = total.get(state, 0) + count
    return total


class _Bar:
    """A bar on a terminal."""

    def __init__(self, progress: "Progress", bar: "TaskID") -> None:
        self._progress = progress
        self._bar = bar

    def tell(self, found: "JobResult") -> None:
        """Show how far it is."""
        counts = counted(found)
        done = sum(count for state, count in counts.items() if state in ENDS)
        counts.pop(State.SUCCEEDED, None)  # the bar shows those
        self._progress.update(self._bar, completed=done, states=tables.counts(counts))


class _Lines:
    """Lines where there is no terminal."""

    def __init__(self, job_id: int) -> None:
        self._job_id = job_id
        self._line = StatusLine()
        self._told: dict[State, int] = {}
        self._told_at = time.monotonic()

    def tell(self, found: "JobResult") -> None:
        """Say how far it is, if it is time to."""
        now = time.monotonic()
        counts = counted(found)
        if not found.ended and counts != self._told and now - self._told_at >= LINE_S:
            self._told, self._told_at = counts, now
            self._line.say(f"Job {self._job_id}: {tables.counts(counts)}")


class _Waiting:
    """A single task on a terminal: why it waits, or how long it runs."""

    def __init__(self, client: "Client", job_id: int) -> None:
        self._client = client
        self._job_id = job_id
        self.line = StatusLine()
        self._since = time.monotonic()

    def tell(self, found: "JobResult") -> None:
        """Show how it stands."""
        if found.ended:
            return
        try:
            reasons = self._client.why(self._job_id).reasons
        except DtaskError:
            return  # it ended just now
        elapsed = told(round(time.monotonic() - self._since))
        for reason in reasons[:1]:
            sentence = f"Job {self._job_id}: {reason.sentence}"
            self.line.show(sentence, subject=reason.code, more=f" ({elapsed})")


@contextmanager
def _teller(client: "Client", found: "JobResult") -> "Iterator[_Bar | _Lines | _Waiting]":
    total = sum(counted(found).values())
    if not live():
        yield _Lines(found.job_id)
    elif total == 1:
        waiting = _Waiting(client, found.job_id)
        try:
            yield waiting
        finally:
            waiting.line.clear()
    else:
        with _rich(f"Job {found.job_id}", total) as bar:
            bar.tell(found)
            yield bar


@contextmanager
def _rich(title: str, total: int) -> Iterator[_Bar]:
    from rich.console import Console  # noqa: PLC0415 (70 ms that others need not pay)
    from rich.progress import (  # noqa: PLC0415 (same)
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    shown = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[states]}"),
    )
    with Progress(*shown, console=Console(stderr=True, highlight=False)) as progress:
        yield _Bar(progress, progress.add_task(title, total=total, states=""))
