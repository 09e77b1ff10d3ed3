"""However many ask at once, no slot is given twice."""

import asyncio
from collections import Counter
from typing import Any

import httpx
import pytest

import servers

CLIENTS = 200


@pytest.mark.parametrize("slots", [1, 7])
def test_each_slot_is_placed_once_and_every_refusal_is_explained(slots: int) -> None:
    with servers.running_scheduler() as running:
        servers.beat(running.url, max_tasks=slots)
        answers = asyncio.run(ask_at_once(running.url))
        workers = httpx.get(f"{running.url}/api/v1/workers").json()
    assert Counter(status for status, _ in answers) == {200: slots, 503: CLIENTS - slots}
    assert len({body["fence"] for status, body in answers if status == 200}) == slots
    for status, body in answers:
        if status == 503:
            assert (body["code"], body["reasons"]) == ("no_worker", {"full": 1})
    assert workers[0]["current_tasks"] == slots


async def ask_at_once(url: str) -> list[tuple[int, dict[str, Any]]]:
    """Each client has its connection open before any of them asks."""
    host, port = url.removeprefix("http://").split(":")
    streams = [await asyncio.open_connection(host, int(port)) for _ in range(CLIENTS)]
    for i, (_, writer) in enumerate(streams):
        body = b'{"task_id":"task-%d"}' % i
        head = (
            f"POST /api/v1/schedule HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
    answers = []
    for reader, writer in streams:
        head_bytes, _, body = (await reader.read()).partition(b"\r\n\r\n")
        answers.append((int(head_bytes.split()[1]), httpx.Response(200, content=body).json()))
        writer.close()
    return answers
