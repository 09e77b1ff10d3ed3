"""Why no worker can take a task: counts, near misses, and when asking again is worth it."""

import difflib
from collections.abc import Iterator
from itertools import islice
from typing import Final

from dtask.core.placement.events import Ask, Refusal
from dtask.core.placement.fleet import Fleet

#: A slot may come free with any heartbeat.
RETRY_FULL_S: Final = 1.0
#: A worker that drains or went silent may be back after a heartbeat or two, and where none is
#: known the first may be starting.
RETRY_AWAY_S: Final = 5.0
#: Somebody must first start a worker that has the tag.
RETRY_MISSING_S: Final = 10.0

#: Bounds of the search for near misses, so that no request can hold up the loop with it: unknown
#: tags explained per refusal, known tags looked at, those compared letter by letter.
UNKNOWN_MAX: Final = 3
KNOWN_MAX: Final = 1_000
ALIKE_MAX: Final = 32
#: A tag that is only the start of another is like it from so many characters on.
START_CHARS_MIN: Final = 2


def explain(fleet: Fleet, ask: Ask, *, warm_in_s: float, index: int | None = None) -> Refusal:
    """Count each worker once, under the first reason that applies to it.

    Call it when no worker is feasible: whoever is left after all other reasons is full.
    `warm_in_s` is how long the scheduler still warms up, 0 if it has.
    """
    rest = fleet.everyone
    offline, rest = split(rest, fleet.offline_bits)
    draining, rest = split(rest, fleet.draining_bits)
    excluded, rest = split(rest, fleet.bits_of(ask.excluded))
    untrusted = 0
    if ask.trusted:
        untrusted, rest = split(rest, rest ^ (rest & fleet.trusted_bits))
    missing: dict[str, int] = {}
    for requirement in ask.requirements:
        met = fleet.tags.meeting(requirement, rest)
        if count := (rest ^ met).bit_count():
            missing[requirement.text] = missing.get(requirement.text, 0) + count
        rest = met
    full = rest.bit_count()
    if full:
        retry_after_s = RETRY_FULL_S
    elif offline or draining or not fleet.everyone:
        retry_after_s = RETRY_AWAY_S
    else:
        retry_after_s = RETRY_MISSING_S
    return Refusal(
        task_id=ask.task_id,
        offline=offline,
        draining=draining,
        excluded=excluded,
        untrusted=untrusted,
        missing=missing,
        full=full,
        did_you_mean=near_misses(fleet, ask),
        retry_after_s=round(min(retry_after_s, warm_in_s), 3) if warm_in_s > 0 else retry_after_s,
        warming_up=warm_in_s > 0,
        index=index,
    )


def split(rest: int, reason: int) -> tuple[int, int]:
    """How many of `rest` the reason applies to, and the others."""
    if not reason:
        return 0, rest
    met = rest & reason
    return met.bit_count(), rest ^ met


def near_misses(fleet: Fleet, ask: Ask) -> dict[str, list[str]]:
    """Known tags that look like one that is asked for and that no worker carries."""
    unknown = (
        alternative
        for requirement in ask.requirements
        if not requirement.negated
        for alternative in requirement.alternatives
        if not fleet.tags.knows(alternative)
    )
    found = {}
    for alternative in islice(unknown, UNKNOWN_MAX):
        if isinstance(alternative, str):
            name, known = alternative, iter(fleet.tags)
        else:
            name, known = alternative.name, iter(fleet.tags.versioned())
        if alike := _alike(known, name):
            found[name] = alike
    return found


def _alike(known: Iterator[str], name: str) -> list[str]:
    """Up to three of `known` like `name`: the same but for case and punctuation, or a typo away."""
    plain = _plain(name)
    same: list[str] = []
    close: list[str] = []
    for tag in islice(known, KNOWN_MAX):
        bare = _plain(tag)
        shorter, longer = sorted((bare, plain), key=len)
        if shorter == longer or (len(shorter) >= START_CHARS_MIN and longer.startswith(shorter)):
            same.append(tag)
        elif abs(len(bare) - len(plain)) <= 2 and len(close) < ALIKE_MAX:  # noqa: PLR2004 (two typos)
            close.append(tag)
    same.sort(key=lambda tag: (len(tag), tag))
    return (same + difflib.get_close_matches(name, close, n=3, cutoff=0.6))[:3]


def _plain(tag: str) -> str:
    return tag.casefold().replace("-", "").replace("_", "").replace(".", "")
