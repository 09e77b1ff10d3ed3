"""Bytes to a server as they are, and what comes back until it closes."""

import socket
import time
from contextlib import suppress
from urllib.parse import urlsplit

#: Longest that a server may take to answer or close.
PATIENCE_S = 10.0

#: The head of a question whose body follows in chunks.
CHUNKED = (
    b"POST /api/v1/schedule HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    b"content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
)


def connect(url: str) -> socket.socket:
    """A connection that gives up after a while."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    return socket.create_connection((parts.hostname, parts.port or 80), timeout=PATIENCE_S)


def exchange(url: str, data: bytes) -> bytes:
    """Send all of it, say that no more comes, read to the end. The server may close at any time."""
    with connect(url) as client:
        with suppress(OSError):
            client.sendall(data)
        return read_all(client)


def read_all(client: socket.socket) -> bytes:
    """All bytes until the server closes. Raises TimeoutError if it does not."""
    received = b""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            data = client.recv(65536)
        except ConnectionError:
            return received
        if not data:
            return received
        received += data
    raise TimeoutError


def request(
    method: str, path: str, body: bytes = b"", *headers: str, host: str = "localhost"
) -> bytes:
    """One HTTP request after which the server is to close."""
    lines = [
        f"{method} {path} HTTP/1.1",
        f"host: {host}",
        "connection: close",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def status_of(answer: bytes) -> int:
    """The status of the answer; 0 if the connection was closed without one."""
    return int(answer.split(b" ", 2)[1]) if answer else 0
