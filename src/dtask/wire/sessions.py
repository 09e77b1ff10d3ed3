"""What browsers sign in with."""

from typing import Annotated

from msgspec import Meta, Struct


class CodeAnswer(Struct, frozen=True):
    """A code that signs one browser in."""

    code: str
    expires_at: float


class SignInBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What `POST /api/v1/session` takes."""

    code: Annotated[str, Meta(min_length=1, max_length=128)]


class SessionAnswer(Struct, frozen=True, omit_defaults=True):
    """Whether this browser is signed in, and by which clock and version."""

    signed_in: bool
    now: float
    version: str
    expires_at: float | None = None
