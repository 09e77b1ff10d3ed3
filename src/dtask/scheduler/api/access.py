"""Who may ask for what: token, loopback, Host, Origin and content type.

Placement is open without the token only to clients of this machine: bind address, peer and Host
are all loopback, and no proxy has forwarded the request. Host is checked because a web page can
point a name of its own at 127.0.0.1 and then speaks to the scheduler as its own origin; Origin
because a page can send simple requests anywhere; the content type because a page can send JSON
elsewhere only after a preflight request, which is never answered.

A session's cookie counts as the token. Browsers send it along with whatever a page asks for, and
pages of other ports of this host count as the same site: so a request that changes something must
carry the Origin of this scheduler itself, and one that only reads must not be said to come from
another (Sec-Fetch-Site, which no page can set).
"""

import functools
from collections.abc import Awaitable, Callable, Iterable
from hmac import compare_digest
from typing import Final

from dtask.addresses import host_of, is_loopback
from dtask.errors import Denied, InvalidRequest
from dtask.scheduler.sessions import Sessions
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
_COOKIE: Final = 6
_FETCH_SITE: Final = 7
_MATTERS: Final[dict[bytes, int]] = {
    b"authorization": _AUTHORIZATION,
    b"host": _HOST,
    b"content-type": _CONTENT_TYPE,
    b"origin": _ORIGIN,
    b"forwarded": _FORWARDED,
    b"via": _FORWARDED,
    b"cookie": _COOKIE,
    b"sec-fetch-site": _FETCH_SITE,
    # These come with almost every request; naming them saves looking at how they begin.
    b"user-agent": _NOTHING,
    b"accept": _NOTHING,
    b"accept-encoding": _NOTHING,
    b"connection": _NOTHING,
    b"content-length": _NOTHING,
}

#: Where a request comes from, in a browser's words, if it comes from our own pages or the user.
_OUR_SITES: Final = (b"same-origin", b"none")


class Access:
    """The rules of one scheduler."""

    def __init__(self, settings: Settings, token: str, sessions: Sessions) -> None:
        self._sessions = sessions
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
        reads: bool = False,
    ) -> bool:
        """Whether the request carries the token, or a session's cookie.

        Raises if it may not pass: Denied, InvalidRequest. `has_body`: a JSON body will be read.
        `needs_token`: nothing opens this without the token. `reads`: it changes nothing.
        """
        trusted = forwarded = False
        hosts: bytes | None = None
        local_host = is_json = False
        browser: dict[int, bytes] = {}
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
            elif kind == _FORWARDED:
                forwarded = True
            else:
                browser[kind] = value
        if browser:
            trusted = self._check_page(browser, hosts, reads=reads) or trusted
        if not trusted and (
            needs_token
            or not (
                self._insecure
                or (self._loopback_is_open and local_host and not forwarded and _is_loopback(peer))
            )
        ):
            raise self._refusal(browser)
        if has_body and not is_json:
            raise _no_json()
        return trusted

    def _check_page(self, browser: dict[int, bytes], host: bytes | None, *, reads: bool) -> bool:
        """Whether a browser is signed in. Raises Denied if a foreign page asks."""
        origin = browser.get(_ORIGIN)
        if origin is not None:
            _check_origin(origin, host)
        if self._sessions.end_of(browser.get(_COOKIE, b"")) is None:
            return False
        if browser.get(_FETCH_SITE, b"none") not in _OUR_SITES or (origin is None and not reads):
            raise _foreign()
        return True

    def session_of(self, headers: Headers) -> Callable[[], Awaitable[None]] | None:
        """What waits until the session is over that opens this request; None if none does."""
        cookies = b""
        for name, value in headers:
            if name == b"authorization":
                return None
            if name == b"cookie":
                cookies = value
        if not cookies or self._sessions.end_of(cookies) is None:
            return None
        return functools.partial(self._sessions.over, cookies)

    def _refusal(self, browser: dict[int, bytes]) -> Denied:
        if self._sessions.cookie.encode() in browser.get(_COOKIE, b""):
            return session_is_over()
        return Denied(
            "This needs the token: send it as `authorization: Bearer TOKEN`.", code="no_token"
        )

    def check_open(self, headers: Headers, *, has_body: bool = False) -> None:
        """For what is open to everyone: only a token that does not fit is refused."""
        is_json = False
        for name, value in headers:
            if name == b"authorization":
                self._check_token(value)
            elif name == b"content-type":
                is_json = _is_json(value)
        if has_body and not is_json:
            raise _no_json()

    def _check_token(self, value: bytes) -> None:
        if not compare_digest(value, self._bearer) and not (
            value[:7].lower() == b"bearer " and compare_digest(value[7:].strip(), self._bearer[7:])
        ):
            raise Denied(
                "The token that was sent is not this scheduler's: expected "
                "`authorization: Bearer TOKEN` with the token of its token file.",
                code="wrong_token",
            )


def session_is_over() -> Denied:
    """The refusal of a browser that was signed in."""
    return Denied(
        "This browser's session is over: `dtask dashboard` opens another.", code="no_token"
    )


def check_origin(headers: Headers) -> bytes | None:
    """The Origin of a request that anyone may make, if it has one. Raises Denied if it is foreign.

    For what needs no token and yet is for our own pages alone.
    """
    found = dict(headers)
    origin = found.get(b"origin")
    if origin is not None:
        _check_origin(origin, found.get(b"host"))
    if found.get(b"sec-fetch-site", b"none") not in _OUR_SITES:
        raise _foreign()
    return origin


def _check_origin(origin: bytes, host: bytes | None) -> None:
    if host is None or origin.partition(b"://")[2] != host:
        raise _foreign()


def _no_json() -> InvalidRequest:
    return InvalidRequest(
        "The body must be JSON and say so: expected `content-type: application/json`.",
        code="wrong_content_type",
    )


def _foreign() -> Denied:
    return Denied(
        "The request comes from a web page of another origin: expected no Origin header, "
        "or the one of this service; with a session's cookie, that one.",
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
