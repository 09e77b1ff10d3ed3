"""The worker channel: messages over a WebSocket opened by the worker, MessagePack in binary frames.

    worker                                      scheduler
      | --- GET /api/v1/channel (token) ----------> |
      | --- Hello -----------------------------------> |   all it holds, and what of it started
      | <-- Welcome ----------------------------------- |   what to stop, and what has arrived
      | --- Up(n, heard, [started, log, ended]) ----> |
      | <-- Down(n, heard, [start, stop]) ------------- |

Each side numbers its messages from 1 on each connection and says with `heard` up to which number
it has dealt with the other's: the scheduler when all of it is durable, the worker when it has
taken it in. So an attempt that ended is kept by the worker until the message that said so was
heard, and with it every byte of its log. A connection that breaks loses nothing: the next one
begins with what is held, logs go on where they had arrived, and ends that were not heard are
told again. Whoever is sent something twice knows the attempt by its fence.

A worker sends at most `WINDOW_BYTES` of log that were not heard, so that a slow disk on one side
fills no memory on the other.
"""

from typing import Final, Literal

import msgspec
from msgspec import Struct

from dtask.errors import InvalidRequest

#: Of this protocol. A scheduler and a worker of different numbers can't talk; the one with the
#: lower one is to be upgraded.
VERSION: Final = 1

PATH: Final = "/api/v1/channel"

#: One message; a log chunk and what stands around it fit.
MESSAGE_BYTES_MAX: Final = 2 * 1024 * 1024
#: Bytes of one chunk of a log, and of logs that were sent and not heard.
CHUNK_BYTES_MAX: Final = 256 * 1024
WINDOW_BYTES: Final = 4 * 1024 * 1024
#: Frames of one message.
FRAMES_MAX: Final = 1_000

#: WebSocket close codes, beside RFC 6455's; the reason is a sentence.
#: The hello was refused, or a message is none of this protocol.
CLOSE_REFUSED: Final = 4400
#: Another connection of this worker has taken over, or a newer life.
CLOSE_REPLACED: Final = 4409
#: The worker was lost meanwhile, or its scheduler starts over: say hello again.
CLOSE_AGAIN: Final = 4503

Stream = Literal["stdout", "stderr", "result"]


# Up


class HeldFrame(Struct, frozen=True, array_like=True, gc=False):
    """An attempt that the worker holds, or whose end was not heard yet."""

    fence: int
    started: bool


class Hello(Struct, frozen=True, array_like=True, tag="hello"):
    """The first message of a connection."""

    version: int
    worker_id: str
    incarnation: str
    #: Of the scheduler's store that the attempts come from; None if it holds none.
    cluster_id: str | None
    held: tuple[HeldFrame, ...] = ()


class StartedFrame(Struct, frozen=True, array_like=True, gc=False, tag="started"):
    """The attempt's process runs."""

    fence: int
    started_at: float


class LogFrame(Struct, frozen=True, array_like=True, gc=False, tag="log"):
    """Bytes of a stream at their offset."""

    fence: int
    stream: Stream
    offset: int
    data: bytes


class EndedFrame(Struct, frozen=True, array_like=True, gc=False, tag="ended"):
    """Nothing is left of the attempt; all its bytes went before this."""

    fence: int
    exit_code: int | None
    cause: str | None
    error: str | None
    started_at: float | None
    ended_at: float
    stdout_bytes: int
    stderr_bytes: int
    result_bytes: int
    truncated: bool
    #: Some bytes can't be had any more, on this side.
    log_lost: bool
    cpu_s: float | None
    max_rss_bytes: int | None


class Up(Struct, frozen=True, array_like=True, tag="up"):
    """What a worker says."""

    number: int
    heard: int
    frames: tuple[StartedFrame | LogFrame | EndedFrame, ...] = ()


# Down


class Arrived(Struct, frozen=True, array_like=True, gc=False):
    """How much of a held attempt's streams has arrived; send on from there."""

    fence: int
    stdout: int
    stderr: int
    result: int


class Welcome(Struct, frozen=True, array_like=True, tag="welcome"):
    """The answer to Hello."""

    version: int
    cluster_id: str
    #: Attempts to be stopped, and forgotten without a word.
    stop: tuple[int, ...] = ()
    arrived: tuple[Arrived, ...] = ()


class StartFrame(Struct, frozen=True, array_like=True, tag="start"):
    """Start this attempt. A fence that is known is not started again."""

    fence: int
    job_id: int
    task: str
    index: int | None
    number: int
    command: tuple[str, ...]
    #: Of the task, and DTASK_INDEX and DTASK_ITEM of an element.
    env: dict[str, str]
    timeout_s: float | None
    grace_s: float
    #: Blobs by the relative name that they get in the working directory, and the one that is
    #: standard input: `sha256:HEX`. They are at GET /api/v1/blobs/{HEX}.
    files: dict[str, str]
    stdin: str | None
    cwd: str | None
    cpus: float | None
    memory_mb: int | None


class StopFrame(Struct, frozen=True, array_like=True, gc=False, tag="stop"):
    """Stop this attempt's whole tree; its end is reported as any other."""

    fence: int
    grace_s: float


class DropFrame(Struct, frozen=True, array_like=True, gc=False, tag="drop"):
    """Stop this attempt and forget it: nobody waits for it any more."""

    fence: int


class Down(Struct, frozen=True, array_like=True, tag="down"):
    """What a scheduler says."""

    number: int
    heard: int
    frames: tuple[StartFrame | StopFrame | DropFrame, ...] = ()


FromWorker = Hello | Up
FromScheduler = Welcome | Down

_encoder: Final = msgspec.msgpack.Encoder()
_from_worker: Final[msgspec.msgpack.Decoder[FromWorker]] = msgspec.msgpack.Decoder(FromWorker)
_from_scheduler: Final[msgspec.msgpack.Decoder[FromScheduler]] = msgspec.msgpack.Decoder(
    FromScheduler
)


def encode(message: FromWorker | FromScheduler) -> bytes:
    """The bytes of a message."""
    return _encoder.encode(message)


def from_worker(raw: bytes) -> FromWorker:
    """A worker's message. Raises InvalidRequest."""
    try:
        return _from_worker.decode(raw)
    except _BAD as error:
        raise _not_ours(error) from None


def from_scheduler(raw: bytes) -> FromScheduler:
    """A scheduler's message. Raises InvalidRequest."""
    try:
        return _from_scheduler.decode(raw)
    except _BAD as error:
        raise _not_ours(error) from None


_BAD: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _not_ours(error: Exception) -> InvalidRequest:
    return InvalidRequest(
        f"The message is none of the worker channel's: {error}.", code="malformed", field="$"
    )
