"""The tasks that one worker holds: who gets a slot, who is stopped when, what is remembered.

An attempt is one run of a task, named by (task_id, fence). Its legal moves:

    waiting --> running --> stopping --> ended
       |           |                       ^
       +-----------+-----> (directly) -----+

*waiting*: accepted, but an older run of the same task is still being stopped, or its files are
still being fetched. Two runs share one slot, and the new one starts only when nothing is left of
the old one, so a task never runs beside its own retry. *stopping*: a stop was asked for, its time
is up, or its main process has ended and what that left behind is being killed. *ended* is final,
and remembered for a while.

Attempts of jobs are *kept*: their end is remembered until the scheduler has heard of it, however
many there are, and what would be a refusal is an end too.

The shell performs the effects and reports back: `LaunchFailed`, or `Exited` when the main process
has ended and `Gone` when nothing of its tree is left. Time passes only by `Tick`, which is due at
`next_deadline()`.
"""

from collections.abc import Callable
from typing import Any, Final, Literal

from msgspec import Struct, structs

from dtask.errors import Busy, Conflict, DtaskError, NotFound, Unavailable

#: Between SIGTERM and SIGKILL. Docker and Kubernetes give 10 and 30 s.
GRACE_S: Final = 10.0

#: Ended attempts that can still be asked about: how many, how old, how many bytes of logs.
REMEMBERED_MAX: Final = 1_000
REMEMBERED_S: Final = 3_600.0
REMEMBERED_BYTES_MAX: Final = 8 * 1024**3

#: Fences outlive what is remembered of their attempts, for as long as any ticket can start a task
#: (an hour, and some for clocks that differ), so that no request sent twice ever runs twice.
FENCES_S: Final = 3_900.0
FENCES_MAX: Final = 100_000

#: What the end of a kept attempt says that was stopped because the worker was.
SHUT_DOWN: Final = "Its worker was shut down."

State = Literal["waiting", "running", "stopping", "ended"]
Cause = Literal["stopped", "timeout", "superseded", "start_failed"]
#: Why an attempt could not be launched: it is to blame, or the worker (of kept attempts only).
Failure = Literal["start_failed", "worker_failed"]
#: Of kept attempts only.
KeptCause = Literal["worker_failed", "result_too_large", "lost", "returned"]

#: The legal moves.
MOVES: Final[dict[State, tuple[State, ...]]] = {
    "waiting": ("running", "stopping", "ended"),
    "running": ("stopping", "ended"),
    "stopping": ("ended",),
    "ended": (),
}

Name = tuple[str, int]


# Events


class Start(Struct, frozen=True):
    """Run this command. Raises Conflict, Busy or Unavailable, unless it is kept."""

    task_id: str
    fence: int
    command: tuple[str, ...]
    env: dict[str, str]
    #: Seconds it may run; None: as long as it likes.
    timeout_s: float | None = None
    #: Seconds between SIGTERM and SIGKILL; None: as the worker has it.
    grace_s: float | None = None
    #: Its files must be fetched before it can start.
    prepare: bool = False
    #: Its end is remembered until `Heard` of; a refusal is an end with the cause `returned`.
    kept: bool = False


class Restore(Struct, frozen=True):
    """An earlier life of this worker held this kept attempt, and nobody has heard of its end."""

    task_id: str
    fence: int
    started_at: float
    ended_at: float
    exit_code: int | None
    cause: Cause | KeptCause | None
    error: str | None


class Prepared(Struct, frozen=True):
    """The files of the attempt are there."""

    task_id: str
    fence: int


class Stop(Struct, frozen=True):
    """Stop this attempt, and if it has not come yet, never start it. Raises NotFound."""

    task_id: str
    fence: int
    #: Seconds between SIGTERM and SIGKILL; None: as its start has it.
    grace_s: float | None = None


class StopAll(Struct, frozen=True):
    """The worker is shut down: stop whatever has a slot. Kept attempts end as `returned`."""


class Drop(Struct, frozen=True):
    """Stop this attempt if it lives, and remember nothing of it: nobody waits for it any more."""

    task_id: str
    fence: int


class Heard(Struct, frozen=True):
    """The end of this kept attempt has been heard."""

    task_id: str
    fence: int


class LaunchFailed(Struct, frozen=True):
    """The command could not be started; `error` is the sentence that says why."""

    task_id: str
    fence: int
    error: str
    cause: Failure = "start_failed"


class Exited(Struct, frozen=True):
    """The main process has ended; negative codes are signals, None was not seen."""

    task_id: str
    fence: int
    exit_code: int | None


