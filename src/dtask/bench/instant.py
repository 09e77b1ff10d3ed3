"""Workers that run nothing: they heartbeat, open a channel, and answer each start with its end.

What a scheduler can do with them is what it can do. A process of its own, so that it takes none
of the scheduler's time: `python -m dtask.bench.instant URL TOKEN WORKERS SLOTS`.
"""

import asyncio
import sys

import httpx
import uvloop
import websockets
from websockets.asyncio.client import ClientConnection, connect

from dtask.clock import SystemClock
from dtask.wire import frames
from dtask.wire.frames import Down, EndedFrame, Hello, StartedFrame, StartFrame, Up, Welcome

INTERVAL_S = 3.0


async def be_workers(url: str, token: str, workers: int, slots: int) -> None:
    """Be so many workers of so many slots until the scheduler is gone."""
    headers = {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
        await asyncio.gather(
            *(_be_worker(client, url, headers, f"instant-{i}", slots) for i in range(workers))
        )


async def _be_worker(
    client: httpx.AsyncClient, url: str, headers: dict[str, str], worker_id: str, slots: int
) -> None:
    beating = asyncio.create_task(_beat(client, worker_id, slots))
    await asyncio.sleep(0)
    try:
        while not beating.done():
            try:
                async with connect(
                    url.replace("http", "ws", 1) + frames.PATH,
                    additional_headers=headers,
                    compression=None,
                    max_size=None,
                    proxy=None,
                ) as channel:
                    await _answer(channel, worker_id)
            except (OSError, websockets.WebSocketException):
                await asyncio.sleep(0.05)
    finally:
        beating.cancel()


async def _beat(client: httpx.AsyncClient, worker_id: str, slots: int) -> None:
    for number in range(1, sys.maxsize):
        body = {
            "worker_id": worker_id,
            "address": "127.0.0.1:1",
            "resource_tags": ["cpu"],
            "max_tasks": slots,
            "current_tasks": 0,
            "incarnation": worker_id,
            "seq": number,
            "tasks": [],
        }
        (await client.post("/api/v1/heartbeat", json=body)).raise_for_status()
        await asyncio.sleep(INTERVAL_S)


async def _answer(channel: ClientConnection, worker_id: str) -> None:
    await channel.send(frames.encode(Hello(frames.VERSION, worker_id, worker_id, None)))
    clock = SystemClock()
    number = 0
    async for raw in channel:
        assert isinstance(raw, bytes)
        message = frames.from_scheduler(raw)
        if isinstance(message, Welcome):
            continue
        assert isinstance(message, Down)
        now = clock.now()
        ends: list[StartedFrame | EndedFrame] = []
        for frame in message.frames:
            if isinstance(frame, StartFrame):
                ends.append(StartedFrame(frame.fence, now))
                ends.append(_end(frame.fence, now))
        if ends:
            number += 1
            await channel.send(frames.encode(Up(number, message.number, tuple(ends))))


def _end(fence: int, now: float) -> EndedFrame:
    return EndedFrame(
        fence=fence,
        exit_code=0,
        cause=None,
        error=None,
        started_at=now,
        ended_at=now,
        stdout_bytes=0,
        stderr_bytes=0,
        result_bytes=0,
        truncated=False,
        log_lost=False,
        cpu_s=0.0,
        max_rss_bytes=0,
    )


if __name__ == "__main__":
    uvloop.run(be_workers(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
