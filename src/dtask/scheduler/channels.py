"""The channels of all workers: how they begin, whom an effect of the core goes to, how they end.

A WebSocket endpoint, built on ASGI messages. A connection begins with Hello, all that the worker
holds, and Welcome, what becomes of it. There is one channel a worker: a new one that the core
takes in replaces the one before, and the core hears that a channel is gone when the current one
ends. Effects for a worker that has none are dropped, because its next Hello says where it stands.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import msgspec

from dtask.clock import Clock
from dtask.core.jobs.events import (
    Attach,
    Attached,
    AttemptName,
    ChannelOpened,
    CloseChannel,
    Detached,
    HeldAttempt,
    StartAttempt,
    StopAttempt,
)
from dtask.core.jobs.rows import WHOLE
from dtask.errors import DtaskError, InvalidRequest, NotFound, Unavailable
from dtask.scheduler import log
from dtask.scheduler.api.access import Access
from dtask.scheduler.api.answers import Receive, Scope, Send, error_messages
from dtask.scheduler.api.refusals import LINES_MAX, Refusals
from dtask.scheduler.api.request_id import HEADER as REQUEST_ID
from dtask.scheduler.api.request_id import request_id
from dtask.scheduler.channel import Channel, close_message
from dtask.scheduler.log_files import Attempt
from dtask.scheduler.logs import Logs
from dtask.scheduler.loop import Loop
from dtask.scheduler.tallies import Tallies
from dtask.wire import frames
from dtask.wire.frames import (
    CLOSE_AGAIN,
    CLOSE_REFUSED,
    CLOSE_REPLACED,
    VERSION,
    Arrived,
    Hello,
    Welcome,
)

#: Seconds from the handshake to Hello.
HELLO_S: Final = 10.0


class Channels:
    """The channels of one scheduler: an ASGI application for WebSockets.

    `perform` is to be called with the core's effects, in order.
    """

    def __init__(self, access: Access, *, logs: Logs, clock: Clock) -> None:
        self._access = access
        self._logs = logs
        self._clock = clock
        #: By worker: the channel that the core has taken in.
        self._current: dict[str, Channel] = {}
        #: Those whose Hello is being taken in, by number.
        self._channels: dict[int, Channel] = {}
        self._numbers = itertools.count(1)
        self._loop: Loop | None = None
        #: Workers whose channel ends again and again because logs can't be written.
        self._flapping: set[str] = set()
        self._refusals = Refusals()
        self._refused = log.Rationed("more channels were refused", lines_max=LINES_MAX)
        self._performers: dict[type, Callable[[Any], None]] = {
            ChannelOpened: self._open,
            StartAttempt: self._give,
            StopAttempt: self._give,
            CloseChannel: self._close,
        }

    def serve(self, loop: Loop) -> None:
        """Whom to hand to what workers say; to be called once, before any connection."""
        self._loop = loop

    def __len__(self) -> int:
        return len(self._current)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Speak with one worker, from the handshake to the end."""
        client = scope["client"]
        try:
            self._access.check(scope["headers"], client[0] if client else None, needs_token=True)
        except DtaskError as error:
            self._refusals.note(scope, error)
            for message in error_messages(error, (REQUEST_ID, request_id(scope).encode())):
                await send({**message, "type": f"websocket.{message['type']}"})
            return
        await receive()  # websocket.connect
        await send({"type": "websocket.accept"})
        try:
            await self._speak(receive, send)
        except DtaskError as error:
            if (code := _code_of(error)) == CLOSE_REFUSED:
                self._refused.say(
                    "channel refused",
                    level=logging.WARNING,
                    peer=client[0] if client else None,
                    code=error.code,
                    error=str(error),
                )
            with suppress(OSError):
                await send(close_message(code, str(error)))

    # Effects

    def perform(self, effect: Any) -> None:  # noqa: ANN401 (any effect; others are not for workers)
        """Do what an effect of the core asks for, if it is for a worker."""
        performer = self._performers.get(type(effect))
        if performer is not None:
            performer(effect)

    def _open(self, effect: ChannelOpened) -> None:
        """From here on effects are for this connection; those before were for an earlier one."""
        channel = self._channels.get(effect.connection)
        if channel is None:
            return
        before = self._current.get(effect.worker_id)
        if before is not None:
            before.close(CLOSE_REPLACED, "Another connection of this worker has taken over.")
        self._current[effect.worker_id] = channel

    def _give(self, order: StartAttempt | StopAttempt) -> None:
        channel = self._current.get(order.worker_id)
        if channel is not None and channel.incarnation == order.incarnation:
            channel.give(order)

    def _close(self, effect: CloseChannel) -> None:
        channel = self._current.get(effect.worker_id)
        if channel is not None and channel.incarnation == effect.incarnation:
            channel.close(
                CLOSE_AGAIN, "This worker is lost, or the scheduler starts over: say hello again."
            )

    # Beginning and end

    async def _speak(self, receive: Receive, send: Send) -> None:
        """From hello to the end. Raises what refuses the hello."""
        assert self._loop is not None
        hello = await _hello(receive, self._loop.tallies)
        if hello is None:
            return
        channel = Channel(
            hello,
            number=next(self._numbers),
            loop=self._loop,
            logs=self._logs,
            clock=self._clock,
            send=send,
        )
        self._channels[channel.number] = channel
        try:
            await self._welcome(self._loop, channel, hello)
            await channel.run(receive)
        finally:
            del self._channels[channel.number]
            self._leave(self._loop, channel)

    async def _welcome(self, loop: Loop, channel: Channel, hello: Hello) -> None:
        """Let the core take it in, and tell the worker what has become of what it holds."""
        ours = hello.cluster_id in (None, loop.cluster_id)
        held = tuple(HeldAttempt(one.fence, one.started) for one in hello.held if ours)
        attached: Attached = await loop.ask(
            Attach(hello.worker_id, hello.incarnation, held, channel.number)
        )
        loop.tallies.refused += len(attached.refused)
        names = [_name(kept) for kept in attached.kept]
        for kept, name in zip(attached.kept, names, strict=True):
            channel.keep(kept.fence, name)
        sizes = await self._logs.resume(names)
        arrived = tuple(
            Arrived(kept.fence, *each) for kept, each in zip(attached.kept, sizes, strict=True)
        )
        stop = attached.refused if ours else tuple(one.fence for one in hello.held)
        await channel.say(Welcome(VERSION, loop.cluster_id, stop, arrived))
        if self._logs.trouble is None or hello.worker_id not in self._flapping:
            log.say(
                "channel attached",
                worker_id=hello.worker_id,
                kept=len(arrived),
                refused=len(stop),
            )

    def _leave(self, loop: Loop, channel: Channel) -> None:
        """The connection is gone: tell the core, unless another has taken over."""
        worker_id = channel.worker_id
        if self._current.get(worker_id) is channel:
            del self._current[worker_id]
            loop.post(Detached(worker_id, channel.number)).add_done_callback(_forgive)
            self._note_end(worker_id, channel.ended_by)

    def _note_end(self, worker_id: str, reason: str) -> None:
        """Say why a channel ended, but once if that is why the next one will end, too."""
        troubled = reason == self._logs.trouble
        if not troubled or worker_id not in self._flapping:
            log.say("channel closed", worker_id=worker_id, reason=reason)
        if troubled:
            self._flapping.add(worker_id)
        else:
            self._flapping.discard(worker_id)


