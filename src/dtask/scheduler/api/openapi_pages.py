"""The routes that the pages for browsers are made of, as OpenAPI describes them."""

from typing import Final

from dtask.scheduler.api.operations import (
    ANY,
    GUARDED,
    OPEN,
    TOKEN,
    Json,
    operation,
    ref,
)
from dtask.wire.sessions import CodeAnswer, SessionAnswer, SignInBody

TYPES: Final = (CodeAnswer, SignInBody, SessionAnswer)

#: What a page of another origin is told, where no token is asked for.
_OURS: Final = (*ANY, "foreign_origin")


def paths() -> Json:
    """All of them."""
    return {
        "/api/v1/sign-in-codes": {"post": _code()},
        "/api/v1/session": {"get": _session(), "post": _sign_in(), "delete": _sign_out()},
    }


def _code() -> Json:
    return operation(
        "signInCode",
        "A code that signs one browser in, once and within a minute.",
        ref(CodeAnswer),
        GUARDED,
        security=TOKEN,
    )


def _session() -> Json:
    return operation(
        "session", "Whether this browser is signed in.", ref(SessionAnswer), ANY, security=OPEN
    )


def _sign_in() -> Json:
    return operation(
        "signIn",
        "A session for a code, as a cookie.",
        ref(SessionAnswer),
        (*_OURS, "wrong_code", "wrong_content_type", "too_large"),
        body=ref(SignInBody),
        security=OPEN,
    )


def _sign_out() -> Json:
    return operation(
        "signOut", "The session of this browser is over.", ref(SessionAnswer), _OURS, security=OPEN
    )
