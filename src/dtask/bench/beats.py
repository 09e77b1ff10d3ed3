"""A fleet that only heartbeats: `python -m dtask.bench.beats URL WORKERS [CONNECTIONS]`.

Raw sockets, because a real agent for each of 10,000 workers would be 10,000 processes. Each
worker heartbeats every 3 s, spread evenly, until the process is stopped.
"""

import asyncio
import sys
import time

from dtask.bench import traffic, workload

INTERVAL_S = 3.0
#: Heartbeats leave in so many small bursts per interval.
BURSTS = 300


class _Sink(asyncio.Protocol):
    """Reads answers and drops them."""


async def beat(url: str, workers: int, connections: int) -> None:
    """Heartbeat for `workers` workers over `connections` connections, for ever."""
    host, port = traffic.endpoint(url)
    loop = asyncio.get_running_loop()
    transports = []
    for _ in range(connections):
        transport, _ = await loop.create_connection(_Sink, host, port)
        transports.append(transport)
    slots = workload.slots(workers)
    beats = [workload.heartbeat(i, max_tasks=slots, current_tasks=i % 10) for i in range(workers)]
    started = time.perf_counter()
    burst = 0
    while True:
        for i in range(burst % BURSTS, workers, BURSTS):
            transports[i % connections].write(beats[i])
        burst += 1
        await asyncio.sleep(max(0.0, started + burst * INTERVAL_S / BURSTS - time.perf_counter()))


def main() -> None:
    """Run until stopped."""
    import uvloop  # noqa: PLC0415 (a program of its own)

    url, workers = sys.argv[1], int(sys.argv[2])
    connections = int(sys.argv[3]) if len(sys.argv) > 3 else 16  # noqa: PLR2004 (an argument)
    uvloop.run(beat(url, workers, connections))


if __name__ == "__main__":
    main()
