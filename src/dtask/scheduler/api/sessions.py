"""Signing in and out: codes for those who have the token, sessions for those who have a code."""

from dtask import __version__
from dtask.clock import Clock
from dtask.errors import Denied
from dtask.scheduler import log
from dtask.scheduler.api.access import check_origin
from dtask.scheduler.api.answers import Receive, Scope, Send, send_struct
from dtask.scheduler.api.body import read_body
from dtask.scheduler.api.query import parameters
from dtask.scheduler.api.request_id import request_id
from dtask.scheduler.sessions import SESSION_S, Sessions
from dtask.wire.codec import Body
from dtask.wire.limits import BODY_BYTES_MAX
from dtask.wire.sessions import CodeAnswer, SessionAnswer, SignInBody


class Codes:
    """The endpoint that makes codes."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def __call__(self, scope: Scope, _receive: Receive, send: Send, _trusted: bool) -> None:
        """A new one. Raises Denied for a session: it would renew itself for ever."""
        parameters(scope)
        if not any(name == b"authorization" for name, _ in scope["headers"]):
            raise Denied(
                "Codes are for those with the token: send it as `authorization: Bearer TOKEN`.",
                code="no_token",
            )
        code = self._sessions.code()
        await send_struct(send, CodeAnswer(code.word, code.expires_at))


class SignIns:
    """The endpoint that exchanges a code for a session."""

    def __init__(self, sessions: Sessions, clock: Clock) -> None:
        self._sessions = sessions
        self._clock = clock
        self._decode = Body(SignInBody).decode

    async def __call__(self, scope: Scope, receive: Receive, send: Send, _trusted: bool) -> None:
        """The session as a cookie. Raises Denied."""
        parameters(scope)
        origin = check_origin(scope["headers"])
        body = self._decode(await read_body(scope, receive, BODY_BYTES_MAX))
        session = await self._sessions.open(body.code)
        _note("browser signed in", scope)
        answer = SessionAnswer(
            signed_in=True,
            now=self._clock.now(),
            version=__version__,
            expires_at=session.expires_at,
        )
        cookie = _cookie(self._sessions, session.word, int(SESSION_S), origin)
        await send_struct(send, answer, 200, cookie)


class SessionLooks:
    """The endpoint that says whether the browser is signed in. No error says that it is not."""

    def __init__(self, sessions: Sessions, clock: Clock) -> None:
        self._sessions = sessions
        self._clock = clock

    async def __call__(self, scope: Scope, _receive: Receive, send: Send, _trusted: bool) -> None:
        """As it stands."""
        parameters(scope)
        expires_at = self._sessions.end_of(cookies_of(scope))
        answer = SessionAnswer(
            signed_in=expires_at is not None,
            now=self._clock.now(),
            version=__version__,
            expires_at=expires_at,
        )
        await send_struct(send, answer)


class SignOuts:
    """The endpoint that ends a session, here and in the browser."""

    def __init__(self, sessions: Sessions, clock: Clock) -> None:
        self._sessions = sessions
        self._clock = clock

    async def __call__(self, scope: Scope, _receive: Receive, send: Send, _trusted: bool) -> None:
        """Signed out, whether or not it was signed in."""
        parameters(scope)
        origin = check_origin(scope["headers"])
        await self._sessions.end(cookies_of(scope))
        _note("browser signed out", scope)
        answer = SessionAnswer(signed_in=False, now=self._clock.now(), version=__version__)
        await send_struct(send, answer, 200, _cookie(self._sessions, "", 0, origin))


def cookies_of(scope: Scope) -> bytes:
    """All cookies of a request, as one header would have them."""
    return b"; ".join(value for name, value in scope["headers"] if name == b"cookie")


def _note(sentence: str, scope: Scope) -> None:
    client = scope["client"]
    log.say(sentence, request_id=request_id(scope), peer=client[0] if client else None)


def _cookie(
    sessions: Sessions, word: str, seconds: int, origin: bytes | None
) -> tuple[bytes, bytes]:
    """Pages can't read it, and other sites can't have it sent."""
    secure = "; Secure" if origin is not None and origin.startswith(b"https:") else ""
    text = f"{sessions.cookie}={word}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}"
    return (b"set-cookie", text.encode())
