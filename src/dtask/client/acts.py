"""What a flow asks of its shell, and what the shell gives back.

A flow is a generator. It yields an act, the shell does it and sends the result back in, or
throws in what went wrong: `Unreached` and `Lost` for a call, or whatever interrupts the caller.

A flow whose caller iterates over what comes, piece by piece, also yields `Item`s, and may read
answers as they arrive: `Open`, then `Read` until it is given b"". It has one answer open at a
time. Another `Open` closes it, and so does the end of the flow, whatever that is.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dtask.errors import InvalidRequest, Unavailable

T = TypeVar("T")


class Unreached(Unavailable):
    """No connection was made: the other side has not seen the request."""


class Lost(Unavailable):
    """The connection broke, or no answer came in time: the request may have been received."""


class Foreign(InvalidRequest):
    """The answer is not dtask's: something else listens at the address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request, but for the address it goes to."""

    method: str
    #: Path and query.
    target: str
    body: bytes | None = None
    content_type: str = "application/json"
    #: Shown to a worker.
    ticket: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Send a request and get the Reply to it."""

    #: Of the scheduler or worker, without the path.
    url: str
    request: Request
    #: Only calls to a scheduler carry the token.
    to_scheduler: bool = False
    connect_s: float
    #: Longest silence before and within the answer.
    read_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to a Call, whatever its status."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Wait. Answered with None."""

    seconds: float
    #: Wait no longer than until this client frees a slot, and be the only one to wake for it.
    until_freed: bool = False


@dataclass(frozen=True, slots=True)
class Freed:
    """A slot came free: wake one flow that waits for it. Answered with None."""


@dataclass(frozen=True, slots=True)
class Load:
    """Read a file. Answered with its bytes; raises InvalidRequest if that can't be done."""

    path: str
    #: What the caller named it for, to tell what is wrong.
    field: str
    bytes_max: int


@dataclass(frozen=True, slots=True)
class Open:
    """Send a request and get the Reply to it; that of a success has no body, it is to be read."""

    call: Call


@dataclass(frozen=True, slots=True)
class Read:
    """Wait for more of what is open. Answered with bytes, b"" at its end."""


@dataclass(frozen=True, slots=True)
class Item:
    """Hand this to who iterates. Answered with None, once they want more."""

    value: Any


Act = Call | Pause | Freed | Load | Open | Read | Item

#: A generator of acts that returns T. What is sent in depends on the act.
Flow = Generator[Act, Any, T]
