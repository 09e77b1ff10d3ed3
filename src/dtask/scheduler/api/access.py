"""Who may ask for what: token, loopback, Host, Origin and content type.

Placement is open without the token only to clients of this machine: bind address, peer and Host
are all loopback, and no proxy has forwarded the request. Host is checked because a web page can
point a name of its own at 127.0.0.1 and then speaks to the scheduler as its own origin; Origin
because a page can send simple requests anywhere; the content type because a page can send JSON
elsewhere only after a preflight request, which is never answered.
"""

import functools
from collections.abc import Iterable
from hmac import compare_digest
from typing import Final

from dtask.addresses import host_of, is_loopback
from dtask.errors import Denied, InvalidRequest
from dtask.scheduler.settings import Settings
from dtask.wire.ticket import ticket_key

Headers = Iterable[tuple[bytes, bytes]]

#: Headers that matter here; all others cost one look-up.
_NOTHING: Final = 0
_AUTHORIZATION: Final = 1
_HOST: Final = 2
_CONTENT_TYPE: Final = 3
_ORIGIN: Final = 4
_FORWARDED: Final = 5
_MATTERS: Final[dict[bytes, int]] = {
    b"authorization": _AUTHORIZATION,
    b"host": _HOST,
    b"content-type": _CONTENT_TYPE,
    b"origin": _ORIGIN,
    b"forwarded": _FORWARDED,
    b"via": _FORWARDED,
    # These come with almost every request; naming them saves looking at how they begin.
    b"user-agent": _NOTHING,
    b"accept": _NOTHING,
    b"accept-encoding": _NOTHING,
    b"connection": _NOTHING,
    b"content-length": _NOTHING,
}


class Access:
    """The rules of one scheduler."""

    def __init__(self, settings: Settings, token: str) -> None:
        self._bearer = b"Bearer " + token.encode()
        #: Signs the tickets of placements.
        self.ticket_key = ticket_key(token)
        self._insecure = settings.insecure
        self._loopback_is_open = settings.binds_loopback and not settings.require_token

    def check(
        self,
        headers: Headers,
        peer: str | None,
        *,
        has_body: bool = False,
        needs_token: bool = False,
    ) -> bool:
        """Whether the request carries the token. Raises if it may not pass: Denied, InvalidRequest.

        `has_body`: a JSON body will be read. `needs_token`: nothing opens this without the token.
        """
        trusted = forwarded = False
        hosts: bytes | None = None
        local_host = is_json = False
        origin: bytes | None = None
        for name, value in headers:
            kind = _MATTERS.get(name)
            if kind == _NOTHING:
                continue
            if kind is None:
                if name.startswith(b"x-forwarded-"):
                    forwarded = True
            elif kind == _HOST:
                local_host = hosts is None and _is_local(value)
                hosts = value
            elif kind == _CONTENT_TYPE:
                is_json = _is_json(value)
            elif kind == _AUTHORIZATION:
                self._check_token(value)
                trusted = True
            elif kind == _ORIGIN:
                origin = value
            else:
                forwarded = True
        if origin is not None:
            _check_origin(origin, hosts)
        if not trusted and (
            needs_token
            or not (
                self._insecure
                or (self._loopback_is_open and local_host and not forwarded and _is_loopback(peer))
            )
        ):
            raise Denied(
                "This needs the token: send it as `authorization: Bearer TOKEN`.", code="no_token"
            )
        if has_body and not is_json:
            raise InvalidRequest(
                "The body must be JSON and say so: expected `content-type: application/json`.",
                code="wrong_content_type",
            )
        return trusted

    def check_open(self, headers: Headers) -> None:
        """For what is open to everyone: only a token that does not fit is refused."""
        for name, value in headers:
            if name == b"authorization":
                self._check_token(value)

    def _check_token(self, value: bytes) -> None:
        if not compare_digest(value, self._bearer) and not (
            value[:7].lower() == b"bearer " and compare_digest(value[7:].strip(), self._bearer[7:])
        ):
            raise Denied(
                "The token that was sent is not this scheduler's: expected "
                "`authorization: Bearer TOKEN` with the token of its token file.",
                code="wrong_token",
            )


def _check_origin(origin: bytes, host: bytes | None) -> None:
    if host is None or origin.partition(b"://")[2] != host:
        raise Denied(
            "The request comes from a web page of another origin: expected no Origin header, "
            "or the one of this service.",
            code="foreign_origin",
        )


@functools.lru_cache(maxsize=64)
def _is_json(content_type: bytes) -> bool:
    return content_type.partition(b";")[0].strip().lower() == b"application/json"


@functools.lru_cache(maxsize=64)
def _is_local(host: bytes) -> bool:
    """Whether a Host header names this machine's loopback: `localhost:8080`, `[::1]`."""
    return is_loopback(host_of(host.decode("latin-1")))


@functools.lru_cache(maxsize=64)
def _is_loopback(address: str | None) -> bool:
    return address is not None and is_loopback(address)
