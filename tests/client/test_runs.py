"""Runs on workers, without I/O: every way that a start, a wait and a stop can go."""

import pytest

from client.playing import (
    FULL,
    LOST,
    NO_LEASE,
    PAGE,
    RELEASED,
    UNKNOWN_TASK,
    UNREACHED,
    Line,
    Play,
    ended,
    placed,
    refusal,
    task,
)
from dtask.client import calls, runs
from dtask.client.acts import Flow, Reply
from dtask.client.results import Outcome
from dtask.errors import Conflict, InvalidRequest, NoWorker, Unavailable

SCHEDULE = "s1 POST /schedule"
START = "w1:1 POST /tasks"
LOOK = "w1:1 GET /tasks/t?fence=7"
WAIT = "w1:1 GET /tasks/t?fence=7&wait_s=30"
STOP = "w1:1 DELETE /tasks/t?fence=7"
RELEASE = "s1 DELETE /schedule/t?fence=7"

#: What a worker answers to the stop of a fence that it has never seen: it will never start.
NEVER = task("ended", cause="stopped", ended_at=6.0)

#: A start that gets lost as often as it is sent.
LOST_TWICE: list[Line] = [(START, LOST), (LOOK, UNKNOWN_TASK)] * 2

#: A run on the second worker, to the end.
ON_W2: list[Line] = [
    (SCHEDULE, placed("w2", 8)),
    ("w2:1 POST /tasks", task("running", worker_id="w2", fence=8)),
    ("w2:1 GET /tasks/t?fence=8&wait_s=30", ended(8, worker_id="w2")),
    ("s1 DELETE /schedule/t?fence=8", RELEASED),
]


def run_on(
    play: Play, *, deadline: float | None = None, output_bytes: int = 1_000
) -> Flow[Outcome]:
    return runs.run_on(
        play.flows,
        {"task_id": "t"},
        calls.task_fields(["true"], None, None),
        deadline=deadline,
        output_bytes=output_bytes,
    )


def excluded(play: Play) -> list[list[str]]:
    """Whom each question to the scheduler left out."""
    return [
        play.body(i).get("exclude_workers", [])
        for i, call in enumerate(play.calls)
        if call.request.target == "/api/v1/schedule"
    ]


# The straight way


def test_a_run_is_placed_started_waited_for_and_released() -> None:
    play = Play()
    outcome = play.run(
        run_on(play),
        (SCHEDULE, placed()),
        (START, task("running")),
        (WAIT, task("running")),
        (WAIT, task("stopping", exit_code=0)),
        (WAIT, ended()),
        (RELEASE, RELEASED),
    )
    assert outcome == Outcome(
        task_id="t",
        worker_id="w1",
        fence=7,
        exit_code=0,
        cause=None,
        error=None,
        started_at=5.0,
        ended_at=6.0,
        stdout=b"",
        stderr=b"",
        truncated=False,
    )
    assert outcome.ok
    assert play.freed == 1
    assert play.body(0) == {"task_id": "t", "trusted": True}


def test_only_calls_to_the_scheduler_may_carry_the_token() -> None:
    play = Play()
    play.run(run_on(play), (SCHEDULE, placed()), (START, ended()), (RELEASE, RELEASED))
    assert [call.to_scheduler for call in play.calls] == [True, False, True]
    assert [call.request.ticket for call in play.calls] == [None, "ticket-7", None]


def test_the_slot_is_released_before_the_output_is_read() -> None:
    play = Play()
    outcome = play.run(
        run_on(play, output_bytes=4),
        (SCHEDULE, placed()),
        (START, ended(stdout_bytes=10, stderr_bytes=2)),
        (RELEASE, RELEASED),
        ("w1:1 GET /tasks/t/log?fence=7&stream=stdout&limit=4", Reply(status=200, body=b"0123")),
        ("w1:1 GET /tasks/t/log?fence=7&stream=stderr&limit=2", Reply(status=200, body=b"no")),
    )
    assert (outcome.stdout, outcome.stderr, outcome.truncated) == (b"0123", b"no", True)


def test_a_command_that_could_not_be_started_is_an_outcome() -> None:
    play = Play()
    failed = ended(exit_code=None, cause="start_failed", error="There is no such file: tru.")
    outcome = play.run(run_on(play), (SCHEDULE, placed()), (START, failed), (RELEASE, RELEASED))
    assert (outcome.exit_code, outcome.cause) == (None, "start_failed")
    assert outcome.error == "There is no such file: tru."
    assert not outcome.ok


