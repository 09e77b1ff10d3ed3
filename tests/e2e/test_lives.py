"""Workers that die and come back, and a scheduler that stands still: with real processes."""

import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from servers import PATIENCE_S, SchedulerProcess, bearer, beat, running_scheduler, scheduler_process
from workers import refused, worker_process

pytestmark = pytest.mark.e2e


def test_a_killed_worker_is_accepted_at_once_when_it_comes_back() -> None:
    """kill -9 and a restart within 0.1 s: same id, same address, another incarnation."""
    address = f"127.0.0.1:{free_port()}"
    with running_scheduler() as scheduler:
        arguments = ("--id", "w1")
        with worker_process(*arguments, scheduler=scheduler.url, addr=address) as first:
            before = eventually(lambda: row(scheduler.url, scheduler.token, "w1"))
            first.process.kill()
            first.process.wait()
            died = time.monotonic()
            with worker_process(*arguments, scheduler=scheduler.url, addr=address):
                after = eventually(
                    lambda: changed(before, row(scheduler.url, scheduler.token, "w1"))
                )
                # Far sooner than the old life could have been found out by its silence.
                assert time.monotonic() - died < 5
                assert after["status"] == "online"


def test_a_late_heartbeat_of_an_old_life_changes_nothing() -> None:
    with running_scheduler() as scheduler:
        assert beat(scheduler.url, "w1", incarnation="one", seq=1).status_code == 200
        assert beat(scheduler.url, "w1", incarnation="two", seq=1, max_tasks=7).status_code == 200
        late = beat(scheduler.url, "w1", incarnation="one", seq=2, max_tasks=1)
        assert (late.status_code, late.json()["code"]) == (409, "superseded")
        assert row(scheduler.url, None, "w1")["max_tasks"] == 7


def test_a_second_live_process_under_an_id_is_refused_and_says_why() -> None:
    with (
        running_scheduler() as scheduler,
        worker_process("--id", "w1", scheduler=scheduler.url),
    ):
        held = eventually(lambda: row(scheduler.url, scheduler.token, "w1"))
        code, message = refused(
            *("--id", "w1", "--addr", "127.0.0.1:0", "--scheduler", scheduler.url),
            DTASK_TOKEN=scheduler.token,
        )
        assert code == 1
        assert f"'w1' is held by a live worker at {held['address']}" in message
        now = row(scheduler.url, scheduler.token, "w1")
        assert now["incarnation"] == held["incarnation"]


def test_a_killed_worker_is_suspect_then_offline() -> None:
    """The real thresholds are proved with virtual time; here they are short and time is real."""
    flags = ("--suspect-after", "2", "--offline-after", "4")
    with (
        scheduler_process(*flags) as scheduler,
        worker_process(
            *("--id", "w1", "--interval", "0.5"),
            scheduler=scheduler.url,
            token=scheduler.token,
        ) as worker,
    ):
        eventually(lambda: row(scheduler.url, scheduler.token, "w1"))
        worker.process.kill()
        killed = time.monotonic()
        eventually(lambda: status(scheduler, "w1") == "suspect")
        assert 1.4 < time.monotonic() - killed < 3.5
        eventually(lambda: status(scheduler, "w1") == "offline")
        assert 3.4 < time.monotonic() - killed < 5.5
        log = scheduler.log.read_text()
        assert log.index("suspect") < log.index("offline")


def test_no_worker_is_offline_after_the_scheduler_stood_still_for_30_s() -> None:
    with (
        scheduler_process() as scheduler,
        worker_process("--id", "w1", scheduler=scheduler.url, token=scheduler.token),
    ):
        eventually(lambda: row(scheduler.url, scheduler.token, "w1"))
        scheduler.process.send_signal(signal.SIGSTOP)
        try:
            signal.sigtimedwait([signal.SIGUSR2], 30)  # the 30 s are what is tested
        finally:
            scheduler.process.send_signal(signal.SIGCONT)
        end = time.monotonic() + 5
        while time.monotonic() < end:
            assert status(scheduler, "w1") == "online"
        assert "suspect" not in scheduler.log.read_text()


def test_a_drain_outlives_the_scheduler_that_heard_it() -> None:
    port = free_port()
    token = "a-token-for-tests-only"
    with scheduler_process("--port", str(port), env={"DTASK_TOKEN": token}) as scheduler:
        url = scheduler.url
        with worker_process("--id", "w1", scheduler=url, token=token) as worker:
            eventually(lambda: row(url, token, "w1"))
            drained = httpx.post(f"{url}/api/v1/workers/w1/drain", headers=bearer(token))
            assert drained.json()["draining"] is True
            # The worker learns it from the answer to a heartbeat, which comes within 3 s.
            eventually(lambda: "drain" in worker.log.read_text())
            assert scheduler.stop() == 0
            with scheduler_process("--port", str(port), env={"DTASK_TOKEN": token}):
                again = eventually(lambda: row(url, token, "w1"))
                assert again["draining"] is True


def test_a_standby_knows_the_fleet_before_it_is_needed() -> None:
    token = "a-token-for-tests-only"
    env = {"DTASK_TOKEN": token}
    with (
        scheduler_process("--warm-up", "0", env=env) as one,
        scheduler_process("--warm-up", "0", env=env) as two,
        worker_process("--id", "w1", scheduler=f"{one.url},{two.url}", token=token),
    ):
        for scheduler in (one, two):
            eventually(lambda url=scheduler.url: row(url, token, "w1"))
        os.kill(one.process.pid, signal.SIGKILL)
        body = {"task_id": "t1", "required_tags": []}
        answer = httpx.post(f"{two.url}/api/v1/schedule", json=body, headers=bearer(token))
        assert answer.json()["worker_id"] == "w1"


def eventually(look: Callable[[], Any]) -> Any:
    """The first answer of `look` that is not falsy."""
    end = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)
    return found


def row(url: str, token: str | None, worker_id: str) -> Any:
    """The worker's row, or None."""
    rows = httpx.get(f"{url}/api/v1/workers", headers=bearer(token)).json()
    return next((each for each in rows if each["worker_id"] == worker_id), None)


def changed(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any] | None:
    return now if now["incarnation"] != before["incarnation"] else None


def status(scheduler: SchedulerProcess, worker_id: str) -> str:
    return str(row(scheduler.url, scheduler.token, worker_id)["status"])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
