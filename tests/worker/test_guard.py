import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from dtask.worker import guard, lifeline
from dtask.worker.lifeline import Lifeline
from dtask.worker.strays import look
from worker.processes import agent, duration, eventually, guard_of, is_gone, sleepers, soon


def marked(seconds: str, mark: str) -> None:
    """A sleeper that carries a mark and has left session and parent."""
    environment = {**os.environ, "DTASK_ATTEMPT": mark}
    subprocess.run(["sh", "-c", f"(setsid sleep {seconds} &)"], env=environment, check=True)
    eventually(lambda: bool(sleepers(seconds)))


def test_the_guard_knows_what_lives_when_the_pipe_ends() -> None:
    theirs, ours = os.pipe()
    os.write(ours, b"+ a\n+ b\n= a 12 3")
    os.write(ours, b"45\n+ c\n- b\n- never-seen\n")
    os.close(ours)
    assert guard.follow(theirs) == {"a": (12, 345), "c": None}
    os.close(theirs)


def test_the_guard_kills_what_it_was_told_of_and_nothing_else() -> None:
    told, dropped = duration(), duration()
    command = [sys.executable, "-m", "dtask.worker.guard"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        marked(told, "told")
        marked(dropped, "dropped")
        process.stdin.write(b"+ told\n+ dropped\n- dropped\n")
        process.stdin.close()
        assert process.wait(20) == 0
    assert sleepers(told) == []
    assert len(sleepers(dropped)) == 1
    os.kill(sleepers(dropped)[0], signal.SIGKILL)


def test_signals_that_end_the_agent_leave_the_guard_at_its_work() -> None:
    command = [sys.executable, "-m", "dtask.worker.guard"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        status = Path(f"/proc/{process.pid}/status")
        ending = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
        eventually(lambda: all(ignores(status, number) for number in ending))
        for number in ending:
            process.send_signal(number)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0


def ignores(status: Path, number: int) -> bool:
    lines = status.read_text().splitlines()
    mask = next(line.split()[1] for line in lines if line.startswith("SigIgn"))
    return bool(int(mask, 16) >> (number - 1) & 1)


@pytest.mark.parametrize("groups", ["with", "without"])
def test_kill_9_of_the_agent_leaves_nothing_behind(groups: str, tmp_path: Path) -> None:
    plain, detached, nested = duration(), duration(), duration()
    lines = (
        f"sleep {plain}",
        f"(setsid sleep {detached} &); sleep {plain}",
        f"sh -c 'setsid sh -c \"sleep {nested}; true\" & wait'",
    )
    with agent(tmp_path, *lines, groups=groups) as process:
        guarding = guard_of(process.pid)
        eventually(lambda: len(sleepers(plain)) == 2 and bool(sleepers(detached)))
        eventually(lambda: bool(sleepers(nested)))
        process.kill()
        process.wait()
        eventually(lambda: not sleepers(plain) and not sleepers(detached) and not sleepers(nested))
        eventually(lambda: is_gone(guarding))


def test_a_killed_guard_is_replaced_and_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifeline, "RESTART_S", 0.01)
    seconds = duration()

    async def main() -> None:
        line = Lifeline(None)
        line.start()
        line.expect("replaced")
        first = line.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await soon(lambda: line.pid not in (None, first))
        second = line.pid
        assert second is not None
        marked(seconds, "replaced")
        await line.stop()
        await line.stop()
        assert sleepers(seconds) == []
        assert look(second) is None

    asyncio.run(main())


def test_a_guard_that_does_not_listen_is_replaced_and_never_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lifeline, "RESTART_S", 0.01)

    async def main() -> None:
        line = Lifeline(None)
        line.start()
        first = line.pid
        assert first is not None
        psutil.Process(first).suspend()
        for number in range(20_000):  # more than a pipe holds
            line.expect(f"{number % 10}")
            if number % 1000 == 0:
                await asyncio.sleep(0)
        await soon(lambda: line.pid not in (None, first))
        for number in range(10):
            line.drop(f"{number}")
        await line.stop()

    asyncio.run(main())
