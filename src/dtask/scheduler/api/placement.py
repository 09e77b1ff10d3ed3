"""From the core's answer to a question to what goes out: a placement, or why there is none."""

import functools
from typing import Any

from dtask.core.placement.events import Placement, Refusal
from dtask.errors import NoWorker
from dtask.scheduler.api.answers import Message, error_messages
from dtask.scheduler.protocol import prerender
from dtask.wire.ticket import make_ticket


def placed(placement: Placement) -> dict[str, Any]:
    """The body of a placement."""
    return {
        "worker_id": placement.worker_id,
        "address": placement.address,
        "fence": placement.fence,
        "expires_at": placement.expires_at,
    }


def placed_with_ticket(placement: Placement, task_id: str, ticket_key: bytes) -> dict[str, Any]:
    """The body of a placement for a request that carried the token."""
    body = placed(placement)
    body["ticket"] = make_ticket(
        ticket_key,
        worker_id=placement.worker_id,
        task_id=task_id,
        fence=placement.fence,
        expires_at=placement.expires_at,
    )
    return body


def refused(refusal: Refusal) -> NoWorker:
    """The error that says why no worker can take the task, and when to ask again."""
    reasons: dict[str, Any] = {}
    for name in ("offline", "draining", "excluded", "untrusted"):
        if count := getattr(refusal, name):
            reasons[name] = count
    if refusal.missing:
        reasons["missing_tag"] = refusal.missing
    if refusal.full:
        reasons["full"] = refusal.full
    facts: dict[str, Any] = {"reasons": reasons, "retry_after_s": refusal.retry_after_s}
    if refusal.did_you_mean:
        facts["did_you_mean"] = refusal.did_you_mean
    if refusal.warming_up:
        facts["warming_up"] = True
    if refusal.index is not None:
        facts["index"] = refusal.index
        facts["task_id"] = refusal.task_id
    code = "warming_up" if refusal.warming_up else "no_worker"
    return NoWorker(_sentence(refusal), code=code, **facts)


def refusal_messages(refusal: Refusal) -> tuple[Message, Message]:
    """Both messages of the answer to one question that is refused.

    A fleet that is full refuses many in the same words, so those are kept.
    """
    if refusal.did_you_mean:
        return error_messages(refused(refusal))
    missing = tuple(refusal.missing.items())
    counts = (refusal.offline, refusal.draining, refusal.excluded, refusal.untrusted, refusal.full)
    return _plain_messages(missing, counts, refusal.retry_after_s, refusal.warming_up)


@functools.lru_cache(maxsize=256)
def _plain_messages(
    missing: tuple[tuple[str, int], ...],
    counts: tuple[int, int, int, int, int],
    retry_after_s: float,
    warming_up: bool,
) -> tuple[Message, Message]:
    offline, draining, excluded, untrusted, full = counts
    refusal = Refusal(
        task_id="",
        offline=offline,
        draining=draining,
        excluded=excluded,
        untrusted=untrusted,
        missing=dict(missing),
        full=full,
        did_you_mean={},
        retry_after_s=retry_after_s,
        warming_up=warming_up,
    )
    first, second = error_messages(refused(refusal))
    return prerender(first), second


def _sentence(refusal: Refusal) -> str:
    counts = [
        f"{count} {reason}"
        for count, reason in (
            (refusal.offline, "offline"),
            (refusal.draining, "draining"),
            (refusal.excluded, "excluded"),
            (refusal.untrusted, "not trusted"),
            *((count, f"without {tag}") for tag, count in refusal.missing.items()),
            (refusal.full, "full"),
        )
        if count
    ]
    why = ", ".join(counts) or "none is known"
    known = (
        "The scheduler has just started and may not know all workers yet; of those it knows, none "
        if refusal.warming_up
        else "No worker "
    )
    hints = [f"{' or '.join(tags)} for {name}" for name, tags in refusal.did_you_mean.items()]
    hint = f" Did you mean {', '.join(hints)}?" if hints else ""
    return f"{known}can take the task: {why}.{hint} Ask again in {refusal.retry_after_s:g} s."
