"""Real workers for tests: `dtask-worker` as a process of its own."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from servers import PATIENCE_S, clean_environment

LAUNCHER = Path(__file__).resolve().parent.parent / "cmd" / "dtask-worker"


@dataclass(frozen=True, kw_only=True)
class WorkerProcess:
    """A worker in a process of its own, whose listener is at `address`."""

    address: str
    process: subprocess.Popen[str]
    #: What it wrote to stderr so far.
    log: Path

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the signal, wait for the end, return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@contextmanager
def worker_process(
    *arguments: str,
    scheduler: str,
    token: str = "a-token-for-tests-only",
    addr: str = "127.0.0.1:0",
) -> Iterator[WorkerProcess]:
    """`dtask-worker --addr .. ARGUMENTS`, listening, with a state directory of its own."""
    with tempfile.TemporaryDirectory(prefix="dtask-test-") as directory:
        log = Path(directory) / "log"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, LAUNCHER, "--addr", addr, "--scheduler", scheduler, *arguments],
                env=clean_environment(Path(directory)) | {"DTASK_TOKEN": token},
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line.startswith("listening on "), line + log.read_text()
            address = line.removeprefix("listening on ").strip()
            yield WorkerProcess(address=address, process=process, log=log)
        finally:
            process.terminate()
            _end(process)
            process.stdout.close()


def refused(*arguments: str, **env: str) -> tuple[int, str]:
    """Exit code and stderr of a `dtask-worker ARGUMENTS` that does not come to work."""
    with tempfile.TemporaryDirectory(prefix="dtask-test-") as directory:
        ended = subprocess.run(
            [sys.executable, LAUNCHER, *arguments],
            env=clean_environment(Path(directory)) | env,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    assert ended.stdout == "" or ended.stdout.startswith("listening on ")
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stderr


def _end(process: subprocess.Popen[str]) -> None:
    """A worker without tasks ends soon; one that does not has failed its test already."""
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
