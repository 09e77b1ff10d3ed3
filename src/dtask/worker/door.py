"""Where a worker listens, and under which address others reach it."""

import contextlib
import socket
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from dtask.addresses import is_loopback
from dtask.errors import InvalidRequest
from dtask.listening import bind

#: Without --addr a worker takes the first free one of these ports: a machine may have several.
PORTS: Final = range(8081, 9081)

#: A UDP socket "connects" without sending anything; any port shows the route.
_ANY_PORT: Final = 9


def listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens on `host`; without a port, on the first free one.

    Raises InvalidRequest that says why there can be none.
    """
    if port is not None:
        return _bind(host, port)
    for candidate in PORTS:
        with contextlib.suppress(InvalidRequest):
            return _bind(host, candidate)
    raise InvalidRequest(
        f"--addr: none of the ports {PORTS[0]} to {PORTS[-1]} of {host} is free: name another one.",
        code="malformed",
        field="--addr",
    )


def reached_host(host: str, schedulers: Iterable[str]) -> str:
    """The host under which others reach a listener on `host`.

    Bound to one address of the machine, it is that one. Bound to all (0.0.0.0, ::), it is the
    local address of a connection to a scheduler. Raises InvalidRequest if it is bound to loopback
    and a scheduler is elsewhere: then nobody there could reach it.
    """
    wildcard = host in ("0.0.0.0", "::")  # noqa: S104 (compared, not bound)
    if not wildcard and not is_loopback(host):
        return host
    for url in schedulers:
        local = _local_host(url)
        if is_loopback(local):
            continue
        if wildcard:
            return local
        raise InvalidRequest(
            f"--addr: the scheduler {url} is not reached over loopback, and nobody else reaches a "
            f"worker that listens on {host} only: expected --addr 0.0.0.0:8081 or another address "
            f"of this machine (or --advertise, if something forwards to this one).",
            code="malformed",
            field="--addr",
        )
    return "127.0.0.1" if wildcard else host


def _bind(host: str, port: int) -> socket.socket:
    return bind(host, port, host_flag="--addr", port_flag="--addr")


def _local_host(url: str) -> str:
    """The address of this machine that a connection to `url` comes from."""
    host = urlsplit(url).hostname or ""
    if is_loopback(host):
        return host
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, _ANY_PORT, type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)
            local: str = probe.getsockname()[0]
            return local
    except (OSError, UnicodeError):
        # No name service or no route yet. The machine's name is the best that is known of it.
        return socket.gethostname()
