"""`dtask` as people and scripts run it: as a process, with or without a terminal."""

import codecs
import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from servers import PATIENCE_S, RunningScheduler

LAUNCHER = Path(__file__).resolve().parent.parent / "cmd" / "dtask"


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True, kw_only=True)
class Shell:
    """Runs `dtask` with an environment of its own."""

    env: dict[str, str]

    def run(self, *arguments: str) -> Ran:
        """Run to the end, without a terminal. Whatever happens, no traceback is seen."""
        ended = subprocess.run(
            [sys.executable, LAUNCHER, *arguments],
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert "Traceback" not in ended.stderr, ended.stderr
        return Ran(ended.returncode, ended.stdout, ended.stderr)

    @contextmanager
    def start(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Start without a terminal; stdout and stderr are pipes."""
        with subprocess.Popen(
            [sys.executable, LAUNCHER, *arguments],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    @contextmanager
    def terminal(
        self, *arguments: str, columns: int = 80, lines: int = 24, term: str = "xterm-256color"
    ) -> Iterator["Terminal"]:
        """Start in a terminal of that size and kind."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        process = subprocess.Popen(
            [sys.executable, LAUNCHER, *arguments],
            env={**self.env, "TERM": term},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        try:
            yield Terminal(process, ours)
        finally:
            process.kill()
            process.wait()
            os.close(ours)


@dataclass
class Terminal:
    """A command in a terminal, seen from its other side."""

    process: subprocess.Popen[bytes]
    ours: int
    seen: str = field(default="")
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=codecs.getincrementaldecoder("utf-8")
    )

    @property
    def attributes(self) -> list[Any]:
        """How the terminal treats what is typed."""
        return termios.tcgetattr(self.ours)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self.ours, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        """Make the window as large as that."""
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)  # it has no controlling terminal

    def afresh(self, text: str) -> str:
        """Read until `text` is seen once more; return all that was seen meanwhile."""
        self.seen = ""
        return self.until(text)

    def until(self, text: str) -> str:
        """Read until `text` was seen; return all that was."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            assert self._read(), self.seen
        return self.seen

    def end(self, number: int | None = None) -> tuple[int, str]:
        """Send a signal, if one is given; wait for the end; exit code and all that was seen."""
        if number is not None:
            self.process.send_signal(number)
        while self._read():
            pass
        return self.process.wait(PATIENCE_S), self.seen

    def _read(self) -> bool:
        ready, _, _ = select.select([self.ours], [], [], PATIENCE_S)
        assert ready, self.seen
        with contextlib.suppress(OSError):  # EIO: the other side is closed
            if raw := os.read(self.ours, 65_536):
                self.seen += self._decoder.decode(raw)
                return True
        return False


def shell_of(scheduler: RunningScheduler | None = None, **more: str) -> Shell:
    """A shell without settings of dtask, but for the scheduler's address and token."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("DTASK_")}
    env.pop("NO_COLOR", None)
    if scheduler is not None:
        env |= {"DTASK_SCHEDULER": scheduler.url, "DTASK_TOKEN": scheduler.token}
    return Shell(env=env | more)


def interrupt(process: subprocess.Popen[str]) -> Ran:
    """Press Ctrl-C, and see how it ends."""
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert "Traceback" not in err, err
    return Ran(process.returncode, out, err)
