"""Reading a request's body, no further than it may be long."""

from typing import NoReturn

from dtask.errors import InvalidRequest
from dtask.scheduler.api.answers import Receive, Scope


class Disconnected(Exception):
    """The client went away before its request was complete; nobody waits for an answer."""


async def read_body(scope: Scope, receive: Receive, limit_bytes: int) -> bytes:
    """The whole body. Raises InvalidRequest if it is over the limit.

    Most bodies come with the head and in one message.
    """
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Disconnected
    body: bytes = message["body"]
    if message.get("more_body"):
        return await _read_rest(scope, receive, body, limit_bytes)
    if len(body) > limit_bytes:
        refuse_size(limit_bytes)
    return body


def refuse_size(limit_bytes: int) -> NoReturn:
    """Raise the error for a body that is too large."""
    raise InvalidRequest(
        f"The body is too large: expected at most {limit_bytes} bytes.",
        code="too_large",
        limit_bytes=limit_bytes,
    )


async def _read_rest(scope: Scope, receive: Receive, first: bytes, limit_bytes: int) -> bytes:
    if announced_bytes(scope) > limit_bytes:
        refuse_size(limit_bytes)
    parts = [first]
    size = len(first)
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        parts.append(message["body"])
        size += len(parts[-1])
        if size > limit_bytes:
            refuse_size(limit_bytes)
        more = message.get("more_body", False)
    return b"".join(parts)


def announced_bytes(scope: Scope) -> int:
    """What Content-Length says; 0 if it says nothing. The HTTP parser has checked its form."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value)
    return 0
