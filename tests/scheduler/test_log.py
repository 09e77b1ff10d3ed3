"""One line for each change of a worker's standing, none for a request."""

import json

import httpx
import pytest

import servers


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
    assert len(lines) == len(changes) + 2  # started, stopped


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
    assert [record.message for record in caplog.records if record.exc_info] == [
        "a request failed; this is a bug in dtask"
    ]
