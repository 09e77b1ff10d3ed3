"""One line for each change, with the ids of what it is about; none for placement or a look."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

import servers
from dtask.scheduler import job_lines
from dtask.scheduler.api import refusals
from dtask.wire.frames import StartedFrame
from scheduler import peer


@pytest.mark.e2e
def test_what_happens_to_a_worker_is_in_the_log_and_requests_are_not() -> None:
    arguments = ["--log-format", "json", "--suspect-after", "0.2", "--offline-after", "0.4"]
    with servers.scheduler_process(*arguments, "--forget-after", "0.2") as running:
        servers.beat(running.url, "w1", address="10.0.0.1:1", incarnation="one")
        servers.beat(running.url, "w1", address="10.0.0.1:1", incarnation="two")
        httpx.post(
            f"{running.url}/api/v1/workers/w1/drain",
            headers=servers.bearer(running.token),
            verify=False,
        )
        while httpx.get(f"{running.url}/api/v1/workers", verify=False).json():
            pass
        running.stop()
        lines = [json.loads(line) for line in running.log.read_text().splitlines()]
    changes = [line for line in lines if "change" in line]
    assert [line["message"] for line in lines if line not in changes] == [
        "scheduler started",
        "worker drained by a request",
        "scheduler stopped",
    ]
    assert [line["change"] for line in changes] == [
        "joined",
        "renewed",
        "draining",
        "suspect",
        "offline",
        "forgotten",
    ]
    assert {line["worker_id"] for line in changes} == {"w1"}
    assert {line["address"] for line in changes} == {"10.0.0.1:1"}
    assert [line["level"] for line in changes].count("warning") == 2


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> "Lines":
    """All that the schedulers of a test write."""
    caplog.set_level(logging.INFO, "dtask.scheduler")
    return Lines(caplog)


class Lines:
    """Lines by their sentence."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    def of(self, sentence: str) -> list[dict[str, Any]]:
        """Their facts, in order."""
        return [
            vars(record)["facts"]
            for record in self._caplog.records
            if record.getMessage() == sentence
        ]

    def one(self, sentence: str) -> dict[str, Any]:
        """The facts of the only one."""
        (facts,) = self.of(sentence)
        return facts

    def await_one(self, sentence: str) -> None:
        """Wait until there is one."""
        deadline = time.monotonic() + servers.PATIENCE_S
        while not self.of(sentence):
            assert time.monotonic() < deadline, sentence


@contextmanager
def client(running: servers.RunningScheduler, **headers: str) -> Iterator[httpx.Client]:
    """One with the token."""
    with httpx.Client(
        base_url=running.url, headers=servers.bearer(running.token) | headers, verify=False
    ) as operator:
        yield operator


def test_each_change_of_a_job_by_a_request_is_a_line_with_the_id_of_that_request(
    lines: Lines,
) -> None:
    with servers.running_scheduler() as running, client(running) as operator:

        def ask(method: str, path: str, **more: Any) -> str:
            answer = operator.request(method, f"/api/v1{path}", **more)
            assert answer.is_success, answer.text
            return answer.headers["x-request-id"]

        body = {"name": "a name", "command": ["true"], "key": "k", "queue": "default"}
        ids = [
            ask("POST", "/jobs", json=body),
            ask("POST", "/jobs", json=body),
            ask("DELETE", "/jobs/1"),
            ask("POST", "/jobs/1/retry", json={}),
            ask("PUT", "/queues/night", json={"max_running": 3}),
        ]
    assert len(set(ids)) == len(ids)
    facts = {"job_id": 1, "name": "a name", "queue": "default", "tasks": 1}
    assert lines.one("job submitted") == facts | {"request_id": ids[0]}
    assert lines.one("job known by its key") == {"job_id": 1, "request_id": ids[1]}
    facts = {"job_id": 1, "request_id": ids[2], "attempts": 0}
    assert lines.one("job cancelled by a request") == facts
    assert lines.one("job ended") == {"job_id": 1, "state": "cancelled", "queue": "default"}
    facts = {"job_id": 1, "request_id": ids[3], "again": "unsuccessful", "tasks": 1}
    assert lines.one("job retried by a request") == facts
    facts = {"queue": "night", "request_id": ids[4], "max_running": 3, "weight": 1, "paused": False}
    assert lines.one("queue set by a request") == facts


def test_an_operator_s_word_on_a_worker_is_a_line_with_its_request(lines: Lines) -> None:
    with servers.running_scheduler() as running, client(running) as operator:
        servers.beat(running.url, "w1")
        for word in ("drain", "undrain"):
            answer = operator.post(f"/api/v1/workers/w1/{word}")
            assert lines.one(f"worker {word}ed by a request") == {
                "worker_id": "w1",
                "request_id": answer.headers["x-request-id"],
            }


