"""What a worker has said over one connection of a channel, what was heard of it, and what is next.

No I/O: the channel tells what happened and how much there is to read, asks what to read and what
to send, and does both. Nothing here outlives its connection; what does is the runner's, and the
next connection begins with that.

*Words* are short: a start, an end. They go first and wait for no window. Logs follow in turns, a
chunk an attempt, so that a flood of one holds up no other; an attempt's end becomes a word when
the last byte of its log has its place in a message.

A start is put off for a moment, and so is saying that orders were taken in: most often there is
soon something else to say. An end tells of its start, so a short attempt takes one message, and
its scheduler one commit.
"""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from msgspec import structs

from dtask.errors import InvalidRequest
from dtask.wire.frames import (
    CHUNK_BYTES_MAX,
    FRAMES_MAX,
    WINDOW_BYTES,
    Arrived,
    Down,
    EndedFrame,
    LogFrame,
    StartedFrame,
    Stream,
    Up,
)

#: Bytes of logs in one message, and of the words before and after them. Small, since a start or
#: an end that comes now waits until the message under way has gone; all three fit a message.
LOG_BYTES_MAX: Final = 512 * 1024
WORD_BYTES_MAX: Final = 512 * 1024
#: Chunks in one message, so that there is room for words.
CHUNKS_MAX: Final = FRAMES_MAX // 2
#: An end without its error, at most; and how much is said of an error.
ENDED_BYTES: Final = 200
ERROR_CHARS_MAX: Final = 1_000

#: How long a start is put off, and the word that orders were taken in.
PUT_OFF_S: Final = 0.02

_STREAMS: Final[tuple[Stream, ...]] = ("stdout", "stderr", "result")


class Piece(NamedTuple):
    """Bytes of a log that are to be read and sent."""

    fence: int
    stream: Stream
    offset: int
    length: int


class Track:
    """How far one attempt's streams have been sent."""

    __slots__ = ("end", "fence", "lost", "queued", "sent", "sizes")

    def __init__(self, fence: int) -> None:
        self.fence = fence
        #: Bytes sent and bytes there, of stdout, stderr and result.
        self.sent = [0, 0, 0]
        self.sizes = [0, 0, 0]
        self.end: EndedFrame | None = None
        #: Bytes that should be there can't be read.
        self.lost = False
        #: It waits for its turn, or has it.
        self.queued = False

    @property
    def pending(self) -> bool:
        """Whether there is more to send than was sent."""
        return any(sent < size for sent, size in zip(self.sent, self.sizes, strict=True))

    def pieces(self, room: int) -> Iterator[Piece]:
        """What to send next, `room` bytes at most."""
        for at, stream in enumerate(_STREAMS):
            length = min(self.sizes[at] - self.sent[at], room)
            if length > 0:
                room -= length
                yield Piece(self.fence, stream, self.sent[at], length)


class Sent(NamedTuple):
    """What of a message matters until it was heard."""

    number: int
    log_bytes: int
    ended: tuple[int, ...]


