"""What a worker meets at the other end of its channel: a real scheduler over a real WebSocket."""

import logging
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

import raw_http
import servers
from dtask.scheduler import channels, logs, server
from dtask.scheduler.settings import Patience
from dtask.wire import frames
from dtask.wire.frames import (
    CHUNK_BYTES_MAX,
    CLOSE_AGAIN,
    CLOSE_REFUSED,
    CLOSE_REPLACED,
    FRAMES_MAX,
    VERSION,
    Arrived,
    DropFrame,
    HeldFrame,
    Hello,
    LogFrame,
    StartedFrame,
    StopFrame,
    Up,
)
from scheduler.peer import Peer, attached, beat, ended, opened, submit

Running = servers.RunningScheduler

#: What asks for a channel, but for the token.
HANDSHAKE = (
    b"GET /api/v1/channel HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\n"
    b"authorization: Bearer %b\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nx: y\r\n"
    b"sec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
)


def state(operator: httpx.Client, job_id: int) -> str:
    answer: str = operator.get(f"/api/v1/jobs/{job_id}").json()["state"]
    return answer


def attempt(operator: httpx.Client, job_id: int) -> dict[str, Any]:
    """The last attempt of the job's one task."""
    answer = operator.get(f"/api/v1/jobs/{job_id}/tasks/main")
    last: dict[str, Any] = answer.json()["attempts"][0]
    return last


def log(operator: httpx.Client, job_id: int, stream: str = "stdout") -> bytes:
    path = f"/api/v1/jobs/{job_id}/tasks/main/log"
    return operator.get(path, params={"stream": stream}).content


# Handshake and hello


def test_without_the_token_the_handshake_is_refused(scheduler: Running) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        connect(scheduler.url.replace("http", "ws", 1) + frames.PATH)
    assert refusal.value.response.status_code == 401
    assert refusal.value.response.headers["content-type"] == "application/json"
    assert msgspec.json.decode(refusal.value.response.body or b"")["code"] == "no_token"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"authorization": "Bearer some-other-token"}, "wrong_token"),
        ({"origin": "http://evil.example"}, "foreign_origin"),
    ],
)
def test_a_handshake_is_refused_as_any_request(
    scheduler: Running, headers: dict[str, str], code: str
) -> None:
    with pytest.raises(InvalidStatus) as refusal, opened(scheduler, **headers):
        pass
    assert msgspec.json.decode(refusal.value.response.body or b"")["code"] == code


@pytest.mark.parametrize(
    "broken",
    [
        (b"sec-websocket-version: 13", b"sec-websocket-version: 8"),
        (b"sec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n", b""),
        (b"MDEyMzQ1Njc4OWFiY2RlZg==", b"short"),
        (b"upgrade: websocket", b"upgrade: h2c"),
        (b"connection: upgrade", b"connection: close"),
        (b"GET", b"POST"),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"x: y", b"x: " + b"y" * 9_000),
        (b"x: y", b"\r\n".join(b"x%d: y" % index for index in range(200))),
        (b"x: y", b"content-length: 3"),
    ],
)
def test_what_is_no_handshake_is_answered_in_json(
    scheduler: Running, broken: tuple[bytes, bytes]
) -> None:
    head = HANDSHAKE % scheduler.token.encode() + b"abc"
    answer = raw_http.exchange(scheduler.url, head.replace(*broken))
    assert answer.startswith(b"HTTP/1.1 400 "), answer[:200]
    assert b"expected a GET with the head of a WebSocket's handshake" in answer


def test_an_upgrade_of_another_path_is_answered_as_http(scheduler: Running) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        connect(scheduler.url.replace("http", "ws", 1) + "/healthz")
    assert refusal.value.response.status_code == 200


def test_plain_http_goes_on_beside_open_channels(scheduler: Running) -> None:
    beat(scheduler, "beside")
    with attached(scheduler, "beside"):
        assert httpx.get(f"{scheduler.url}/healthz", verify=False).status_code == 200


def test_a_connection_that_was_used_for_requests_can_become_a_channel(scheduler: Running) -> None:
    head = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with raw_http.connect(scheduler.url) as client:
        client.sendall(head)
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
        client.sendall(HANDSHAKE % scheduler.token.encode())
        assert client.recv(4096).startswith(b"HTTP/1.1 101 ")


def test_who_says_no_hello_is_cut_off(scheduler: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "HELLO_S", 0.1)
    with opened(scheduler) as peer:
        assert peer.closed() == (CLOSE_REFUSED, "No hello came within 0.1 s.")