def test_a_release_that_fails_does_not_fail_the_run() -> None:
    for answer in (LOST, UNREACHED, NO_LEASE):
        play = Play()
        script: list[Line] = [(SCHEDULE, placed()), (START, ended()), (RELEASE, answer)]
        assert play.run(run_on(play), *script).ok
        assert not play.pauses
        assert play.freed == 1, "the worker's report may have come first"


def test_output_that_can_not_be_read_says_so_and_how_the_task_stands() -> None:
    play = Play()
    log = "w1:1 GET /tasks/t/log?fence=7&stream=stdout&limit=3"
    with pytest.raises(Unavailable, match="it ended, but its stdout can't be read"):
        play.run(
            run_on(play),
            (SCHEDULE, placed()),
            (START, ended(stdout_bytes=3)),
            (RELEASE, RELEASED),
            (log, UNKNOWN_TASK),
        )


# Elsewhere, because it was not started


@pytest.mark.parametrize(
    "answer",
    [
        UNREACHED,
        refusal("slots_full", 429),
        refusal("draining", 503),
        refusal("bad_ticket", 403),
        refusal("no_route", 404),
        PAGE,
        Reply(status=404, body=b"<html>no such page</html>"),
        Reply(status=301, body=b""),
    ],
)
def test_a_worker_that_did_not_start_it_is_replaced_by_another(
    answer: Reply | BaseException,
) -> None:
    play = Play()
    script: list[Line] = [(SCHEDULE, placed()), (START, answer), (RELEASE, RELEASED), *ON_W2]
    outcome = play.run(run_on(play), *script)
    assert (outcome.worker_id, outcome.fence) == ("w2", 8)
    assert excluded(play) == [[], ["w1"]]
    assert not play.pauses
    assert play.calls[1].connect_s <= 0.3


def test_who_is_refused_for_good_learns_what_was_tried() -> None:
    play = Play()
    nobody = refusal("no_worker", 503, reasons={"excluded": 1}, retry_after_s=30.0)
    with pytest.raises(NoWorker, match=r"Tried before: w1 \(nobody listens\)") as caught:
        play.run(
            run_on(play),
            (SCHEDULE, placed()),
            (START, UNREACHED),
            (RELEASE, RELEASED),
            (SCHEDULE, nobody),
        )
    assert caught.value.facts["tried"] == {"w1": "nobody listens"}
    assert caught.value.facts["reasons"] == {"excluded": 1}


def test_a_worker_that_was_full_is_asked_again_after_a_pause_if_there_is_no_other() -> None:
    play = Play()
    nobody = refusal("no_worker", 503, reasons={"excluded": 1}, retry_after_s=30.0)
    outcome = play.run(
        run_on(play, deadline=play.now + 10),
        (SCHEDULE, placed()),
        (START, refusal("slots_full", 429)),
        (RELEASE, RELEASED),
        (SCHEDULE, nobody),
        (SCHEDULE, placed()),
        (START, ended()),
        (RELEASE, RELEASED),
    )
    assert outcome.worker_id == "w1"
    assert excluded(play) == [[], ["w1"], []]
    assert [pause.seconds < 0.1 for pause in play.pauses] == [True]


def test_a_fleet_that_can_not_be_reached_is_not_tried_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runs, "SHUNNED_MAX", 4)
    play = Play()
    script: list[Line] = []
    for i in range(4):
        script += [
            (SCHEDULE, placed(f"w{i}", i)),
            (f"w{i}:1 POST /tasks", UNREACHED),
            (f"s1 DELETE /schedule/t?fence={i}", RELEASED),
        ]
    with pytest.raises(Unavailable, match=r"4 workers were tried .* w2 .*, and 1 more"):
        play.run(run_on(play), *script)


def test_a_request_that_no_worker_would_take_is_raised_after_its_lease_was_released() -> None:
    play = Play()
    with pytest.raises(InvalidRequest, match="This is malformed"):
        play.run(
            run_on(play),
            (SCHEDULE, placed()),
            (START, refusal("malformed", 400, field="env")),
            (STOP, NEVER),
            (RELEASE, RELEASED),
        )


