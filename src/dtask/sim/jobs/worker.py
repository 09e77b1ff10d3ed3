"""Worker processes: real attempts, a spool that outlives them, heartbeats and a channel.

The spool is the machine's: what an agent that was killed had not been told to forget is there for
the next one. The processes of its attempts die with it, as the guard sees to.
"""

import itertools
import random
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from dtask.core import attempts
from dtask.core.attempts import (
    Attempts,
    Drop,
    Exited,
    Forget,
    Gone,
    Heard,
    Kill,
    Launch,
    LaunchFailed,
    Prepare,
    Prepared,
    Restore,
    Start,
    Stop,
    Terminate,
)
from dtask.core.jobs.names import attempt_text
from dtask.core.placement.events import Heard as HeartbeatHeard
from dtask.core.placement.events import Heartbeat
from dtask.errors import DtaskError, NotFound
from dtask.sim.jobs.scheduler import ADDRESS
from dtask.sim.jobs.site import Site
from dtask.sim.jobs.wire import End
from dtask.sim.timeline import Action
from dtask.wire.frames import (
    Down,
    EndedFrame,
    HeldFrame,
    Hello,
    StartedFrame,
    StartFrame,
    StopFrame,
    Up,
    Welcome,
)

INTERVAL_S: Final = 3.0
TIMEOUT_S: Final = 1.8
RECONNECT_S: Final = (0.0, 1.0)

#: How long what is to be said may be stuck: until after the scheduler has given up waiting for a
#: start, and has queued the task again.
STUCK_S: Final = (5.0, 15.0)

#: How long a slow start takes: some are too late for any scheduler.
SLOW_START_S: Final = (0.5, 15.0)


class Kept(Struct):
    """What the spool remembers of an attempt."""

    cluster_id: str
    frame: StartFrame
    started_at: float | None = None
    end: EndedFrame | None = None

    @property
    def task_id(self) -> str:
        """What its worker's own machine knows it by."""
        return attempt_text(self.frame.job_id, self.frame.task, self.frame.index)


class Machine(Struct):
    """Where a worker runs: what outlives its processes."""

    worker_id: str
    tags: tuple[str, ...]
    max_tasks: int
    spool: dict[int, Kept] = {}