async def _hello(receive: Receive, tallies: Tallies) -> Hello | None:
    """The first message; None if the connection broke instead. Raises InvalidRequest."""
    try:
        async with asyncio.timeout(HELLO_S):
            message = await receive()
    except TimeoutError:
        raise InvalidRequest(
            f"No hello came within {HELLO_S:g} s.", code="malformed", field="hello"
        ) from None
    if message["type"] == "websocket.disconnect":
        return None
    raw = message.get("bytes") or b""
    tallies.received_bytes += len(raw)
    try:
        hello = frames.from_worker(raw)
    except InvalidRequest:
        _check_version(_version_in(raw))
        raise
    if not isinstance(hello, Hello):
        raise InvalidRequest("A connection begins with a hello.", code="malformed", field="hello")
    _check_version(hello.version)
    return hello


def _version_in(raw: bytes) -> int:
    """The version in a hello that is not of this one; ours if it is none."""
    try:
        match msgspec.msgpack.decode(raw):
            case ["hello", int(version), *_]:
                return version
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    return VERSION


def _check_version(version: int) -> None:
    if version == VERSION:
        return
    side = "worker" if version < VERSION else "scheduler"
    raise InvalidRequest(
        f"The worker speaks version {version} of the channel, the scheduler {VERSION}: "
        f"upgrade the {side}.",
        code="malformed",
        field="version",
    )


def _code_of(error: DtaskError) -> int:
    """How a connection ends that was not taken in: whether it is worth another try at once."""
    if isinstance(error, NotFound | Unavailable):  # a worker is known by its first heartbeat
        return CLOSE_AGAIN
    return CLOSE_REFUSED


def _name(attempt: AttemptName) -> Attempt:
    index = WHOLE if attempt.index is None else attempt.index
    return attempt.job_id, attempt.task, index, attempt.number


def _forgive(answer: "asyncio.Future[Any]") -> None:
    """If the store fails, every channel says hello again anyway."""
    answer.exception()
