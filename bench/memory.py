"""How much memory does a worker take, and a lease, over the empty scheduler?"""

from collections.abc import Iterator

import program

from dtask.bench import servers, traffic, workload
from dtask.bench.figures import Figure

WORKER_LIMIT_BYTES = 2 * 1024.0
LEASE_LIMIT_BYTES = 1024.0


def main(small: bool) -> Iterator[Figure]:
    """Yield the figures."""
    workers, leases = (500, 2_000) if small else (50_000, 200_000)
    with servers.scheduler("--suspect-after", "86400", "--offline-after", "86400") as server:
        empty = server.memory_bytes()
        beats = (workload.heartbeat(i, max_tasks=30, current_tasks=i % 10) for i in range(workers))
        traffic.run(server.url, [workload.once(beats)])
        filled = server.memory_bytes()
        batches = (workload.batch(f"m{i}", 1_000, ttl_s=3_600) for i in range(leases // 1_000))
        traffic.run(server.url, [workload.once(batches)])
        leased = server.memory_bytes()
    yield Figure(
        what=f"memory of a worker, {workers:,} of them",
        value=(filled - empty) / workers,
        unit="bytes",
        peer="empty scheduler, MiB",
        peer_value=empty / 2**20,
        limit=WORKER_LIMIT_BYTES,
    )
    yield Figure(
        what=f"memory of a lease, {leases:,} of them",
        value=(leased - filled) / leases,
        unit="bytes",
        limit=LEASE_LIMIT_BYTES,
    )


if __name__ == "__main__":
    program.run("memory", main)
