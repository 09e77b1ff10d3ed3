"""The flows between a client and its schedulers, without I/O."""

import json

import pytest

from client.playing import (
    FULL,
    LOST,
    NO_LEASE,
    PAGE,
    RELEASED,
    UNREACHED,
    Play,
    placed,
    placement,
    refusal,
    reply,
)
from dtask.client.acts import Reply
from dtask.client.results import Placement
from dtask.errors import InvalidRequest, NotFound, NoWorker, Unavailable

SCHEDULE = "s1 POST /schedule"
ASKED = {"task_id": "t"}


def row(worker_id: str) -> dict[str, object]:
    return {
        "worker_id": worker_id,
        "address": "h:1",
        "resource_tags": ["gpu"],
        "max_tasks": 4,
        "current_tasks": 1,
        "reported_tasks": 1,
        "available": 3,
        "load": 0.25,
        "status": "online",
        "last_heartbeat": 1.0,
        "trusted": True,
        "draining": False,
        "leases": 1,
        "incarnation": None,
        "metrics": {},
        "a_field_of_a_later_version": 1,
    }


# Placing


def test_place_returns_the_placement() -> None:
    play = Play()
    assert play.run(play.flows.place(ASKED), (SCHEDULE, placed())) == placement()
    assert play.calls[0].to_scheduler


def test_a_task_without_an_id_is_named_anew_each_time() -> None:
    play = Play()
    first, second = (play.flows.question({})["task_id"] for _ in range(2))
    assert len(first) == len(second) == 36
    assert first != second


def test_tags_may_be_given_in_their_text_form() -> None:
    asked = Play().flows.question(
        {"required_tags": "gpu, cuda>=12.0", "preferred_tags": ("a",), "exclude_workers": "w1"}
    )
    del asked["task_id"]
    assert asked == {
        "required_tags": ["gpu", "cuda>=12.0"],
        "preferred_tags": ["a"],
        "exclude_workers": ["w1"],
    }


def test_an_unknown_wish_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match=r"^tags: .*required_tags") as caught:
        Play().flows.question({"tags": ["gpu"]})  # type: ignore[typeddict-unknown-key, unused-ignore]
    assert caught.value.facts == {"field": "tags"}


def test_a_refusal_is_raised_with_its_reasons_when_no_time_was_given() -> None:
    play = Play()
    with pytest.raises(NoWorker) as caught:
        play.run(play.flows.place(ASKED), (SCHEDULE, FULL))
    assert caught.value.facts["reasons"] == {"full": 2}
    assert not play.pauses


def test_place_asks_again_until_there_is_a_place() -> None:
    play = Play()
    flow = play.flows.place(ASKED, deadline=play.now + 10)
    script = [(SCHEDULE, FULL)] * 3 + [(SCHEDULE, placed())]
    assert play.run(flow, *script) == placement()
    assert len(play.pauses) == 3


def test_place_asks_for_the_last_time_at_the_deadline() -> None:
    play = Play()
    missing = refusal("no_worker", 503, reasons={"missing_tag": {"gpu": 2}}, retry_after_s=30.0)
    flow = play.flows.place(ASKED, deadline=play.now + 10)
    with pytest.raises(NoWorker):
        play.run(flow, (SCHEDULE, missing), (SCHEDULE, missing))
    assert play.now == 1_010.0


def test_pauses_are_as_long_as_the_scheduler_says_and_up_to_half_longer() -> None:
    play = Play()
    away = refusal("no_worker", 503, reasons={"offline": 2}, retry_after_s=5.0)
    flow = play.flows.place(ASKED, deadline=play.now + 1_000)
    play.run(flow, *[(SCHEDULE, away)] * 20, (SCHEDULE, placed()))
    seconds = [pause.seconds for pause in play.pauses]
    assert all(5.0 <= one <= 7.5 for one in seconds)
    assert len(set(seconds)) == 20


def test_who_waits_for_a_slot_begins_with_short_pauses_that_a_freed_slot_cuts() -> None:
    play = Play()
    flow = play.flows.place(ASKED, deadline=play.now + 1_000)
    play.run(flow, *[(SCHEDULE, FULL)] * 8, (SCHEDULE, placed()))
    seconds = [pause.seconds for pause in play.pauses]
    assert 0.05 <= seconds[0] <= 0.075
    assert 0.1 <= seconds[1] <= 0.15
    assert all(1.0 <= one <= 1.5 for one in seconds[5:])
    assert all(pause.until_freed for pause in play.pauses)


