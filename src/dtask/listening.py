"""Sockets that listen: bound at once, so that an address that can't be had is told at once."""

import socket
from typing import Final

from dtask.addresses import join_host_port
from dtask.errors import InvalidRequest

#: Connections that wait to be accepted while a loop is busy.
BACKLOG: Final = 2048


def bind(host: str, port: int, *, host_flag: str, port_flag: str) -> socket.socket:
    """A socket that listens there; port 0 takes a free one.

    Raises InvalidRequest that names the flag that is wrong, and says why.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not a host name"
        raise InvalidRequest(
            f"{host_flag}: {host!r} is not an address of this machine ({reason}): expected one "
            f"such as 127.0.0.1, or 0.0.0.0 for all.",
            code="malformed",
            field=host_flag,
        ) from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise InvalidRequest(
            f"{port_flag}: can't listen on {join_host_port(host, port)} ({error.strerror}): "
            f"choose another address or port, or stop what listens there.",
            code="malformed",
            field=port_flag,
        ) from None
    return listener