def test_who_answers_no_ping_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PING_S", 0.1)
    with (
        servers.running_scheduler() as running,
        raw_http.connect(running.url) as client,
    ):
        client.sendall(HANDSHAKE % running.token.encode())
        assert b"keepalive ping timeout" in raw_http.read_all(client)


def test_who_does_not_read_is_cut_off() -> None:
    """Commands of 20 MB for a worker that reads nothing: no buffer takes that."""
    with servers.running_scheduler(patience=Patience(unread_s=0.2)) as running:
        beat(running, "w", slots=100)
        headers = servers.bearer(running.token)
        with (
            httpx.Client(base_url=running.url, headers=headers, verify=False) as operator,
            attached(running, "w") as (peer, _),
        ):
            submit(operator, "w", command=["x" * 32_000] * 7, array=100)
            began = time.monotonic()
            while operator.get("/api/v1/stats").json()["attached"]:
                assert time.monotonic() < began + 10  # it is offline in 20
            assert peer.frames == []


def hello(version: int = VERSION, worker_id: str = "w", **more: Any) -> bytes:
    fields = {"incarnation": "i1", "cluster_id": None} | more
    return frames.encode(Hello(version, worker_id, **fields))


@pytest.mark.parametrize(
    ("raw", "code", "said"),
    [
        (hello(VERSION - 1), CLOSE_REFUSED, "upgrade the worker"),
        (hello(VERSION + 1), CLOSE_REFUSED, "upgrade the scheduler"),
        (msgspec.msgpack.encode(["hello", VERSION + 1]), CLOSE_REFUSED, "upgrade the scheduler"),
        (b"", CLOSE_REFUSED, "none of the worker channel's"),
        (b"\x93" * 10_000, CLOSE_REFUSED, "none of the worker channel's"),
        (msgspec.msgpack.encode({"a": 1}), CLOSE_REFUSED, "none of the worker channel's"),
        ("hello", CLOSE_REFUSED, "none of the worker channel's"),
        (frames.encode(Up(1, 0)), CLOSE_REFUSED, "begins with a hello"),
        (hello(worker_id="never-heard"), CLOSE_AGAIN, "never-heard"),
    ],
)
def test_a_hello_that_will_not_do_is_told_why(
    scheduler: Running, raw: bytes | str, code: int, said: str
) -> None:
    with opened(scheduler) as peer:
        peer.socket.send(raw)
        closed = peer.closed()
    assert closed[0] == code
    assert said in closed[1]


def test_a_message_over_the_limit_is_refused(scheduler: Running) -> None:
    with opened(scheduler) as peer:
        # Its head alone: what the scheduler leaves unread would reset the connection.
        length = struct.pack("!Q", frames.MESSAGE_BYTES_MAX + 1)
        peer.socket.socket.sendall(b"\x82\xff" + length + b"mask")
        assert peer.closed()[0] == 1009


def test_a_worker_that_beats_without_the_token_gets_no_channel(scheduler: Running) -> None:
    servers.beat(scheduler.url, "untrusted", incarnation="i1")
    with opened(scheduler) as peer:
        peer.socket.send(hello(worker_id="untrusted"))
        code, reason = peer.closed()
    assert code == CLOSE_REFUSED
    assert "without the token" in reason


def test_another_life_of_the_worker_gets_no_channel(scheduler: Running) -> None:
    beat(scheduler, "lives")
    with attached(scheduler, "lives") as (peer, _):
        with opened(scheduler) as other:
            other.socket.send(hello(worker_id="lives", incarnation="i0"))
            code, reason = other.closed()
            assert code == CLOSE_AGAIN  # it may be a new one, whose heartbeat is on its way
            assert "No heartbeat of this life" in reason
        peer.say()
        peer.until_heard()  # and the one that has it keeps it


# Attempts


