"""The scheduler process: a real Cluster and Outbox between clients, wires and a disk."""

import itertools
import random
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from dtask.core.cluster import Cluster, Event, Settings, Step
from dtask.core.jobs.events import (
    Attach,
    Attached,
    ChannelOpened,
    CloseChannel,
    Detached,
    Heeded,
    HeldAttempt,
    Reports,
    StartAttempt,
    StopAttempt,
    Submitted,
)
from dtask.core.outbox import Outbox
from dtask.core.placement.events import Heartbeat, Tick
from dtask.errors import DtaskError, Unavailable
from dtask.sim.jobs.disk import Disk
from dtask.sim.jobs.ledger import Ledger
from dtask.sim.jobs.wire import End, Wire
from dtask.sim.jobs.words import line
from dtask.sim.network import Reply
from dtask.sim.timeline import Timeline
from dtask.wire.attempts import report, start_frame
from dtask.wire.frames import Down, DropFrame, Hello, LogFrame, StopFrame, Up, Welcome

#: Its address on the network.
ADDRESS: Final = "scheduler"

#: As in production, but that ended jobs are forgotten soon enough to be seen.
SETTINGS: Final = Settings(keep_s=120.0, keep_jobs=40)

#: Until a store that did not answer is read again.
RELOAD_S: Final = 1.0

#: Steps between two looks at every invariant: they cost more than all the rest.
CHECK_EVERY: Final = 8

MakeCluster = Callable[[float, Settings, Callable[[], float]], Cluster]


class Letter(NamedTuple):
    """What waits for a commit."""

    effects: tuple[Any, ...]
    answer: Any
    reply: Reply


class Connection:
    """A worker's channel, as the scheduler has it."""

    def __init__(self, end: End, hello: Hello, number: int) -> None:
        self.end = end
        self.worker_id = hello.worker_id
        self.incarnation = hello.incarnation
        self.number = number
        self.sent = 0
        #: What waits for the welcome; None once that is sent.
        self._waiting: list[Down] | None = []

    def send(self, heard: int, *frames: Any) -> None:  # noqa: ANN401 (frames down)
        """One message down."""
        self.sent += 1
        message = Down(self.sent, heard, frames)
        if self._waiting is None:
            self.end.send(message)
        else:
            self._waiting.append(message)

    def welcome(self, welcome: Welcome) -> None:
        """The first message down."""
        self.end.send(welcome)
        waiting, self._waiting = self._waiting, None
        for message in waiting or ():
            self.end.send(message)


