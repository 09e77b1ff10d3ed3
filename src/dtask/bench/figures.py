"""Measured figures beside their peer or limit, as a table and as JSON."""

import json
import os
import platform
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct, structs


class Figure(Struct, frozen=True, kw_only=True):
    """One measured value, and what it should be."""

    #: What was measured, under which workload.
    what: str
    value: float
    unit: str
    #: What it is held against, measured in the same run where that is possible.
    peer: str = ""
    peer_value: float | None = None
    #: What it should at most, or at least, be. None: nothing is promised.
    limit: float | None = None
    better: Literal["less", "more"] = "less"

    @property
    def holds(self) -> bool:
        """Whether the limit, if there is one, is kept."""
        if self.limit is None:
            return True
        return self.value <= self.limit if self.better == "less" else self.value >= self.limit


def table(figures: Sequence[Figure]) -> str:
    """The figures as lines of text."""
    header = ("what", "measured", "peer", "limit", "")
    rows: list[tuple[str, ...]] = [header]
    for figure in figures:
        sign = "<=" if figure.better == "less" else ">="
        limit = "" if figure.limit is None else f"{sign} {_number(figure.limit)}"
        peer = figure.peer
        if figure.peer_value is not None:
            peer += f": {_number(figure.peer_value)}"
        verdict = "" if figure.limit is None else "holds" if figure.holds else "FALLS SHORT"
        measured = f"{_number(figure.value)} {figure.unit}"
        rows.append((figure.what, measured, peer, limit, verdict))
    if all(figure.limit is None for figure in figures):
        rows = [row[:3] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def to_json(figures: Sequence[Figure]) -> str:
    """The figures, with the machine they were measured on."""
    machine = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
    }
    rows = [structs.asdict(figure) | {"holds": figure.holds} for figure in figures]
    return json.dumps({"machine": machine, "figures": rows}, indent=2)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004 (three digits)
