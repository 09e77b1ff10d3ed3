"""Answers as ASGI messages: JSON bodies, and every error as one.

Two messages an answer, and for bodies of the same status and length the first of them is the
same object: building it once saves a microsecond of each request.
"""

import functools
import math
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import msgspec

from dtask.errors import DtaskError, Internal
from dtask.scheduler import log
from dtask.scheduler.protocol import prerender
from dtask.wire.codec import encode

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON: Final = (b"content-type", b"application/json")
#: Of what tasks and clients wrote: bytes, and nothing that a page could use as a script of its own.
BYTES: Final = (
    (b"content-type", b"application/octet-stream"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
)

encode_struct: Final = msgspec.json.Encoder().encode

_OK: Final = 200
_UNAUTHORIZED: Final = 401


@functools.lru_cache(maxsize=2048)
def ok_start(length: int) -> Message:
    """The first message of a 200 with a JSON body of `length` bytes."""
    return prerender(start(_OK, length))


def start(status: int, length: int, *more: tuple[bytes, bytes]) -> Message:
    """The first message of an answer with a JSON body of `length` bytes."""
    headers = [JSON, (b"content-length", b"%d" % length), *more]
    return {"type": "http.response.start", "status": status, "headers": headers}


async def send_json(send: Send, value: Any, status: int = _OK) -> None:  # noqa: ANN401 (any JSON value)
    """Answer with `value`."""
    body = encode(value)
    await send(start(status, len(body)))
    await send({"type": "http.response.body", "body": body})


async def send_struct(
    send: Send,
    value: Any,  # noqa: ANN401 (a Struct, or a list of them)
    status: int = _OK,
    *more: tuple[bytes, bytes],
) -> None:
    """Answer with a Struct of the wire."""
    await send_raw(send, encode_struct(value), status, *more)


async def send_raw(send: Send, body: bytes, status: int = _OK, *more: tuple[bytes, bytes]) -> None:
    """Answer with JSON that is bytes already."""
    await send(start(status, len(body), *more))
    await send({"type": "http.response.body", "body": body})


async def send_error(
    send: Send, error: DtaskError, *, more: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    """Answer with an error: its status and its body."""
    for message in error_messages(error, *more):
        await send(message)


def error_messages(error: DtaskError, *more: tuple[bytes, bytes]) -> tuple[Message, Message]:
    """Both messages of an answer with an error."""
    body = encode(error.body())
    if error.status == _UNAUTHORIZED:
        more = (*more, (b"www-authenticate", b"Bearer"))
    if (retry_after_s := error.facts.get("retry_after_s")) is not None:
        more = (*more, retry_after(retry_after_s))
    return (
        start(error.status, len(body), *more),
        {"type": "http.response.body", "body": body},
    )


async def send_bug(send: Send, scope: Scope, request_id: str) -> None:
    """Answer 500 and put the traceback of the current exception into the log."""
    log.logger.exception(
        "a request failed; this is a bug in dtask",
        extra={
            "facts": {
                "request_id": request_id,
                "method": scope["method"],
                "path": scope["path"],
            }
        },
    )
    error = Internal(
        "This is a bug in dtask: the log of the scheduler tells more.", code="internal"
    )
    await send_error(send, error)


def retry_after(seconds: float) -> tuple[bytes, bytes]:
    """The header for clients that do not read bodies. It knows whole seconds only."""
    return (b"retry-after", b"%d" % max(1, math.ceil(seconds)))


def part(body: bytes, *, more: bool = True) -> Message:
    """A part of an answer that is sent as it is made."""
    return {"type": "http.response.body", "body": body, "more_body": more}
