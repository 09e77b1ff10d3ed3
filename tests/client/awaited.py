"""An AsyncClient for tests that are written once for both clients: as one that blocks."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any, Self

from dtask import AsyncClient
from dtask.client import AsyncJob


class Awaited:
    """An AsyncClient whose calls are waited for, each on the same loop."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self.client = self._runner.run(_made(*args, **options))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return _blocking(self._runner, self.client, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self.client.aclose())
        self._runner.close()


class _AwaitedJob:
    """An AsyncJob in the same manner."""

    def __init__(self, runner: asyncio.Runner, job: AsyncJob) -> None:
        self._runner = runner
        self.job = job
        self.id, self.known = job.id, job.known

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return _blocking(self._runner, self.job, name)


def _blocking(runner: asyncio.Runner, what: Any, name: str) -> Callable[..., Any]:
    async def call(*args: Any, **options: Any) -> Any:
        found = getattr(what, name)(*args, **options)
        return found if isinstance(found, AsyncGenerator) else await found

    def blocking(*args: Any, **options: Any) -> Any:
        found = runner.run(call(*args, **options))
        if isinstance(found, AsyncGenerator):
            return _iterated(runner, found)
        return _AwaitedJob(runner, found) if isinstance(found, AsyncJob) else found

    return blocking


def _iterated(runner: asyncio.Runner, items: AsyncGenerator[Any, None]) -> Iterator[Any]:
    async def following() -> Any:
        return await anext(items)

    async def close() -> None:
        await items.aclose()

    try:
        while True:
            try:
                yield runner.run(following())
            except StopAsyncIteration:
                return
    finally:
        runner.run(close())


async def _made(*args: Any, **options: Any) -> AsyncClient:
    return AsyncClient(*args, **options)
