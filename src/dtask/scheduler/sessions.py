"""Sessions of browsers: who came with a one-time code is let in for half a day.

A browser never gets the token. Whoever has that asks for a code, which is good once and for a
minute; the code is exchanged for a session, a random word in a cookie that pages can't read. The
scheduler keeps hashes alone, in `DATA/sessions`, so that a restart signs nobody out, and whoever
reads the file can't come in with it.
"""

import asyncio
import contextlib
import json
import logging
import os
import secrets
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from dtask.errors import Denied
from dtask.scheduler import log
from dtask.scheduler.aside import Aside

#: A code is good for so many seconds; those made after so many others push the oldest out.
CODE_S: Final = 60.0
CODES_MAX: Final = 100

#: A session lasts so many seconds; with one more than these, the one that ends first is over.
SESSION_S: Final = 12 * 3_600.0
SESSIONS_MAX: Final = 1_000

_SECRET_BYTES: Final = 32


class Secret(NamedTuple):
    """A word that opens something until `expires_at`, epoch seconds."""

    word: str
    expires_at: float


class Sessions:
    """Those of one scheduler, which listens on `port`. `close` them at the end.

    All schedulers of one host share its cookies, so the port is in the cookie's name.
    """

    def __init__(self, path: Path, *, port: int, now: Callable[[], float]) -> None:
        self.cookie = f"dtask-session-{port}"
        self._prefix = f"{self.cookie}=".encode()
        self._path = path
        self._now = now
        #: Hashes, and when they are good no more; the oldest first.
        self._codes: dict[str, float] = {}
        self._sessions = _read(path, now())
        #: Of those sessions for whose end somebody waits.
        self._ends: dict[str, asyncio.Event] = {}
        self._writer = Aside("dtask-sessions")

    def code(self) -> Secret:
        """A new code."""
        _drop(self._codes, self._now(), CODES_MAX)
        return _add(self._codes, self._now() + CODE_S)

    async def open(self, code: str) -> Secret:
        """The session that a code is good for. Raises Denied."""
        expires_at = self._codes.pop(_hash(code.encode()), 0.0)
        if expires_at <= self._now():
            raise Denied(
                "The code is not good (any more): each signs in once, within a minute. "
                "`dtask dashboard` makes another.",
                code="wrong_code",
            )
        _drop(self._sessions, self._now(), SESSIONS_MAX)
        self._tell()
        session = _add(self._sessions, self._now() + SESSION_S)
        await self._save()
        return session

    def end_of(self, cookies: bytes) -> float | None:
        """When the session among a request's cookies is over; None if it is, or there is none."""
        expires_at = max(self._ends_at(cookies), default=0.0)
        return expires_at if expires_at > self._now() else None

    async def over(self, cookies: bytes) -> None:
        """Wait until the session among a request's cookies is over."""
        while (left_s := max(self._ends_at(cookies), default=0.0) - self._now()) > 0:
            name = next(name for name in self._named(cookies) if name in self._sessions)
            end = self._ends.setdefault(name, asyncio.Event())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await end.wait()

    async def end(self, cookies: bytes) -> None:
        """Sign out."""
        ended = [self._sessions.pop(name, None) for name in self._named(cookies)]
        if any(ended):
            self._tell()
            await self._save()

    def close(self) -> None:
        """Wait until what is to be written is."""
        self._writer.stop()

    def _ends_at(self, cookies: bytes) -> list[float]:
        return [self._sessions[name] for name in self._named(cookies) if name in self._sessions]

    def _named(self, cookies: bytes) -> list[str]:
        """The hashes of all sessions that are named among the cookies.

        There may be several: a page of another port of this host can set one of our name, too,
        which opens nothing and must not shut anybody out.
        """
        return [
            _hash(cookie.strip()[len(self._prefix) :])
            for cookie in cookies.split(b";")
            if cookie.strip().startswith(self._prefix)
        ]

    def _tell(self) -> None:
        """Let those know who wait for the end of a session that is over."""
        for name in self._ends.keys() - self._sessions.keys():
            self._ends.pop(name).set()

    async def _save(self) -> None:
        text = json.dumps(self._sessions)
        try:
            await self._writer.do(lambda: _write(self._path, text))
        except OSError as error:  # it is good all the same, until the scheduler stops
            log.say("sessions can't be kept", level=logging.WARNING, error=error.strerror)


def _hash(word: bytes) -> str:
    return sha256(word).hexdigest()


def _add(words: dict[str, float], expires_at: float) -> Secret:
    word = secrets.token_urlsafe(_SECRET_BYTES)
    words[_hash(word.encode())] = expires_at
    return Secret(word, expires_at)


def _drop(words: dict[str, float], now: float, most: int) -> None:
    """Make room for one more: drop those that are over, and the oldest if there are too many."""
    for word in [word for word, expires_at in words.items() if expires_at <= now]:
        del words[word]
    while len(words) >= most:
        del words[next(iter(words))]


def _read(path: Path, now: float) -> dict[str, float]:
    """What was kept and is not over. A file that can't be read signs everybody out."""
    try:
        kept = json.loads(path.read_bytes())
        return {str(word): float(end) for word, end in kept.items() if float(end) > now}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    with open(fresh, "w", opener=_private) as file:
        file.write(text)
    fresh.replace(path)


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)
