import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from dtask.errors import Conflict, Unavailable
from dtask.worker import strays
from dtask.worker.journal import End, Launched
from dtask.worker.spool import Folder, Kept, Spool, boot_id, spool_path
from worker.processes import duration, eventually, sleepers


def opened(path: Path, log_bytes_max: int = 20) -> Spool:
    spool = Spool(path, log_bytes_max)
    spool.open()
    return spool


def folder_with(spool: Spool, stdout: bytes) -> Folder:
    folder = spool.folder("m")
    folder.create()
    out, err = folder.logs()
    os.write(out, stdout)
    os.close(out)
    os.close(err)
    return folder


def leave(spool: Spool, mark: str, **facts: object) -> None:
    """A directory of an attempt as an agent that was killed leaves it."""
    spool.folder(mark).create()
    known = {"mark": mark, "task_id": "t", "fence": 1, "pid": 0, "start_time": 0, "group": None}
    spool.launched(msgspec.convert({**known, "boot_id": boot_id(), **facts}, Launched))


def ended(fence: int, mark: str | None = None) -> End:
    numbers = {"exit_code": 3, "stdout_bytes": 0, "stderr_bytes": 0, "result_bytes": 0}
    usage = {"cpu_s": 0.5, "max_rss_bytes": 1024}
    times = {"started_at": 1.0, "ended_at": 2.0}
    facts = {"mark": mark, "task_id": "t", "cluster_id": "c", "fence": fence, "truncated": False}
    words = {"cause": None, "error": None}
    return msgspec.convert({"event": "ended", **facts, **numbers, **usage, **times, **words}, End)


def test_a_second_agent_with_the_same_spool_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    first = opened(tmp_path)
    with pytest.raises(Conflict, match=rf"process {os.getpid()}.*{tmp_path}") as refused:
        Spool(tmp_path).open()
    assert refused.value.code == "held"
    first.close()
    first.close()
    opened(tmp_path).close()


def test_a_spool_that_cannot_be_written_is_refused_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(Unavailable, match="file/spool") as refused:
        Spool(tmp_path / "file" / "spool").open()
    assert refused.value.code == "spool_unusable"