class Process:
    """One life of a worker."""

    def __init__(
        self,
        site: Site,
        rng: random.Random,
        machine: Machine,
        *,
        incarnation: str,
        died: Callable[["Process"], None],
    ) -> None:
        self.machine = machine
        self.alive = True
        #: Its channel reaches nobody, though its heartbeats do.
        self.deaf = False
        self.incarnation = incarnation
        self._site = site
        self._rng = rng
        self._died = died
        self._attempts = Attempts(machine.max_tasks, grace_s=2.0)
        self._running: set[int] = set()
        self._backlog: list[Action] | None = None
        self._seq = itertools.count(1)
        self._draining = False
        self._known = False
        self._end: End | None = None
        self._welcomed = False
        self._sent = 0
        self._heard = 0
        #: What is to be said when it is no longer stuck; None: it is not.
        self._unsaid: list[StartedFrame | EndedFrame] | None = None
        #: Ends by the number of the message that told them.
        self._told: dict[int, list[int]] = {}
        for fence, kept in machine.spool.items():
            self._restore(fence, kept)
        self._beat()

    def __str__(self) -> str:
        return f"{self.machine.worker_id} {self.incarnation}"

    @property
    def busy(self) -> bool:
        """Whether it holds anything, or an end that was not heard."""
        return bool(self._attempts.held() or self.machine.spool)

    # Faults

    def kill(self) -> None:
        """As by kill -9: its attempts' processes die with it."""
        if not self.alive:
            return
        self.alive = False
        self._site.note(f"{self} ends")
        for fence in self._running:
            self._site.ledger.process_ended(fence, None)
        if self._end is not None:
            self._end.close()
        self._died(self)

    def freeze(self) -> None:
        """SIGSTOP."""
        if self._backlog is None:
            self._backlog = []
            self._site.note(f"{self} freezes")

    def thaw(self) -> None:
        """SIGCONT: all that waited happens now."""
        if self._backlog is not None and self.alive:
            self._site.note(f"{self} thaws")
            waiting, self._backlog = self._backlog, None
            for action in waiting:
                self._run(action)

    def retire(self) -> None:
        """SIGTERM: start nothing more, wait for what runs, go."""
        self._run(self._begin_to_retire)

    def deafen(self) -> None:
        """The channel breaks, and none comes about until `hear_again`."""
        self.deaf = True
        if self._end is not None:
            self._end.close()
            self._end = None

    def hear_again(self) -> None:
        """The channel reaches the scheduler again."""
        self.deaf = False
        self._connect_soon()

    def _begin_to_retire(self) -> None:
        self._site.note(f"{self} retires")
        self._draining = True
        self._handle(attempts.Drain())
        self._beat_once()
        self._leave_if_idle()

    def _leave_if_idle(self) -> None:
        if self._draining and self.alive and not self.busy:
            self._send_beat(leaving=True)
            self.kill()

    # Heartbeats

    def _beat(self) -> None:
        self._leave_if_idle()
        self._beat_once()
        self._later(self._rng.uniform(0.9, 1.0) * INTERVAL_S, self._beat)

    def _beat_once(self) -> None:
        self._send_beat(leaving=False)

    def _send_beat(self, *, leaving: bool) -> None:
        attached = self._end is not None and self._welcomed
        beat = Heartbeat(
            worker_id=self.machine.worker_id,
            address=f"{self.machine.worker_id}:1",
            tags=self.machine.tags,
            max_tasks=self.machine.max_tasks,
            current_tasks=0 if attached else len(self._attempts.held()),
            incarnation=self.incarnation,
            seq=next(self._seq),
            tasks=(),
            draining=self._draining,
            leaving=leaving,
            trusted=True,
        )
        self._site.network.call(
            self.machine.worker_id,
            ADDRESS,
            lambda reply: self._site.scheduler.receive(beat, reply),
            lambda answer: self._run(lambda: self._beat_answered(answer)),
            timeout_s=TIMEOUT_S,
        )

    def _beat_answered(self, answer: object) -> None:
        if isinstance(answer, HeartbeatHeard):
            self._known = True
            self._connect()
        elif isinstance(answer, DtaskError) and answer.code == "superseded":
            self.kill()

    # The channel

    def _connect_soon(self) -> None:
        self._later(self._rng.uniform(*RECONNECT_S), self._connect)

    def _connect(self) -> None:
        if self._end is not None or self.deaf or not self._known:
            return
        end = self._site.scheduler.connect()
        if end is None:
            return
        self._end = end
        self._welcomed = False
        self._sent = self._heard = 0
        self._unsaid = None
        self._told.clear()
        end.take = lambda message: self._run(lambda: self._take(end, message))
        end.gone = lambda: self._run(lambda: self._gone(end))
        spool = self.machine.spool
        clusters = {kept.cluster_id for kept in spool.values()}
        end.send(
            Hello(
                1,
                self.machine.worker_id,
                self.incarnation,
                min(clusters, default=None),
                tuple(HeldFrame(fence, k.started_at is not None) for fence, k in spool.items()),
            )
        )

    def _gone(self, end: End) -> None:
        if self._end is end:
            self._end = None
            self._known = False  # the next heartbeat tells whether the scheduler knows us
            self._beat_once()

    def _take(self, end: End, message: Welcome | Down) -> None:
        if self._end is not end:
            return
        if isinstance(message, Welcome):
            self._welcome(message)
            return
        self._heard = message.number
        for number in [number for number in self._told if number <= message.heard]:
            for fence in self._told.pop(number):
                self._forget(fence)
        for frame in message.frames:
            if isinstance(frame, StartFrame):
                self._start(frame)
            elif isinstance(frame, StopFrame):
                self._stop(frame)
            else:
                self._drop(frame.fence)
        self._leave_if_idle()

    def _welcome(self, welcome: Welcome) -> None:
        self._cluster_id = welcome.cluster_id
        for fence, kept in list(self.machine.spool.items()):
            if kept.cluster_id != welcome.cluster_id or fence in welcome.stop:
                self._drop(fence)
        self._welcomed = True
        for kept in list(self.machine.spool.values()):
            if kept.end is not None:
                self._say(kept.end)
            elif kept.started_at is not None:
                self._say(StartedFrame(kept.frame.fence, kept.started_at))
        self._beat_once()

    def _say(self, frame: StartedFrame | EndedFrame) -> None:
        if self._end is None or not self._welcomed:
            return
        if self._unsaid is None and self._rng.random() < self._site.weather.stuck:
            unsaid: list[StartedFrame | EndedFrame] = []
            self._unsaid = unsaid
            self._later(self._rng.uniform(*STUCK_S), lambda: self._come_unstuck(unsaid))
        if self._unsaid is not None:
            self._unsaid.append(frame)
        else:
            self._send(self._end, frame)

    def _come_unstuck(self, unsaid: list[StartedFrame | EndedFrame]) -> None:
        if self._unsaid is unsaid and self._end is not None:
            self._unsaid = None
            for frame in unsaid:
                self._send(self._end, frame)

    def _send(self, end: End, frame: StartedFrame | EndedFrame) -> None:
        self._sent += 1
        if isinstance(frame, EndedFrame):
            self._told[self._sent] = [frame.fence]
        end.send(Up(self._sent, self._heard, (frame,)))

    # Attempts

    def _start(self, frame: StartFrame) -> None:
        if frame.fence in self.machine.spool:
            return
        kept = self.machine.spool[frame.fence] = Kept(self._cluster_id, frame)
        self._handle(
            Start(
                kept.task_id,
                frame.fence,
                frame.command,
                frame.env,
                frame.timeout_s,
                frame.grace_s,
                prepare=self._rng.random() < self._site.weather.slow_start,
                kept=True,
            )
        )

    def _stop(self, frame: StopFrame) -> None:
        kept = self.machine.spool.get(frame.fence)
        if kept is not None and kept.end is None:
            self._handle(Stop(kept.task_id, frame.fence, frame.grace_s))

    def _drop(self, fence: int) -> None:
        kept = self.machine.spool.pop(fence, None)
        if kept is not None:
            self._handle(Drop(kept.task_id, fence))

    def _forget(self, fence: int) -> None:
        kept = self.machine.spool.pop(fence, None)
        if kept is not None:
            self._handle(Heard(kept.task_id, fence))

    def _restore(self, fence: int, kept: Kept) -> None:
        now = self._site.timeline.now
        if kept.end is None:
            kept.end = _end(kept, now, exit_code=None, cause="lost", log_lost=True)
        self._attempts.handle(
            Restore(
                kept.task_id,
                fence,
                kept.started_at or now,
                kept.end.ended_at,
                kept.end.exit_code,
                kept.end.cause,  # type: ignore[arg-type]
                None,
            ),
            now,
        )

    def _handle(self, event: attempts.Event) -> None:
        now = self._site.timeline.now
        try:
            effects = self._attempts.handle(event, now)
        except NotFound:
            return  # a stop that came after the end
        self._attempts.check()
        for effect in effects:
            self._perform(effect, now)
        due = self._attempts.next_deadline()
        if due is not None:
            self._later(max(0.0, due - now), lambda: self._handle(attempts.Tick()))

    def _perform(self, effect: attempts.Effect, now: float) -> None:
        match effect:
            case Prepare(start):
                ready = Prepared(start.task_id, start.fence)
                self._later(self._rng.uniform(*SLOW_START_S), lambda: self._handle(ready))
            case Launch(start):
                self._launch(start, now)
            case Terminate(task_id, fence):
                stubborn = self._rng.random() < 0.1  # noqa: PLR2004 (some ignore SIGTERM)
                if not stubborn:
                    self._exit_after(self._rng.uniform(0.01, 0.5), task_id, fence, -15)
            case Kill(task_id, fence):
                self._exit_after(0.001, task_id, fence, -9)
            case attempts.Ended(task_id, fence):
                self._ended(task_id, fence)
            case Forget(task_id, fence):
                self.machine.spool.pop(fence, None)
            case _:
                pass

    def _launch(self, start: Start, now: float) -> None:
        kept = self.machine.spool.get(start.fence)
        verb, duration_s, code = start.command[:3]
        if verb == "absent":
            self._later(
                0.001,
                lambda: self._handle(LaunchFailed(start.task_id, start.fence, "There is none.")),
            )
            return
        self._running.add(start.fence)
        if kept is not None:
            kept.started_at = now
            self._site.ledger.process_started(self, kept.frame)
            self._say(StartedFrame(start.fence, now))
        codes = code.split(",")
        number = kept.frame.number if kept is not None else 1
        exit_code = int(codes[min(number, len(codes)) - 1])
        self._exit_after(float(duration_s), start.task_id, start.fence, exit_code)

    def _exit_after(self, delay_s: float, task_id: str, fence: int, code: int) -> None:
        self._later(delay_s, lambda: self._exit(task_id, fence, code))

    def _exit(self, task_id: str, fence: int, code: int) -> None:
        if fence in self._running:
            self._running.remove(fence)
            self._site.ledger.process_ended(fence, code)
            self._handle(Exited(task_id, fence, code))
            self._later(0.001, lambda: self._handle(Gone(task_id, fence)))

    def _ended(self, task_id: str, fence: int) -> None:
        kept = self.machine.spool.get(fence)
        attempt = self._attempts.find(task_id, fence)
        if kept is None or attempt is None or kept.end is not None:
            return
        cause = attempt.cause if attempt.cause != "superseded" else "returned"
        now = self._site.timeline.now
        kept.end = _end(kept, now, exit_code=attempt.exit_code, cause=cause)
        self._say(kept.end)

    # Being stopped and dead

    def _later(self, delay_s: float, action: Action) -> None:
        self._site.timeline.after(delay_s, lambda: self._run(action))

    def _run(self, action: Action) -> None:
        if self._backlog is not None:
            self._backlog.append(action)
        elif self.alive:
            action()


def _end(
    kept: Kept, now: float, *, exit_code: int | None, cause: str | None, log_lost: bool = False
) -> EndedFrame:
    return EndedFrame(
        fence=kept.frame.fence,
        exit_code=exit_code,
        cause=cause,
        error=None,
        started_at=kept.started_at,
        ended_at=now,
        stdout_bytes=0,
        stderr_bytes=0,
        result_bytes=0,
        truncated=False,
        log_lost=log_lost,
        cpu_s=None,
        max_rss_bytes=None,
    )
