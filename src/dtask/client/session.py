"""What both shells share: where to send, the token, and HTTP without anything of its own mind.

httpx is used at its transport, below its client: a transport has no cookies, follows no
redirect, reads no proxy or netrc out of the environment and makes no log lines. So what is sent
is what a `Call` says, and the token goes nowhere but to the schedulers named by the user.
"""

import os
import random
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import httpx

import dtask
from dtask import addresses
from dtask.client.acts import Call, Load, Lost, Unreached
from dtask.client.flows import Flows
from dtask.client.job_flows import PATIENCE_S, JobFlows
from dtask.errors import Denied, InvalidRequest

#: Seconds that one try of a call to a scheduler may take.
TIMEOUT_S: Final = 10.0

#: Idle connections are closed before the other side does it (a worker after 30 s, a scheduler
#: later), so that hardly ever a request meets a connection that is just being closed.
KEEPALIVE_S: Final = 25.0

#: As many connections as there are callers: each held answer of a running task takes one.
LIMITS: Final = httpx.Limits(
    max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEEPALIVE_S
)

#: httpx's errors that are raised before a byte of the request was sent.
_NOT_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)


class Session:
    """The settings of one client, and its flows."""

    def __init__(
        self,
        scheduler: str | Iterable[str] | None,
        token: str | Callable[[], str | None] | None,
        timeout_s: float,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._token = token
        self.flows = Flows(
            addresses.scheduler_urls(scheduler),
            timeout_s=timeout_s,
            random=random.SystemRandom(),  # two forks of one process must not make the same ids
            now=time.monotonic,
        )
        self.job_flows = JobFlows(self.flows, patience_s)

    def request(self, call: Call) -> httpx.Request:
        """The HTTP request of a call. Raises Denied if a token is needed and can't be had."""
        headers = {"user-agent": f"dtask/{dtask.__version__}", "accept": "application/json"}
        headers |= call.request.headers
        if call.request.body is not None:
            headers["content-type"] = call.request.content_type
        if call.to_scheduler and (token := self._found_token()) is not None:
            headers["authorization"] = f"Bearer {token}"
        if call.request.ticket is not None:
            headers["authorization"] = f"Ticket {call.request.ticket}"
        url = httpx.URL(call.url + call.request.target)
        # The socket would raise what it likes.
        if not url.host or (url.port or 0) > addresses.PORT_MAX:
            raise httpx.InvalidURL("this is not an address")
        return httpx.Request(
            call.request.method,
            url,
            headers=headers,
            content=call.request.body,
            extensions={
                "timeout": {
                    "connect": call.connect_s,
                    "read": call.read_s,
                    "write": call.read_s,
                    "pool": call.connect_s,
                }
            },
        )

    def _found_token(self) -> str | None:
        token = self._token  # once: another thread may find it meanwhile
        if callable(token):
            token = self._token = token()
        if token is not None and not (token.isascii() and token.isprintable()):
            raise Denied(
                "The token given is not usable: expected printable ASCII characters.",
                code="wrong_token",
            )
        return token


def load(act: Load) -> bytes:
    """The bytes of a local file. Raises InvalidRequest."""
    path = Path(act.path)
    try:
        with path.open("rb") as file:
            content = file.read(act.bytes_max + 1)
    except OSError as error:
        raise InvalidRequest(
            f"{act.field}: {act.path} can't be read: {error.strerror}.",
            code="malformed",
            field=act.field,
        ) from None
    if len(content) > act.bytes_max:
        raise InvalidRequest(
            f"{act.field}: {act.path} is too large: expected at most {act.bytes_max} bytes. Put it "
            f"where the workers can read it, and name that place in the command.",
            code="too_large",
            field=act.field,
            limit_bytes=act.bytes_max,
        )
    return content


def failure(call: Call, error: Exception) -> Unreached | Lost:
    """What an error of httpx means for a flow."""
    kind = Unreached if isinstance(error, _NOT_SENT) else Lost
    reason = _reason(error, call)
    return kind(f"{call.url}: {reason}", code="unreachable")


def _reason(error: Exception, call: Call) -> str:
    """What the system says of a connection: the two transports wrap it in words of their own."""
    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection within {call.connect_s:g} s"
    if isinstance(error, httpx.TimeoutException):
        return f"nothing was heard for {call.read_s:g} s"
    inner: BaseException | None = error if isinstance(error, httpx.ConnectError) else None
    while inner is not None:
        if isinstance(inner, socket.gaierror):
            return inner.strerror or str(inner)
        if isinstance(inner, OSError) and inner.errno and not isinstance(inner, ssl.SSLError):
            return os.strerror(inner.errno)
        if isinstance(inner, BaseExceptionGroup):
            inner = inner.exceptions[0]
        else:
            inner = inner.__cause__ or inner.__context__
    return str(error) or type(error).__name__


#: All that httpx raises.
FAILURES: Final = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError)