class Gone(Struct, frozen=True):
    """Nothing is left of the attempt's process tree; its logs take so many bytes."""

    task_id: str
    fence: int
    log_bytes: int = 0
    #: What was wrong with it, if nothing else ended it.
    cause: KeptCause | None = None
    error: str | None = None


class Drain(Struct, frozen=True):
    """Accept no task from now on."""


class Tick(Struct, frozen=True):
    """Nothing happened but time."""


Event = (
    Start
    | Restore
    | Prepared
    | Stop
    | StopAll
    | Drop
    | Heard
    | LaunchFailed
    | Exited
    | Gone
    | Drain
    | Tick
)


# Effects


class Prepare(Struct, frozen=True):
    """Fetch the files of the attempt, then say `Prepared` or `LaunchFailed`, unless it ends."""

    start: Start


class Launch(Struct, frozen=True):
    """Start the process."""

    start: Start


class Terminate(Struct, frozen=True):
    """Ask the whole process tree to end (SIGTERM)."""

    task_id: str
    fence: int


class Kill(Struct, frozen=True):
    """Kill the process tree until nothing is left (SIGKILL)."""

    task_id: str
    fence: int


class Held(Struct, frozen=True):
    """A slot is held under this name from now on."""

    task_id: str
    fence: int


class Freed(Struct, frozen=True):
    """No slot is held under this name any more: it is free, or its heir holds it."""

    task_id: str
    fence: int


class Ended(Struct, frozen=True):
    """The attempt has ended: whoever waits for it can be told."""

    task_id: str
    fence: int


class Forget(Struct, frozen=True):
    """The attempt is remembered no longer: its files can go. One that was dropped has ended."""

    task_id: str
    fence: int


Effect = Prepare | Launch | Terminate | Kill | Held | Freed | Ended | Forget


class Attempt(Struct):
    """One run of a task, as far as the worker remembers it."""

    task_id: str
    fence: int
    state: State
    #: Epoch seconds: accepted, and from its launch on, launched.
    started_at: float
    ended_at: float | None = None
    #: Of the main process; negative for a signal; None if it never ran or its end was not seen.
    exit_code: int | None = None
    #: Why it was stopped, or could not start; None if it ended by itself.
    cause: Cause | KeptCause | None = None
    #: The sentence that goes with the cause, if it has one.
    error: str | None = None
    #: Seconds it may run, and seconds between SIGTERM and SIGKILL.
    timeout_s: float | None = None
    grace_s: float | None = None
    #: Epoch seconds: while running its timeout, while stopping when SIGTERM becomes SIGKILL.
    deadline: float | None = None
    log_bytes: int = 0
    #: Its end is remembered until it is heard of.
    kept: bool = False
    #: Nobody waits for its end.
    dropped: bool = False

    @property
    def name(self) -> Name:
        """What it is known by."""
        return self.task_id, self.fence


class Slot(Struct):
    """One taken slot."""

    #: The attempt whose processes are there, or whose files are being fetched.
    holder: Attempt
    #: The command of a holder that waits for its files.
    start: Start | None = None
    #: A newer run of the same task, and its command, that starts when the holder is gone.
    heir: Attempt | None = None
    heir_start: Start | None = None

    @property
    def newest(self) -> Attempt:
        """The attempt under whose name the slot is held."""
        return self.heir or self.holder


