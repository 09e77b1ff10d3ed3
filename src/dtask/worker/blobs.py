"""Files of attempts, fetched from the scheduler that sent them."""

import asyncio
import random
from hashlib import sha256
from typing import Final

import httpx
import orjson

from dtask import errors
from dtask.errors import DtaskError, InvalidRequest, Unavailable

#: As the scheduler has it.
BLOB_BYTES_MAX: Final = 64 * 1024**2

#: Tries of one blob, and the bound of the first pause between them, doubled with each.
TRIES: Final = 4
PAUSE_S: Final = 0.25

#: Seconds in which something of the answer must arrive.
TIMEOUT_S: Final = {"connect": 5.0, "read": 15.0, "write": 5.0, "pool": 5.0}


class Blobs:
    """The blobs of the scheduler at `url`."""

    def __init__(self, url: str, *, token: str, transport: httpx.AsyncBaseTransport) -> None:
        self._url = url
        self._headers = {"authorization": f"Bearer {token}"}
        self._transport = transport

    async def fetch(self, digest: str) -> bytes:
        """The bytes whose SHA-256 is `digest`, in hex.

        Raises DtaskError: NotFound if there is no such blob, Unavailable if the scheduler could
        not be reached for some seconds.
        """
        for tries_left in reversed(range(TRIES)):
            try:
                return await self._try(digest)
            except Unavailable:
                if not tries_left:
                    raise
            bound_s = PAUSE_S * 2.0 ** (TRIES - 1 - tries_left)
            await asyncio.sleep(random.uniform(bound_s / 2, bound_s))  # noqa: S311 (spreads load)
        raise AssertionError

    async def _try(self, digest: str) -> bytes:
        request = httpx.Request(
            "GET",
            f"{self._url}/api/v1/blobs/{digest}",
            headers=self._headers,
            extensions={"timeout": TIMEOUT_S},
        )
        try:
            response = await self._transport.handle_async_request(request)
            try:
                data = await _body(response)
            finally:
                await response.aclose()
        except httpx.RequestError as error:
            raise Unavailable(
                f"The scheduler {self._url} did not send the blob {digest}: "
                f"{str(error) or type(error).__name__}.",
                code="unreachable",
            ) from None
        if response.status_code != httpx.codes.OK:
            raise _refusal(response.status_code, data)
        if await asyncio.to_thread(_digest, data) != digest:
            raise Unavailable(
                f"What the scheduler {self._url} sent as the blob {digest} has another hash.",
                code="unreachable",
            )
        return data


async def _body(response: httpx.Response) -> bytes:
    parts = []
    count = 0
    async for part in response.aiter_raw():
        parts.append(part)
        count += len(part)
        if count > BLOB_BYTES_MAX:
            raise InvalidRequest(
                f"The blob is over {BLOB_BYTES_MAX} bytes: expected less.",
                code="too_large",
                limit_bytes=BLOB_BYTES_MAX,
            )
    return b"".join(parts)


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()


def _refusal(status: int, body: bytes) -> DtaskError:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = None
    return errors.from_body(status, parsed)
