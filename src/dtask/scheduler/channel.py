"""One worker's channel, from Welcome on: what it says is handled in order, and is heard in order.

The reader takes one message after the other: logs go to disk, and what it reports goes into the
core. It does not wait for the commit, so messages pile up behind one; each is heard when it is
durable, and all before it. The sender writes what has gathered in one turn of the loop as one
message.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from msgspec import structs

from dtask.clock import Clock
from dtask.core.jobs import model
from dtask.core.jobs.events import Ended, Reports, StartAttempt, Started, StopAttempt
from dtask.core.jobs.rows import WHOLE
from dtask.core.jobs.states import Cause
from dtask.errors import DtaskError, InvalidRequest, Unavailable
from dtask.scheduler import log
from dtask.scheduler.api.answers import Receive, Send
from dtask.scheduler.log_files import Attempt
from dtask.scheduler.logs import Logs
from dtask.scheduler.loop import Loop
from dtask.wire import frames
from dtask.wire.attempts import report, start_frame
from dtask.wire.frames import (
    CLOSE_AGAIN,
    CLOSE_REFUSED,
    FRAMES_MAX,
    MESSAGE_BYTES_MAX,
    Down,
    DropFrame,
    EndedFrame,
    Hello,
    LogFrame,
    StartedFrame,
    StartFrame,
    StopFrame,
    Up,
    Welcome,
)

#: Messages of a worker whose commit is awaited; no more are read meanwhile.
UNHEARD_MAX: Final = 64

#: Frames that wait for a worker to read.
FRAMES_WAITING_MAX: Final = 100_000

#: Of a close: RFC 6455 leaves 125 for code and reason.
REASON_BYTES_MAX: Final = 123

_BUG: Final = "This is a bug in dtask: the scheduler's log tells more."

Order = StartAttempt | StopAttempt


class _Unheard(NamedTuple):
    """A message that was handled, and is not durable yet."""

    number: int
    #: Fences of attempts that ended.
    over: tuple[int, ...]
    answer: "asyncio.Future[Any] | None"


class Channel:
    """One connection of a worker. Orders may come as soon as it is made; `run` sends them."""

    def __init__(
        self, hello: Hello, *, number: int, loop: Loop, logs: Logs, clock: Clock, send: Send
    ) -> None:
        self.worker_id = hello.worker_id
        self.incarnation = hello.incarnation
        #: Tells it from other connections of this scheduler.
        self.number = number
        #: Code and sentence, once it is to end.
        self.closing: tuple[int, str] | None = None
        #: Why it ended, for people.
        self.ended_by = "The worker closed it, or the connection broke."
        self._loop = loop
        self._tallies = loop.tallies
        self._logs = logs
        self._clock = clock
        self._send = send
        #: Attempts that the worker may speak of, by fence.
        self._names: dict[int, Attempt] = {}
        self._taken = 0
        self._unheard: deque[_Unheard] = deque()
        self._room = asyncio.Event()
        self._heard = 0
        self._told = 0
        self._number = 0
        self._waiting: deque[Order | DropFrame] = deque()
        self._wake = asyncio.Event()

    # From the core

    def give(self, order: Order) -> None:
        """Send it soon."""
        if isinstance(order, StartAttempt):
            index = WHOLE if order.index is None else order.index
            self._names[order.fence] = (order.job_id, order.task, index, order.number)
        self._tell(order)

    def keep(self, fence: int, name: Attempt) -> None:
        """The worker holds this attempt, and it goes on."""
        self._names[fence] = name

    def close(self, code: int, sentence: str) -> None:
        """End it soon."""
        if self.closing is None:
            self.closing = code, sentence
            self.ended_by = sentence
            self._wake.set()
            self._room.set()

    # Life

    async def say(self, welcome: Welcome) -> None:
        """The first thing that is said."""
        await self._send_raw(frames.encode(welcome))

    async def run(self, receive: Receive) -> None:
        """Speak with the worker until the connection ends, or `close` was asked for."""
        sender = asyncio.create_task(self._send_all())
        try:
            while self.closing is None:
                message = await receive()
                if message["type"] == "websocket.disconnect":
                    self.ended_by = message.get("reason") or self.ended_by
                    return
                if self.closing is None:
                    await self._take(message.get("bytes"))
        except Unavailable as error:
            self.close(CLOSE_AGAIN, str(error))
        except DtaskError as error:
            self.close(CLOSE_REFUSED, str(error))
        except Exception:  # noqa: BLE001 (whatever the bug, the loop lives and the worker retries)
            log.logger.exception("a worker's message failed; this is a bug in dtask")
            self.close(CLOSE_AGAIN, _BUG)
        finally:
            if self.closing is None:
                sender.cancel()
            await asyncio.wait([sender])

    # Up

    async def _take(self, raw: bytes | None) -> None:
        self._tallies.received_bytes += len(raw or b"")
        up = frames.from_worker(raw) if raw is not None else None
        if (
            not isinstance(up, Up)
            or up.number != self._taken + 1
            or up.heard > self._number
            or len(up.frames) > FRAMES_MAX
        ):
            raise InvalidRequest(
                f"Expected message {self._taken + 1} of this connection, of at most {FRAMES_MAX} "
                f"frames, that has heard no message but the {self._number} sent.",
                code="malformed",
                field="number",
            )
        self._taken = up.number
        chunks: dict[Attempt, list[LogFrame]] = {}
        over: dict[int, Attempt] = {}
        strange: set[int] = set()
        reports: list[StartedFrame | EndedFrame] = []
        for frame in up.frames:
            name = self._names.get(frame.fence)
            if isinstance(frame, LogFrame):
                if name is None:
                    strange.add(frame.fence)
                else:
                    chunks.setdefault(name, []).append(frame)
                continue
            reports.append(frame)
            if name is not None and isinstance(frame, EndedFrame):
                over[frame.fence] = name
        if chunks or over:
            await self._logs.take(chunks.items(), over.values())
            self._tallies.log_bytes += sum(
                len(frame.data) for each in chunks.values() for frame in each
            )
        for fence in strange:
            self._tell(DropFrame(fence))
        await self._report(up.number, reports, tuple(over))

    async def _report(
        self, number: int, reports: Sequence[StartedFrame | EndedFrame], over: tuple[int, ...]
    ) -> None:
        """Put them into the core, and the message in line to be heard."""
        answer: asyncio.Future[Any] | None = None
        if reports:
            answer = self._post(tuple(self._report_of(frame) for frame in reports))
        self._unheard.append(_Unheard(number, over, answer))
        if answer is None:
            self._settle()
        else:
            answer.add_done_callback(self._settle)
        while len(self._unheard) >= UNHEARD_MAX and self.closing is None:
            self._room.clear()
            await self._room.wait()

    def _post(self, reports: tuple[Started | Ended, ...]) -> "asyncio.Future[Any]":
        return self._loop.post(Reports(self.worker_id, self.incarnation, reports))

    def _report_of(self, frame: StartedFrame | EndedFrame) -> Started | Ended:
        told = report(frame)
        name = self._names.get(frame.fence)
        if name is None or isinstance(frame, StartedFrame):
            return told
        (stdout, stderr, result), cut = self._logs.standing(name)
        if (stdout, stderr, result) == (
            frame.stdout_bytes,
            frame.stderr_bytes,
            frame.result_bytes,
        ):
            return told
        missing = (
            stdout < frame.stdout_bytes
            or stderr < frame.stderr_bytes
            or result < frame.result_bytes
        )
        return structs.replace(
            told,
            stdout_bytes=stdout,
            stderr_bytes=stderr,
            result_bytes=result,
            truncated=frame.truncated or cut,
            log_lost=frame.log_lost or (missing and not cut),
        )

    def _settle(self, _answer: "asyncio.Future[Any] | None" = None) -> None:
        """Messages at the head of the line that are durable are heard."""
        unheard = self._unheard
        while unheard and ((answer := unheard[0].answer) is None or answer.done()):
            message = unheard.popleft()
            if answer is not None:
                if (error := answer.exception()) is not None:
                    self.close(CLOSE_AGAIN, str(error))
                    continue
                refused = answer.result().refused
                self._tallies.refused += len(refused)
                for fence in refused:
                    self._tell(DropFrame(fence))
                    self._finish(fence)
            for fence in message.over:
                self._finish(fence)
            if self.closing is None:
                self._heard = message.number
                self._wake.set()
        self._room.set()

    def _finish(self, fence: int) -> None:
        """Nothing more is taken of this attempt."""
        name = self._names.pop(fence, None)
        if name is not None:
            self._logs.finish(name)

    # Down

    def _tell(self, what: Order | DropFrame) -> None:
        if self.closing is not None:
            return
        if len(self._waiting) >= FRAMES_WAITING_MAX:
            self.close(CLOSE_AGAIN, "The worker reads too slowly: too many frames wait for it.")
            return
        self._waiting.append(what)
        self._wake.set()

    async def _send_all(self) -> None:
        """Send what is there, again and again, until the end."""
        try:
            while self.closing is None:
                await self._wake.wait()
                self._wake.clear()
                await self._send_waiting()
        except OSError:  # uvicorn's word for a connection that is gone
            return
        except Exception:  # noqa: BLE001 (whatever the bug, the loop lives and the worker retries)
            log.logger.exception("a message to a worker failed; this is a bug in dtask")
            self.close(CLOSE_AGAIN, _BUG)
        assert self.closing is not None
        with suppress(OSError):
            await self._send(close_message(*self.closing))

    async def _send_waiting(self) -> None:
        while self.closing is None and (self._waiting or self._heard > self._told):
            count = min(len(self._waiting), FRAMES_MAX)
            batch = self._frames(count)
            for raw in self._messages(batch):
                await self._send_raw(raw)

    async def _send_raw(self, raw: bytes) -> None:
        self._tallies.sent_bytes += len(raw)
        await self._send({"type": "websocket.send", "bytes": raw})

    def _frames(self, count: int) -> tuple[StartFrame | StopFrame | DropFrame, ...]:
        """The next ones that wait, but for those that could not be sent."""
        batch: list[StartFrame | StopFrame | DropFrame] = []
        for _ in range(count):
            order = self._waiting.popleft()
            if isinstance(order, StartAttempt):
                size = _command_chars(order)
                if size > MESSAGE_BYTES_MAX:
                    self._refuse(order.fence, size)
                else:
                    batch.append(start_frame(order))
            elif isinstance(order, StopAttempt):
                batch.append(StopFrame(order.fence, order.grace_s))
            else:
                batch.append(order)
        return tuple(batch)

    def _messages(self, batch: tuple[StartFrame | StopFrame | DropFrame, ...]) -> Iterator[bytes]:
        """The frames in as few messages as hold them."""
        raw = frames.encode(Down(self._number + 1, self._heard, batch))
        if len(raw) <= MESSAGE_BYTES_MAX:
            self._number += 1
            self._told = self._heard
            yield raw
        elif len(batch) > 1:
            half = len(batch) // 2
            yield from self._messages(batch[:half])
            yield from self._messages(batch[half:])
        else:
            self._refuse(batch[0].fence, len(raw))

    def _refuse(self, fence: int, size_bytes: int) -> None:
        """An attempt that no message holds fails, as one that can't be started."""
        self._names.pop(fence, None)
        error = (
            f"Its command, environment and files take {size_bytes} bytes, and a worker is sent "
            f"{MESSAGE_BYTES_MAX} at most: put what is large into a file."
        )
        ended = Ended(
            fence, None, cause=Cause.START_FAILED, error=error, ended_at=self._clock.now()
        )
        self._post((ended,)).add_done_callback(_forgive)


def close_message(code: int, sentence: str) -> dict[str, Any]:
    """What ends a connection, with as much of the sentence as fits."""
    reason = sentence.encode()[:REASON_BYTES_MAX].decode(errors="ignore")
    return {"type": "websocket.close", "code": code, "reason": reason}


def _command_chars(order: StartAttempt) -> int:
    """How long the command gets; before that, since a few words can hold the item many times."""
    if order.index is None:
        return 0
    item_chars = len(model.item(order.spec, order.index))
    return sum(len(word) + word.count("{}") * item_chars for word in order.spec.command)


def _forgive(answer: "asyncio.Future[Any]") -> None:
    """Whether that was durable matters to nobody: if not, it is said again."""
    answer.exception()
