"""Addresses as people write them: of schedulers (URLs) and of listeners (host and port)."""

import ipaddress
import os
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from dtask.errors import InvalidRequest

#: Where a scheduler is looked for when nothing else is said.
DEFAULT_SCHEDULER: Final = "http://127.0.0.1:8080"

PORT_MAX: Final = 65_535


def scheduler_urls(given: str | Iterable[str] | None = None) -> tuple[str, ...]:
    """Base URLs of the schedulers: those given, else those in DTASK_SCHEDULER, else the default.

    Several may stand in one text, joined by commas. Raises InvalidRequest that names the one
    that is not a URL.
    """
    parts = [given] if isinstance(given, str) else list(given or ())
    field = "scheduler"
    if not parts:
        field = "DTASK_SCHEDULER"
        parts = [os.environ.get(field, "")]
    urls = (url.strip() for part in parts for url in part.split(","))
    checked = (_checked_url(url, field) for url in urls if url)
    return tuple(dict.fromkeys(checked)) or (DEFAULT_SCHEDULER,)


def split_host_port(text: str, field: str) -> tuple[str, int]:
    """`127.0.0.1:8081` or `[::1]:8081` in its parts. Raises InvalidRequest that names `field`."""
    host, _, port = text.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not host or not _plain(host) or not (port.isascii() and port.isdigit()):
        raise InvalidRequest(
            f"{field}: {text!r} is not an address: expected HOST:PORT, such as 127.0.0.1:8081 "
            f"or [::1]:8081.",
            code="malformed",
            field=field,
        )
    if int(port) > PORT_MAX:
        raise InvalidRequest(
            f"{field}: {port} is not a port: expected 0 to {PORT_MAX}.",
            code="malformed",
            field=field,
        )
    return host, int(port)


def join_host_port(host: str, port: int) -> str:
    """`HOST:PORT`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_of(header: str) -> str:
    """The host in a Host header, its port and brackets taken off: `[::1]:8081` is `::1`."""
    return header[1:].partition("]")[0] if header.startswith("[") else header.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Whether the name or address `host` stands for this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _checked_url(text: str, field: str) -> str:
    try:
        parts = urlsplit(text)
        fits = (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and not (parts.query or parts.fragment or "@" in parts.netloc)
            and _plain(text)
        )
    except ValueError:  # a port that is no number, or half a bracket
        fits = False
    if not fits:
        raise InvalidRequest(
            f"{field}: {text!r} is not the address of a scheduler: expected a URL such as "
            f"{DEFAULT_SCHEDULER}.",
            code="malformed",
            field=field,
        )
    return text.rstrip("/")


def _plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text
