from typing import Any

import click
import pytest

from dtask.cli import fleet
from dtask.client import Worker

NOW = 1_700_000_000.0


def worker(worker_id: str = "w1", **fields: Any) -> Worker:
    """An idle, trusted worker of four slots, heard a second ago."""
    given: dict[str, Any] = {
        "worker_id": worker_id,
        "address": "127.0.0.1:8081",
        "resource_tags": ["gpu"],
        "max_tasks": 4,
        "current_tasks": 0,
        "reported_tasks": None,
        "available": 4,
        "load": 0.0,
        "status": "online",
        "last_heartbeat": NOW - 1,
        "trusted": True,
        "draining": False,
        "leases": 0,
        "incarnation": None,
        "metrics": {},
    }
    return Worker(**given | fields)


def table(*workers: Worker, now: float = NOW, width: int | None = None) -> list[str]:
    """The lines of the table, without colours."""
    lines = fleet.table(workers, now=now, width=width, ascii_only=True)
    return [click.unstyle(line) for line in lines]


def test_columns_stand_in_line_whatever_is_in_them() -> None:
    lines = table(worker("w1"), worker("a-long-name", max_tasks=30), worker("東京-1"))
    starts = {len(line.encode("utf-16-le")) for line in lines[1:3]}
    assert len(starts) == 1
    assert lines[0].index("ADDRESS") == lines[1].index("127.") == lines[2].index("127.")
    assert lines[3].index("127.") == lines[1].index("127.") - 2  # two letters of two cells each


@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_line_fits_the_window(width: int) -> None:
    many = [f"tag-number-{i}" for i in range(30)]
    lines = table(
        worker("gpu-1", resource_tags=many),
        worker("ip-10-0-3-17.internal:8081", resource_tags=many, trusted=False),
        width=width,
    )
    assert max(map(len, lines)) <= width
    assert not any(line.endswith(" ") for line in lines)


def test_an_id_is_never_cut() -> None:
    name = "x" * 128
    assert name in table(worker(name), width=40)[1]


def test_in_a_narrow_window_the_address_goes_last() -> None:
    wide, middle, narrow = (table(worker("w" * 20), width=width) for width in (100, 75, 60))
    assert "ADDRESS" in wide[0]
    assert "-" * 10 in wide[1]
    assert "ADDRESS" in middle[0]
    assert "-" * 10 not in middle[1]
    assert "ADDRESS" not in narrow[0]


@pytest.mark.parametrize(
    ("taken", "slots", "bar"),
    [
        (0, 8, "----------"),
        (1, 1000, "#---------"),
        (4, 8, "#####-----"),
        (999, 1000, "#########-"),
        (8, 8, "##########"),
        (12, 8, "##########"),
    ],
)
def test_a_bar_is_empty_only_when_idle_and_full_only_when_full(
    taken: int, slots: int, bar: str
) -> None:
    line = table(worker(current_tasks=taken, max_tasks=slots, load=taken / slots))[1]
    assert f" {bar} " in line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-2, "0s"), (9.6, "10s"), (119, "119s"), (120, "2m"), (7_200, "2h"), (200_000, "2d")],
)
def test_ages_are_short(seconds: float, text: str) -> None:
    assert fleet.age(seconds) == text


def test_a_clock_that_stands_elsewhere_does_not_age_online_workers() -> None:
    """Heartbeats carry the scheduler's time; this machine's may be an hour off."""
    for now in (NOW + 3_600, NOW - 3_600):
        line = table(worker(), worker("w2", last_heartbeat=NOW - 3), now=now)[1]
        age = line.split("online ")[1]
        assert age in ("0s", "10s")


def test_tags_are_shortened_by_whole_tags() -> None:
    tags = ["gpu", "cuda-12.4", "zone=eu"]
    assert fleet.shortened(tags, None) == "gpu cuda-12.4 zone=eu"
    assert fleet.shortened(tags, 21) == "gpu cuda-12.4 zone=eu"
    assert fleet.shortened(tags, 20) == "gpu cuda-12.4 +1"
    assert fleet.shortened(tags, 15) == "gpu +2"
    assert fleet.shortened(tags, 5) == "3 tags"
    assert fleet.shortened([], 5) == ""


def test_the_summary_counts_only_slots_that_can_be_had() -> None:
    text = click.unstyle(
        fleet.summary(
            [
                worker("w1", current_tasks=1),
                worker("w2", draining=True, current_tasks=2),
                worker("w3", status="offline", current_tasks=3),
                worker("w4", status="suspect", max_tasks=2_000),
            ]
        )
    )
    assert text == "4 workers: 2 online, 1 suspect, 1 offline. 1 of 2,004 slots taken, 1 draining."