def test_a_browser_that_signs_in_and_out_is_in_the_log(lines: Lines) -> None:
    with servers.running_scheduler() as running, client(running) as operator:
        code = operator.post("/api/v1/sign-in-codes").json()["code"]
        with httpx.Client(base_url=running.url, verify=False) as browser:
            browser.post("/api/v1/session", json={"code": code}).raise_for_status()
            browser.delete("/api/v1/session").raise_for_status()
            refused = browser.post("/api/v1/session", json={"code": code})
        assert refused.status_code == 403
    assert lines.one("browser signed in")["peer"] == "127.0.0.1"
    assert lines.one("browser signed out")["peer"] == "127.0.0.1"
    assert lines.one("request refused")["code"] == "wrong_code"


@pytest.mark.parametrize("sent", ["trace-4f/2=a", "a" * 128])
def test_a_request_s_own_id_is_taken(lines: Lines, sent: str) -> None:
    with servers.running_scheduler() as running, client(running, **{"x-request-id": sent}) as asker:
        answer = asker.post("/api/v1/jobs", json={"command": ["true"]})
        assert answer.headers["x-request-id"] == sent
        refused = asker.delete("/api/v1/jobs/2")
        assert (refused.status_code, refused.headers["x-request-id"]) == (404, sent)
    assert lines.one("job submitted")["request_id"] == sent


@pytest.mark.parametrize("sent", ["", "two words", "a" * 129, '"x"', "a\tb", "\xe9"])
def test_an_id_that_could_pass_for_more_than_an_id_is_replaced(lines: Lines, sent: str) -> None:
    with servers.running_scheduler() as running, client(running) as asker:
        headers = [("x-request-id", sent.encode("latin-1"))]
        answer = asker.post("/api/v1/jobs", json={"command": ["true"]}, headers=headers)
        made = answer.headers["x-request-id"]
    assert made not in ("", sent)
    assert made.isascii()
    assert lines.one("job submitted")["request_id"] == made


def test_what_changes_nothing_and_what_is_placed_has_no_id_and_no_line(lines: Lines) -> None:
    with servers.running_scheduler() as running, client(running) as operator:
        answers = [
            servers.beat(running.url, "w1"),
            operator.post("/api/v1/schedule", json={"task_id": "t", "required_tags": ["none"]}),
            operator.post("/api/v1/schedule", json={"task_id": "t"}),
            operator.delete("/api/v1/schedule/t"),
            operator.get("/api/v1/jobs"),
            operator.get("/api/v1/jobs/1"),
        ]
        assert [answer.status_code for answer in answers] == [200, 503, 200, 200, 200, 404]
        assert not any("x-request-id" in answer.headers for answer in answers)
        told = [vars(record).get("facts") for record in lines._caplog.records]
    assert [facts for facts in told if facts and facts.get("change") != "joined"] == []


def test_a_job_that_failed_is_told_with_the_first_task_that_did(lines: Lines) -> None:
    with servers.running_scheduler() as running, client(running) as operator:
        peer.beat(running, "w1")
        with peer.attached(running, "w1") as (worker, _):
            job_id = peer.submit(operator, "w1", array=2)
            fences = [worker.start().fence, worker.start().fence]
            worker.say(peer.ended(fences[1], 7, error="It broke."))
            worker.say(peer.ended(fences[0], 8))
            operator.get(f"/api/v1/jobs/{job_id}?wait_s=10").raise_for_status()
    assert lines.one("job ended") == {
        "job_id": job_id,
        "state": "failed",
        "queue": "default",
        "task": "main",
        "attempt": f"{job_id}/main[1]#1",
        "cause": "exit",
        "exit_code": 7,
        "worker_id": "w1",
        "error": "It broke.",
    }


def test_attempts_that_come_to_nothing_are_lines_about_their_workers(lines: Lines) -> None:
    with servers.running_scheduler() as running, client(running) as operator:
        peer.beat(running, "w1")
        with peer.attached(running, "w1") as (worker, _):
            job_id = peer.submit(operator, "w1", crash_limit=2)
            worker.say(peer.ended(worker.start().fence, None, started_at=None, cause="returned"))
            worker.say(StartedFrame(worker.start().fence, 1_000.0))
            worker.until_heard()
        with peer.attached(running, "w1") as (worker, _):  # and tells of nothing that it holds
            worker.say(StartedFrame(worker.start().fence, 1_000.0))
            worker.until_heard()
        with peer.attached(running, "w1"):
            operator.get(f"/api/v1/jobs/{job_id}?wait_s=10").raise_for_status()
    about = {"job_id": job_id, "task": "main", "worker_id": "w1"}
    attempt = f"{job_id}/main#"
    assert lines.one("attempt returned by its worker") == about | {
        "attempt": f"{attempt}1",
        "cause": "returned",
        "state": "queued",
    }
    assert lines.of("attempt lost with its worker") == [
        about | {"attempt": f"{attempt}2", "cause": "lost", "state": "queued"},
        about
        | {
            "attempt": f"{attempt}3",
            "cause": "lost",
            "state": "failed",
            "error": "Its worker was lost 2 times while it ran.",
        },
    ]
    assert lines.one("job ended")["cause"] == "lost"


