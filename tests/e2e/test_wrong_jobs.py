"""Jobs and workers that are wrong: each gets a clear answer, and nothing is lost or stuck."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.site import TOKEN, Site, eventually, site
from servers import PATIENCE_S, clean_environment

pytestmark = pytest.mark.e2e

#: A worker that speaks another version of the channel.
OTHER_VERSION = """
from dtask.wire import frames
frames.VERSION += 1
from dtask.cli.worker import main
main()
"""


@pytest.fixture(scope="module", name="place")
def one_site() -> Iterator[Site]:
    with site(workers=1) as place:
        yield place


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("command: [x]\nqueu: a\n", "line 2: queu: there is no such field: did you mean `queue`?"),
        (
            "tasks:\n  a: {command: [x]}\n  a: {command: [y]}\n",
            "line 3: tasks.a: this stands there twice: expected it once.",
        ),
        ("command: [x]\narray: 1000001\n", "line 2: array: expected a whole number <= 1000000."),
        (
            "tasks:\n  a: {command: [x], array: 900000}\n  b: {command: [x], array: 900000}\n",
            "tasks: 1800000 tasks and elements in all: expected at most 1000000.",
        ),
        ("command: ['', x]\n", "line 1: command: its first word is the program"),
        (
            "command: [x]\nenv: {A: '" + 17 * 2**20 * "x" + "'}\n",
            "bytes: expected at most 16,777,216.",
        ),
    ],
    ids=["unknown", "twice", "long", "long in all", "no program", "large"],
)
def test_a_wrong_job_is_refused_with_the_place_and_leaves_nothing(
    text: str, said: str, place: Site, tmp_path: Path
) -> None:
    before = place.client.stats()
    file = tmp_path / "job.yaml"
    file.write_text(text)
    ran = place.shell.run("submit", str(file))
    assert ran.code != 0
    assert ran.out == ""
    assert said in ran.err
    assert place.client.stats().submitted == before.submitted


def test_what_can_not_be_started_says_why_and_is_not_tried_for_ever(
    place: Site, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    program = tmp_path / "program"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    place.client.set_queue("held", paused=True)
    later = place.client.submit(["true"], cwd=str(gone), queue="held")
    gone.rmdir()  # after the submit, and before its turn
    place.client.set_queue("held", paused=False)
    assert later.wait(20).state == "failed"
    ran = place.shell.run("job", str(later.id))
    assert f"The working directory '{gone}' can't be entered on this worker" in ran.out
    for command, said in (
        (["no-such-command"], "The command 'no-such-command' is not on this worker's PATH"),
        ([str(program)], "or the interpreter that its first line names is not."),
        (["/etc/passwd"], "may not be run by this worker's user"),
    ):
        ran = place.shell.run("run", "--scratch", "--", *command)
        assert ran.code == 127
        assert said in ran.err, ran.err
    job = place.client.submit(["no-such-command"], retry={"max": 2, "backoff_s": 0.01})
    assert job.wait(20).tasks["main"].cause == "start_failed"
    assert place.causes(f"{job.id}/main") == ["start_failed"] * 3


def test_a_log_of_binary_garbage_arrives_byte_for_byte_and_harms_no_terminal(
    place: Site, tmp_path: Path
) -> None:
    garbage = tmp_path / "garbage"
    garbage.write_bytes(random.Random(3).randbytes(300_000) + b"\x1b]0;owned\x07\x1b[2J\x9b5n\n")
    job = place.client.submit(["sh", "-c", f"cat {garbage}; cat {garbage} >&2"])
    assert job.wait(20).ok
    assert b"".join(job.logs()) == garbage.read_bytes()
    assert b"".join(job.logs(stream="stderr")) == garbage.read_bytes()
    ran = subprocess.run(
        [sys.executable, "cmd/dtask", "logs", str(job.id)],
        cwd=Path(__file__).parents[2],
        env=place.shell.env,
        capture_output=True,
        check=True,
    )
    assert ran.stdout == garbage.read_bytes()
    with place.shell.terminal("logs", str(job.id), columns=200) as terminal:
        seen = b""
        while chunk := read(terminal.ours):
            seen += chunk
        assert terminal.process.wait(PATIENCE_S) == 0
    assert b"\x1b]" not in seen
    assert b"\x1b[2J" not in seen
    assert b"\x07" not in seen


def test_a_worker_of_another_version_is_told_so_and_gets_no_job(tmp_path: Path) -> None:
    with site() as place:
        log = tmp_path / "log"
        with log.open("w") as stderr:
            worker = subprocess.Popen(
                [
                    *(sys.executable, "-c", OTHER_VERSION, "--id", "w9", "--interval", "0.4"),
                    *("--scheduler", place.url, "--addr", "127.0.0.1:0"),
                ],
                env=clean_environment(tmp_path) | {"DTASK_TOKEN": TOKEN},
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        try:
            job = place.client.submit(["true"])
            eventually(lambda: "The channel to the scheduler" in log.read_text())
            assert "is not open: The worker speaks version 2 of the channel, the scheduler 1: " in (
                log.read_text()
            )
            assert "upgrade the scheduler" in log.read_text()
            ran = place.shell.run("why", str(job.id))
            assert "Of 1 worker, 1 has no open channel." in ran.out
            # Placement does not mind.
            assert place.client.place("t1").worker_id == "w9"
            place.start_worker("w1")
            assert job.wait(20).ok
        finally:
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(PATIENCE_S) == 0


def read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except OSError:  # EIO: the other side is closed
        return b""
