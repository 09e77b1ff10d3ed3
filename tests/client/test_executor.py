"""Functions on the fleet, behind the interface of concurrent.futures."""

import concurrent.futures
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from client.fleet import Fleet, running_fleet
from dtask import Client, Executor, InvalidRequest, NotFound, TaskFailed, Unavailable
from dtask.client import packing
from servers import PATIENCE_S


@pytest.fixture(name="client")
def a_client(fleet: Fleet) -> Iterator[Client]:
    with Client(fleet.url, token=fleet.token) as client:
        yield client


@pytest.fixture(name="executor")
def an_executor(client: Client) -> Iterator[Executor]:
    executor = Executor(client, tags="cpu")
    yield executor
    executor.shutdown(cancel_futures=True)


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def is_gone(path: Path) -> bool:
    return not Path(f"/proc/{path.read_text()}").exists()


# Functions that are made in a test travel by value: a worker can't import the tests' modules.


def sleeper(path: Path) -> Callable[[], None]:
    """A call that tells where it runs, and sleeps."""

    def sleep() -> None:
        beside = path.with_suffix(".new")
        beside.write_text(str(os.getpid()))
        beside.rename(path)
        time.sleep(600)

    return sleep


def test_a_call_returns_what_the_function_returns(executor: Executor) -> None:
    factor = 3
    future = executor.submit(lambda x, *, y: x * factor + y, 2, y=1)
    assert future.result(PATIENCE_S) == 7
    assert future.done()
    assert not future.running()
    assert executor.submit(os.getpid).result(PATIENCE_S) != os.getpid()


def test_an_exception_comes_back_with_its_traceback(executor: Executor) -> None:
    def divide(x: int) -> float:
        return 1 / x

    with pytest.raises(ZeroDivisionError, match="division by zero") as caught:
        executor.submit(divide, 0).result(PATIENCE_S)
    told = str(caught.value.__cause__)
    assert "in divide" in told
    assert "return 1 / x" in told
    assert "call.py" not in told


def test_an_exception_that_can_not_travel_is_told_in_words(executor: Executor) -> None:
    class OddError(Exception):
        def __init__(self, code: int, *, why: str) -> None:
            super().__init__(f"{code}: {why}")

    def fail() -> None:
        raise OddError(7, why="it is odd")

    with pytest.raises(RuntimeError, match=r"OddError: 7: it is odd") as caught:
        executor.submit(fail).result(PATIENCE_S)
    assert "raise OddError" in str(caught.value.__cause__)


def test_an_exception_and_a_result_of_a_class_of_the_caller_come_back_as_such(
    executor: Executor,
) -> None:
    class OwnError(Exception):
        pass

    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

    def fail() -> None:
        raise OwnError("mine")

    with pytest.raises(OwnError, match="mine"):
        executor.submit(fail).result(PATIENCE_S)
    found = executor.submit(Point, 4).result(PATIENCE_S)
    assert isinstance(found, Point)
    assert found.x == 4


@pytest.mark.parametrize("function", [sys.exit, lambda: os.kill(os.getpid(), signal.SIGKILL)])
def test_whatever_ends_a_call_ends_its_future(executor: Executor, function: Any) -> None:
    with pytest.raises((SystemExit, TaskFailed)):
        executor.submit(function).result(PATIENCE_S)


def test_a_call_that_leaves_nothing_is_told_with_its_last_words(executor: Executor) -> None:
    def vanish() -> None:
        os.write(2, b"last words\n")
        os._exit(7)

    with pytest.raises(TaskFailed, match=r"failed with exit code 7\.") as caught:
        executor.submit(vanish).result(PATIENCE_S)
    assert caught.value.__notes__ == ["It wrote to stderr:\nlast words"]


def test_a_result_that_is_too_large_is_an_error_that_says_so(executor: Executor) -> None:
    with pytest.raises(
        InvalidRequest, match=r"takes 1,100,\d+ bytes .* at most 1,048,576"
    ) as caught:
        executor.submit(bytes, 1_100_000).result(PATIENCE_S)
    assert caught.value.code == "too_large"
    assert len(executor.submit(bytes, 1_000_000).result(PATIENCE_S)) == 1_000_000


def test_what_can_not_be_pickled_is_refused_at_once(executor: Executor) -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        executor.submit(print, threading.Lock())


