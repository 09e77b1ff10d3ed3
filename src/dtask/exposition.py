"""Numbers in the words of Prometheus.

What there is to tell is a table of `Described`: each names one metric and reads its value out of
whatever its owner hands over. Nothing is counted here, and nothing here is touched while work is
done: the numbers are plain ones of their owners, and become text when somebody asks.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Generic, Literal, TypeVar

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from dtask.errors import Busy
from dtask.histogram import Histogram

R = TypeVar("R")

#: One number; one for each list of label values; a histogram. None: not known now, left out.
Value = float | Iterable[tuple[Sequence[str], float]] | Histogram | None

#: Requests that read a program's metrics at a time.
SCRAPES_MAX: Final = 16

#: CPU, memory and files of this process: `process_cpu_seconds_total` and its kin.
_PROCESS: Final = ProcessCollector(registry=None)


@dataclass(frozen=True, slots=True)
class Described(Generic[R]):
    """One metric: its name and kind, what it says, and where its value comes from."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    read: Callable[[R], Value]
    #: The names of its labels.
    labels: tuple[str, ...] = ()


class Exposition(Generic[R]):
    """All metrics of one program, beside those that every process has."""

    def __init__(self, described: Iterable[Described[R]]) -> None:
        self.described = tuple(described)
        self._scrapes = 0

    @contextmanager
    def scraped(self) -> Iterator[None]:
        """While somebody waits for a page. Raises Busy if too many do."""
        if self._scrapes >= SCRAPES_MAX:
            raise Busy(
                f"{SCRAPES_MAX} requests read metrics, which is the limit: ask again later.",
                code="too_many_waiters",
            )
        self._scrapes += 1
        try:
            yield
        finally:
            self._scrapes -= 1

    def page(self, owner: R, accept: str = "") -> tuple[bytes, str]:
        """All of them as text, and its content type: the one of `accept`, an Accept header.

        May be called from any thread, as long as what `read` looks at may be.
        """
        encode, content_type = _encoder(accept)
        return encode(_Families(self.described, owner)), content_type


class _Families(Collector, Generic[R]):
    """What prometheus_client makes text of."""

    def __init__(self, described: Iterable[Described[R]], owner: R) -> None:
        self._described = described
        self._owner = owner

    def collect(self) -> Iterator[Metric]:
        for each in self._described:
            value = each.read(self._owner)
            if value is not None:
                yield _family(each, value)
        yield from _PROCESS.collect()


def _family(described: Described[R], value: Value) -> Metric:
    name, meaning = described.name, described.meaning
    if isinstance(value, Histogram):
        bounds = [*map(str, map(float, value.bounds)), "+Inf"]
        buckets = list(zip(bounds, accumulate(value.counts), strict=True))
        return HistogramMetricFamily(name, meaning, buckets, value.total)
    kind = CounterMetricFamily if described.kind == "counter" else GaugeMetricFamily
    family = kind(name, meaning, labels=described.labels)
    rows = [((), value)] if isinstance(value, int | float) else value
    for labels, number in rows or ():
        family.add_metric(labels, number)
    return family


def _encoder(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    """The text format that the reader prefers; the plain one for a header that is none."""
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is no version
        return generate_latest, CONTENT_TYPE_PLAIN_0_0_4
