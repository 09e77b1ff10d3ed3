"""Worker processes: the real state machine of their tasks, and heartbeats as the agent's.

A process heartbeats at once, then every three seconds, and when a task ends at once, at most five
times a second. It has one heartbeat under way at a time and repeats what ended until answered.
What it tells depends on its kind: names with fences, as dtask's own agent; plain names; a count;
or nothing, so that only leases tell what it holds.
"""

import itertools
import random
from collections.abc import Callable
from typing import Any, Final, Literal

from msgspec import Struct

from dtask.core import attempts
from dtask.core.attempts import Attempts, Exited, Freed, Gone, Held, Launch, Start, Terminate
from dtask.core.placement.events import Heard, Heartbeat, Named
from dtask.errors import Conflict, DtaskError
from dtask.sim.network import Reply
from dtask.sim.scheduler import ADDRESS
from dtask.sim.site import Site
from dtask.sim.timeline import Action

#: Seconds, as the agent has them.
INTERVAL_S: Final = 3.0
GAP_S: Final = 0.2
TIMEOUT_S: Final = 1.8
BACKOFF_S: Final = 0.5
HELD_S: Final = 12.0

Style = Literal["fenced", "named", "counted", "leased"]


class Kind(Struct, frozen=True):
    """What a worker is."""

    worker_id: str
    tags: tuple[str, ...]
    max_tasks: int
    #: How it reports what it holds.
    style: Style
    #: Whether it sends an incarnation and numbers its heartbeats.
    numbered: bool
    trusted: bool