class Dialogue:
    """The worker's half of one connection. `held` are the fences that its hello tells of."""

    def __init__(self, held: Iterable[int] = ()) -> None:
        self._tracks = {fence: Track(fence) for fence in held}
        self._words: deque[StartedFrame | EndedFrame] = deque()
        #: Starts that are put off, the oldest first, each with the time when it is not any more.
        self._starts: dict[int, tuple[float, StartedFrame]] = {}
        #: Attempts with bytes to send, the next one first; and those whose turn it is.
        self._ready: deque[Track] = deque()
        self._turn: list[Track] = []
        #: Of the last message sent, and of the scheduler's last one that was taken in.
        self._number = 0
        self._taken = 0
        #: When the scheduler is to be told that its orders were taken in; None: it knows.
        self._owes_at: float | None = None
        self._unheard: deque[Sent] = deque()
        self._unheard_bytes = 0

    # What the worker does

    def resume(self, arrived: Iterable[Arrived]) -> None:
        """The logs of held attempts go on where they have arrived."""
        for one in arrived:
            if (track := self._tracks.get(one.fence)) is not None:
                track.sent = [one.stdout, one.stderr, one.result]

    def started(self, fence: int, started_at: float, *, now: float) -> None:
        """An attempt's process runs."""
        self._track(fence)
        self._starts[fence] = (now + PUT_OFF_S, StartedFrame(fence, started_at))

    def running(self) -> list[int]:
        """Attempts whose logs may grow."""
        return [fence for fence, track in self._tracks.items() if track.end is None]

    def grown(self, fence: int, stdout_bytes: int, stderr_bytes: int) -> bool:
        """The streams of a running attempt are so long now; whether that is news."""
        track = self._tracks.get(fence)
        if track is None or track.end is not None:
            return False
        track.sizes = [stdout_bytes, stderr_bytes, 0]
        self._advance(track)
        return track.queued

    def ended(self, end: EndedFrame) -> None:
        """Nothing is left of an attempt. What is left of its log goes first."""
        track = self._track(end.fence)
        track.end = end
        track.sizes = [end.stdout_bytes, end.stderr_bytes, end.result_bytes]
        if not track.pending:
            self._starts.pop(end.fence, None)
        self._advance(track)

    def forget(self, fence: int) -> None:
        """Say nothing more of an attempt."""
        if (track := self._tracks.pop(fence, None)) is not None and track.queued:
            self._ready = deque(one for one in self._ready if one is not track)
        self._starts.pop(fence, None)
        if any(word.fence == fence for word in self._words):
            self._words = deque(word for word in self._words if word.fence != fence)

    # What the scheduler says

    def take(self, down: Down, *, now: float) -> None:
        """All of the message was taken in. Raises InvalidRequest if one before it is missing."""
        if down.number != self._taken + 1:
            raise InvalidRequest(
                f"Message {down.number} of the scheduler follows its {self._taken}.",
                code="malformed",
                field="number",
            )
        self._taken = down.number
        if down.frames and self._owes_at is None:
            self._owes_at = now + PUT_OFF_S

    def heard(self, number: int) -> list[int]:
        """Messages up to `number` were heard: the attempts whose ends were in them.

        Raises InvalidRequest if there was no such message.
        """
        if number > self._number:
            raise InvalidRequest(
                f"The scheduler has heard message {number}, and only {self._number} were sent.",
                code="malformed",
                field="heard",
            )
        ended: list[int] = []
        while self._unheard and self._unheard[0].number <= number:
            sent = self._unheard.popleft()
            self._unheard_bytes -= sent.log_bytes
            ended.extend(sent.ended)
        for fence in ended:
            self._tracks.pop(fence, None)
        return ended

    # What to send

    def due(self) -> float | None:
        """When there will be something to say that is put off now; None if nothing is."""
        start_at = next((at for at, _ in self._starts.values()), None)
        if start_at is None or self._owes_at is None:
            return self._owes_at if start_at is None else start_at
        return min(start_at, self._owes_at)

    def wanted(self) -> list[Piece]:
        """What to read for the next message. After each call comes one of `message`."""
        assert not self._turn
        pieces: list[Piece] = []
        room = min(LOG_BYTES_MAX, WINDOW_BYTES - self._unheard_bytes)
        while self._ready and room > 0 and len(pieces) + len(_STREAMS) <= CHUNKS_MAX:
            track = self._ready.popleft()
            self._turn.append(track)
            for piece in track.pieces(min(room, CHUNK_BYTES_MAX)):
                room -= piece.length
                pieces.append(piece)
        return pieces

    def message(self, read: Sequence[tuple[Piece, bytes]] = (), *, now: float) -> Up | None:
        """The next message, with what was read; None if there is nothing to say yet."""
        frames: list[StartedFrame | LogFrame | EndedFrame] = []
        while self._starts and (first := next(iter(self._starts.values())))[0] <= now:
            self._tell_start(first[1].fence)
        self._take_words(frames, FRAMES_MAX - len(read))
        log_bytes = 0
        for piece, data in read:
            if (track := self._tracks.get(piece.fence)) is not None:
                self._note_sent(track, piece, len(data))
                if data:
                    frames.append(LogFrame(piece.fence, piece.stream, piece.offset, data))
                    log_bytes += len(data)
        self._end_turn()
        self._take_words(frames, FRAMES_MAX)
        if not frames and (self._owes_at is None or self._owes_at > now):
            return None
        self._owes_at = None
        self._number += 1
        ended = tuple(frame.fence for frame in frames if isinstance(frame, EndedFrame))
        if log_bytes or ended:
            self._unheard.append(Sent(self._number, log_bytes, ended))
            self._unheard_bytes += log_bytes
        return Up(self._number, self._taken, tuple(frames))

    def _track(self, fence: int) -> Track:
        track = self._tracks.get(fence)
        if track is None:
            track = self._tracks[fence] = Track(fence)
        return track

    def _advance(self, track: Track) -> None:
        """Let it wait for its turn if it has more to send; else its end can be told."""
        if track.queued:
            return
        if track.pending:
            self._tell_start(track.fence)  # before its log
            track.queued = True
            self._ready.append(track)
        elif track.end is not None:
            self._words.append(_told(track.end, track))

    def _tell_start(self, fence: int) -> None:
        """Put a start off no longer."""
        if (start := self._starts.pop(fence, None)) is not None:
            self._words.append(start[1])

    def _end_turn(self) -> None:
        turn, self._turn = self._turn, []
        for track in turn:
            track.queued = False
            if self._tracks.get(track.fence) is track:
                self._advance(track)

    def _note_sent(self, track: Track, piece: Piece, count: int) -> None:
        """`count` bytes of the piece could be read: fewer than there were if the log was cut."""
        at = _STREAMS.index(piece.stream)
        track.sent[at] += count
        if count < piece.length:
            track.sizes[at] = track.sent[at]
            track.lost = track.lost or track.end is not None

    def _take_words(self, frames: list[StartedFrame | LogFrame | EndedFrame], most: int) -> None:
        room = WORD_BYTES_MAX
        while self._words and room > 0 and len(frames) < most:
            word = self._words.popleft()
            room -= ENDED_BYTES
            if isinstance(word, EndedFrame) and word.error is not None:
                room -= len(word.error) * 4  # bytes of UTF-8 a character, at most
            frames.append(word)


def _told(end: EndedFrame, track: Track) -> EndedFrame:
    """The end as it is told: no more bytes than were sent, and a sentence of some length."""
    error = end.error
    if error is not None and len(error) > ERROR_CHARS_MAX:
        error = error[: ERROR_CHARS_MAX - 1] + "…"
    if not track.lost and error is end.error:
        return end
    stdout, stderr, result = itertools.starmap(min, zip(track.sent, track.sizes, strict=True))
    return structs.replace(
        end,
        error=error,
        stdout_bytes=stdout,
        stderr_bytes=stderr,
        result_bytes=result,
        log_lost=end.log_lost or track.lost,
    )
