"""Handles of jobs: a number, and the calls of a client that are about it."""

from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING

from dtask.client.calls import Stream
from dtask.client.job_results import Event, JobResult, Why
from dtask.core.jobs.events import Again
from dtask.core.jobs.names import Name

if TYPE_CHECKING:
    from dtask.client.awaiting import AsyncClient
    from dtask.client.blocking import Client


class Job:
    """A job that was submitted, and the client that knows it."""

    def __init__(self, client: "Client", job_id: int, *, known: bool = False) -> None:
        self._client = client
        self.id = job_id
        #: It had been submitted before, with the same key.
        self.known = known

    def __repr__(self) -> str:
        return f"Job({self.id})"

    def look(self) -> JobResult:
        """How it stands now."""
        return self._client.job(self.id)

    def wait(self, timeout_s: float | None = None) -> JobResult:
        """As `Client.wait`."""
        return self._client.wait(self.id, timeout_s=timeout_s)

    def logs(
        self,
        task: str | None = None,
        *,
        index: int | None = None,
        attempt: int | None = None,
        stream: Stream = "stdout",
        follow: bool = False,
    ) -> Generator[bytes, None, None]:
        """As `Client.logs`. A job of one task need not name it."""
        name = _name(self.id, task, index, attempt)
        return self._client.logs(name, stream=stream, follow=follow)

    def result(
        self, task: str | None = None, *, index: int | None = None, attempt: int | None = None
    ) -> bytes:
        """As `Client.result`. A job of one task need not name it."""
        return self._client.result(_name(self.id, task, index, attempt))

    def events(self, *, after: str | None = None) -> Generator[Event, None, None]:
        """As `Client.events`, of this job."""
        return self._client.events(after=after, job=self.id)

    def cancel(self, task: str | None = None) -> None:
        """As `Client.cancel`."""
        self._client.cancel(self.id, task)

    def retry(self, *, again: Again = "unsuccessful", task: str | None = None) -> int:
        """As `Client.retry`."""
        return self._client.retry(self.id, again=again, task=task)

    def why(self) -> Why:
        """As `Client.why`."""
        return self._client.why(self.id)


class AsyncJob:
    """`Job` for asyncio."""

    def __init__(self, client: "AsyncClient", job_id: int, *, known: bool = False) -> None:
        self._client = client
        self.id = job_id
        self.known = known

    def __repr__(self) -> str:
        return f"AsyncJob({self.id})"

    async def look(self) -> JobResult:
        """As `Job.look`."""
        return await self._client.job(self.id)

    async def wait(self, timeout_s: float | None = None) -> JobResult:
        """As `Job.wait`."""
        return await self._client.wait(self.id, timeout_s=timeout_s)

    def logs(
        self,
        task: str | None = None,
        *,
        index: int | None = None,
        attempt: int | None = None,
        stream: Stream = "stdout",
        follow: bool = False,
    ) -> AsyncGenerator[bytes, None]:
        """As `Job.logs`."""
        name = _name(self.id, task, index, attempt)
        return self._client.logs(name, stream=stream, follow=follow)

    async def result(
        self, task: str | None = None, *, index: int | None = None, attempt: int | None = None
    ) -> bytes:
        """As `Job.result`."""
        return await self._client.result(_name(self.id, task, index, attempt))

    def events(self, *, after: str | None = None) -> AsyncGenerator[Event, None]:
        """As `Job.events`."""
        return self._client.events(after=after, job=self.id)

    async def cancel(self, task: str | None = None) -> None:
        """As `Job.cancel`."""
        await self._client.cancel(self.id, task)

    async def retry(self, *, again: Again = "unsuccessful", task: str | None = None) -> int:
        """As `Job.retry`."""
        return await self._client.retry(self.id, again=again, task=task)

    async def why(self) -> Why:
        """As `Job.why`."""
        return await self._client.why(self.id)


def _name(job_id: int, task: str | None, index: int | None, attempt: int | None) -> Name:
    return Name(job_id, task, index, attempt)
