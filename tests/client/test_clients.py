"""Both clients over real HTTP, against a real scheduler and stand-ins for workers."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from client.awaited import Awaited
from client.stand_in import Answer, Recorded, StandIn, ended, error, runs_at_once, standing_in
from dtask import AsyncClient, Client, Outcome, Placement
from dtask.client import flows, session
from dtask.errors import Denied, InvalidRequest, NotFound, NoWorker, Unavailable
from dtask.scheduler import settings
from dtask.worker import listener
from servers import RunningScheduler, beat, running_scheduler

#: Longest that anything here may take; reached only when it is broken.
PATIENCE_S = 10.0


@pytest.fixture(params=[Client, Awaited], ids=["Client", "AsyncClient"])
def kind(request: pytest.FixtureRequest) -> Any:
    """Which of the two clients, as one that blocks."""
    return request.param


@pytest.fixture(name="scheduler")
def a_scheduler() -> Iterator[RunningScheduler]:
    with running_scheduler() as running:
        yield running


@contextmanager
def two_workers(
    scheduler: RunningScheduler, first: str | Callable[[Recorded], Answer]
) -> Iterator[tuple[StandIn, StandIn]]:
    """`w1`, which is chosen first and answers so or is at that address, and `w2`, which is fine."""
    with ExitStack() as stack:
        answer = runs_at_once if isinstance(first, str) else first
        w1 = stack.enter_context(standing_in(answer))
        w2 = stack.enter_context(standing_in(runs_at_once))
        address = first if isinstance(first, str) else w1.address
        for name, where, taken in (("w1", address, 0), ("w2", w2.address, 1)):
            beat(scheduler.url, name, token=scheduler.token, address=where, current_tasks=taken)
        yield w1, w2


def leases(scheduler: RunningScheduler) -> int:
    with Client(scheduler.url, token=scheduler.token) as client:
        return sum(worker.leases for worker in client.workers())


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


# The fleet as it changes


def test_the_fleet_is_followed_as_one_value(kind: Any, scheduler: RunningScheduler) -> None:
    beat(scheduler.url, "w1", token=scheduler.token, current_tasks=1)
    with kind(scheduler.url, token=scheduler.token) as client:
        pictures = client.live()
        with closing(pictures):
            first = next(pictures)
            assert (first.connected, list(first.workers)) == (True, ["w1"])
            assert (first.totals.occupied, first.totals.slots) == (1, 4)
            beat(scheduler.url, "w2", token=scheduler.token)
            second = next(picture for picture in pictures if len(picture.workers) > 1)
        assert list(second.workers) == ["w1", "w2"]
        assert list(first.workers) == ["w1"]
        assert client.workers()  # the client goes on


def test_following_needs_the_token(kind: Any, scheduler: RunningScheduler) -> None:
    with kind(scheduler.url, token=None) as client, pytest.raises(Denied):
        next(client.live())


def test_a_code_signs_a_browser_in_once(kind: Any, scheduler: RunningScheduler) -> None:
    with kind(scheduler.url, token=scheduler.token) as client:
        found = client.sign_in_code()
    assert found.url == f"{scheduler.url}/dashboard/#code={found.code}"
    headers = {"origin": scheduler.url}
    body = {"code": found.code}
    answers = [
        httpx.post(f"{scheduler.url}/api/v1/session", json=body, headers=headers) for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [200, 403]


# The scheduler's calls


def test_a_placement_holds_a_slot_until_it_is_released(
    kind: Any, scheduler: RunningScheduler
) -> None:
    beat(scheduler.url, "w1", max_tasks=1, resource_tags=["gpu"], address="h:1")
    with kind(scheduler.url, token=scheduler.token) as client:
        placement = client.place("a", required_tags=["gpu"])
        assert (placement.task_id, placement.worker_id) == ("a", "w1")
        assert placement.address == "h:1"
        assert placement.ticket
        assert client.place("a", required_tags="gpu").fence == placement.fence
        with pytest.raises(NoWorker) as caught:
            client.place("b", required_tags=["gpu"])
        assert caught.value.facts["reasons"] == {"full": 1}
        client.release(placement)
        assert client.place("b").fence > placement.fence


def test_a_ticket_is_not_shown_when_a_placement_is_printed(scheduler: RunningScheduler) -> None:
    beat(scheduler.url)
    with Client(scheduler.url, token=scheduler.token) as client:
        placement = client.place()
    assert placement.ticket
    assert placement.ticket not in repr(placement)


def test_many_are_placed_in_one_call(kind: Any, scheduler: RunningScheduler) -> None:
    beat(scheduler.url, max_tasks=2)
    with kind(scheduler.url, token=None) as client:
        found = client.place_many([{"task_id": "a"}, {}, {"required_tags": ["gpu"]}])
        assert [type(one) for one in found] == [Placement, Placement, NoWorker]
        with pytest.raises(NoWorker):
            client.place_many([{}, {}, {}], all_or_nothing=True)


def test_workers_are_listed_and_drained(kind: Any, scheduler: RunningScheduler) -> None:
    beat(scheduler.url, "w1", resource_tags=["cuda-12.4"])
    beat(scheduler.url, "w/2 é", resource_tags=["cpu"])
    with kind(scheduler.url, token=scheduler.token) as client:
        assert [worker.worker_id for worker in client.workers()] == ["w/2 é", "w1"]
        assert [worker.worker_id for worker in client.workers(tag="cuda>=12")] == ["w1"]
        assert client.workers(status="offline") == []
        assert client.drain("w/2 é").draining
        assert not client.undrain("w/2 é").draining
        with pytest.raises(NotFound, match="w9"):
            client.drain("w9")


@pytest.mark.parametrize("task_id", ["a/b", "..", "a b?c#d%2F", "é/../☃", "./."])
def test_any_task_id_can_be_released(task_id: str, scheduler: RunningScheduler) -> None:
    beat(scheduler.url)
    with Client(scheduler.url, token=None) as client:
        placement = client.place(task_id)
        client.release(task_id, fence=placement.fence)
        with pytest.raises(NotFound):
            client.release(task_id)


def test_a_slot_that_the_client_frees_wakes_one_that_waits_for_it(
    kind: Any, scheduler: RunningScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows, "FULL_PAUSE_S", 60.0)  # the pause is the second that is hinted
    beat(scheduler.url, max_tasks=1)

    def blocking() -> float:
        with Client(scheduler.url, token=None) as client, ThreadPoolExecutor() as pool:
            client.place("a")
            waiting = pool.submit(client.place, "b", timeout=PATIENCE_S)
            wait_until(lambda: bool(client._freed._waiters))  # type: ignore[attr-defined]
            start = time.monotonic()
            client.release("a")
            assert waiting.result().task_id == "b"
            return time.monotonic() - start

    async def awaiting() -> float:
        async with AsyncClient(scheduler.url, token=None) as client:
            await client.place("a")
            waiting = asyncio.create_task(client.place("b", timeout=PATIENCE_S))
            await asyncio.to_thread(wait_until, lambda: bool(client._freed._waiters))
            start = time.monotonic()
            await client.release("a")
            assert (await waiting).task_id == "b"
            return time.monotonic() - start

    assert (blocking() if kind is Client else asyncio.run(awaiting())) < 0.9


# Addresses, tokens, and what must not be sent


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_a_scheduler_that_is_not_there_is_said_with_what_to_do(kind: Any) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with kind(url, token=None) as client, pytest.raises(Unavailable) as caught:
        client.place()
    assert url in str(caught.value)
    assert "dtask-scheduler" in str(caught.value)


def test_the_second_scheduler_is_used_when_the_first_is_not_there(
    kind: Any, scheduler: RunningScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat(scheduler.url)
    addresses = f"http://127.0.0.1:{free_port()}, {scheduler.url}"
    monkeypatch.setenv("DTASK_SCHEDULER", addresses)
    with kind(token=None) as client:
        assert client.place().worker_id == "w1"


def test_an_address_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(InvalidRequest, match="not the address of a scheduler"):
        Client("ftp://h")


def test_a_scheduler_that_answers_too_late_is_given_up(kind: Any) -> None:
    done = threading.Event()

    def late(_: Recorded) -> Answer:
        done.wait(PATIENCE_S)
        return None

    with standing_in(late) as stand_in:
        url = f"http://{stand_in.address}"
        with kind(url, token=None, timeout_s=0.05) as client, pytest.raises(Unavailable):
            client.workers()
        done.set()
    assert len(stand_in.requests) == flows.ROUNDS


def test_the_token_is_looked_for_with_the_first_call_and_not_before(
    scheduler: RunningScheduler, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for name in ("DTASK_TOKEN", "DTASK_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    with Client(scheduler.url) as client:
        assert not list(tmp_path.iterdir())
        (tmp_path / "dtask").mkdir()
        (tmp_path / "dtask" / "token").touch(mode=0o600)
        (tmp_path / "dtask" / "token").write_text(scheduler.token)
        beat(scheduler.url)
        assert client.place().ticket


def test_without_a_token_nothing_is_run(scheduler: RunningScheduler) -> None:
    beat(scheduler.url)
    with Client(scheduler.url, token=None) as client, pytest.raises(Denied) as caught:
        client.run_on(["true"])
    assert caught.value.code == "no_token"


def test_the_token_never_leaves_for_a_worker(kind: Any, scheduler: RunningScheduler) -> None:
    client = kind(scheduler.url, token=scheduler.token)
    with two_workers(scheduler, runs_at_once) as (w1, _), client:
        assert client.run_on(["true"]).stdout == b"hi\n"
    assert w1.lines[0] == "POST /tasks"
    assert len(w1.requests) == 2
    for request in w1.requests:
        assert scheduler.token not in request.everything
        assert request.headers["authorization"].startswith("Ticket ")


def test_text_that_is_no_unicode_is_refused_in_a_sentence(
    kind: Any, scheduler: RunningScheduler
) -> None:
    """As the arguments of a program are, when they are not in the locale's encoding."""
    with kind(scheduler.url, token=None) as client:
        calls: list[Callable[[], object]] = [
            lambda: client.place("\udc80"),
            lambda: client.release("\udc80"),
            lambda: client.workers(tag="\udc80"),
            lambda: client.place_many([{"task_id": "\udc80"}]),
        ]
        for call in calls:
            with pytest.raises(InvalidRequest):
                call()