class Scheduler:
    """Feeds one Cluster at a time, as the real loop does; it can stall and die."""

    def __init__(
        self,
        timeline: Timeline,
        rng: random.Random,
        disk: Disk,
        *,
        ledger: Ledger,
        make: MakeCluster,
        note: Callable[[str], None],
    ) -> None:
        self._timeline = timeline
        self._rng = rng
        self._disk = disk
        self._ledger = ledger
        self._make = make
        self._note = note
        self._ahead_s = 0.0
        self._lives = 0
        self._chain = 0
        self.up = False
        self._stalled = False
        self._inbox: list[Callable[[], None]] = []
        self._steps = 0
        self._wires: list[Wire] = []
        self._boot()

    # Faults

    def crash(self) -> None:
        """It is killed, as by kill -9."""
        if not self.up:
            return
        self.up = False
        self._stalled = False
        self._inbox.clear()
        where = self._disk.cut_short()
        for wire in self._wires:
            wire.cut()
        self._note(f"scheduler is killed {where}")

    def start_unless_up(self, clock_shift_s: float = 0.0) -> None:
        """A new process, its clock earlier or later than the last one's."""
        if not self.up:
            self._ahead_s += clock_shift_s
            self._boot()

    def stall(self, seconds: float) -> None:
        """The loop does not run for a while; what arrives waits."""
        if self.up and not self._stalled:
            self._stalled = True
            self._note(f"scheduler stalls for {seconds:.3f} s")
            self._chain += 1
            chain = self._chain
            self._timeline.after(seconds, lambda: self._wake(chain))

    def step_clock(self, seconds: float) -> None:
        """Its clock is set forward."""
        self._ahead_s += seconds
        self._note(f"scheduler's clock is stepped by {seconds:.3f} s")

    # From outside

    def receive(self, event: Event, reply: Reply) -> None:
        """A request arrives."""
        self._soon(lambda: self._post(event, reply))

    def ask(self, event: Event) -> Any:  # noqa: ANN401 (each event has its own answer)
        """An answer at once, for the simulation's own eyes."""
        step = self._cluster.handle(event, self._now())
        self._take(step, _ignore)
        return step.answer

    def connect(self) -> End | None:
        """A worker opens a connection; its end of it, or None if nobody listens."""
        if not self.up:
            return None
        wire = Wire(self._timeline, self._rng)
        self._wires = [one for one in self._wires if not one.broken]
        self._wires.append(wire)
        end = wire.scheduler
        end.take = lambda message: self._soon(lambda: self._greet(end, message))
        return wire.worker

    def wires(self) -> list[Wire]:
        """All connections that are not broken."""
        return [wire for wire in self._wires if not wire.broken]

    # The loop

    def _boot(self) -> None:
        self.up = True
        self._lives += 1
        self._wires = []
        self._connections: dict[str, Connection] = {}
        #: Said hello and not heeded yet, by number.
        self._greeted: dict[int, Connection] = {}
        self._numbers = itertools.count(1)
        self.cluster_id = ""
        self._outbox: Outbox[Letter] = Outbox()
        self._chain += 1
        chain = self._chain
        self._note(f"scheduler starts, life {self._lives}")
        self._cluster = self._make(self._now(), SETTINGS, self._rng.random)
        self._load(self._lives)
        self._timeline.after(0.0, lambda: self._tick(chain))

    def _load(self, life: int) -> None:
        if life != self._lives or not self.up:
            return
        try:
            snapshot = self._disk.load()
        except Unavailable:
            self._timeline.after(RELOAD_S, lambda: self._load(life))
            return
        self.cluster_id = snapshot.cluster_id
        step = self._cluster.restore(snapshot, self._now())
        self._cluster.check()
        self._take(step, _ignore)

    def _wake(self, chain: int) -> None:
        if chain == self._chain and self.up:
            self._stalled = False
            self._note("scheduler runs again")
            waiting, self._inbox = self._inbox, []
            for act in waiting:
                act()
            self._chain += 1
            self._tick(self._chain)

    def _tick(self, chain: int) -> None:
        if chain == self._chain and self.up:
            self._post(Tick(), _ignore)
            pause_s = self._cluster.next_deadline() - self._now()
            self._timeline.after(max(0.0005, pause_s), lambda: self._tick(chain))

    def _soon(self, act: Callable[[], None]) -> None:
        """Now; when the loop runs again; or never."""
        if self.up:
            if self._stalled:
                self._inbox.append(act)
            else:
                act()

    def _post(self, event: Event, reply: Reply) -> None:
        try:
            step = self._cluster.handle(event, self._now())
        except DtaskError as error:
            step = Step(error)
        self._steps += 1
        if self._steps % CHECK_EVERY == 0:
            self._cluster.check()
        if not isinstance(event, Tick | Heartbeat):
            meanwhile = " during a commit" if self._disk.is_busy else ""
            self._note(f"{type(event).__name__}{meanwhile} -> {_told(step.answer)}")
        self._take(step, reply)

    def _take(self, step: Step, reply: Reply) -> None:
        letter = Letter(step.effects, step.answer, reply)
        if self._outbox.add(step.changes, letter):
            self._commit()
        else:
            self._deliver(letter)

    def _commit(self) -> None:
        changes = self._outbox.next()
        if changes is not None:
            life = self._lives
            self._disk.commit(changes, lambda error: self._soon(lambda: self._ended(life, error)))

    def _ended(self, life: int, error: Unavailable | None) -> None:
        if life != self._lives:
            return
        if error is None:
            for letter in self._outbox.committed():
                self._deliver(letter)
            self._commit()
            return
        self._note(f"a commit failed: {error}")
        letters = self._outbox.failed()
        for effect in self._cluster.suspend(self._now()).effects:
            self._perform(effect)
        for letter in letters:
            letter.reply(error)
        self._load(self._lives)

    def _deliver(self, letter: Letter) -> None:
        for effect in letter.effects:
            self._note(line(effect))
            self._ledger.see(effect)
            self._perform(effect)
        letter.reply(letter.answer)

    def _now(self) -> float:
        return self._timeline.now + self._ahead_s

    # Channels

    def _perform(self, effect: object) -> None:
        match effect:
            case ChannelOpened():
                self._open(effect)
            case StartAttempt():
                if (connection := self._connection(effect)) is not None:
                    connection.send(0, start_frame(effect))
            case StopAttempt():
                if (connection := self._connection(effect)) is not None:
                    connection.send(0, StopFrame(effect.fence, effect.grace_s))
            case CloseChannel():
                if (connection := self._connection(effect)) is not None:
                    del self._connections[effect.worker_id]
                    connection.end.close()

    def _open(self, effect: ChannelOpened) -> None:
        """From now on this connection is the worker's."""
        connection = self._greeted.pop(effect.connection)
        former = self._connections.get(effect.worker_id)
        if former is not None:
            former.end.close()
        self._connections[effect.worker_id] = connection
        if connection.end.closed:
            self._cut(connection)

    def _connection(self, effect: StartAttempt | StopAttempt | CloseChannel) -> Connection | None:
        connection = self._connections.get(effect.worker_id)
        if connection is None or connection.incarnation != effect.incarnation:
            return None
        return connection

    def _greet(self, end: End, hello: Hello) -> None:
        """The first message of a connection."""
        held = tuple(HeldAttempt(one.fence, one.started) for one in hello.held)
        if hello.cluster_id is not None and hello.cluster_id != self.cluster_id:
            held = ()  # another cluster's: the worker stops them when it hears whose this is

        connection = Connection(end, hello, next(self._numbers))
        self._greeted[connection.number] = connection
        end.take = lambda up: self._soon(lambda: self._hear(connection, up))
        end.gone = lambda: self._soon(lambda: self._cut(connection))
        stale = self._ledger.stale(one.fence for one in held)

        def welcome(answer: Attached | DtaskError) -> None:
            if isinstance(answer, Attached):
                self._ledger.answered(stale, answer.refused)
                connection.welcome(Welcome(1, self.cluster_id, answer.refused))
            else:
                del self._greeted[connection.number]
                end.close()

        self._post(Attach(hello.worker_id, hello.incarnation, held, connection.number), welcome)

    def _hear(self, connection: Connection, up: Up) -> None:
        if self._connections.get(connection.worker_id) is not connection:
            return
        told = [frame for frame in up.frames if not isinstance(frame, LogFrame)]
        reports = tuple(report(frame) for frame in told)
        stale = self._ledger.stale(frame.fence for frame in told)

        def heed(answer: Heeded | DtaskError) -> None:
            if isinstance(answer, Heeded):
                self._ledger.answered(stale, answer.refused)
                connection.send(up.number, *(DropFrame(fence) for fence in answer.refused))

        self._post(Reports(connection.worker_id, connection.incarnation, reports), heed)

    def _cut(self, connection: Connection) -> None:
        if self._connections.get(connection.worker_id) is connection:
            del self._connections[connection.worker_id]
            self._post(Detached(connection.worker_id, connection.number), _ignore)


def _told(answer: object) -> str:
    if isinstance(answer, DtaskError):
        return answer.code
    if isinstance(answer, Heeded) and answer.refused:
        return f"refused {', '.join(map(str, answer.refused))}"
    if isinstance(answer, Submitted) and answer.known:
        return f"known {answer.job_id}"
    return str(getattr(answer, "job_id", "ok"))


def _ignore(_answer: object) -> None:
    pass
