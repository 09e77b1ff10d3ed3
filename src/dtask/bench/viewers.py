"""Those who look on: `python -m dtask.bench.viewers URL TOKEN VIEWERS`.

Each reads the live stream over a connection of its own until the process is stopped. It prints
how many bytes they have read once a second. It gives way to all other processes: viewers look on
from machines of their own, and what they do there delays no placement.
"""

import asyncio
import os
import sys

from dtask.bench import traffic


class _Viewer(asyncio.Protocol):
    """Counts what it reads, and keeps nothing."""

    read_bytes = 0

    def data_received(self, data: bytes) -> None:
        _Viewer.read_bytes += len(data)


async def view(url: str, token: str, viewers: int) -> None:
    """Read as many streams, for ever."""
    host, port = traffic.endpoint(url)
    loop = asyncio.get_running_loop()
    head = f"GET /api/v1/live HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n\r\n"
    for _ in range(viewers):
        transport, _ = await loop.create_connection(_Viewer, host, port)
        transport.write(head.encode())
    while True:
        sys.stdout.write(f"{_Viewer.read_bytes}\n")
        sys.stdout.flush()
        await asyncio.sleep(1)


def main() -> None:
    """Run until stopped."""
    import uvloop  # noqa: PLC0415 (a program of its own)

    os.nice(19)
    url, token, viewers = sys.argv[1:]
    uvloop.run(view(url, token, int(viewers)))


if __name__ == "__main__":
    main()
