import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

import httpx
import pytest

from dtask.errors import InvalidRequest, NotFound, Unavailable
from dtask.worker import blobs
from dtask.worker.blobs import Blobs
from worker.recording import Answer, Recorder, Request, always, hang_up

DATA = b"what a task needs"
DIGEST = sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "PAUSE_S", 0.001)


@asynccontextmanager
async def scheduler(answer: Answer) -> AsyncIterator[tuple[Recorder, Blobs]]:
    transport = httpx.AsyncHTTPTransport(trust_env=False)
    try:
        async with Recorder(answer) as recorder:
            yield recorder, Blobs(recorder.url, token="secret", transport=transport)
    finally:
        await transport.aclose()


def test_blob_is_fetched_with_the_token() -> None:
    async def main() -> None:
        async with scheduler(always(200, DATA)) as (recorder, one):
            assert await one.fetch(DIGEST) == DATA
            [request] = recorder.requests
            assert request.line == f"GET /api/v1/blobs/{DIGEST} HTTP/1.1"
            assert request.headers["authorization"] == "Bearer secret"

    asyncio.run(main())


def test_scheduler_that_breaks_off_is_asked_again() -> None:
    async def main() -> None:
        failures = [hang_up, always(503, {"error": "Later.", "code": "store_failed"})]

        async def answer(request: Request) -> tuple[int, Any]:
            return await (failures.pop() if failures else always(200, DATA))(request)

        async with scheduler(answer) as (recorder, one):
            assert await one.fetch(DIGEST) == DATA
            assert len(recorder.requests) == 3

    asyncio.run(main())


def test_other_bytes_than_those_asked_for_are_never_taken() -> None:
    async def main() -> None:
        async with scheduler(always(200, b"something else")) as (recorder, one):
            with pytest.raises(Unavailable, match="has another hash"):
                await one.fetch(DIGEST)
            assert len(recorder.requests) == blobs.TRIES

    asyncio.run(main())


def test_blob_that_is_not_there_is_asked_for_once() -> None:
    async def main() -> None:
        body = {"error": "No blob of this hash is there.", "code": "no_blob"}
        async with scheduler(always(404, body)) as (recorder, one):
            with pytest.raises(NotFound, match="No blob of this hash"):
                await one.fetch(DIGEST)
            assert len(recorder.requests) == 1

    asyncio.run(main())


def test_scheduler_that_is_gone_is_said_to_be() -> None:
    async def main() -> None:
        async with scheduler(hang_up) as (recorder, one):
            with pytest.raises(Unavailable, match=f"{recorder.url} did not send the blob"):
                await one.fetch(DIGEST)

    asyncio.run(main())


def test_too_much_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with scheduler(always(200, bytes(200_000))) as (_, one):
            with pytest.raises(InvalidRequest, match="over 100000 bytes"):
                await one.fetch(DIGEST)

    monkeypatch.setattr(blobs, "BLOB_BYTES_MAX", 100_000)
    asyncio.run(main())