def test_an_attempt_goes_down_and_what_it_wrote_and_how_it_ended_goes_up(
    scheduler: Running, operator: httpx.Client
) -> None:
    beat(scheduler, "whole")
    with attached(scheduler, "whole") as (peer, welcome):
        assert welcome.version == VERSION
        assert (welcome.stop, welcome.arrived) == ((), ())
        job_id = submit(
            operator,
            "whole",
            command=["tile", "{}"],
            array=["a", "b"],
            env={"X": "y"},
            timeout_s=60,
            cwd="/tmp",
        )
        first, second = peer.start(), peer.start()
        assert (first.job_id, first.task, first.index, first.number) == (job_id, "main", 0, 1)
        assert second.command == ("tile", "b")
        assert second.env == {"X": "y", "DTASK_INDEX": "1", "DTASK_ITEM": "b"}
        assert (first.timeout_s, first.cwd) == (60, "/tmp")
        for start in (first, second):
            peer.say(
                StartedFrame(start.fence, 1_000.0),
                LogFrame(start.fence, "stdout", 0, b"out"),
                LogFrame(start.fence, "result", 0, b"{}"),
                ended(start.fence, stdout_bytes=3, result_bytes=2, cpu_s=0.5),
            )
        peer.until_heard()
    assert state(operator, job_id) == "succeeded"
    path = f"/api/v1/jobs/{job_id}/tasks/main"
    assert operator.get(f"{path}/log", params={"index": 1}).content == b"out"
    assert operator.get(f"{path}/result", params={"index": 0}).content == b"{}"


def test_what_is_dispatched_together_is_sent_together(
    scheduler: Running, operator: httpx.Client
) -> None:
    beat(scheduler, "many", slots=100)
    with attached(scheduler, "many") as (peer, _):
        submit(operator, "many", array=100)
        assert len(peer.take().frames) == 100
        starts = list(peer.frames)
        peer.say(*(ended(start.fence) for start in starts))
        peer.until_heard()


def test_messages_need_not_wait_for_each_other(scheduler: Running, operator: httpx.Client) -> None:
    beat(scheduler, "eager", slots=300)
    with attached(scheduler, "eager") as (peer, _):
        job_id = submit(operator, "eager", array=300)
        starts = [peer.start() for _ in range(300)]
        for start in starts:
            peer.say(StartedFrame(start.fence, 1_000.0))
            peer.say(LogFrame(start.fence, "stdout", 0, b"x"), ended(start.fence, stdout_bytes=1))
        peer.until_heard()
    assert state(operator, job_id) == "succeeded"


def test_a_cancel_reaches_the_worker(scheduler: Running, operator: httpx.Client) -> None:
    beat(scheduler, "stopped")
    with attached(scheduler, "stopped") as (peer, _):
        job_id = submit(operator, "stopped", grace_s=3)
        start = peer.start()
        peer.say(StartedFrame(start.fence, 1_000.0))
        peer.until_heard()
        operator.delete(f"/api/v1/jobs/{job_id}")
        assert peer.next() == StopFrame(start.fence, 3)
        peer.say(ended(start.fence, -15, cause="stopped"))
        peer.until_heard()
    assert state(operator, job_id) == "cancelled"


def test_a_report_of_a_strange_attempt_is_answered_with_drop(scheduler: Running) -> None:
    beat(scheduler, "strange")
    with attached(scheduler, "strange") as (peer, _):
        peer.say(StartedFrame(7, 1_000.0))
        assert peer.next() == DropFrame(7)
        peer.say(LogFrame(8, "stdout", 0, b"x"), LogFrame(8, "stdout", 1, b"y"))
        assert peer.next() == DropFrame(8)
        peer.say(ended(9))
        assert peer.next() == DropFrame(9)
        peer.until_heard()
        assert peer.frames == []


def test_what_no_message_can_hold_fails_with_the_reason(
    scheduler: Running, operator: httpx.Client
) -> None:
    beat(scheduler, "large")
    with attached(scheduler, "large") as (peer, _):
        words = ["x" * 30_000] * 100
        job_id = submit(operator, "large", command=words)
        small = submit(operator, "large")
        start = peer.start()
        assert start.job_id == small
        peer.say(ended(start.fence))
        peer.until_heard()
        failed = operator.get(f"/api/v1/jobs/{job_id}", params={"wait_s": 10}).json()
        assert failed["state"] == "failed"
        assert attempt(operator, job_id)["cause"] == "start_failed"
        assert "put what is large into a file" in attempt(operator, job_id)["error"]


def test_an_item_that_makes_the_command_huge_fails_before_it_is_made(
    scheduler: Running, operator: httpx.Client
) -> None:
    beat(scheduler, "huge")
    with attached(scheduler, "huge") as (peer, _):
        job_id = submit(operator, "huge", command=["{}" * 16_000] * 100, array=["x" * 32_000])
        failed = operator.get(f"/api/v1/jobs/{job_id}", params={"wait_s": 10}).json()
        assert failed["state"] == "failed"
        peer.say()
        peer.until_heard()
        assert peer.frames == []


# Logs


