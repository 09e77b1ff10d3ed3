"""The channel to one scheduler: what it wants run comes down, and what became of it goes up.

A connection begins with all that this worker holds for the scheduler and ends with any fault, and
then the next one begins the same way: so nothing is lost and nothing needs to be sent again but
what was not heard. Placement, which needs heartbeats only, never waits for a channel.

What is told at once is told without a timer: an event of the runner wakes the sender, and one
message carries all that happened in the same turn of the loop. A start is put off for a moment,
for the end of a short task tells of it too. Only the growth of logs is looked for, now and then,
while attempts run.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from dtask import certificates, errors
from dtask.errors import (
    Conflict,
    Denied,
    DtaskError,
    Internal,
    InvalidRequest,
    Unavailable,
)
from dtask.wire import frames
from dtask.wire.frames import (
    Down,
    DropFrame,
    EndedFrame,
    HeldFrame,
    Hello,
    StartFrame,
    StopFrame,
    Welcome,
)
from dtask.worker.claims import Claims
from dtask.worker.dialogue import Dialogue, Piece
from dtask.worker.run import Key
from dtask.worker.runner import Runner
from dtask.worker.spool import Folder

#: How long the handshake may take, and how long the answer to a hello.
OPEN_S: Final = 5.0
WELCOME_S: Final = 10.0

#: A path that is dead is seen after so long without an answer to a ping, before the scheduler
#: calls this worker offline at 20 s.
PING_S: Final = 5.0
PONG_S: Final = 10.0
CLOSE_S: Final = 1.0

#: Bound of the first pause between two tries, doubled with each failure up to the second, or to
#: the third where trying is not likely to help. A connection that lasts so long has not failed.
BACKOFF_S: Final = 0.1
BACKOFF_S_MAX: Final = 3.0
REFUSED_S_MAX: Final = 30.0

#: A scheduler that has closed so many connections in a row as soon as they were open, for the same
#: reason, will do so again: a full disk.
FLAPS: Final = 2

#: Logs are looked at this often at most, and for this part of the time.
LOOK_S: Final = 0.1
LOOK_SHARE: Final = 0.05

#: More bytes of logs than this are read in a thread.
INLINE_BYTES: Final = 32 * 1024

#: Starting many attempts takes turns with the rest of the loop, after so long.
TURN_S: Final = 0.005

#: Messages that have come and wait to be taken in; websockets pauses reading at more.
QUEUE_MAX: Final = 4

#: A close frame holds so many bytes of a reason.
REASON_BYTES_MAX: Final = 120

_log: Final = logging.getLogger("dtask.worker")

# What websockets says of a connection, the channel says in its own words.
logging.getLogger("websockets.client").setLevel(logging.CRITICAL)


class Channel:
    """The channel to the scheduler at `url`, for one life of a worker.

    `on_changed` is called with it when it opens and closes, `on_told` when an end was heard.
    """

    def __init__(
        self,
        url: str,
        *,
        worker_id: str,
        incarnation: str,
        token: str,
        runner: Runner,
        claims: Claims,
        on_changed: Callable[[], None],
        on_told: Callable[[], None],
    ) -> None:
        self.url = url
        self._worker_id = worker_id
        self._incarnation = incarnation
        self._headers = {"authorization": f"Bearer {token}"}
        self._runner = runner
        self._claims = claims
        self._on_changed = on_changed
        self._on_told = on_told
        #: The store that this connection is about, from its hello on.
        self.cluster_id: str | None = None
        #: Set while there is a connection.
        self._dialogue: Dialogue | None = None
        self._open = False
        #: Attempts to be stopped without a word, which may still take a slot.
        self._dropped: set[Key] = set()
        #: The first heartbeat was answered; one was answered; there is something to send; there
        #: are logs that may grow.
        self._known = asyncio.Event()
        self._answered = asyncio.Event()
        self._news = asyncio.Event()
        self._growing = asyncio.Event()
        #: Since it was last open: tries that failed, and the codes of those that were said.
        self._failures = 0
        self._said: set[str] = set()
        #: Why the scheduler closed the last connection that it closed as soon as it was open, and
        #: how often in a row it was for that.
        self._closed_for = ""
        self._flaps = 0
        self._note: asyncio.TimerHandle | None = None

    # What happens on this side

    def answered(self) -> None:
        """The scheduler has answered a heartbeat: it is there, and knows this worker."""
        self._known.set()
        self._answered.set()

    def started(self, key: Key, started_at: float) -> None:
        """An attempt's process runs since `started_at`, epoch seconds."""
        if self._dialogue is not None and key[0] == self.cluster_id:
            now = asyncio.get_running_loop().time()
            self._dialogue.started(key[1], started_at, now=now)
            self._news.set()
            self._growing.set()

    def ended(self, key: Key, end: EndedFrame) -> None:
        """Nothing is left of an attempt."""
        if self._dialogue is not None and key[0] == self.cluster_id:
            self._dialogue.ended(end)
            self._news.set()

    def dropped(self) -> set[Key]:
        """Attempts that the scheduler counts no more and that still take a slot."""
        self._dropped &= {
            (cluster_id, fence)
            for cluster_id in {cluster_id for cluster_id, _ in self._dropped}
            for fence, _ in self._runner.attempts(cluster_id)
        }
        return self._dropped

    # One connection after the other

    async def run(self) -> NoReturn:
        """Keep the channel open until cancelled, from this life's first answered heartbeat on."""
        await self._known.wait()
        while True:
            await self._claims.free(self.url)
            self._answered.clear()
            try:
                await self._connect()
            except DtaskError as error:
                failure = error
            except ConnectionClosed as closed:
                failure = _reason(closed)
                if closed.rcvd is not None:
                    same = str(failure) == self._closed_for
                    self._closed_for, self._flaps = str(failure), self._flaps + 1 if same else 1
            except Exception:  # noqa: BLE001 (whatever the bug, what runs goes on and is told)
                if "internal" not in self._said:
                    _log.exception("a channel failed; this is a bug in dtask")
                failure = Internal("a bug in dtask", code="internal")
            self._note_failure(failure)
            await self._pause(failure)

    async def _connect(self) -> NoReturn:
        """Be one connection. Raises DtaskError or ConnectionClosed when it ends."""
        connection = await self._opened()
        now = asyncio.get_running_loop().time
        opened_at = now()
        try:
            await self._greet(connection)
            await self._converse(connection)
        except InvalidRequest as error:
            await connection.close(1002, _cut(str(error)))
            raise
        finally:
            was_open, self._open, self._dialogue = self._open, False, None
            if self._note is not None:
                self._note.cancel()
            if was_open:
                if now() - opened_at >= BACKOFF_S_MAX:
                    self._failures = self._flaps = 0
                self._claims.close(self.url)
                self._on_changed()
            await connection.close()

    async def _opened(self) -> ClientConnection:
        """A connection. Raises DtaskError that says why there is none."""
        scheme, _, rest = self.url.partition("://")
        secure = scheme == "https"
        try:
            return await connect(
                f"{'wss' if secure else 'ws'}://{rest}{frames.PATH}",
                additional_headers=self._headers,
                user_agent_header=None,
                compression=None,
                proxy=None,
                max_size=frames.MESSAGE_BYTES_MAX,
                max_queue=QUEUE_MAX,
                open_timeout=OPEN_S,
                ping_interval=PING_S,
                ping_timeout=PONG_S,
                close_timeout=CLOSE_S,
                ssl=certificates.trusted() if secure else None,
            )
        except InvalidStatus as refused:
            raise _refusal(refused) from None
        except (OSError, WebSocketException) as error:
            words = error.strerror if isinstance(error, OSError) else None
            raise Unavailable(
                words or str(error) or type(error).__name__, code="unreachable"
            ) from None

    async def _greet(self, connection: ClientConnection) -> None:
        """Say hello and heed the welcome."""
        self.cluster_id = self._claims.of(self.url, self._runner.clusters())
        held = self._runner.attempts(self.cluster_id) if self.cluster_id is not None else []
        dialogue = Dialogue(fence for fence, _ in held)
        self._dialogue = dialogue
        for fence, _ in held:
            if (end := self._runner.attempt_end((self.cluster_id or "", fence))) is not None:
                dialogue.ended(end)
        hello = Hello(
            frames.VERSION,
            self._worker_id,
            self._incarnation,
            self.cluster_id,
            tuple(HeldFrame(*one) for one in held),
        )
        await connection.send(frames.encode(hello))
        try:
            async with asyncio.timeout(WELCOME_S):
                welcome = frames.from_scheduler(await connection.recv(decode=False))
        except TimeoutError:
            reason = f"no answer to the hello within {WELCOME_S:g} s"
            raise Unavailable(reason, code="unreachable") from None
        if not isinstance(welcome, Welcome):
            raise _unexpected(welcome)
        self._heed_welcome(welcome)

    def _heed_welcome(self, welcome: Welcome) -> None:
        """Drop what nobody waits for, and go on with the rest."""
        assert self._dialogue is not None
        if welcome.version != frames.VERSION:
            older = "scheduler" if welcome.version < frames.VERSION else "worker"
            raise InvalidRequest(
                f"it speaks version {welcome.version} of the channel, and this worker "
                f"{frames.VERSION}: upgrade the {older}",
                code="malformed",
                field="version",
            )
        self._claims.claim(self.url, welcome.cluster_id)
        if welcome.cluster_id != self.cluster_id:
            if self._runner.attempts(welcome.cluster_id):
                raise Unavailable("it has changed its store", code="unreachable")
            self.cluster_id = welcome.cluster_id
            self._dialogue = Dialogue()
        for fence in welcome.stop:
            self._drop((welcome.cluster_id, fence))
        for orphan in self._claims.orphans(self._runner.clusters()):
            for fence, _ in self._runner.attempts(orphan):
                self._drop((orphan, fence))
        self._dialogue.resume(welcome.arrived)
        self._news.set()
        self._growing.set()
        self._open = True
        self._claims.open(self.url)
        self._on_changed()
        if self._flaps < FLAPS:
            self._note_open(welcome.cluster_id)
        else:
            loop = asyncio.get_running_loop()
            self._note = loop.call_later(BACKOFF_S_MAX, self._note_open, welcome.cluster_id)

    async def _converse(self, connection: ClientConnection) -> NoReturn:
        """Receive, send and look after logs until one of them fails."""
        assert self._dialogue is not None
        assert self.cluster_id is not None
        parts = [
            asyncio.ensure_future(part)
            for part in (
                self._receive(connection, self._dialogue, self.cluster_id),
                self._send(connection, self._dialogue, self.cluster_id),
                self._look_after(self._dialogue, self.cluster_id),
            )
        ]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
            raise AssertionError("no part of a conversation ends by itself")
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    # Down

    async def _receive(
        self, connection: ClientConnection, dialogue: Dialogue, cluster_id: str
    ) -> NoReturn:
        now = asyncio.get_running_loop().time
        while True:
            down = frames.from_scheduler(await connection.recv(decode=False))
            if not isinstance(down, Down):
                raise _unexpected(down)
            if heard := dialogue.heard(down.heard):
                for fence in heard:
                    self._runner.forget_attempt((cluster_id, fence))
                self._on_told()
            turn_over_at = now() + TURN_S
            for frame in down.frames:
                self._heed(frame, cluster_id)
                if now() >= turn_over_at:
                    await asyncio.sleep(0)
                    turn_over_at = now() + TURN_S
            dialogue.take(down, now=now())
            self._news.set()

    def _heed(self, frame: StartFrame | StopFrame | DropFrame, cluster_id: str) -> None:
        match frame:
            case StartFrame():
                self._runner.attempt(cluster_id, frame)
            case StopFrame(fence, grace_s):
                self._runner.stop_attempt((cluster_id, fence), grace_s)
            case DropFrame(fence):
                self._drop((cluster_id, fence))

    def _drop(self, key: Key) -> None:
        if self._dialogue is not None and key[0] == self.cluster_id:
            self._dialogue.forget(key[1])
        self._dropped.add(key)
        self._runner.drop_attempt(key)

    # Up

    async def _send(
        self, connection: ClientConnection, dialogue: Dialogue, cluster_id: str
    ) -> NoReturn:
        loop = asyncio.get_running_loop()
        put_off: asyncio.TimerHandle | None = None
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                while (raw := await self._message(dialogue, cluster_id)) is not None:
                    await connection.send(raw)
                if put_off is not None:
                    put_off.cancel()
                due = dialogue.due()
                put_off = loop.call_at(due, self._news.set) if due is not None else None
        finally:
            if put_off is not None:
                put_off.cancel()

    async def _message(self, dialogue: Dialogue, cluster_id: str) -> bytes | None:
        """The next message to send; None if there is nothing to say."""
        pieces = dialogue.wanted()
        logs = [(self._runner.attempt_log((cluster_id, piece.fence)), piece) for piece in pieces]
        if sum(piece.length for piece in pieces) <= INLINE_BYTES:
            read = _read(logs)
        else:
            read = await asyncio.to_thread(_read, logs)
        up = dialogue.message(read, now=asyncio.get_running_loop().time())
        return frames.encode(up) if up is not None else None

    async def _look_after(self, dialogue: Dialogue, cluster_id: str) -> NoReturn:
        """Notice what running attempts write."""
        now = asyncio.get_running_loop().time
        while True:
            await self._growing.wait()
            self._growing.clear()
            looked_at = now()
            for fence in dialogue.running():
                self._growing.set()
                folder = self._runner.attempt_log((cluster_id, fence))
                if folder is not None and dialogue.grown(
                    fence, folder.log_bytes("stdout"), folder.log_bytes("stderr")
                ):
                    self._news.set()
            await asyncio.sleep(max(LOOK_S, (now() - looked_at) / LOOK_SHARE))

    # What is said of it, and when it is tried again

    def _note_open(self, cluster_id: str) -> None:
        again = " again" if self._said else ""
        self._said.clear()
        self._say(
            "attached", f"The channel to the scheduler {self.url} is open{again}.", cluster_id
        )

    def _note_failure(self, failure: DtaskError) -> None:
        """Say why there is no channel, once until there is one."""
        self._failures += 1
        if failure.code in self._said:
            return
        self._said.add(failure.code)
        if failure.code == "no_route":
            sentence = (
                f"The scheduler {self.url} has no channel for jobs: it only places tasks here."
            )
            self._say("no_route", sentence)
            return
        reason = str(failure) if str(failure).endswith((".", "?")) else f"{failure}."
        sentence = f"The channel to the scheduler {self.url} is not open: {reason}"
        self._say("detached", f"{sentence} Trying until it is.", level=logging.WARNING)

    def _say(
        self,
        change: str,
        sentence: str,
        cluster_id: str | None = None,
        *,
        level: int = logging.INFO,
    ) -> None:
        facts = {"change": change, "scheduler": self.url}
        if cluster_id is not None:
            facts["cluster_id"] = cluster_id
        _log.log(level, sentence, extra={"facts": facts})

    async def _pause(self, failure: DtaskError) -> None:
        """Wait, with full jitter; an answered heartbeat mostly says that trying is worth it."""
        refused = isinstance(failure, Denied | InvalidRequest) or failure.code == "no_route"
        longest_s = REFUSED_S_MAX if refused else BACKOFF_S_MAX
        bound_s = min(longest_s, BACKOFF_S * 2.0 ** min(self._failures - 1, 16))
        pause_s = random.uniform(0, bound_s)  # noqa: S311 (spreads load, hides nothing)
        if refused or self._flaps >= FLAPS:
            await asyncio.sleep(pause_s)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._answered.wait()


