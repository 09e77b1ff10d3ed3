"""The routes that the pages for browsers are made of, as OpenAPI describes them."""

from typing import Final

import msgspec

from dtask.scheduler.api.operations import (
    ANY,
    GUARDED,
    OPEN,
    TOKEN,
    Json,
    operation,
    parameter,
    ref,
    response,
)
from dtask.wire.limits import FENCE_MAX
from dtask.wire.live import HistoryAnswer, LiveReset, LiveUpdate, WorkerDetail
from dtask.wire.placement import Id, WorkerRow
from dtask.wire.sessions import CodeAnswer, SessionAnswer, SignInBody

TYPES: Final = (
    CodeAnswer,
    SignInBody,
    SessionAnswer,
    LiveReset,
    LiveUpdate,
    HistoryAnswer,
    WorkerDetail,
)

#: What a page of another origin is told, where no token is asked for.
_OURS: Final = (*ANY, "foreign_origin")


def paths() -> Json:
    """All of them."""
    return {
        "/api/v1/sign-in-codes": {"post": _code()},
        "/api/v1/live": {"get": _live()},
        "/api/v1/history": {"get": _history()},
        "/api/v1/workers/{worker_id}": {"get": _worker()},
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


def _live() -> Json:
    after = {"type": "integer", "minimum": 0, "maximum": FENCE_MAX}
    described = operation(
        "live",
        "Everything at a glance, as it changes.",
        {"type": "string"},
        (*GUARDED, "too_many_waiters"),
        parameters=[parameter("after", after, "After the message of this id.")],
        security=TOKEN,
    )
    described["responses"]["200"] = response(
        "Server-sent events: a `reset` with a LiveReset, then `update`s with a LiveUpdate each.",
        {"type": "string"},
        media="text/event-stream",
    )
    return described


def _history() -> Json:
    return operation(
        "history",
        "How it went in the last half hour.",
        ref(HistoryAnswer),
        GUARDED,
        security=TOKEN,
    )


def _worker() -> Json:
    return operation(
        "worker",
        "One worker, what is held on it, and how loaded it was.",
        {"allOf": [ref(WorkerRow), ref(WorkerDetail)]},
        (*GUARDED, "unknown_worker"),
        parameters=[parameter("worker_id", msgspec.json.schema(Id), "The worker.", where="path")],
        security=TOKEN,
    )