def test_an_attempt_that_its_worker_could_not_serve_is_a_line(lines: Lines) -> None:
    with servers.running_scheduler() as running, client(running) as operator:
        peer.beat(running, "w1")
        with peer.attached(running, "w1") as (worker, _):
            peer.submit(operator, "w1")
            worker.say(
                peer.ended(
                    worker.start().fence,
                    None,
                    started_at=None,
                    cause="worker_failed",
                    error="The spool is full.",
                )
            )
            worker.until_heard()
    facts = lines.one("attempt failed by its worker")
    assert (facts["state"], facts["error"]) == ("pending", "The spool is full.")


def test_a_lost_fleet_does_not_flood_the_log(lines: Lines) -> None:
    count = 3 * job_lines.LINES_MAX
    with servers.running_scheduler() as running, client(running) as operator:
        peer.beat(running, "w1", slots=count)
        with peer.attached(running, "w1") as (worker, _):
            peer.submit(operator, "w1", array=count)
            worker.say(*(StartedFrame(worker.start().fence, 1_000.0) for _ in range(count)))
            worker.until_heard()
        with peer.attached(running, "w1"):
            lines.await_one("more attempts came to nothing")
    assert len(lines.of("attempt lost with its worker")) == job_lines.LINES_MAX
    more = lines.one("more attempts came to nothing")
    assert more == {"lines": count - job_lines.LINES_MAX}


def test_wrong_credentials_are_told_a_few_times_a_second(lines: Lines) -> None:
    count = 2 * refusals.LINES_MAX
    with (
        servers.running_scheduler() as running,
        httpx.Client(
            base_url=running.url, headers=servers.bearer("not-the-token-of-it"), verify=False
        ) as stranger,
    ):
        answers = [
            stranger.post("/api/v1/schedule", json={"task_id": "t"}),
            *(stranger.get("/api/v1/jobs") for _ in range(count)),
        ]
        assert {answer.status_code for answer in answers} == {401}
        lines.await_one("more requests were refused")
    told = lines.of("request refused")
    assert told[0] == {
        "request_id": answers[0].headers["x-request-id"],
        "method": "POST",
        "path": "/api/v1/schedule",
        "peer": "127.0.0.1",
        "code": "wrong_token",
        "error": answers[0].json()["error"],
    }
    assert len(told) < len(answers)
    untold = sum(facts["lines"] for facts in lines.of("more requests were refused"))
    assert len(told) + untold >= len(answers)


def test_a_request_that_failed_with_the_store_is_told_of(lines: Lines, tmp_path: Path) -> None:
    with servers.running_scheduler(data=tmp_path) as running, client(running) as operator:
        store: Any = running.server._data.store
        store._writer.execute("PRAGMA max_page_count = 1")
        asked = {"command": ["true"], "env": {"TEXT": "x" * 30_000}}
        answer = operator.post("/api/v1/jobs", json=asked)
        assert answer.status_code == 503
    facts = lines.of("request refused")[0]
    assert facts["request_id"] == answer.headers["x-request-id"]
    assert (facts["method"], facts["path"]) == ("POST", "/api/v1/jobs")
    assert (facts["code"], facts["error"]) == ("store_failed", answer.json()["error"])
    assert lines.of("job submitted") == []


def test_a_worker_without_the_token_that_wants_a_channel_is_told_of(lines: Lines) -> None:
    with (
        servers.running_scheduler() as running,
        pytest.raises(Exception, match="401"),
        peer.opened(running, authorization="Bearer of-something-else-here"),
    ):
        pass
    facts = lines.one("request refused")
    assert (facts["method"], facts["code"]) == ("GET", "wrong_token")


def test_a_hello_that_is_refused_is_told_of(lines: Lines) -> None:
    with servers.running_scheduler() as running:
        servers.beat(running.url, "w1", incarnation="i1")  # without the token
        with pytest.raises(ConnectionClosed), peer.attached(running, "w1"):
            pass
        lines.await_one("channel refused")
    assert lines.one("channel refused")["code"] == "untrusted"


def test_a_bug_is_told_to_the_log_and_not_to_the_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with servers.running_scheduler() as running:
        servers.beat(running.url)
        running.cluster._fleet.workers["w1"].leases = None  # type: ignore[assignment]
        answer = httpx.post(
            f"{running.url}/api/v1/schedule", json={"task_id": "secret-name"}, verify=False
        )
        assert (answer.status_code, answer.json()["code"]) == (500, "internal")
        assert "Traceback" not in answer.text
        assert "NoneType" not in answer.text
        assert httpx.get(f"{running.url}/healthz", verify=False).status_code == 200
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.message == "a request failed; this is a bug in dtask"
    assert vars(record)["facts"]["request_id"] == answer.headers["x-request-id"]
