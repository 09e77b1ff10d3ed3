"""From a table and its owner to what Prometheus reads."""

from typing import Any

from dtask.exposition import Described, Exposition
from dtask.histogram import Histogram


def text(*described: Described[Any], owner: Any = None, accept: str = "") -> list[str]:
    """The lines of these metrics, those of the process left out."""
    page, _ = Exposition(described).page(owner, accept)
    return page.decode().partition("# HELP process_")[0].splitlines()


def test_a_number_is_read_from_its_owner_at_each_scrape() -> None:
    owner = [1]
    one = Described("a_things", "gauge", "Things.", lambda owner: owner[0])
    assert text(one, owner=owner)[2:] == ["a_things 1.0"]
    owner[0] = 2
    assert text(one, owner=owner) == [
        "# HELP a_things Things.",
        "# TYPE a_things gauge",
        "a_things 2.0",
    ]


def test_labels_make_a_series_each() -> None:
    rows = [(("x", "1"), 3), (("y\n", "2"), 4)]
    one = Described("a_total", "counter", "Things.", lambda _: rows, ("kind", "number"))
    assert text(one)[2:] == [
        'a_total{kind="x",number="1"} 3.0',
        'a_total{kind="y\\n",number="2"} 4.0',
    ]


def test_a_histogram_adds_up() -> None:
    histogram = Histogram((0.5, 1))
    for value in (0.25, 0.75, 2.0):
        histogram.add(value)
    assert text(Described("a_seconds", "histogram", "Time.", lambda _: histogram))[2:] == [
        'a_seconds_bucket{le="0.5"} 1.0',
        'a_seconds_bucket{le="1.0"} 2.0',
        'a_seconds_bucket{le="+Inf"} 3.0',
        "a_seconds_count 3.0",
        "a_seconds_sum 3.0",
    ]


def test_what_is_not_known_is_left_out() -> None:
    assert text(Described("a_things", "gauge", "Things.", lambda _: None)) == []