def test_place_waits_for_a_scheduler_that_warms_up_and_stays_with_it() -> None:
    play = Play("http://s1", "http://s2")
    warming = refusal("warming_up", 503, retry_after_s=2.0, warming_up=True)
    flow = play.flows.place(ASKED, deadline=play.now + 10)
    play.run(flow, (SCHEDULE, warming), (SCHEDULE, placed()))
    assert play.pauses[0].seconds < 0.1


def test_place_waits_for_a_scheduler_that_is_restarted() -> None:
    play = Play()
    flow = play.flows.place(ASKED, deadline=play.now + 10)
    assert play.run(flow, *[(SCHEDULE, UNREACHED)] * 4, (SCHEDULE, placed())) == placement()


def test_an_error_that_waiting_does_not_mend_is_raised_at_once() -> None:
    play = Play()
    flow = play.flows.place(ASKED, deadline=play.now + 10)
    with pytest.raises(InvalidRequest):
        play.run(flow, (SCHEDULE, refusal("bad_requirement", 400, field="required_tags[0]")))


def test_something_else_than_a_scheduler_is_named_as_such() -> None:
    play = Play()
    with pytest.raises(InvalidRequest, match="is this address a dtask process"):
        play.run(play.flows.place(ASKED), (SCHEDULE, PAGE))


# Which scheduler


def test_the_next_scheduler_is_asked_when_one_does_not_answer_and_kept_from_then_on() -> None:
    play = Play("http://s1", "http://s2")
    play.run(play.flows.place(ASKED), (SCHEDULE, UNREACHED), ("s2 POST /schedule", placed()))
    play.run(play.flows.place(ASKED), ("s2 POST /schedule", placed()))
    assert not play.pauses


def test_a_refusal_is_an_answer_and_no_reason_to_ask_another_scheduler() -> None:
    play = Play("http://s1", "http://s2")
    for _ in range(2):
        with pytest.raises(NoWorker):
            play.run(play.flows.place(ASKED), (SCHEDULE, FULL))


def test_a_proxy_that_has_lost_the_scheduler_is_as_good_as_no_answer() -> None:
    play = Play("http://s1", "http://s2")
    gone = Reply(status=502, body=b"<html>Bad gateway</html>")
    play.run(play.flows.place(ASKED), (SCHEDULE, gone), ("s2 POST /schedule", placed()))


def test_three_rounds_are_made_with_growing_pauses_between_them() -> None:
    play = Play("http://s1", "http://s2")
    round_ = [(SCHEDULE, UNREACHED), ("s2 POST /schedule", LOST)]
    with pytest.raises(Unavailable, match="DTASK_SCHEDULER") as caught:
        play.run(play.flows.place(ASKED), *round_ * 3)
    assert caught.value.facts == {"schedulers": ["http://s1", "http://s2"]}
    assert len(play.pauses) == 2
    assert all(0 <= pause.seconds <= 0.4 for pause in play.pauses)


# Many


def test_many_are_placed_with_one_entry_each() -> None:
    play = Play()
    answers = [json.loads(placed().body), json.loads(FULL.body)]
    flow = play.flows.place_many(
        [{"task_id": "t"}, {"task_id": "u", "required_tags": "gpu"}], all_or_nothing=False
    )
    first, second = play.run(flow, (SCHEDULE, reply({"placements": answers})))
    assert first == placement()
    assert isinstance(second, NoWorker)
    assert second.facts["reasons"] == {"full": 2}
    assert play.body(0) == {"tasks": [{"task_id": "t"}, {"task_id": "u", "required_tags": ["gpu"]}]}


def batch_of(count: int) -> Reply:
    return reply({"placements": [json.loads(placed().body)] * count})


def test_more_than_a_batch_holds_are_split() -> None:
    play = Play()
    flow = play.flows.place_many([{"task_id": "t"}] * 10_001, all_or_nothing=False)
    found = play.run(flow, (SCHEDULE, batch_of(10_000)), (SCHEDULE, batch_of(1)))
    assert len(found) == 10_001
    assert [len(play.body(i)["tasks"]) for i in range(2)] == [10_000, 1]


