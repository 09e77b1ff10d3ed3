"""How many placements a second over HTTP, and how fast is one, beside the bare server?"""

from collections.abc import Iterator

import program
from msgspec import structs

from dtask.bench import measure
from dtask.bench.figures import Figure

#: Share of the bare server's requests per second, in percent, by fleet size.
SHARE_LIMITS = {500: 70.0, 10_000: 55.0, 50_000: 40.0}
REFUSAL_SHARE_LIMIT = 50.0
P50_LIMIT_MS = 0.3
P99_LIMIT_RATIO = 3.0
BATCH_LIMIT = 100_000.0


def main(small: bool) -> Iterator[Figure]:
    """Yield the figures."""
    seconds = 1.0 if small else 20.0
    rounds = 1 if small else measure.ROUNDS
    for workers in [500] if small else SHARE_LIMITS:
        rate, share = measure.placements(workers, seconds=seconds, rounds=rounds)
        yield rate
        yield structs.replace(share, limit=SHARE_LIMITS[workers])
    for workers in [500] if small else [500, 50_000]:
        rate, share = measure.refusals(workers, seconds=seconds, rounds=rounds)
        yield rate
        yield structs.replace(share, limit=REFUSAL_SHARE_LIMIT)
    p50, p99, ratio = measure.latencies(1_000, seconds=seconds, rounds=rounds)
    yield structs.replace(p50, limit=P50_LIMIT_MS)
    yield p99
    yield structs.replace(ratio, limit=P99_LIMIT_RATIO)
    (batch,) = measure.batches(500, seconds=seconds)
    yield structs.replace(batch, limit=BATCH_LIMIT)


if __name__ == "__main__":
    program.run("over_http", main)
