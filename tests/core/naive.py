"""The rules of choosing, as slow and plain as they can be told: what the fast ones must equal."""

import re
from collections.abc import Sequence
from fractions import Fraction

from dtask.core.placement.events import Ask, WorkerView


def meets(tags: Sequence[str], text: str) -> bool:
    """Whether a worker with `tags` meets the requirement `text`, which follows the grammar."""
    alternatives = text.removeprefix("!").split("|")
    return text.startswith("!") != any(_holds(tags, alternative) for alternative in alternatives)


def choose(rows: Sequence[tuple[int, WorkerView]], ask: Ask, last_slot: int) -> str | None:
    """The id of the worker that ranks first; `rows` are (slot of the table, worker)."""
    fit = [(slot, row) for slot, row in rows if why_not(row, ask) is None]

    def rank(place: tuple[int, WorkerView]) -> tuple[object, ...]:
        slot, row = place
        load = Fraction(row.occupancy, row.max_tasks)
        return (
            row.status == "suspect",
            -len(set(ask.preferred) & set(row.tags)),
            -load if ask.strategy == "bin_pack" else load,
            slot <= last_slot,
            slot,
        )

    return min(fit, key=rank)[1].worker_id if fit else None


def why_not(row: WorkerView, ask: Ask) -> str | None:
    """The first reason that keeps a worker from the task; None if it may have it."""
    if row.status == "offline":
        return "offline"
    if row.draining:
        return "draining"
    if row.worker_id in ask.excluded:
        return "excluded"
    if ask.trusted and not row.trusted:
        return "untrusted"
    for requirement in ask.requirements:
        if not meets(row.tags, requirement.text):
            return f"missing {requirement.text}"
    return "full" if row.occupancy >= row.max_tasks else None


def _holds(tags: Sequence[str], alternative: str) -> bool:
    found = re.fullmatch(r"(.+?)(>=|<=|>|<)(.+)", alternative)
    if found is None:
        return alternative in tags
    name, symbol, wanted = found.groups()
    for tag in tags:
        start, hyphen, version = tag.rpartition("-")
        if start != name or not hyphen or not re.fullmatch(r"[0-9]+(\.[0-9]+)*", version):
            continue
        side = _compare(version, wanted)
        if {">=": side >= 0, ">": side > 0, "<=": side <= 0, "<": side < 0}[symbol]:
            return True
    return False


def _compare(left: str, right: str) -> int:
    """-1, 0 or 1: number by number, a missing number is 0."""
    one, two = left.split("."), right.split(".")
    for i in range(max(len(one), len(two))):
        a = int(one[i]) if i < len(one) else 0
        b = int(two[i]) if i < len(two) else 0
        if a != b:
            return -1 if a < b else 1
    return 0