@pytest.mark.parametrize("worker_id", ["gpu-1", "a/b", "..", ".", "ü" * 128, "w" * 128, "a b%"])
def test_every_worker_id_has_a_directory_of_its_own(
    worker_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    path = spool_path(worker_id)
    assert path.parent == tmp_path / "dtask" / "worker"
    opened(path).close()
    assert path.is_dir()


def test_a_log_is_read_from_an_offset_in_pieces(tmp_path: Path) -> None:
    folder = folder_with(opened(tmp_path), b"\x00\xffabc")
    assert folder.log_bytes("stdout") == 5
    assert folder.read("stdout", 0, 2) == b"\x00\xff"
    assert folder.read("stdout", 2, 100) == b"abc"
    assert folder.read("stdout", 5, 100) == folder.read("stdout", 999, 100) == b""
    assert folder.read("stderr", 0, 100) == b""


def test_a_stream_is_cut_at_half_the_cap_while_the_other_keeps_its_half(tmp_path: Path) -> None:
    folder = folder_with(opened(tmp_path, log_bytes_max=20), b"0123456789overflow")
    assert folder.read("stdout", 0, 100) == b"0123456789"
    assert not folder.truncated
    folder.cut()
    assert folder.truncated
    assert (folder.path / "stdout").stat().st_size == 10
    out, err = folder.logs()
    os.write(out, b"lost")
    os.write(err, b"kept")
    os.close(out)
    os.close(err)
    folder.cut()
    assert folder.read("stdout", 0, 100) == b"0123456789"
    assert folder.read("stderr", 0, 100) == b"kept"


def test_a_working_directory_that_is_not_empty_takes_removing(tmp_path: Path) -> None:
    folder = folder_with(opened(tmp_path), b"")
    assert folder.empties()
    Path(folder.work, "file").touch()
    assert not folder.empties()
    folder.remove_work()
    assert folder.empties()
    folder.remove()
    assert not folder.path.exists()


def test_directories_that_a_task_has_closed_are_removed_all_the_same() -> None:
    """Such as Go's cache of modules; root may write everywhere, so somebody else tries."""
    program = f"""
import os, sys, tempfile
sys.path[:0] = {sys.path!r}
from pathlib import Path
from worker.test_spool import folder_with, opened
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
top = tempfile.TemporaryDirectory(prefix="dtask-test-")
folder = folder_with(opened(Path(top.name)), b"")
closed = Path(folder.work, "pkg", "mod")
closed.mkdir(parents=True)
(closed / "go.mod").touch()
closed.chmod(0o555)
closed.parent.chmod(0o500)
folder.remove_work()
assert folder.empties()
closed.mkdir(parents=True)
closed.parent.chmod(0)
folder.remove()
assert not folder.path.exists()
top.cleanup()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=20)


def test_leftovers_are_killed_by_mark_and_their_directories_removed(tmp_path: Path) -> None:
    spool, seconds = opened(tmp_path), duration()
    leave(spool, "leftover")
    environment = {**os.environ, "DTASK_ATTEMPT": "leftover"}
    line = f"(setsid sleep {seconds} &)"
    subprocess.run(["sh", "-c", line], env=environment, check=True)
    eventually(lambda: bool(sleepers(seconds)))
    spool.clear()
    assert sleepers(seconds) == []
    assert list((tmp_path / "attempts").iterdir()) == []


def test_a_leftover_is_known_by_pid_start_time_and_boot_together(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True) as child:
        seen = strays.look(child.pid)
        assert seen is not None
        leave(spool, "other-boot", pid=seen.pid, start_time=seen.start_time, boot_id="before")
        leave(spool, "other-time", pid=seen.pid, start_time=seen.start_time - 1)
        spool.clear()
        assert child.poll() is None
        leave(spool, "the-one", pid=seen.pid, start_time=seen.start_time)
        spool.clear()
        assert child.wait(20) == -9


def test_a_torn_line_is_no_obstacle(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.clear()
    spool.folder("empty").path.mkdir()
    leave(spool, "told", cluster_id="c", started_at=1.0)
    spool.close()
    with (tmp_path / "journal").open("ab") as file:
        file.write(b'{"event":"launched","mark":"emp')
    assert [one.mark for one in opened(tmp_path).clear()] == ["told"]
    assert [path.name for path in (tmp_path / "attempts").iterdir()] == ["told"]


def test_what_is_kept_of_attempts_of_jobs_are_their_ends_and_those_without(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.clear()
    leave(spool, "ticket")
    leave(spool, "lost", cluster_id="c", fence=1, started_at=1.0)
    leave(spool, "ended", cluster_id="c", fence=2, started_at=1.0)
    spool.ended(ended(2, "ended"))
    spool.ended(ended(3))
    leave(spool, "heard", cluster_id="c", fence=4, started_at=1.0)
    spool.ended(ended(4, "heard"))
    spool.forget(spool.folder("heard"), ("c", 4))
    spool.close()
    for _ in range(2):  # as often as agents die
        spool = opened(tmp_path)
        kept = {one.fence: one for one in spool.clear()}
        assert kept == {
            1: Kept("lost", "t", "c", 1, 1.0, None),
            2: Kept("ended", "t", "c", 2, 1.0, ended(2, "ended")),
            3: Kept(None, "t", "c", 3, 1.0, ended(3)),
        }
        assert {path.name for path in (tmp_path / "attempts").iterdir()} == {"lost", "ended"}
        spool.close()


def test_a_directory_left_empty_is_used_again_and_any_other_is_not(tmp_path: Path) -> None:
    spool = opened(tmp_path, log_bytes_max=200_000)
    spool.clear()
    for number, (line, again) in enumerate(
        {
            "true": True,
            "echo some > stdout; echo some > result": True,
            "yes | head -c 100000 > stdout": False,
            "touch work/file": False,
            "chmod 755 work": False,
            "ln stdout beside": False,
            "rm stdout; ln -s /etc/passwd stdout": False,
            "rm -r work": False,
        }.items()
    ):
        folder = spool.folder()
        folder.create()
        for handle in folder.logs():
            os.close(handle)
        subprocess.run(["sh", "-c", line], cwd=folder.path, check=True)
        folder.settle()
        folder.empties()
        assert spool.forget(folder, ("c", number)) == again, line
        after = spool.folder()
        assert (after.mark == folder.mark) == again
        if again:
            after.create()
            assert {path.name for path in after.path.iterdir()} == {"stdout", "stderr", "work"}
            assert after.log_bytes("stdout") == after.log_bytes("result") == 0
