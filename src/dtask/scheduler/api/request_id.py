"""Names of requests, by which an answer and the lines of the log find each other.

Every request that changes something has one, but for placements, their ends and heartbeats, of
which no line tells: `x-request-id` of its head, if that is fit to stand in a log, else a new one.
"""

import itertools
import re
import secrets
from typing import Final

from dtask.scheduler.api.answers import Message, Scope, Send

HEADER: Final = b"x-request-id"

#: Where it is kept, and that the answer will hold it.
_KEY: Final = "dtask.request_id"
_ECHOED: Final = "dtask.request_id_echoed"

_SANE: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")

#: New ones are this life's and a number: no other life makes the same, and none costs a draw.
_LIFE: Final = secrets.token_hex(4)
_numbers: Final = itertools.count(1)


def request_id(scope: Scope) -> str:
    """The name of this request, the same whenever it is asked for."""
    known: str | None = scope.get(_KEY)
    if known is None:
        known = scope[_KEY] = _sent(scope) or f"{_LIFE}-{next(_numbers)}"
    return known


def echoing(scope: Scope, send: Send) -> Send:
    """`send` for the answer to this request, whose head gets the name, once."""
    if _ECHOED in scope:
        return send
    scope[_ECHOED] = True
    header = (HEADER, request_id(scope).encode())

    async def send_with_id(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message["headers"], header]
            # All else of the message is left out: it may be a head that was made without the name.
            message = {"type": message["type"], "status": message["status"], "headers": headers}
        await send(message)

    return send_with_id


def _sent(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == HEADER:
            return value.decode() if _SANE.fullmatch(value) else None
    return None