class Attempts:
    """The state machine. One writer; nothing but `handle` changes it."""

    def __init__(self, max_tasks: int, grace_s: float = GRACE_S) -> None:
        self._max_tasks = max_tasks
        self._grace_s = grace_s
        self._draining = False
        #: By task id.
        self._slots: dict[str, Slot] = {}
        #: Everything that can be asked about, live and ended.
        self._attempts: dict[Name, Attempt] = {}
        #: Those of them that ended and are not kept, the oldest first, and the bytes of their logs.
        self._ended: dict[Name, None] = {}
        self._ended_bytes = 0
        #: Those that ended and are kept.
        self._kept: set[Name] = set()
        #: The newest fence seen by task id and when, the longest ago first. Kept attempts need
        #: none: what starts them sends each once, in order.
        self._fences: dict[str, tuple[int, float]] = {}
        self._effects: list[Effect] = []
        self._handlers: dict[type, Callable[[Any, float], None]] = {
            Start: self._on_start,
            Restore: self._on_restore,
            Prepared: self._on_prepared,
            Stop: self._on_stop,
            StopAll: self._on_stop_all,
            Drop: self._on_drop,
            Heard: self._on_heard,
            LaunchFailed: self._on_launch_failed,
            Exited: self._on_exited,
            Gone: self._on_gone,
            Drain: self._on_drain,
            Tick: self._on_tick,
        }

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Let `event` happen at `now`, epoch seconds; what to do comes back, in order.

        Raises a DtaskError if the event is refused; then nothing has changed.
        """
        self._handlers[type(event)](event, now)
        effects, self._effects = self._effects, []
        return effects

    def next_deadline(self) -> float | None:
        """Epoch seconds when a Tick is due at the latest; None: no need."""
        due = [
            slot.holder.deadline
            for slot in self._slots.values()
            if slot.holder.deadline is not None
        ]
        if self._ended:
            due.append(self._forget_at())
        return min(due, default=None)

    def find(self, task_id: str, fence: int) -> Attempt | None:
        """What is known of the attempt, as a copy; None if nothing is."""
        attempt = self._attempts.get((task_id, fence))
        return structs.replace(attempt) if attempt is not None else None

    def held(self) -> list[Name]:
        """One name for each taken slot, the newest of its task."""
        return [slot.newest.name for slot in self._slots.values()]

    def check(self) -> None:
        """Assert what must hold after every event."""
        assert len(self._slots) <= self._max_tasks
        live: set[Name] = set()
        for task_id, slot in self._slots.items():
            assert slot.holder.task_id == task_id
            self._check_slot(slot)
            live.add(slot.holder.name)
            if slot.heir is not None:
                live.add(slot.heir.name)
        ended = {name for name, one in self._attempts.items() if one.state == "ended"}
        assert live == self._attempts.keys() - ended
        assert self._kept == {name for name in ended if self._attempts[name].kept}
        assert self._ended.keys() == ended - self._kept
        assert len(self._ended) <= REMEMBERED_MAX
        assert self._ended_bytes == sum(self._attempts[name].log_bytes for name in self._ended)
        for name, attempt in self._attempts.items():
            assert not (attempt.dropped and attempt.state == "ended")
            assert attempt.deadline is None or attempt.state in ("running", "stopping")
            newest = self._newest_fence(name[0], self._slots.get(name[0]))
            assert attempt.kept or (newest is not None and newest >= attempt.fence)

    def _check_slot(self, slot: Slot) -> None:
        holder, heir = slot.holder, slot.heir
        assert holder.state in ("waiting", "running", "stopping")
        assert (holder.state == "waiting") == (slot.start is not None)
        assert (heir is None) == (slot.heir_start is None)
        if heir is not None:
            assert heir.state in ("waiting", "stopping")
            assert heir.fence > holder.fence
            assert holder.state == "stopping"

    # Events

    def _on_start(self, start: Start, now: float) -> None:
        name = (start.task_id, start.fence)
        if name in self._attempts:
            return  # sent twice: the answer is what it is doing
        slot = self._slots.get(start.task_id)
        refusal = self._refusal(start, slot)
        if refusal is not None and not start.kept:
            raise refusal
        attempt = Attempt(
            *name,
            state="waiting",
            started_at=now,
            timeout_s=start.timeout_s,
            grace_s=start.grace_s,
            kept=start.kept,
        )
        self._attempts[name] = attempt
        if refusal is not None:
            self._end_unstarted(attempt, "returned", str(refusal), now)
            return
        self._note_fence(attempt, now)
        self._effects.append(Held(*name))
        if slot is None:
            self._occupy(attempt, start, now)
        else:
            self._inherit(slot, attempt, start, now)

    def _on_restore(self, restore: Restore, now: float) -> None:
        del now
        attempt = Attempt(
            restore.task_id,
            restore.fence,
            state="ended",
            started_at=restore.started_at,
            ended_at=restore.ended_at,
            exit_code=restore.exit_code,
            cause=restore.cause,
            error=restore.error,
            kept=True,
        )
        self._attempts[attempt.name] = attempt
        self._kept.add(attempt.name)

    def _on_prepared(self, prepared: Prepared, now: float) -> None:
        slot = self._slots.get(prepared.task_id)
        if slot is not None and slot.holder.fence == prepared.fence and slot.start is not None:
            start, slot.start = slot.start, None
            self._launch(slot.holder, start, now)

    def _on_stop(self, stop: Stop, now: float) -> None:
        attempt = self._attempts.get((stop.task_id, stop.fence))
        if attempt is None:
            self._never_start(stop, now)
            return
        if stop.grace_s is not None:
            attempt.grace_s = stop.grace_s
        if attempt.state == "stopping" and attempt.deadline is not None:
            attempt.deadline = min(attempt.deadline, now + self._grace_of(attempt))
        else:
            self._stop(attempt, now)

    def _on_stop_all(self, stop: StopAll, now: float) -> None:
        del stop
        for attempt in [slot.newest for slot in self._slots.values()]:
            if attempt.kept:
                self._stop(attempt, now, cause="returned", error=SHUT_DOWN)
            else:
                self._stop(attempt, now)

    def _on_drop(self, drop: Drop, now: float) -> None:
        attempt = self._attempts.get((drop.task_id, drop.fence))
        if attempt is None:
            return
        if attempt.state == "ended":
            self._forget(attempt)
        else:
            attempt.dropped = True
            self._stop(attempt, now)

    def _on_heard(self, heard: Heard, now: float) -> None:
        del now
        attempt = self._attempts.get((heard.task_id, heard.fence))
        if attempt is not None and attempt.name in self._kept:
            self._forget(attempt)

    def _on_launch_failed(self, failed: LaunchFailed, now: float) -> None:
        attempt = self._attempts.get((failed.task_id, failed.fence))
        if attempt is None or attempt.state == "ended":
            return  # it was stopped while its files were fetched
        attempt.cause = failed.cause
        attempt.error = failed.error
        self._on_gone(Gone(failed.task_id, failed.fence), now)

    def _on_exited(self, exited: Exited, now: float) -> None:
        del now
        attempt = self._attempts[exited.task_id, exited.fence]
        attempt.exit_code = exited.exit_code
        if attempt.state == "running":  # what it left behind gets no grace: nobody waits for it
            attempt.deadline = None
            self._move(attempt, "stopping")
            self._effects.append(Kill(*attempt.name))

    def _on_gone(self, gone: Gone, now: float) -> None:
        slot = self._slots.pop(gone.task_id)
        attempt = slot.holder
        assert attempt.fence == gone.fence
        attempt.log_bytes = gone.log_bytes
        if attempt.cause is None:
            attempt.cause, attempt.error = gone.cause, gone.error
        self._end(attempt, now)
        if slot.heir is None or slot.heir_start is None:
            self._effects.append(Freed(*attempt.name))
        elif slot.heir.state == "waiting":
            self._occupy(slot.heir, slot.heir_start, now)
        else:  # stopped before its turn came
            self._end(slot.heir, now)
            self._effects.append(Freed(*slot.heir.name))

    def _on_drain(self, drain: Drain, now: float) -> None:
        del drain, now
        self._draining = True

    def _on_tick(self, tick: Tick, now: float) -> None:
        del tick
        for slot in self._slots.values():
            attempt = slot.holder
            if attempt.deadline is None or attempt.deadline > now:
                continue
            attempt.deadline = None
            if attempt.state == "running":
                self._terminate(attempt, "timeout", now)
            else:
                self._effects.append(Kill(*attempt.name))
        while self._ended and self._forget_at() <= now:
            self._forget_oldest()

    # Steps of several events

    def _refusal(self, start: Start, slot: Slot | None) -> DtaskError | None:
        """Why a new attempt may not begin; None if it may."""
        newest = self._newest_fence(start.task_id, slot)
        if newest is not None and start.fence <= newest:
            return Conflict(
                f"The worker has seen fence {newest} of task {start.task_id}, and {start.fence} "
                f"is not newer: ask the scheduler for a placement and send its fence.",
                code="stale_fence",
                newest_fence=newest,
            )
        if self._draining:
            return Unavailable(
                "The worker is draining and starts no task: place it on another.", code="draining"
            )
        if slot is None and len(self._slots) >= self._max_tasks:
            return Busy(
                f"All {self._max_tasks} slots of the worker are taken: place the task on another.",
                code="slots_full",
                max_tasks=self._max_tasks,
            )
        return None

    def _occupy(self, attempt: Attempt, start: Start, now: float) -> None:
        """`attempt` has the slot of its task for itself."""
        if start.prepare:
            self._slots[attempt.task_id] = Slot(attempt, start)
            self._effects.append(Prepare(start))
        else:
            self._slots[attempt.task_id] = Slot(attempt)
            self._launch(attempt, start, now)

    def _inherit(self, slot: Slot, attempt: Attempt, start: Start, now: float) -> None:
        """`attempt` waits for the slot of an older run, which is stopped."""
        older = slot.newest
        if slot.start is not None:
            self._end_unstarted(older, "superseded", None, now)
            self._occupy(attempt, start, now)
            self._effects.append(Freed(*older.name))
            return
        slot.heir, slot.heir_start = attempt, start
        if older is slot.holder:
            if older.state == "running":
                self._terminate(older, "superseded", now)
        else:
            self._end_unstarted(older, older.cause or "superseded", None, now)
        self._effects.append(Freed(*older.name))

    def _never_start(self, stop: Stop, now: float) -> None:
        """A stop overtook its start: remember it as ended, so that the start comes to nothing."""
        newest = self._newest_fence(stop.task_id, self._slots.get(stop.task_id))
        if newest is not None and stop.fence <= newest:
            raise unknown_task(stop.task_id, stop.fence)
        attempt = Attempt(stop.task_id, stop.fence, state="waiting", started_at=now)
        self._attempts[attempt.name] = attempt
        self._end_unstarted(attempt, "stopped", None, now)

    def _stop(
        self,
        attempt: Attempt,
        now: float,
        *,
        cause: Cause | KeptCause = "stopped",
        error: str | None = None,
    ) -> None:
        """Stop it, whatever it does; once is enough."""
        if attempt.state == "running":
            attempt.error = error
            self._terminate(attempt, cause, now)
        elif attempt.state == "waiting":
            if self._slots[attempt.task_id].holder is attempt:
                del self._slots[attempt.task_id]
                self._end_unstarted(attempt, cause, error, now)
                self._effects.append(Freed(*attempt.name))
            else:
                attempt.cause, attempt.error = cause, error
                self._move(attempt, "stopping")  # it ends when its predecessor frees the slot

    def _launch(self, attempt: Attempt, start: Start, now: float) -> None:
        attempt.started_at = now
        self._move(attempt, "running")
        if attempt.timeout_s is not None:
            attempt.deadline = now + attempt.timeout_s
        self._effects.append(Launch(start))

    def _terminate(self, attempt: Attempt, cause: Cause | KeptCause, now: float) -> None:
        attempt.cause = cause
        self._move(attempt, "stopping")
        attempt.deadline = now + self._grace_of(attempt)
        self._effects.append(Terminate(*attempt.name))

    def _grace_of(self, attempt: Attempt) -> float:
        return self._grace_s if attempt.grace_s is None else attempt.grace_s

    def _end_unstarted(
        self, attempt: Attempt, cause: Cause | KeptCause, error: str | None, now: float
    ) -> None:
        attempt.cause, attempt.error = cause, error
        self._end(attempt, now)

    def _end(self, attempt: Attempt, now: float) -> None:
        self._move(attempt, "ended")
        attempt.deadline = None
        attempt.ended_at = now
        self._note_fence(attempt, now)
        if attempt.dropped:
            del self._attempts[attempt.name]
            self._effects.append(Forget(*attempt.name))
            return
        self._effects.append(Ended(*attempt.name))
        if attempt.kept:
            self._kept.add(attempt.name)
            return
        self._ended[attempt.name] = None
        self._ended_bytes += attempt.log_bytes
        while len(self._ended) > REMEMBERED_MAX or (
            self._ended_bytes > REMEMBERED_BYTES_MAX and len(self._ended) > 1
        ):
            self._forget_oldest()

    def _move(self, attempt: Attempt, state: State) -> None:
        assert state in MOVES[attempt.state], (attempt, state)
        attempt.state = state

    # Time and memory

    def _forget_at(self) -> float:
        """When the attempt that ended first has been remembered long enough."""
        ended_at = self._attempts[next(iter(self._ended))].ended_at
        assert ended_at is not None
        return ended_at + REMEMBERED_S

    def _forget_oldest(self) -> None:
        self._forget(self._attempts[next(iter(self._ended))])

    def _forget(self, attempt: Attempt) -> None:
        """Remember an ended attempt no longer."""
        del self._attempts[attempt.name]
        if attempt.kept:
            self._kept.remove(attempt.name)
        else:
            del self._ended[attempt.name]
            self._ended_bytes -= attempt.log_bytes
        self._effects.append(Forget(*attempt.name))

    def _newest_fence(self, task_id: str, slot: Slot | None) -> int | None:
        seen = self._fences.get(task_id)
        if slot is None:
            return seen[0] if seen is not None else None
        return max(slot.newest.fence, seen[0] if seen is not None else 0)

    def _note_fence(self, attempt: Attempt, now: float) -> None:
        if attempt.kept:
            return
        newest = self._fences.pop(attempt.task_id, (attempt.fence, now))[0]
        self._fences[attempt.task_id] = (max(newest, attempt.fence), now)
        while True:
            oldest = next(iter(self._fences))
            if len(self._fences) <= FENCES_MAX and self._fences[oldest][1] + FENCES_S > now:
                return
            del self._fences[oldest]


def unknown_task(task_id: str, fence: int) -> NotFound:
    """The error for an attempt that the worker does not know (any more)."""
    return NotFound(
        f"The worker holds no task {task_id} of fence {fence}: it was never sent here, or it "
        f"ended long ago.",
        code="unknown_task",
    )