def started(operator: httpx.Client, peer: Peer, worker_id: str) -> Any:
    """A job of one task, which runs."""
    submit(operator, worker_id)
    start = peer.start()
    peer.say(StartedFrame(start.fence, 1_000.0))
    return start


def test_a_log_can_be_read_while_the_task_runs(scheduler: Running, operator: httpx.Client) -> None:
    beat(scheduler, "running")
    with attached(scheduler, "running") as (peer, _):
        start = started(operator, peer, "running")
        peer.say(LogFrame(start.fence, "stdout", 0, b"so far"))
        peer.until_heard()
        assert log(operator, start.job_id) == b"so far"
        peer.say(ended(start.fence, stdout_bytes=6))
        peer.until_heard()


@pytest.mark.parametrize(("told", "lost"), [(5, False), (6, True)])
def test_an_end_whose_log_did_not_arrive_carries_the_mark(
    scheduler: Running, operator: httpx.Client, told: int, lost: bool
) -> None:
    worker_id = f"lost-{told}"
    beat(scheduler, worker_id)
    with attached(scheduler, worker_id) as (peer, _):
        start = started(operator, peer, worker_id)
        peer.say(
            LogFrame(start.fence, "stderr", 0, b"12345"), ended(start.fence, stderr_bytes=told)
        )
        peer.until_heard()
    last = attempt(operator, start.job_id)
    assert (last["stderr_bytes"], last.get("log_lost", False)) == (5, lost)


def test_a_chunk_beyond_the_end_closes_the_channel_and_the_next_hello_mends_it(
    scheduler: Running, operator: httpx.Client
) -> None:
    beat(scheduler, "gap")
    with attached(scheduler, "gap") as (peer, _):
        start = started(operator, peer, "gap")
        peer.say(LogFrame(start.fence, "stdout", 0, b"abc"))
        peer.until_heard()
        peer.say(LogFrame(start.fence, "stdout", 4, b"e"))
        code, reason = peer.closed()
        assert code == CLOSE_REFUSED
        assert "begins at byte 4, and 3 have arrived" in reason
    with attached(scheduler, "gap", held=(HeldFrame(start.fence, started=True),)) as (
        peer,
        welcome,
    ):
        assert welcome.arrived == (Arrived(start.fence, 3, 0, 0),)
        peer.say(LogFrame(start.fence, "stdout", 3, b"de"), ended(start.fence, stdout_bytes=5))
        peer.until_heard()
    assert log(operator, start.job_id) == b"abcde"
    assert "log_lost" not in attempt(operator, start.job_id)


def test_a_full_disk_closes_the_channel_and_loses_nothing(tmp_path: Path) -> None:
    full = tmp_path / "logs" / "1" / "main#1.stdout"
    with servers.running_scheduler(data=tmp_path) as running:
        beat(running, "w")
        headers = servers.bearer(running.token)
        with httpx.Client(base_url=running.url, headers=headers, verify=False) as operator:
            with attached(running, "w") as (peer, _):
                start = started(operator, peer, "w")
                peer.until_heard()
                full.parent.mkdir(parents=True)
                full.symlink_to("/dev/full")
                said = (
                    LogFrame(start.fence, "stdout", 0, b"abc"),
                    ended(start.fence, stdout_bytes=3),
                )
                peer.say(*said)
                code, reason = peer.closed()
                assert (code, reason) == (
                    CLOSE_AGAIN,
                    "The scheduler can't write logs: the disk is full.",
                )
                assert peer.heard == 1
            assert state(operator, 1) == "running"
            full.unlink()
            with attached(running, "w", held=(HeldFrame(start.fence, started=True),)) as (
                peer,
                welcome,
            ):
                assert welcome.arrived == (Arrived(start.fence, 0, 0, 0),)
                peer.say(*said)
                peer.until_heard()
            assert state(operator, 1) == "succeeded"
            assert log(operator, 1) == b"abc"