class Process:
    """One life of a worker."""

    def __init__(
        self,
        site: Site,
        rng: random.Random,
        kind: Kind,
        *,
        address: str,
        incarnation: str,
        died: Callable[["Process"], None],
    ) -> None:
        self.kind = kind
        self.address = address
        self.alive = True
        self.attempts = Attempts(kind.max_tasks, grace_s=2.0)
        self._site = site
        self._rng = rng
        self.incarnation = incarnation if kind.numbered else None
        self._died = died
        #: What waits while the process is frozen; None while it runs.
        self._backlog: list[Action] | None = None
        self._seq = itertools.count(1)
        #: Tasks whose process runs.
        self._running: set[attempts.Name] = set()
        #: What ended since the last answer, each with the number of its end.
        self._ended: dict[Named, int] = {}
        self._ends = 0
        self._draining = False
        self._drained = False
        # The one heartbeat under way, or the timer of the next.
        self._under_way = False
        self._wanted = False
        self._timer = 0
        self._sent_at = -INTERVAL_S
        self._failures = 0
        self._held_since: float | None = None
        self._beat()

    # Faults

    def kill(self) -> None:
        """It ends, as by kill -9, and its tasks with it."""
        self.alive = False
        self._site.note(f"{self} ends")
        self._died(self)

    def freeze(self) -> None:
        """SIGSTOP: nothing is answered and nothing sent."""
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
        """SIGTERM: take no new task, wait for those that run, say goodbye, end."""
        self._run(self._begin_to_retire)

    def __str__(self) -> str:
        return f"{self.kind.worker_id} at {self.address}"

    # The listener

    def start(self, start: Start, reply: Reply) -> None:
        """A client sends a task."""
        self._run(lambda: reply(self._start(start)))

    def look(self, task_id: str, fence: int, reply: Reply) -> None:
        """A client asks what became of a task: its state, or that it is unknown here."""
        self._run(lambda: reply(self._look(task_id, fence)))

    def _start(self, start: Start) -> str | DtaskError:
        try:
            self._handle(start)
        except DtaskError as error:
            self._site.note(f"{self} refuses {start.task_id}: {error.code}")
            return error
        return "accepted"

    def _look(self, task_id: str, fence: int) -> str:
        attempt = self.attempts.find(task_id, fence)
        return "unknown" if attempt is None else attempt.state

    # Tasks

    def _handle(self, event: attempts.Event) -> None:
        effects = self.attempts.handle(event, self._site.timeline.now)
        self.attempts.check()
        for effect in effects:
            match effect:
                case Launch(start):
                    self._running.add((start.task_id, start.fence))
                    self._exit_after(float(start.command[1]), start.task_id, start.fence, 0)
                case Terminate(task_id, fence):
                    self._exit_after(self._rng.uniform(0.01, 0.5), task_id, fence, -15)
                case Held(task_id, fence):
                    self._ended.pop(self._name(task_id, fence), None)
                case Freed(task_id, fence):
                    self._note_end(task_id, fence)
                case _:
                    pass

    def _exit_after(self, delay_s: float, task_id: str, fence: int, code: int) -> None:
        """The children run on while their agent is frozen; it learns of their ends later."""
        self._later(delay_s, lambda: self._exit(task_id, fence, code))

    def _exit(self, task_id: str, fence: int, code: int) -> None:
        if (task_id, fence) in self._running:
            self._running.remove((task_id, fence))
            self._handle(Exited(task_id, fence, code))
            self._later(0.01, lambda: self._handle(Gone(task_id, fence)))

    def _note_end(self, task_id: str, fence: int) -> None:
        name = self._name(task_id, fence)
        if name not in self._names():  # under a plain name its heir may go on
            self._ends += 1
            self._ended[name] = self._ends
        self._wake()
        if self._draining:
            self._leave_if_idle()

    def _name(self, task_id: str, fence: int) -> Named:
        return (task_id, fence if self.kind.style == "fenced" else None)

    def _names(self) -> tuple[Named, ...]:
        return tuple(self._name(*name) for name in self.attempts.held())

    def _begin_to_retire(self) -> None:
        self._draining = True
        self._handle(attempts.Drain())
        self._wake()
        self._leave_if_idle()

    def _leave_if_idle(self) -> None:
        if self.alive and not self.attempts.held():
            self._send(self._compose(leaving=True), _ignore)
            self.kill()

    # Heartbeats

    def _wake(self) -> None:
        """Something changed: heartbeat as soon as the gap allows."""
        if self._under_way:
            self._wanted = True
        else:
            self._beat_at(self._sent_at + GAP_S)

    def _beat_at(self, when: float) -> None:
        self._timer += 1
        timer = self._timer
        delay_s = max(0.0, when - self._site.timeline.now)
        self._later(delay_s, lambda: self._beat() if timer == self._timer else None)

    def _beat(self) -> None:
        self._under_way = True
        self._wanted = False
        self._sent_at = self._site.timeline.now
        mark = self._ends
        self._send(
            self._compose(leaving=False),
            lambda answers: self._run(lambda: self._answered(answers, mark)),
        )

    def _send(self, beat: Heartbeat, done: Reply) -> None:
        self._site.network.call(
            self.address,
            ADDRESS,
            lambda reply: self._site.scheduler.receive((beat,), reply),
            done,
            timeout_s=TIMEOUT_S,
        )

    def _answered(self, answers: list[Any] | None, mark: int) -> None:
        self._under_way = False
        answer = None if answers is None else answers[0]
        if isinstance(answer, Heard):
            self._failures = 0
            self._held_since = None
            self._drained = answer.drained
            self._ended = {name: end for name, end in self._ended.items() if end > mark}
            pause_s = GAP_S if self._wanted else self._rng.uniform(0.9, 1) * INTERVAL_S
        else:
            self._failures += 1
            if isinstance(answer, Conflict) and self._is_final(answer):
                self.kill()
                return
            bound_s = min(INTERVAL_S, BACKOFF_S * 2.0 ** min(self._failures, 10))
            pause_s = self._rng.uniform(0, bound_s)
        self._beat_at(self._sent_at + pause_s)

    def _is_final(self, error: Conflict) -> bool:
        """Whether trying on is no use, as dtask's own agent sees it; a plain one tries on."""
        if error.code == "held":
            now = self._site.timeline.now
            self._held_since = self._held_since or now
            return self.kind.numbered and now - self._held_since >= HELD_S
        return error.code == "superseded"

    def _compose(self, *, leaving: bool) -> Heartbeat:
        style = self.kind.style
        named = style in ("fenced", "named")
        names = self._names()
        return Heartbeat(
            worker_id=self.kind.worker_id,
            address=self.address,
            tags=self.kind.tags,
            max_tasks=self.kind.max_tasks,
            current_tasks=None if style == "leased" else len(names),
            incarnation=self.incarnation,
            seq=next(self._seq) if self.kind.numbered else None,
            tasks=names if named else None,
            ended=tuple(self._ended) if named else (),
            draining=self._draining,
            leaving=leaving,
            drained=self._drained,
            trusted=self.kind.trusted,
        )

    # Being stopped and dead

    def _later(self, delay_s: float, action: Action) -> None:
        self._site.timeline.after(delay_s, lambda: self._run(action))

    def _run(self, action: Action) -> None:
        if self._backlog is not None:
            self._backlog.append(action)
        elif self.alive:
            action()


def _ignore(_answer: object) -> None:
    pass
