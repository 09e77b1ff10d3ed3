"""What a process tells Prometheus, read as Prometheus reads it."""

from typing import NamedTuple

import httpx
from prometheus_client.parser import text_string_to_metric_families


class Scrape(NamedTuple):
    """The samples of one scrape, by name and labels: `value("dtask_workers", status="online")`."""

    text: str
    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def value(self, name: str, **labels: str) -> float:
        """One sample, which must be there."""
        return self.samples[name, frozenset(labels.items())]

    def names(self) -> set[str]:
        """The names of all samples."""
        return {name for name, _ in self.samples}


def scrape(url: str, token: str | None = None) -> Scrape:
    """`GET URL/metrics`, with the token if there is one."""
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    answer = httpx.get(f"{url}/metrics", headers=headers, verify=False, timeout=20)
    assert answer.status_code == 200, answer.text
    samples = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    return Scrape(answer.text, samples)


def kinds(scraped: Scrape) -> dict[str, str]:
    """Kind by name of metric, as the text has them, but for those of every process."""
    told = [line.split() for line in scraped.text.splitlines() if line.startswith("# TYPE dtask_")]
    return {name: kind for _, _, name, kind in told}
