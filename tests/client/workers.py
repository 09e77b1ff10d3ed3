"""Real workers for tests: `dtask-worker` as a process."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from servers import clean_environment

LAUNCHER = Path(__file__).resolve().parents[2] / "cmd" / "dtask-worker"

#: Longest that anything here may take; reached only when it is broken.
PATIENCE_S = 20.0


@dataclass(frozen=True, kw_only=True)
class WorkerProcess:
    """A worker that the scheduler may not know yet."""

    worker_id: str
    address: str
    process: subprocess.Popen[str]


@contextmanager
def worker_process(
    worker_id: str, *arguments: str, scheduler: str, token: str, home: Path
) -> Iterator[WorkerProcess]:
    """`dtask-worker --id ID ARGUMENTS` with a state directory in `home`, listening."""
    command = [sys.executable, str(LAUNCHER), "--id", worker_id, "--scheduler", scheduler]
    command += arguments
    if "--addr" not in arguments:
        command += ["--addr", "127.0.0.1:0"]
    process = subprocess.Popen(
        command,
        env=clean_environment(home / worker_id) | {"DTASK_TOKEN": token},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("listening on "), line + process.stderr.read()
        address = line.removeprefix("listening on ").strip()
        yield WorkerProcess(worker_id=worker_id, address=address, process=process)
    finally:
        process.send_signal(signal.SIGCONT)  # a test may have stopped it
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        finally:
            process.kill()
            process.wait(PATIENCE_S)
            process.stdout.close()
            process.stderr.close()