def test_large_functions_and_arguments_travel_as_files(executor: Executor) -> None:
    large = os.urandom(2 * packing.TEXT_BYTES_MAX)
    assert executor.submit(len, large).result(PATIENCE_S) == len(large)
    assert executor.submit(lambda: len(large)).result(PATIENCE_S) == len(large)
    both = executor.map(lambda x: len(large) + len(x), [b"", large])
    assert list(both) == [len(large), 2 * len(large)]


def test_map_keeps_the_order_and_makes_one_array(executor: Executor, client: Client) -> None:
    before = client.jobs(limit=1)[0].job_id
    assert list(executor.map(lambda x, y: x * y, range(12), range(1, 100))) == [
        x * (x + 1) for x in range(12)
    ]
    (job,) = (job for job in client.jobs(limit=10) if job.job_id > before)
    assert job.name == "test_map_keeps_the_order_and_makes_one_array.<locals>.<lambda> and 11 more"
    (task,) = client.job(job.job_id).tasks.values()
    assert task.counts == {"succeeded": 12}


def test_map_in_chunks_makes_fewer_tasks(executor: Executor, client: Client) -> None:
    assert list(executor.map(lambda x: x + 1, range(7), chunksize=3)) == list(range(1, 8))
    (task,) = client.job(client.jobs(limit=1)[0].job_id).tasks.values()
    assert task.counts == {"succeeded": 3}
    assert list(executor.map(abs, [])) == []
    with pytest.raises(ValueError, match="chunksize"):
        executor.map(abs, [1], chunksize=0)


def test_the_first_failure_of_a_map_ends_it(executor: Executor, tmp_path: Path) -> None:
    sleep = sleeper(tmp_path / "pid")

    def work(x: int) -> int:
        if x == 1:
            while not (tmp_path / "pid").exists():
                time.sleep(0.01)
            raise ValueError(x)
        if x == 2:
            sleep()
        return x

    results = executor.map(work, range(3))
    assert next(results) == 0
    with pytest.raises(ValueError, match="1"):
        next(results)
    wait_until(lambda: is_gone(tmp_path / "pid"))


def test_a_map_that_takes_too_long_is_cancelled(executor: Executor) -> None:
    results = executor.map(time.sleep, [600], timeout=0.2)
    with pytest.raises(TimeoutError):
        next(results)


def test_many_calls_go_out_together(executor: Executor, client: Client) -> None:
    before = client.jobs(limit=1)[0].job_id
    futures = [executor.submit(pow, x, 2) for x in range(60)]
    done, left = concurrent.futures.wait(futures, PATIENCE_S)
    assert not left
    assert {future.result() for future in done} == {x * x for x in range(60)}
    assert len([job for job in client.jobs(limit=70) if job.job_id > before]) < 20


def test_results_come_as_they_are_completed(executor: Executor) -> None:
    slow = executor.submit(time.sleep, 600)
    fast = executor.submit(abs, -1)
    assert next(concurrent.futures.as_completed([slow, fast], PATIENCE_S)) is fast
    assert slow.cancel()


