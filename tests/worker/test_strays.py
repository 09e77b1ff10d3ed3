import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from dtask.worker import strays
from worker.processes import duration, eventually, sleepers


def spawn(line: str, mark: str = "") -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        ["sh", "-c", line], env={**os.environ, "DTASK_ATTEMPT": mark}, start_new_session=True
    )


def living(mark: str, roots: dict[int, int] | None = None) -> set[int]:
    return {one.pid for one in strays.belonging(strays.everyone(), [mark], roots or {}).processes}


def ready(seconds: str) -> Callable[[], bool]:
    return lambda: bool(sleepers(seconds))


def test_a_process_is_seen_with_its_parent_and_session() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True) as child:
        seen = strays.look(child.pid)
        assert seen is not None
        assert (seen.parent, seen.session, seen.zombie) == (os.getpid(), child.pid, False)
        assert child.pid in strays.children(os.getpid())
        assert [one.pid for one in strays.below(child.pid)] == [child.pid]
        child.kill()
        eventually(lambda: (now := strays.look(child.pid)) is not None and now.zombie)
    assert strays.look(child.pid) is None
    assert strays.children(child.pid) == []


def test_a_name_full_of_parentheses_does_not_confuse() -> None:
    name = "a) R 1 (b"
    program = f"import sys; open('/proc/self/comm', 'w').write({name!r}); sys.stdin.read()"
    command = ["python3", "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
        eventually(lambda: name in Path(f"/proc/{child.pid}/stat").read_text())
        seen = strays.look(child.pid)
        child.kill()
    assert seen is not None
    assert seen.parent == os.getpid()


def test_a_mark_finds_what_left_session_and_parent() -> None:
    seconds = duration()
    main = spawn(f"(setsid sleep {seconds} &)", mark="m1")
    main.wait(20)
    eventually(ready(seconds))
    assert living("m1") == set(sleepers(seconds))
    assert living("m") == set()
    assert strays.kill_all(["m1"], {}, 10.0) == []
    assert sleepers(seconds) == []


def test_a_process_between_two_programs_is_never_taken_for_one_without_a_mark() -> None:
    """While it executes another program, the kernel shows an empty environment for a moment."""
    again = 'exec sh -c "$0" "$0"'
    uncertain = 0
    with spawn(f"exec sh -c '{again}' '{again}'", mark="m4.1") as main:
        process = strays.look(main.pid)
        assert process is not None
        try:
            while uncertain < 1_000:
                found = strays.belonging([process], ["m4"], {})
                assert found.processes == [process] or not found.certain
                uncertain += not found.certain
        finally:
            main.kill()


def test_an_empty_environment_is_known_for_one() -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(["cat"], env={}, bufsize=0, **pipes) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(b".")
        assert child.stdout.read(1) == b"."
        assert strays.mark_of(child.pid) is None
        child.kill()


def test_threads_of_the_kernel_have_no_mark() -> None:
    assert {strays.mark_of(pid) for pid in strays.children(2)} <= {None}


def test_descendants_without_the_mark_belong_to_their_ancestor() -> None:
    seconds = duration()
    with spawn(f"env -i setsid sleep {seconds}; true", mark="m2") as main:
        eventually(ready(seconds))
        assert living("m2") == {main.pid, *sleepers(seconds)}
        assert strays.kill_all(["m2"], {}, 10.0) == []
    assert sleepers(seconds) == []


def test_a_root_finds_its_session_without_any_mark() -> None:
    seconds = duration()
    with spawn(f"env -i sleep {seconds}; true") as main:
        eventually(ready(seconds))
        root = strays.look(main.pid)
        assert root is not None
        roots = {root.pid: root.start_time}
        assert living("none", roots) == {main.pid, *sleepers(seconds)}
        assert living("none", {root.pid: root.start_time + 1}) == set()
        assert strays.kill_all([], roots, 10.0) == []
    assert sleepers(seconds) == []


def test_a_signal_goes_to_no_other_process_of_the_same_pid() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        seen = strays.look(child.pid)
        assert seen is not None
        strays.send(seen._replace(start_time=seen.start_time - 1), signal.SIGKILL)
        assert child.poll() is None
        strays.send(seen, signal.SIGKILL)
        assert child.wait(20) == -signal.SIGKILL
    strays.send(seen, signal.SIGKILL)


def test_killing_gives_up_in_time_and_tells_what_is_left() -> None:
    with spawn("sleep 100; true", mark="m3") as main:
        left = strays.kill_all(["m3"], {}, 0.0)
        assert main.pid in {one.pid for one in left}
        main.kill()
        strays.kill_all(["m3"], {}, 10.0)
