"""A reader who does what a page says: one terminal, and one more for each service.

The page's ports stand for free ones of this machine, in what is run and in what comes out.
"""

import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from docs import answers, curl, pages
from docs.pages import Block
from servers import PATIENCE_S, clean_environment
from tidy.sources import ROOT

#: What starts a process that goes on until it is stopped, and what it prints when it is ready.
SERVICES = {
    "dtask-scheduler": "listening on ",
    "dtask-worker": "listening on ",
    "dtask up": "Ready: ",
}

#: `make TARGET` without its installation: the recipe of the target, with the Python of the tests.
_MAKE = r"""
import re, shlex, subprocess, sys
makefile, target = sys.argv[1:]
recipe = re.search(rf"^{target}:.*\n\t@?(.*)$", open(makefile).read(), re.MULTILINE).group(1)
recipe = re.sub(r"\$\(if .*\)", "", recipe)  # what nobody asked for
words = shlex.split(recipe.replace("$(BIN)/python", shlex.quote(sys.executable)))
sys.exit(subprocess.call(words))
"""

SCHEDULER_PORT = "8080"
WORKER_PORT = "8081"
#: The machine's name on the pages.
HOST = "alpha"


class Reader:
    """Runs blocks in one shell, and services beside it, in a home directory of its own."""

    def __init__(self, home: Path) -> None:
        programs = home / "bin"
        programs.mkdir()
        _install(programs)
        self._ports = {SCHEDULER_PORT: str(_free_port()), WORKER_PORT: str(_free_port())}
        self._home = home
        environment = clean_environment(home)
        del environment["XDG_STATE_HOME"]
        self._environment = environment | {
            "HOME": str(home),
            "PATH": f"{programs}:{environment['PATH']}",
            "DTASK_SCHEDULER": f"http://127.0.0.1:{self._ports[SCHEDULER_PORT]}",
        }
        self._services: list[subprocess.Popen[str]] = []
        self._workers = 0
        self._shell = subprocess.Popen(
            ["sh"],
            cwd=home,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, block: Block, *, must_succeed: bool) -> str:
        """Run a block; what it prints."""
        if block.language == "python":
            return self._shown(self._python(block))
        command = " ".join(block.text.split())
        if any(command == name or command.startswith(f"{name} ") for name in SERVICES):
            return self._shown(self._serve(shlex.split(self._here(command))))
        printed, code = self._type(self._here(block.text), block.place)
        assert code == 0 or not must_succeed, f"{block.place}: {printed}"
        return self._shown(printed)

    def close(self) -> None:
        """End the shell, and the services, the last one first."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.close()
        self._shell.wait(PATIENCE_S)
        self._shell.stdout.close()
        for service in reversed(self._services):
            service.send_signal(signal.SIGINT)
        for service in self._services:
            assert service.stdout is not None
            service.stdout.read()
            code = service.wait(PATIENCE_S)
            service.stdout.close()
            assert code == 0, service.args

    def _type(self, text: str, place: str) -> tuple[str, int]:
        """Give the shell some lines; what they print, and the exit code of the last of them."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        mark = f"end-{uuid.uuid4()}"
        self._shell.stdin.write(f"{{\n{text}\n}} < /dev/null\nprintf '\\n%s %s\\n' {mark} $?\n")
        self._shell.stdin.flush()
        lines: list[str] = []
        with _patience(self._shell):
            for line in self._shell.stdout:
                if line.startswith(mark):
                    return "".join(lines), int(line.split()[1])
                lines.append(line)
        raise AssertionError(f"{place} did not end: {''.join(lines)}")

    def _python(self, block: Block) -> str:
        ended = subprocess.run(
            [sys.executable, "-"],
            input=self._here(block.text),
            cwd=self._home,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert ended.returncode == 0, f"{block.place}: {ended.stderr}"
        return ended.stdout

    def _serve(self, words: list[str]) -> str:
        """Start a service and wait until it is ready; what it printed up to then."""
        name = next(name for name in SERVICES if " ".join(words).startswith(name))
        more = {
            "dtask-scheduler": ["--warm-up", "0"],
            "dtask-worker": ["--addr", f"127.0.0.1:{self._ports[WORKER_PORT]}"],
            "dtask up": ["--port", "0"],
        }[name]
        log = (self._home / f"log-{len(self._services)}").open("w")
        with log:
            service = subprocess.Popen(
                [self._home / "bin" / words[0], *words[1:], *more],
                cwd=self._home,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._services.append(service)
        assert service.stdout is not None
        lines: list[str] = []
        with _patience(service):
            for line in service.stdout:
                lines.append(line)
                if line.startswith(SERVICES[name]):
                    break
        if lines and lines[-1].startswith(SERVICES[name]):
            self._await_workers(name)
            return "".join(lines)
        raise AssertionError(f"{words} did not start: {lines} {Path(log.name).read_text()}")

    def _await_workers(self, started: str) -> None:
        """Wait until the scheduler knows the worker that was started."""
        if started == "dtask-worker":
            self._workers += 1
            listing = f"{self._environment['DTASK_SCHEDULER']}/api/v1/workers"
            give_up_at = time.monotonic() + PATIENCE_S
            while len(httpx.get(listing).json()) < self._workers:
                assert time.monotonic() < give_up_at, "the worker did not join"
                time.sleep(0.02)

    def _here(self, text: str) -> str:
        """What the page says, for this machine."""
        for port, own in self._ports.items():
            text = text.replace(f"localhost:{port}", f"127.0.0.1:{own}")
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{own}")
            text = text.replace(f"--port {port}", f"--port {own}")
        return text

    def _shown(self, text: str) -> str:
        """What this machine says, as the page has it."""
        for port, own in self._ports.items():
            text = text.replace(f"{socket.gethostname()}:{own}", f"{HOST}:{port}")
            text = text.replace(f":{own}", f":{port}")
        return text


def follow(name: str, home: Path) -> int:
    """Do all that a page says and check what comes out; how many answers were compared.

    What shows no answer must succeed.
    """
    shown = 0
    reader = Reader(home)
    try:
        for block, answer in pages.examples(name):
            printed = reader.run(block, must_succeed=answer is None)
            if answer is not None:
                answers.check(answer, printed)
                shown += 1
    finally:
        reader.close()
    return shown


def _install(programs: Path) -> None:
    """The commands of this checkout, its Python, and curl if there is none."""
    for name in ("dtask", "dtask-scheduler", "dtask-worker"):
        _script(programs / name, [sys.executable, str(ROOT / "cmd" / name)])
    _script(programs / "python", [sys.executable])
    _script(programs / "make", [sys.executable, "-c", _MAKE, str(ROOT / "Makefile")])
    if shutil.which("curl") is None:
        _script(programs / "curl", [sys.executable, str(Path(curl.__file__))])
    (programs.parent / ".curlrc").write_text("silent\nshow-error\n")


def _script(path: Path, command: list[str]) -> None:
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    path.chmod(0o755)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _patience(process: subprocess.Popen[str]) -> Iterator[None]:
    """Kill the process if the block takes too long: whoever reads from it then reads the end."""
    timer = threading.Timer(PATIENCE_S, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
