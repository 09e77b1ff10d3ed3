"""Real schedulers for tests: in this process, in a thread of their own, or as a process."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvloop

from dtask.core.cluster import Cluster
from dtask.dashboard import pages
from dtask.scheduler.server import SchedulerServer
from dtask.scheduler.settings import Settings

LAUNCHER = Path(__file__).resolve().parent.parent / "cmd" / "dtask-scheduler"

#: Longest that anything here may take; reached only when it is broken.
PATIENCE_S = 20.0


@dataclass(frozen=True, kw_only=True)
class RunningScheduler:
    """A scheduler in a thread of this process, which owns `cluster`: look at it, do not act."""

    url: str
    token: str
    cluster: Cluster
    server: SchedulerServer


@dataclass(frozen=True, kw_only=True)
class SchedulerProcess:
    """A scheduler in a process of its own."""

    url: str
    #: The one it made; empty if it was given one.
    token: str
    process: subprocess.Popen[str]
    #: What it wrote to stderr so far.
    log: Path
    state_home: Path

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the signal, wait for the end, return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@contextmanager
def running_scheduler(**settings: Any) -> Iterator[RunningScheduler]:
    """A scheduler on a free port of loopback, warm from the start unless the settings say more."""
    with tempfile.TemporaryDirectory(prefix="dtask-test-") as directory:
        token_file = Path(directory) / "token"
        token_file.touch(mode=0o600)
        token_file.write_text("a-token-for-tests-only")
        chosen = {"port": 0, "warm_up_s": 0.0, "token_file": str(token_file)} | settings
        server = SchedulerServer(Settings(**chosen), pages())
        with _in_thread(server):
            yield RunningScheduler(
                url=server.url, token=server.token, cluster=server.cluster, server=server
            )


@contextmanager
def scheduler_process(
    *arguments: str, env: dict[str, str] | None = None, files_max: int = 1024
) -> Iterator[SchedulerProcess]:
    """`dtask-scheduler --port 0 ARGUMENTS`, listening, with a state directory of its own.

    It may have `files_max` files open.
    """
    with tempfile.TemporaryDirectory(prefix="dtask-test-") as directory:
        state_home = Path(directory)
        log = state_home / "log"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [
                    *("sh", "-c", f'ulimit -n {files_max}; exec "$@"', "sh"),
                    *(sys.executable, LAUNCHER, "--port", "0", *arguments),
                ],
                env=clean_environment(state_home) | (env or {}),
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("listening on "), line + log.read_text()
            token_file = state_home / "dtask" / "token"
            yield SchedulerProcess(
                url=line.removeprefix("listening on ").strip(),
                token=token_file.read_text().strip() if token_file.exists() else "",
                process=process,
                log=log,
                state_home=state_home,
            )
        finally:
            process.kill()
            process.wait(PATIENCE_S)
            assert process.stdout is not None
            process.stdout.close()


def clean_environment(state_home: Path) -> dict[str, str]:
    """This process's environment without its own dtask settings, and with that state directory."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DTASK_")}
    return kept | {"XDG_STATE_HOME": str(state_home)}


def beat(
    url: str, worker_id: str = "w1", *, token: str | None = None, **fields: Any
) -> httpx.Response:
    """One heartbeat: of a worker with four slots and no tags, unless `fields` say otherwise."""
    body = {
        "worker_id": worker_id,
        "address": "127.0.0.1:1",
        "resource_tags": [],
        "max_tasks": 4,
        "current_tasks": 0,
    } | fields
    return httpx.post(f"{url}/api/v1/heartbeat", json=body, headers=bearer(token), verify=False)


def bearer(token: str | None) -> dict[str, str]:
    """The headers that show the token, if there is one."""
    return {} if token is None else {"authorization": f"Bearer {token}"}


@contextmanager
def _in_thread(server: SchedulerServer) -> Iterator[None]:
    turning = threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []
    failures: list[BaseException] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        turning.set()
        await server.serve()

    def main() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(serve())
        except BaseException as error:
            failures.append(error)
            turning.set()
            raise

    thread = threading.Thread(target=main, name="scheduler", daemon=True)
    thread.start()
    assert turning.wait(PATIENCE_S)
    try:
        yield
    finally:
        if not failures:
            loops[0].call_soon_threadsafe(server.stop)
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        assert not failures