def test_a_newer_placement_of_the_same_task_is_not_competed_with() -> None:
    play = Play()
    with pytest.raises(Conflict):
        play.run(
            run_on(play),
            (SCHEDULE, placed()),
            (START, refusal("stale_fence", 409)),
            (STOP, UNKNOWN_TASK),
            (RELEASE, NO_LEASE),
        )


# A start whose answer got lost


@pytest.mark.parametrize(
    "lost", [LOST, Reply(status=502, body=b"Bad gateway"), refusal("internal", 500)]
)
def test_after_a_lost_start_the_worker_is_asked_and_a_task_it_holds_is_waited_for(
    lost: Reply | BaseException,
) -> None:
    play = Play()
    script: list[Line] = [
        (SCHEDULE, placed()),
        (START, lost),
        (LOOK, task("running")),
        (WAIT, ended()),
        (RELEASE, RELEASED),
    ]
    assert play.run(run_on(play), *script).ok


def test_a_lost_start_that_the_worker_does_not_know_is_sent_once_more_to_the_same_worker() -> None:
    play = Play()
    outcome = play.run(
        run_on(play),
        (SCHEDULE, placed()),
        (START, LOST),
        (LOOK, UNKNOWN_TASK),
        (START, task("running")),
        (WAIT, ended()),
        (RELEASE, RELEASED),
    )
    assert outcome.ok
    assert play.calls[1].request == play.calls[3].request


@pytest.mark.parametrize(
    ("answer", "stopped"),
    [
        (refusal("slots_full", 429), NEVER),
        (UNREACHED, NEVER),
        (refusal("draining", 503), NEVER),
        (refusal("slots_full", 429), refusal("bad_ticket", 403)),
        (refusal("slots_full", 429), refusal("no_route", 404)),
        (refusal("slots_full", 429), PAGE),
    ],
)
def test_from_a_lost_start_the_way_to_another_worker_leads_through_a_stop(
    answer: Reply | BaseException, stopped: Reply
) -> None:
    play = Play()
    outcome = play.run(
        run_on(play),
        (SCHEDULE, placed()),
        (START, LOST),
        (LOOK, UNKNOWN_TASK),
        (START, answer),
        (STOP, stopped),
        (RELEASE, RELEASED),
        *ON_W2,
    )
    assert outcome.worker_id == "w2"


def test_a_start_that_is_lost_twice_is_stopped_before_it_goes_elsewhere() -> None:
    play = Play()
    outcome = play.run(
        run_on(play),
        (SCHEDULE, placed()),
        *LOST_TWICE,
        (STOP, task("stopping")),
        (WAIT, task("ended", cause="stopped", exit_code=-15, ended_at=6.0)),
        (RELEASE, RELEASED),
        *ON_W2,
    )
    assert outcome.worker_id == "w2"


def test_a_lost_start_that_turns_out_to_have_run_to_its_end_is_the_outcome() -> None:
    play = Play()
    outcome = play.run(
        run_on(play),
        (SCHEDULE, placed()),
        *LOST_TWICE,
        (STOP, ended(exit_code=3)),
        (RELEASE, RELEASED),
    )
    assert (outcome.worker_id, outcome.exit_code) == ("w1", 3)


def test_a_lost_start_that_the_worker_has_forgotten_is_unknown_and_goes_nowhere() -> None:
    play = Play()
    with pytest.raises(Unavailable, match="it ended, and the worker has forgotten how"):
        play.run(
            run_on(play),
            (SCHEDULE, placed()),
            *LOST_TWICE,
            (STOP, UNKNOWN_TASK),
            (STOP, UNKNOWN_TASK),
            (RELEASE, RELEASED),
        )


def test_a_worker_that_does_not_get_it_stopped_keeps_the_lease() -> None:
    play = Play()
    with pytest.raises(Unavailable, match="does not get it stopped"):
        play.run(
            run_on(play),
            (SCHEDULE, placed()),
            *LOST_TWICE,
            (STOP, task("stopping")),
            (WAIT, task("stopping")),
            (STOP, task("stopping")),
            ("w1:1 GET /tasks/t?fence=7&wait_s=2", task("stopping")),
        )
    assert play.freed == 0


def test_a_worker_that_is_silent_after_a_lost_start_is_unknown_and_keeps_the_lease() -> None:
    play = Play()
    with pytest.raises(Unavailable, match=r"not known.*not started elsewhere") as caught:
        play.run(
            run_on(play),
            (SCHEDULE, placed()),
            (START, LOST),
            (f"{LOOK}*", LOST),
            (STOP, LOST),
        )
    assert caught.value.facts == {"task_id": "t", "worker_id": "w1", "fence": 7}
    assert 30 <= sum(pause.seconds for pause in play.pauses) <= 32


