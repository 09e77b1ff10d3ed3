"""A scheduler and workers of this machine as child processes, for trying things.

Each is in a session of its own, so that Ctrl-C reaches the parent alone: it ends the workers
first, while the scheduler still hears that they leave. When the parent itself is killed, the
kernel tells its children to end.
"""

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click

import dtask
from dtask.client import AsyncClient

#: Seconds between two looks whether the workers are known.
LOOK_S: Final = 0.05
#: How long a worker's tasks may go on once it is told to end.
GRACE_S: Final = 10
#: A child that has not ended this long after that is killed.
STUCK_S: Final = 15

#: What a service prints when it can be used, before its address.
LISTENING: Final = "listening on "
#: Longest line of a log that is read.
LINE_BYTES_MAX: Final = 1024 * 1024

#: PR_SET_PDEATHSIG is 1.
_CHILD: Final = """
import ctypes, signal
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
from dtask.cli.{program} import main
main()
"""

#: Takes the name of a service and a line of its log.
Say = Callable[[str, str], None]


@dataclass(slots=True, eq=False)
class Service:
    """One child process."""

    name: str
    process: asyncio.subprocess.Process
    #: Where it listens; an exception with its last words if it ended before.
    address: asyncio.Future[str]
    #: Done when it has ended and all its lines were read.
    ended: asyncio.Task[None] = field(init=False)

    async def follow(self, say: Say) -> None:
        """Hand on its lines until it has ended.

        Those before it listens are kept back: if it never does, the last one is the error.
        """
        assert self.process.stdout is not None
        early: list[str] = []
        async for raw in self.process.stdout:
            line = raw.decode(errors="replace").rstrip()
            if self.address.done():
                say(self.name, line)
            elif line.startswith(LISTENING):
                self.address.set_result(line.removeprefix(LISTENING))
                for kept in early:
                    say(self.name, kept)
            else:
                early.append(line)
        await self.process.wait()
        if not self.address.done():
            self.address.set_exception(click.ClickException(_last_words(self.name, early)))

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)


class LocalFleet:
    """One scheduler and its workers. Call `stop` in the end, whatever happened."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._scheduler: Service | None = None
        self._workers: list[Service] = []

    async def start_scheduler(self, *arguments: str) -> str:
        """Start the scheduler; return its URL. Raises ClickException if it can't start."""
        self._scheduler = await self._start("scheduler", "scheduler", *arguments)
        return await self._scheduler.address

    async def start_workers(self, url: str, arguments: Mapping[str, list[str]]) -> None:
        """Start workers by name, all at once. Raises ClickException if one can't start."""
        for name, own in arguments.items():
            fixed = ["--id", name, "--addr", "127.0.0.1:0", "--scheduler", url]
            grace = ["--grace", str(GRACE_S)]
            self._workers.append(await self._start(name, "worker", *fixed, *grace, *own))
        await asyncio.gather(*(worker.address for worker in self._workers))

    async def joined(self, url: str) -> None:
        """Wait until the scheduler knows all the workers."""
        async with AsyncClient(url) as client:
            while len(await client.workers()) < len(self._workers):  # noqa: ASYNC110 (of other processes)
                await asyncio.sleep(LOOK_S)

    async def first_end(self) -> Service:
        """Wait until one of them ends, and return it."""
        assert self._scheduler is not None
        everyone = [self._scheduler, *self._workers]
        await asyncio.wait([each.ended for each in everyone], return_when=asyncio.FIRST_COMPLETED)
        first = next(each for each in everyone if each.ended.done())
        first.ended.result()  # raises what broke when its lines were handed on
        return first

    def hurry(self) -> None:
        """While workers wait for their tasks to end: wait no longer."""
        for worker in self._workers:
            worker.signal(signal.SIGTERM)

    async def stop(self) -> None:
        """End the workers, then the scheduler."""
        await _end(self._workers, within_s=GRACE_S + STUCK_S)
        if self._scheduler is not None:
            await _end([self._scheduler], within_s=STUCK_S)

    async def _start(self, name: str, program: str, *arguments: str) -> Service:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-c",
            _CHILD.format(program=program),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=_environment(),
            start_new_session=True,
            limit=LINE_BYTES_MAX,
        )
        service = Service(name, process, asyncio.get_running_loop().create_future())
        service.ended = asyncio.create_task(service.follow(self._say))
        return service


def _environment() -> dict[str, str]:
    """This process's own, less settings that are meant for services started by hand."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("DTASK_") or name.startswith("DTASK_TOKEN")
    }
    return kept | {"PYTHONPATH": str(Path(dtask.__file__).parent.parent)}


async def _end(services: list[Service], *, within_s: float) -> None:
    """Ask them to end, wait, kill those that don't."""
    if not services:
        return
    for service in services:
        service.signal(signal.SIGTERM)
    _, stuck = await asyncio.wait([service.ended for service in services], timeout=within_s)
    for service in services:
        if service.ended in stuck:
            service.signal(signal.SIGKILL)
    await asyncio.gather(*(service.ended for service in services), return_exceptions=True)


def _last_words(name: str, lines: list[str]) -> str:
    """Why a service could not start, in its own words."""
    if not lines:
        return f"{name} can't start, and does not say why."
    said = re.sub(r"^(dtask-\w+|Error): ", "", lines[-1])
    return f"{name} can't start: {said}"