def test_a_full_disk_is_told_once_and_by_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_MENDED_S", 0.2)
    caplog.set_level(logging.INFO, "dtask.scheduler")
    full = tmp_path / "logs" / "1" / "main#1.stdout"
    with servers.running_scheduler(data=tmp_path) as running:
        beat(running, "w")
        headers = servers.bearer(running.token)
        with httpx.Client(base_url=running.url, headers=headers, verify=False) as operator:
            with attached(running, "w") as (peer, _):
                start = started(operator, peer, "w")
                peer.until_heard()
                full.parent.mkdir(parents=True)
                full.symlink_to("/dev/full")
                peer.say(LogFrame(start.fence, "stdout", 0, b"abc"))
                peer.closed()
            held = (HeldFrame(start.fence, started=True),)
            for _ in range(3):
                with attached(running, "w", held=held) as (peer, _):
                    peer.say(LogFrame(start.fence, "stdout", 0, b"abc"))
                    peer.closed()
            sentence = operator.get("/api/v1/jobs/1/why").json()["reasons"][0]["sentence"]
            assert sentence.startswith("It runs on worker w. ")
            assert sentence.endswith("The scheduler can't write logs: the disk is full.")
            full.unlink()
            with attached(running, "w", held=held) as (peer, _):
                peer.say(LogFrame(start.fence, "stdout", 0, b"abc"), ended(start.fence))
                peer.until_heard()
                end = time.monotonic() + servers.PATIENCE_S
                while "logs are written again" not in caplog.messages:
                    assert time.monotonic() < end
                    time.sleep(0.01)
    said = [line for line in caplog.messages if line.startswith(("channel ", "logs "))]
    assert said[:4] == [
        "channel attached",
        "logs can't be written",
        "channel closed",
        "logs are written again",
    ]


def test_a_log_over_the_cap_is_marked_as_cut_and_not_as_lost() -> None:
    with servers.running_scheduler(log_max_mb=1) as running:
        beat(running, "w")
        headers = servers.bearer(running.token)
        with (
            httpx.Client(base_url=running.url, headers=headers, verify=False) as operator,
            attached(running, "w") as (peer, _),
        ):
            start = started(operator, peer, "w")
            for at in range(3):
                offset = at * CHUNK_BYTES_MAX
                peer.say(LogFrame(start.fence, "stdout", offset, b"x" * CHUNK_BYTES_MAX))
            peer.say(ended(start.fence, stdout_bytes=3 * CHUNK_BYTES_MAX))
            peer.until_heard()
            last = attempt(operator, 1)
        assert last["stdout_bytes"] == 512 * 1024
        assert last["truncated"]
        assert "log_lost" not in last


# Breaks


def test_a_new_connection_takes_over_and_ends_that_were_heard_stay_heard(
    scheduler: Running, operator: httpx.Client
) -> None:
    beat(scheduler, "twice")
    with attached(scheduler, "twice") as (before, welcome):
        over = started(operator, before, "twice")
        goes_on = started(operator, before, "twice")
        before.say(ended(over.fence))
        before.until_heard()
        held = tuple(HeldFrame(start.fence, started=True) for start in (over, goes_on))
        with attached(scheduler, "twice", held=held, cluster_id=welcome.cluster_id) as (
            peer,
            again,
        ):
            assert before.closed()[0] == CLOSE_REPLACED
            assert again.stop == (over.fence,)
            assert again.arrived == (Arrived(goes_on.fence, 0, 0, 0),)
            peer.say(ended(goes_on.fence))
            peer.until_heard()
    assert state(operator, goes_on.job_id) == "succeeded"


def test_a_connection_that_was_replaced_takes_nothing_with_it(
    scheduler: Running, operator: httpx.Client
) -> None:
    """The end of the old connection comes after the new one's hello: the worker stays attached."""
    beat(scheduler, "successor")
    with (
        attached(scheduler, "successor") as (before, _),
        attached(scheduler, "successor") as (peer, _),
    ):
        before.closed()
        submit(operator, "successor")
        peer.say(ended(peer.start().fence))
        peer.until_heard()


def test_what_belongs_to_another_cluster_is_stopped(scheduler: Running) -> None:
    beat(scheduler, "foreign")
    held = (HeldFrame(11, started=True), HeldFrame(12, started=False))
    with attached(scheduler, "foreign", held=held, cluster_id="another") as (_, welcome):
        assert welcome.stop == (11, 12)
        assert welcome.arrived == ()


def test_a_task_that_a_hello_does_not_tell_of_runs_again(
    scheduler: Running, operator: httpx.Client
) -> None:
    beat(scheduler, "amnesia")
    with attached(scheduler, "amnesia") as (peer, _):
        start = started(operator, peer, "amnesia")
        peer.until_heard()
    with attached(scheduler, "amnesia") as (peer, _):
        again = peer.start()
        assert (again.job_id, again.number) == (start.job_id, 2)
        assert again.fence > start.fence
        peer.say(ended(again.fence))
        peer.until_heard()