# A wait that is disturbed


def test_a_wait_goes_on_after_lost_connections() -> None:
    play = Play()
    outcome = play.run(
        run_on(play),
        (SCHEDULE, placed()),
        (START, task("running")),
        (WAIT, LOST),
        (LOOK, UNREACHED),
        (LOOK, refusal("internal", 500)),
        (LOOK, refusal("slots_full", 429)),
        (LOOK, task("running")),
        (WAIT, ended()),
        (RELEASE, RELEASED),
    )
    assert outcome.ok
    assert len(play.pauses) == 4


def test_a_worker_that_was_started_anew_is_replaced_and_can_not_start_it_later() -> None:
    play = Play()
    outcome = play.run(
        run_on(play),
        (SCHEDULE, placed()),
        (START, task("running")),
        (WAIT, LOST),
        (LOOK, UNREACHED),
        (LOOK, UNKNOWN_TASK),
        (STOP, NEVER),
        (RELEASE, RELEASED),
        *ON_W2,
    )
    assert outcome.worker_id == "w2"
    assert excluded(play) == [[], ["w1"]]


def test_an_address_with_a_new_owner_is_left_while_waiting() -> None:
    play = Play()
    script: list[Line] = [
        (SCHEDULE, placed()),
        (START, task("running")),
        (WAIT, refusal("bad_ticket", 403)),
        (STOP, refusal("bad_ticket", 403)),
        (RELEASE, RELEASED),
        *ON_W2,
    ]
    assert play.run(run_on(play), *script).worker_id == "w2"


def test_a_task_that_ended_and_was_forgotten_is_not_run_again() -> None:
    play = Play()
    with pytest.raises(Unavailable, match="forgotten"):
        play.run(
            run_on(play),
            (SCHEDULE, placed()),
            (START, task("running")),
            (WAIT, UNKNOWN_TASK),
            (STOP, UNKNOWN_TASK),
            (STOP, UNKNOWN_TASK),
            (RELEASE, RELEASED),
        )


def test_a_worker_that_falls_silent_is_unknown_and_the_task_is_not_run_again() -> None:
    play = Play()
    with pytest.raises(Unavailable, match="silent"):
        play.run(
            run_on(play),
            (SCHEDULE, placed()),
            (START, task("running")),
            (WAIT, LOST),
            (f"{LOOK}*", LOST),
            (STOP, UNREACHED),
        )
    assert play.freed == 0


# Interrupted


def test_an_interrupt_stops_the_task_and_releases_its_lease() -> None:
    play = Play()
    with pytest.raises(KeyboardInterrupt):
        play.run(
            run_on(play),
            (SCHEDULE, placed()),
            (START, task("running")),
            (WAIT, KeyboardInterrupt()),
            (STOP, task("stopping")),
            ("w1:1 GET /tasks/t?fence=7&wait_s=2", task("ended", cause="stopped", ended_at=6.0)),
            (RELEASE, RELEASED),
        )
    assert play.freed == 1


def test_an_interrupt_while_the_start_is_under_way_makes_sure_that_it_comes_to_nothing() -> None:
    play = Play()
    with pytest.raises(KeyboardInterrupt):
        play.run(
            run_on(play),
            (SCHEDULE, placed()),
            (START, KeyboardInterrupt()),
            (STOP, NEVER),
            (RELEASE, RELEASED),
        )


@pytest.mark.parametrize("answer", [LOST, UNREACHED, refusal("internal", 500)])
def test_an_interrupt_keeps_the_lease_when_the_stop_is_not_confirmed(
    answer: Reply | BaseException,
) -> None:
    play = Play()
    with pytest.raises(KeyboardInterrupt):
        play.run(
            run_on(play),
            (SCHEDULE, placed()),
            (START, task("running")),
            (WAIT, KeyboardInterrupt()),
            (STOP, answer),
        )
    assert play.freed == 0


def test_an_interrupt_before_there_is_a_place_has_nothing_to_stop() -> None:
    play = Play()
    flow = run_on(play, deadline=play.now + 10)
    with pytest.raises(KeyboardInterrupt):
        play.run(flow, (SCHEDULE, FULL), (SCHEDULE, KeyboardInterrupt()))