@pytest.mark.parametrize("token", ["a token\nfor tests only", "ein-schlüssel-für-tests"])
def test_a_token_that_no_header_can_hold_is_refused(
    token: str, kind: Any, scheduler: RunningScheduler
) -> None:
    with kind(scheduler.url, token=token) as client, pytest.raises(Denied) as caught:
        client.workers()
    assert caught.value.code == "wrong_token"


def test_a_redirect_is_not_followed_and_takes_the_token_nowhere(kind: Any) -> None:
    with standing_in(lambda _: (200, {})) as elsewhere:
        there = f"http://{elsewhere.address}/".encode()
        with standing_in(lambda _: (307, there)) as stand_in:
            url = f"http://{stand_in.address}"
            client = kind(url, token="a-token-for-tests-only")
            with client, pytest.raises(InvalidRequest, match="HTTP 307"):
                client.place()
    assert not elsewhere.requests
    assert stand_in.requests[0].headers["authorization"] == "Bearer a-token-for-tests-only"


def test_proxies_of_the_environment_are_not_used(
    kind: Any, scheduler: RunningScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat(scheduler.url)
    with standing_in(lambda _: (200, {})) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://{proxy.address}")
        with kind(scheduler.url, token=None) as client:
            client.place()
    assert not proxy.requests


# Runs


@contextmanager
def deaf_listener() -> Iterator[str]:
    """An address whose connections are never made: its queue is full, as of a dead machine."""
    with socket.socket() as listener, ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def ran_elsewhere(kind: Any, scheduler: RunningScheduler, w2: StandIn) -> None:
    """`run_on` ends on w2 within a second, and leaves no lease behind."""
    with kind(scheduler.url, token=scheduler.token) as client:
        start = time.monotonic()
        outcome = client.run_on(["true"])
        assert time.monotonic() - start < 1.0
    assert isinstance(outcome, Outcome)
    assert (outcome.worker_id, outcome.exit_code) == ("w2", 0)
    assert w2.lines == ["POST /tasks", f"GET /tasks/{outcome.task_id}/log"]
    assert leases(scheduler) == 0


def test_a_worker_where_nobody_listens_is_replaced_within_a_second(
    kind: Any, scheduler: RunningScheduler
) -> None:
    with two_workers(scheduler, f"127.0.0.1:{free_port()}") as (_, w2):
        ran_elsewhere(kind, scheduler, w2)


def test_a_worker_that_takes_no_connection_is_replaced_within_a_second(
    kind: Any, scheduler: RunningScheduler
) -> None:
    with deaf_listener() as address, two_workers(scheduler, address) as (_, w2):
        ran_elsewhere(kind, scheduler, w2)


@pytest.mark.parametrize(
    "address", ["not an address", "http://", "127.0.0.1:99999", "gopher://h", "[::1", "h:1:2"]
)
def test_a_worker_with_a_nonsense_address_is_replaced(
    address: str, kind: Any, scheduler: RunningScheduler
) -> None:
    with two_workers(scheduler, address) as (_, w2):
        ran_elsewhere(kind, scheduler, w2)


@pytest.mark.parametrize(
    "answer",
    [
        error("slots_full", 429),
        error("draining", 503),
        error("bad_ticket", 403),
        error("no_route", 404),
        (200, b"<html>a web server that has got the port since</html>"),
        (404, b"<html>no such page</html>"),
    ],
)
def test_a_worker_that_refuses_is_replaced_within_a_second(
    answer: Answer, kind: Any, scheduler: RunningScheduler
) -> None:
    with two_workers(scheduler, lambda _: answer) as (w1, w2):
        ran_elsewhere(kind, scheduler, w2)
    assert w1.lines == ["POST /tasks"]


def test_a_start_whose_answer_is_lost_is_asked_for_and_not_run_elsewhere(
    kind: Any, scheduler: RunningScheduler
) -> None:
    def loses_the_answer(request: Recorded) -> Answer:
        if request.method == "POST":
            return None
        return 200, ended(w1.requests[0], stdout_bytes=0, exit_code=4)

    client = kind(scheduler.url, token=scheduler.token)
    with two_workers(scheduler, loses_the_answer) as (w1, w2), client:
        outcome = client.run_on(["true"], task_id="t")
    assert (outcome.worker_id, outcome.exit_code) == ("w1", 4)
    assert w1.lines == ["POST /tasks", "GET /tasks/t"]
    assert not w2.requests


def stoppable(request: Recorded, stopped: threading.Event, waiting: threading.Event) -> Answer:
    """A worker whose task runs until it is stopped."""
    answer = {
        "task_id": "t",
        "fence": int(request.target.partition("fence=")[2].partition("&")[0] or 0),
        "worker_id": "w1",
        "state": "running",
        "started_at": 1.0,
    }
    if request.method == "POST":
        return 202, answer | {"fence": request.body["fence"]}
    if request.method == "DELETE":
        stopped.set()
        return 200, answer | {"state": "ended", "cause": "stopped", "ended_at": 2.0}
    waiting.set()
    stopped.wait(PATIENCE_S)
    return None


def test_ctrl_c_stops_the_command_and_releases_the_lease(scheduler: RunningScheduler) -> None:
    stopped, waiting = threading.Event(), threading.Event()

    def interrupt() -> None:
        assert waiting.wait(PATIENCE_S)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with two_workers(scheduler, lambda one: stoppable(one, stopped, waiting)) as (w1, _):
        threading.Thread(target=interrupt, daemon=True).start()
        client = Client(scheduler.url, token=scheduler.token)
        with client, pytest.raises(KeyboardInterrupt):
            client.run_on(["sleep", "1000"], task_id="t")
        assert w1.lines[-1] == "DELETE /tasks/t"
        assert leases(scheduler) == 0


def test_a_cancelled_task_stops_the_command_and_releases_the_lease(
    scheduler: RunningScheduler,
) -> None:
    stopped, waiting = threading.Event(), threading.Event()

    async def main() -> None:
        async with AsyncClient(scheduler.url, token=scheduler.token) as client:
            run = asyncio.create_task(client.run_on(["sleep", "1000"], task_id="t"))
            assert await asyncio.to_thread(waiting.wait, PATIENCE_S)
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run

    with two_workers(scheduler, lambda one: stoppable(one, stopped, waiting)) as (w1, _):
        asyncio.run(main())
        assert w1.lines[-1] == "DELETE /tasks/t"
        assert leases(scheduler) == 0


def test_many_threads_share_a_client(scheduler: RunningScheduler) -> None:
    with two_workers(scheduler, runs_at_once):
        client = Client(scheduler.url, token=scheduler.token)
        with client, ThreadPoolExecutor(16) as pool:
            outcomes = list(
                pool.map(lambda _: client.run_on(["true"], timeout=PATIENCE_S), range(100))
            )
        assert {outcome.exit_code for outcome in outcomes} == {0}
        assert len({outcome.task_id for outcome in outcomes}) == 100
        assert leases(scheduler) == 0


def test_many_tasks_share_an_async_client(scheduler: RunningScheduler) -> None:
    async def main() -> list[Outcome]:
        async with AsyncClient(scheduler.url, token=scheduler.token) as client:
            runs = (client.run_on(["true"], timeout=PATIENCE_S) for _ in range(50))
            return await asyncio.gather(*runs)

    with two_workers(scheduler, runs_at_once):
        outcomes = asyncio.run(main())
        assert {outcome.exit_code for outcome in outcomes} == {0}
        assert leases(scheduler) == 0


# What it costs to import


def test_an_idle_connection_is_closed_by_the_client_before_a_server_does_it() -> None:
    """And not long before: who asks every few seconds should not connect anew each time."""
    servers_s = min(listener.KEEP_ALIVE_S, settings.Patience().keep_alive_s)
    assert servers_s / 2 < session.KEEPALIVE_S < servers_s - 1


@pytest.mark.parametrize(
    ("statement", "not_imported"),
    [
        ("import dtask", {"httpx", "msgspec", "asyncio", "dtask.client"}),
        ("from dtask import Placement, Worker", {"httpx", "asyncio"}),
        ("from dtask import Client", {"asyncio", "anyio", "starlette", "uvicorn"}),
    ],
)
def test_an_import_brings_no_more_than_it_needs(statement: str, not_imported: set[str]) -> None:
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    found = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, env=environment
    )
    assert not not_imported & set(found.stdout.decode().split())
