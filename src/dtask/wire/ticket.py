"""Tickets: proof to a worker that the scheduler placed this task on it.

The token never travels to a worker. A client that shows the scheduler the token gets a ticket
with its placement, an HMAC-SHA256 over worker, task, fence and expiry under a key derived from
the token. Workers that hold the token can check it, and nobody can make one without it.
The expiry bounds when the task may be *started*; reading and stopping that one task stays
possible with its ticket, because they name the same task and fence for ever.
"""

import hmac
from hashlib import sha256
from typing import Final

from dtask.errors import Denied

#: Longest ticket that is looked at.
TICKET_CHARS_MAX: Final = 128


def ticket_key(token: str) -> bytes:
    """The key of all tickets under this token."""
    return hmac.digest(token.encode(), b"dtask ticket v1", sha256)


def make_ticket(key: bytes, *, worker_id: str, task_id: str, fence: int, expires_at: float) -> str:
    """`EXPIRY.MAC`, good for starting the task until `expires_at` (epoch seconds)."""
    expiry = int(expires_at)
    return f"{expiry}.{_mac(key, worker_id, task_id, fence, expiry)}"


def check_ticket(
    key: bytes, ticket: str, *, worker_id: str, task_id: str, fence: int, now: float | None
) -> None:
    """Raise Denied unless `ticket` is for exactly this; with `now`, unless it still may start."""
    expiry, _, mac = ticket[: TICKET_CHARS_MAX + 1].partition(".")
    if not (expiry.isascii() and expiry.isdigit() and mac.isascii()) or not hmac.compare_digest(
        mac, _mac(key, worker_id, task_id, fence, int(expiry))
    ):
        raise Denied(
            "The ticket is not for this worker, task and fence: send the one of this placement.",
            code="bad_ticket",
        )
    if now is not None and now > int(expiry) + 1:
        raise Denied(
            "The ticket has expired: ask the scheduler for the placement again.", code="bad_ticket"
        )


def _mac(key: bytes, worker_id: str, task_id: str, fence: int, expiry: int) -> str:
    # Lengths keep ("ab", "c") and ("a", "bc") apart.
    text = f"{len(worker_id)}:{worker_id}{len(task_id)}:{task_id}{fence}.{expiry}"
    return hmac.digest(key, text.encode(), sha256).hex()