def _read(logs: list[tuple[Folder | None, Piece]]) -> list[tuple[Piece, bytes]]:
    """What the pieces are to hold; nothing where the log is gone."""
    return [
        (piece, folder.read(piece.stream, piece.offset, piece.length) if folder else b"")
        for folder, piece in logs
    ]


def _refusal(refused: InvalidStatus) -> DtaskError:
    """The error of a scheduler that answered with HTTP instead."""
    try:
        parsed = orjson.loads(refused.response.body or b"")
    except orjson.JSONDecodeError:
        parsed = None
    return errors.from_body(refused.response.status_code, parsed)


def _reason(closed: ConnectionClosed) -> DtaskError:
    """Why the connection is over, as an error that says whether trying again may help."""
    said = closed.rcvd
    if said is None:
        unanswered = closed.sent is not None and closed.sent.reason == "keepalive ping timeout"
        reason = f"no answer to a ping within {PONG_S:g} s" if unanswered else "it broke"
        return Unavailable(reason, code="unreachable")
    reason = said.reason or f"it was closed with code {said.code}"
    if said.code == frames.CLOSE_REFUSED:
        return InvalidRequest(reason, code="malformed", field="$")
    if said.code == frames.CLOSE_REPLACED:
        return Conflict(reason, code="superseded")
    return Unavailable(reason, code="unreachable")


def _unexpected(message: object) -> InvalidRequest:
    return InvalidRequest(
        f"it said {type(message).__name__.lower()} where that has no place",
        code="malformed",
        field="$",
    )


def _cut(reason: str) -> str:
    return reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore")