def test_a_call_that_runs_can_be_cancelled(executor: Executor, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    future = executor.submit(sleeper(pid))
    wait_until(lambda: future.running() and pid.exists())
    assert future.cancel()
    assert future.cancel()
    assert future.cancelled()
    assert not future.running()
    with pytest.raises(CancelledError):
        future.result()
    wait_until(lambda: is_gone(pid))


def test_a_call_that_has_ended_can_not_be_cancelled(executor: Executor) -> None:
    future = executor.submit(abs, -1)
    assert future.result(PATIENCE_S) == 1
    assert not future.cancel()


def test_a_call_that_somebody_else_cancels_is_cancelled(executor: Executor, client: Client) -> None:
    future = executor.submit(time.sleep, 600)
    wait_until(future.running)
    client.cancel(client.jobs(limit=1)[0].job_id)
    with pytest.raises(CancelledError):
        future.result(PATIENCE_S)


def test_settings_are_those_of_every_call(client: Client) -> None:
    with Executor(client, retry={"max": 1, "backoff_s": 0.01}, env={"WORD": "a"}, name="n") as pool:

        def second_time() -> str:
            assert os.environ["DTASK_NUMBER"] == "2", "not yet"
            return os.environ["WORD"]

        assert pool.submit(second_time).result(PATIENCE_S) == "a"
        assert client.jobs(limit=1)[0].name == "n"
    with pytest.raises(InvalidRequest, match="stdin: an Executor has no such setting"):
        Executor(client, stdin=b"")  # type: ignore[call-arg, unused-ignore]
    with Executor(client, timeout_s=0.3) as pool, pytest.raises(TaskFailed, match="timeout"):
        pool.submit(time.sleep, 600).result(PATIENCE_S)


def test_what_the_scheduler_refuses_ends_the_calls(client: Client) -> None:
    with Executor(client, queue="no-such-queue") as pool, pytest.raises(NotFound):
        pool.submit(abs, -1).result(PATIENCE_S)


def test_a_python_that_is_not_there_is_told(client: Client) -> None:
    with (
        Executor(client, python="/nowhere/python") as pool,
        pytest.raises(TaskFailed, match=r"start_failed.*/nowhere/python"),
    ):
        pool.submit(abs, -1).result(PATIENCE_S)


# Ending


def waiter(gate: Path) -> Callable[[int], int]:
    """A call that waits until a file is there."""

    def wait(x: int) -> int:
        while not gate.exists():
            time.sleep(0.02)
        return x

    return wait


def test_an_executor_that_was_shut_down_takes_no_calls(client: Client) -> None:
    executor = Executor(client)
    future = executor.submit(abs, -1)
    executor.shutdown()
    assert future.done()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, -1)
    executor.shutdown()
    assert client.stats().attached == 1  # a client that was given is not closed


def test_a_shutdown_may_cancel_what_has_not_ended(client: Client, tmp_path: Path) -> None:
    executor = Executor(client)
    pid = tmp_path / "pid"
    running = executor.submit(sleeper(pid))
    wait_until(lambda: running.running() and pid.exists())
    waiting = [executor.submit(time.sleep, 600) for _ in range(20)]
    executor.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in [running, *waiting])
    wait_until(lambda: is_gone(pid))


def test_an_executor_that_is_forgotten_leaves_no_threads(client: Client) -> None:
    executor = Executor(client)
    assert executor.submit(abs, -1).result(PATIENCE_S) == 1
    threads = executor._dispatch._threads
    del executor
    gc.collect()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_a_scheduler_that_never_was_ends_the_calls() -> None:
    with Executor(Client("http://127.0.0.1:9", token=None)) as pool, pytest.raises(Unavailable):
        pool.submit(abs, -1).result(PATIENCE_S)


@pytest.mark.e2e
def test_calls_outlast_the_kill_of_the_scheduler_and_end_when_it_stays_away(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    wait_for_gate = waiter(gate)
    with (
        running_fleet(tmp_path) as fleet,
        Client(fleet.url, token=fleet.token, patience_s=5.0) as client,
        Executor(client) as executor,
    ):
        futures = [executor.submit(wait_for_gate, x) for x in range(3)]
        mapped = executor.map(wait_for_gate, range(10, 12))
        wait_until(lambda: any(future.running() for future in futures))
        fleet.kill()
        fleet.start()
        late = executor.submit(abs, -7)
        gate.touch()
        assert [future.result(PATIENCE_S) for future in futures] == [0, 1, 2]
        assert list(mapped) == [10, 11]
        assert late.result(PATIENCE_S) == 7

        gate.unlink()
        futures = [executor.submit(wait_for_gate, x) for x in range(3)]
        wait_until(lambda: any(future.running() for future in futures))
        fleet.kill()
        for future in futures:
            with pytest.raises(Unavailable):
                future.result(PATIENCE_S)
        gate.touch()
        fleet.start()


def test_calls_of_a_job_that_is_kept_no_longer_end(tmp_path: Path) -> None:
    """The event of their end was not seen, and the job is forgotten when it is looked for."""
    with (
        running_fleet(tmp_path) as fleet,
        Client(fleet.url, token=fleet.token) as client,
        Executor(client) as executor,
    ):
        future = executor.submit(waiter(tmp_path / "gate"), 1)
        wait_until(future.running)
        fleet.kill()
        for path in tmp_path.rglob("dtask.db*"):
            path.unlink()
        fleet.start()
        with pytest.raises(NotFound):
            future.result(PATIENCE_S)
        (tmp_path / "gate").touch()