WRONG: dict[str, Callable[[int], bytes]] = {
    "a gap in the numbers": lambda _: frames.encode(Up(2, 0)),
    "heard what was never said": lambda _: frames.encode(Up(1, 99)),
    "a second hello": lambda _: hello(),
    "no message": lambda _: b"\xff",
    "too many frames": lambda fence: frames.encode(
        Up(1, 0, tuple(StartedFrame(fence, 1.0) for _ in range(FRAMES_MAX + 1)))
    ),
    "no cause": lambda fence: frames.encode(Up(1, 0, (ended(fence, cause="tired"),))),
    "no time": lambda fence: frames.encode(Up(1, 0, (ended(fence, ended_at=float("nan")),))),
    "no start": lambda fence: frames.encode(Up(1, 0, (StartedFrame(fence, -1.0),))),
    "no size": lambda fence: frames.encode(Up(1, 0, (ended(fence, max_rss_bytes=2**63),))),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_message_that_breaks_the_rules_ends_the_connection_alone(
    scheduler: Running, operator: httpx.Client, wrong: str
) -> None:
    worker_id = wrong.replace(" ", "-")
    beat(scheduler, worker_id)
    with attached(scheduler, worker_id) as (peer, _):
        job_id = submit(operator, worker_id)
        start = peer.start()
        peer.socket.send(WRONG[wrong](start.fence))
        code, reason = peer.closed()
        assert code == CLOSE_REFUSED
        assert reason
    held = (HeldFrame(start.fence, started=False),)
    with attached(scheduler, worker_id, held=held) as (peer, welcome):
        assert [one.fence for one in welcome.arrived] == [start.fence]
        peer.say(ended(start.fence))
        peer.until_heard()
    assert state(operator, job_id) == "succeeded"


# Life


@pytest.mark.e2e
def test_a_stop_closes_channels_at_once_and_says_so() -> None:
    with servers.scheduler_process() as running:
        beat(running, "w")
        with attached(running, "w") as (peer, _):
            assert running.stop() == 0
            assert peer.closed() == (1001, "The scheduler stops.")
        assert "Traceback" not in running.log.read_text()


@pytest.mark.e2e
def test_a_stop_does_not_wait_for_a_worker_that_is_stuck() -> None:
    program = """
import os, signal, sys
sys.path[:0] = sys.argv[2:]
from types import SimpleNamespace
from scheduler.peer import attached
url, token = sys.argv[1].split()
with attached(SimpleNamespace(url=url, token=token), "w"):
    print("attached", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
"""
    with servers.scheduler_process() as running:
        beat(running, "w")
        tests = str(Path(__file__).resolve().parent.parent)
        with subprocess.Popen(
            [sys.executable, "-c", program, f"{running.url} {running.token}", tests],
            stdout=subprocess.PIPE,
        ) as worker:
            try:
                assert worker.stdout is not None
                assert worker.stdout.readline() == b"attached\n"
                os.waitid(os.P_PID, worker.pid, os.WSTOPPED)
                assert running.stop() == 0
            finally:
                worker.send_signal(signal.SIGKILL)


@pytest.mark.e2e
def test_a_scheduler_that_was_killed_goes_on_where_it_stood(tmp_path: Path) -> None:
    arguments = ("--data", str(tmp_path / "data"), "--warm-up", "0")
    with servers.scheduler_process(*arguments) as running:
        beat(running, "w")
        headers = servers.bearer(running.token)
        with (
            httpx.Client(base_url=running.url, headers=headers, verify=False) as operator,
            attached(running, "w") as (peer, welcome),
        ):
            start = started(operator, peer, "w")
            peer.say(LogFrame(start.fence, "stdout", 0, b"before, "))
            peer.until_heard()
            running.process.kill()
            running.process.wait()
    held = (HeldFrame(start.fence, started=True),)
    with servers.scheduler_process(*arguments) as running:
        beat(running, "w")
        headers = servers.bearer(running.token)
        with (
            httpx.Client(base_url=running.url, headers=headers, verify=False) as operator,
            attached(running, "w", held=held, cluster_id=welcome.cluster_id) as (peer, again),
        ):
            assert again.cluster_id == welcome.cluster_id
            assert again.arrived == (Arrived(start.fence, 8, 0, 0),)
            peer.say(
                LogFrame(start.fence, "stdout", 8, b"after"), ended(start.fence, stdout_bytes=13)
            )
            peer.until_heard()
            assert log(operator, start.job_id) == b"before, after"
            assert attempt(operator, start.job_id)["number"] == 1