def test_a_later_batch_that_fails_does_not_lose_the_placements_of_an_earlier_one() -> None:
    play = Play()
    flow = play.flows.place_many([{"task_id": "t"}] * 10_002, all_or_nothing=False)
    found = play.run(flow, (SCHEDULE, batch_of(10_000)), *[(SCHEDULE, UNREACHED)] * 3)
    assert all(isinstance(one, Placement) for one in found[:10_000])
    assert all(isinstance(one, Unavailable) for one in found[10_000:])
    assert len(found) == 10_002


def test_a_first_batch_that_fails_raises() -> None:
    play = Play()
    flow = play.flows.place_many([{"task_id": "t"}], all_or_nothing=False)
    with pytest.raises(Unavailable):
        play.run(flow, *[(SCHEDULE, UNREACHED)] * 3)


def test_all_or_nothing_is_never_split() -> None:
    play = Play()
    flow = play.flows.place_many([{"task_id": "t"}] * 10_001, all_or_nothing=True)
    with pytest.raises(InvalidRequest):
        play.run(flow, (SCHEDULE, refusal("malformed", 400, field="tasks")))
    assert play.body(0)["all_or_nothing"] is True


def test_no_tasks_need_no_request() -> None:
    play = Play()
    assert play.run(play.flows.place_many([], all_or_nothing=False)) == []


def test_an_answer_with_entries_missing_is_not_taken_for_placements() -> None:
    play = Play()
    flow = play.flows.place_many([{"task_id": "t"}] * 2, all_or_nothing=False)
    with pytest.raises(InvalidRequest):
        play.run(flow, (SCHEDULE, batch_of(1)))


# Releasing


def test_release_names_the_fence_of_the_placement_and_wakes_one_who_waits() -> None:
    play = Play()
    play.run(play.flows.release(placement(), None), ("s1 DELETE /schedule/t?fence=7", RELEASED))
    assert play.freed == 1


def test_release_quotes_the_id_of_a_task() -> None:
    play = Play()
    path = "s1 DELETE /schedule/a%2Fb%3Fc%20%2E%2E%2F%C3%A9"
    play.run(play.flows.release("a/b?c ../é", None), (path, RELEASED))


def test_release_of_what_is_not_held_is_an_error() -> None:
    play = Play()
    with pytest.raises(NotFound):
        play.run(play.flows.release("t", 7), ("s1 DELETE /schedule/t?fence=7", NO_LEASE))
    assert play.freed == 0


def test_release_that_finds_nothing_after_a_lost_answer_has_done_its_work() -> None:
    play = Play()
    path = "s1 DELETE /schedule/t?fence=7"
    play.run(play.flows.release("t", 7), (path, LOST), (path, NO_LEASE))


def test_release_that_finds_nothing_after_a_try_that_never_arrived_is_an_error() -> None:
    play = Play()
    path = "s1 DELETE /schedule/t?fence=7"
    with pytest.raises(NotFound):
        play.run(play.flows.release("t", 7), (path, UNREACHED), (path, NO_LEASE))


# Workers


def test_workers_are_read_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dtask.client.calls.PAGE_ROWS", 2)
    play = Play()
    found = play.run(
        play.flows.workers(tag="gpu,cuda>=12", status="online"),
        (
            "s1 GET /workers?tag=gpu%2Ccuda%3E%3D12&status=online&limit=2",
            reply([row("a"), row("b c")]),
        ),
        (
            "s1 GET /workers?tag=gpu%2Ccuda%3E%3D12&status=online&after=b+c&limit=2",
            reply([row("d")]),
        ),
    )
    assert [worker.worker_id for worker in found] == ["a", "b c", "d"]
    assert found[0].available == 3


def test_an_operators_word_is_sent_for_a_worker_by_its_quoted_id() -> None:
    play = Play()
    for drained, verb in ((True, "drain"), (False, "undrain")):
        flow = play.flows.drain("h/1:8081", drained=drained)
        worker = play.run(flow, (f"s1 POST /workers/h%2F1%3A8081/{verb}", reply(row("h/1:8081"))))
        assert worker.worker_id == "h/1:8081"
