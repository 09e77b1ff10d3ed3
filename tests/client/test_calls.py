"""Requests as bytes, and answers of all kinds as results or errors."""

import json

import pytest

from client.playing import PAGE, placement, reply, task
from dtask.client import calls
from dtask.client.acts import Foreign, Lost, Reply
from dtask.client.calls import Stream
from dtask.errors import Busy, InvalidRequest
from dtask.wire.codec import Body
from dtask.wire.placement import BatchBody, ScheduleBody
from dtask.wire.tasks import TaskBody


def test_a_question_is_what_the_scheduler_reads() -> None:
    asked = calls.question(
        {
            "required_tags": ("gpu", "cuda>=12.0"),
            "preferred_tags": ["zone=eu"],
            "exclude_workers": {"w9"},
            "strategy": "bin_pack",
            "ttl_s": 5,
        },
        made_id="made",
    )
    request = calls.schedule({**asked, "trusted": True}, excluded=["w1"])
    body = Body(ScheduleBody).decode(request.body or b"")
    assert body.task_id == "made"
    assert body.required_tags == ("gpu", "cuda>=12.0")
    assert body.preferred_tags == ("zone=eu",)
    assert body.exclude_workers == ("w9", "w1")
    assert (body.strategy, body.ttl_s, body.trusted) == ("bin_pack", 5.0, True)


def test_an_empty_task_id_is_sent_as_it_is_and_not_replaced() -> None:
    assert calls.question({"task_id": ""}, made_id="made") == {"task_id": ""}


def test_batches_fit_the_limits_of_the_scheduler_in_tasks_and_in_bytes() -> None:
    small = [{"task_id": str(i)} for i in range(25_000)]
    large = [{"task_id": str(i), "required_tags": ["x" * 64] * 60} for i in range(2_500)]
    for asked, batches in ((small, 3), (large, 3)):
        found = list(calls.batches(asked, all_or_nothing=False))
        assert len(found) == batches
        bodies = [Body(BatchBody).decode(request.body or b"") for _, request in found]
        assert [len(body.tasks) for body in bodies] == [count for count, _ in found]
        names = [one.task_id for body in bodies for one in body.tasks]
        assert names == [one["task_id"] for one in asked]
        assert all(len(request.body or b"") <= 4 * 1024 * 1024 for _, request in found)


def test_a_start_is_what_the_worker_reads_and_shows_the_ticket() -> None:
    fields = calls.task_fields(("sleep", 1), {"A": "b"}, 2.5)  # type: ignore[arg-type]
    request = calls.start(placement(), fields)
    body = Body(TaskBody).decode(request.body or b"")
    assert (body.task_id, body.fence, body.command) == ("t", 7, ("sleep", "1"))
    assert (body.env, body.timeout_s) == ({"A": "b"}, 2.5)
    assert request.ticket == "ticket-7"


def test_a_command_given_as_one_text_is_refused_with_what_would_be_right() -> None:
    with pytest.raises(InvalidRequest, match="list of words") as caught:
        calls.task_fields("echo hi", None, None)
    assert caught.value.facts == {"field": "command"}


def test_addresses_of_workers_may_be_urls() -> None:
    assert calls.worker_url("h:8081") == "http://h:8081"
    assert calls.worker_url("[::1]:8081") == "http://[::1]:8081"
    assert calls.worker_url("https://proxy/w1/") == "https://proxy/w1"


def test_reads_and_stops_name_the_fence_and_show_the_ticket() -> None:
    stream: Stream = "stdout"
    requests = [
        calls.look(placement()),
        calls.look(placement(), wait_s=30.0),
        calls.stop(placement()),
        calls.log(placement(), stream, limit=10),
    ]
    assert [f"{one.method} {one.target}" for one in requests] == [
        "GET /api/v1/tasks/t?fence=7",
        "GET /api/v1/tasks/t?fence=7&wait_s=30",
        "DELETE /api/v1/tasks/t?fence=7",
        "GET /api/v1/tasks/t/log?fence=7&stream=stdout&limit=10",
    ]
    assert all(one.ticket == "ticket-7" for one in requests)


def test_an_id_of_dots_stays_one_part_of_the_path() -> None:
    assert calls.release("..", None).target == "/api/v1/schedule/%2E%2E"


def test_errors_are_rebuilt_with_their_code_and_facts() -> None:
    body = {"error": "All slots are taken.", "code": "slots_full", "max_tasks": 4}
    with pytest.raises(Busy, match="All slots are taken") as caught:
        calls.check(reply(body, 429))
    assert (caught.value.code, caught.value.facts) == ("slots_full", {"max_tasks": 4})


@pytest.mark.parametrize(
    "answer",
    [
        PAGE,
        Reply(status=404, body=PAGE.body),
        Reply(status=200, body=b""),
        Reply(status=200, body=b"\xff\xfe"),
        Reply(status=200, body=b"[" * 100_000),
        Reply(status=302, body=b""),
        reply({"error": "no", "code": "a_code_of_somebody_else"}, 400),
        reply(["not", "an", "object"]),
    ],
)
def test_what_is_not_dtasks_is_foreign(answer: Reply) -> None:
    with pytest.raises(Foreign, match="is this address a dtask process"):
        calls.read_task(placement(), answer)
    with pytest.raises(Foreign):
        calls.read_placement("t", answer)


def test_a_foreign_server_error_proves_nothing() -> None:
    for read in (calls.check, calls.check_sound, calls.read_bytes):
        with pytest.raises(Lost):
            read(Reply(status=504, body=b"Gateway timeout"))


def test_an_answer_about_another_task_or_fence_is_not_taken_for_ours() -> None:
    assert calls.read_task(placement(), task("running")).state == "running"
    other = json.loads(task("running").body)
    for changed in ({**other, "fence": 8}, {**other, "task_id": "u"}):
        with pytest.raises(Foreign):
            calls.read_task(placement(), reply(changed))


@pytest.mark.parametrize("tag", ["\udc80", object()])
def test_what_can_not_be_sent_is_refused_in_a_sentence(tag: str) -> None:
    with pytest.raises(InvalidRequest, match="can't be sent as JSON"):
        calls.schedule(calls.question({"required_tags": [tag]}, made_id="made"))
