"""The flows of jobs between a client and its scheduler, without I/O."""

import hashlib
from typing import Any

import msgspec
import pytest

from client.playing import LOST, PAGE, UNREACHED, Line, Play, refusal, reply
from dtask.client import job_flows
from dtask.client.acts import Reply
from dtask.core.jobs.names import Name
from dtask.core.jobs.states import State
from dtask.errors import (
    Busy,
    Conflict,
    DtaskError,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from dtask.wire.job_answers import AttemptAnswer, JobAnswer, TaskSummary

SUBMIT = "s1 POST /jobs"
SUBMITTED = reply({"job_id": 42, "known": False}, 201)
STORE_FAILED = refusal("store_failed", 503)


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def blob(content: bytes) -> str:
    return f"s1 PUT /blobs/{hashlib.sha256(content).hexdigest()}"


def missing(*contents: bytes) -> Reply:
    return refusal("missing_blobs", 400, blobs=[digest(content) for content in contents])


KEPT = reply({"sha256": "x", "bytes": 1}, 201)


def job(state: str = "running", **tasks: str) -> Reply:
    """The scheduler's answer about job 42."""
    summaries = {name: TaskSummary(state=State(value)) for name, value in tasks.items()}
    answer = JobAnswer(42, "", "default", 0, State(state), 1.0, summaries or {})
    return Reply(status=200, body=msgspec.json.encode(answer))


def task(state: str) -> Reply:
    """The scheduler's answer about a task."""
    return reply(
        {
            "job_id": 42,
            "task": "a",
            "summary": {"state": state},
            "spec": {"command": ["true"]},
            "attempts": [],
        }
    )


def attempts(*states: str, stdout_bytes: int = 0) -> Reply:
    """Attempts number 1, 2, ... as the scheduler lists them."""
    rows = [
        AttemptAnswer(
            number=number,
            fence=number,
            worker_id="w",
            state=State(state),
            scheduled_at=1,
            stdout_bytes=stdout_bytes,
        )
        for number, state in enumerate(states, start=1)
    ]
    return Reply(status=200, body=msgspec.json.encode(rows[::-1]))


def event(number: int, state: str = "running", name: str = "task") -> bytes:
    data = f'{{"job_id":42,"state":"{state}","at":1.0,"queue":"default","task":"a"}}'
    return f"id: {number}\nevent: {name}\ndata: {data}\n\n".encode()


OPENED = Reply(status=200, body=b"")


# Submitting


def test_a_submit_always_has_a_key_and_each_its_own() -> None:
    play = Play()
    for _ in range(2):
        assert play.run(play.jobs.submit(["true"], {}), (SUBMIT, SUBMITTED)).job_id == 42
    keys = [play.body(index)["key"] for index in range(2)]
    assert len(set(keys)) == 2
    assert all(len(key) == 32 for key in keys)


def test_a_command_without_a_name_is_listed_by_its_words() -> None:
    play = Play()
    for what, wishes in ((["echo", "a\nb"], {}), ({"command": ["true"]}, {"name": "n"})):
        play.run(play.jobs.submit(what, wishes), (SUBMIT, SUBMITTED))
    assert [play.body(index)["name"] for index in range(2)] == ["echo a b", "n"]


def test_a_submit_whose_answer_got_lost_is_sent_again_with_the_same_key() -> None:
    play = Play()
    known = reply({"job_id": 42, "known": True})
    flow = play.jobs.submit(["true"], {})
    found = play.run(
        flow, (SUBMIT, LOST), (SUBMIT, UNREACHED), (SUBMIT, STORE_FAILED), (SUBMIT, known)
    )
    assert found.known
    assert len({play.body(index)["key"] for index in range(4)}) == 1


def test_files_are_named_by_their_hash_and_sent_if_the_scheduler_lacks_them() -> None:
    play = Play()
    play.files = {"tile.py": b"tile", "big": b"big"}
    flow = play.jobs.submit(
        {
            "tasks": {
                "a": {"command": ["true"], "files": ["tile.py", "big"]},
                "b": {"command": ["true"], "files": {"same": "tile.py", "c": b"c"}, "stdin": "in"},
            }
        },
        {},
    )
    play.run(
        flow,
        (SUBMIT, missing(b"tile", b"in")),
        (blob(b"tile"), KEPT),
        (blob(b"in"), KEPT),
        (SUBMIT, SUBMITTED),
    )
    tasks = play.body(0)["tasks"]
    assert tasks["a"]["files"] == {"tile.py": digest(b"tile"), "big": digest(b"big")}
    assert tasks["b"]["files"] == {"same": digest(b"tile"), "c": digest(b"c")}
    assert tasks["b"]["stdin"] == digest(b"in")
    assert play.calls[1].request.body == b"tile"
    assert play.calls[1].request.content_type == "application/octet-stream"
    assert play.calls[0].request == play.calls[3].request


def test_what_a_caller_gives_is_left_as_it_is() -> None:
    play = Play()
    play.files = {"tile.py": b"tile"}
    given = {"tasks": {"a": {"command": ["true"], "files": {"tile.py": "tile.py"}}}}
    play.run(play.jobs.submit(given, {}), (SUBMIT, SUBMITTED))
    assert given == {"tasks": {"a": {"command": ["true"], "files": {"tile.py": "tile.py"}}}}


def test_a_blob_that_only_the_caller_could_have_sent_is_told_of() -> None:
    play = Play()
    named = {"command": ["true"], "stdin": digest(b"elsewhere")}
    with pytest.raises(InvalidRequest) as caught:
        play.run(play.jobs.submit(named, {}), (SUBMIT, missing(b"elsewhere")))
    assert caught.value.code == "missing_blobs"


def test_files_that_never_arrive_are_not_sent_for_ever() -> None:
    play = Play()
    script = [(SUBMIT, missing(b"in")), (blob(b"in"), KEPT)] * job_flows.UPLOADS
    with pytest.raises(InvalidRequest):
        play.run(play.jobs.submit(["true"], {"stdin": b"in"}), *script)


def test_a_file_that_the_scheduler_refuses_ends_the_submit() -> None:
    play = Play()
    flow = play.jobs.submit(["true"], {"stdin": b"in"})
    with pytest.raises(InvalidRequest) as caught:
        play.run(flow, (SUBMIT, missing(b"in")), (blob(b"in"), refusal("too_large", 413)))
    assert caught.value.code == "too_large"


# Over a restart


def test_where_no_scheduler_ever_answered_that_is_told_at_once() -> None:
    play = Play()
    with pytest.raises(Unavailable):
        play.run(play.jobs.submit(["true"], {}), *[(SUBMIT, UNREACHED)] * 3)
    assert play.now < 1_001.0


@pytest.mark.parametrize("silence", [UNREACHED, LOST, STORE_FAILED, Reply(status=502, body=b"")])
def test_a_scheduler_that_answered_before_is_waited_for(silence: Any) -> None:
    play = Play()
    play.run(play.jobs.submit(["true"], {}), (SUBMIT, SUBMITTED))
    flow = play.jobs.job(42)
    script: list[Line] = [("s1 GET /jobs/42", silence)] * 20
    found = play.run(flow, *script, ("s1 GET /jobs/42", job(a="running")))
    assert found.state == "running"
    assert play.now > 1_003.0
    assert max(pause.seconds for pause in play.pauses) <= 1.0


def test_a_scheduler_that_stays_silent_is_given_up() -> None:
    play = Play()
    play.run(play.jobs.submit(["true"], {}), (SUBMIT, SUBMITTED))
    start = play.now
    with pytest.raises(Unavailable) as caught:
        play.run(play.jobs.job(42), ("s1 GET /jobs/42*", UNREACHED))
    assert caught.value.code == "unreachable"
    assert play.now - start >= job_flows.PATIENCE_S
    assert play.now - start <= job_flows.PATIENCE_S + 2


def test_a_store_that_stays_unusable_is_told_of_in_its_own_words() -> None:
    play = Play()
    play.run(play.jobs.submit(["true"], {}), (SUBMIT, SUBMITTED))
    with pytest.raises(Unavailable, match=r"This is store_failed\.") as caught:
        play.run(play.jobs.job(42), ("s1 GET /jobs/42*", STORE_FAILED))
    assert caught.value.code == "store_failed"


def test_a_cancel_whose_answer_was_lost_is_no_error_if_it_was_heeded() -> None:
    def ended(state: str) -> Reply:
        body = {"error": f"Job 42 is {state}.", "code": "job_ended", "job_id": 42, "state": state}
        return reply(body, 409)

    cancel = "s1 DELETE /jobs/42"
    play = Play()
    found = play.run(play.jobs.cancel(42, None), (cancel, LOST), (cancel, ended("cancelled")))
    assert (found.state, found.attempts) == ("cancelled", 0)
    for script in (
        [(cancel, ended("cancelled"))],
        [(cancel, LOST), (cancel, ended("succeeded"))],
    ):
        with pytest.raises(Conflict):
            play.run(play.jobs.cancel(42, None), *script)


def test_who_submits_is_told_soon_that_the_store_can_t_be_used() -> None:
    """Most likely its disk is full, and somebody sits there and waits for a number."""
    play = Play()
    play.run(play.jobs.submit(["true"], {}), (SUBMIT, SUBMITTED))
    start = play.now
    with pytest.raises(Unavailable, match=r"This is store_failed\."):
        play.run(
            play.jobs.submit(["true"], {}), *[(SUBMIT, LOST)] * 3, (f"{SUBMIT}*", STORE_FAILED)
        )
    assert job_flows.STORE_PATIENCE_S <= play.now - start <= job_flows.STORE_PATIENCE_S + 5
    short = play.run(play.jobs.submit(["true"], {}), (SUBMIT, STORE_FAILED), (SUBMIT, SUBMITTED))
    assert short.job_id == 42


def test_who_cancels_is_told_as_soon() -> None:
    play = Play()
    play.run(play.jobs.submit(["true"], {}), (SUBMIT, SUBMITTED))
    start = play.now
    cancel = "s1 DELETE /jobs/42"
    with pytest.raises(Unavailable, match=r"This is store_failed\."):
        play.run(play.jobs.cancel(42, None), (f"{cancel}*", STORE_FAILED))
    assert job_flows.STORE_PATIENCE_S <= play.now - start <= job_flows.STORE_PATIENCE_S + 5


def test_what_is_refused_is_not_asked_again() -> None:
    play = Play()
    for refused in (refusal("no_job", 404), refusal("wrong_token", 401), refusal("key_taken", 409)):
        with pytest.raises(DtaskError):
            play.run(play.jobs.job(42), ("s1 GET /jobs/42", refused))


# Waiting


def test_a_wait_asks_until_the_job_has_ended() -> None:
    play = Play()
    line = "s1 GET /jobs/42?wait_s=30"
    script = [(line, job()), (line, LOST), (line, STORE_FAILED), (line, job("succeeded"))]
    found = play.run(play.jobs.wait(42, timeout_s=None), *script)
    assert found.ok
    assert play.calls[0].read_s == 35.0


def test_a_wait_ends_when_its_time_is_over() -> None:
    play = Play()
    play.call_s = 30.0
    with pytest.raises(TimeoutError, match="Job 42 is running after 40 s"):
        play.run(
            play.jobs.wait(42, timeout_s=40),
            ("s1 GET /jobs/42?wait_s=30", job()),
            ("s1 GET /jobs/42?wait_s=10", job()),
            ("s1 GET /jobs/42", job()),
        )


def test_a_wait_of_no_time_is_one_look() -> None:
    play = Play()
    with pytest.raises(TimeoutError):
        play.run(play.jobs.wait(42, timeout_s=0), ("s1 GET /jobs/42", job()))


@pytest.mark.parametrize("wrong", ["foo", "42", None, 4.5, True])
def test_what_is_no_job_is_said_with_what_would_be_one(wrong: Any) -> None:
    play = Play()
    with pytest.raises(InvalidRequest, match="is no job: expected its number") as caught:
        play.run(play.jobs.wait(wrong, timeout_s=None))
    assert caught.value.facts["field"] == "job"


def test_a_wait_that_is_one_too_many_comes_back_later() -> None:
    play = Play()
    line = "s1 GET /jobs/42?wait_s=30"
    busy = refusal("too_many_waiters", 429)
    assert play.run(play.jobs.wait(42, timeout_s=None), (line, busy), (line, job("failed"))).ended
    with pytest.raises(Busy):
        play.run(play.jobs.wait(42, timeout_s=0), ("s1 GET /jobs/42", busy))


# Retrying


def test_a_retry_that_is_refused_is_told_so() -> None:
    play = Play()
    line = "s1 POST /jobs/42/retry"
    flow = play.jobs.retry(42, again="failed", task="a")
    with pytest.raises(Conflict):
        play.run(flow, (line, UNREACHED), (line, refusal("job_ended", 409)))
    assert play.body(1) == {"again": "failed", "task": "a"}


def test_a_retry_that_is_refused_after_a_lost_answer_may_have_been_heeded() -> None:
    play = Play()
    line = "s1 POST /jobs/42/retry"
    flow = play.jobs.retry(42, again="unsuccessful", task=None)
    with pytest.raises(Unavailable, match="may have been heeded"):
        play.run(flow, (line, LOST), (line, refusal("job_ended", 409)))


# Naming


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("42/a", "/jobs/42/tasks/a/result"),
        ("42/a[7]", "/jobs/42/tasks/a/result?index=7"),
        ("42/a[0]#2", "/jobs/42/tasks/a/result?index=0&attempt=2"),
        (Name(42, "a", None, 3), "/jobs/42/tasks/a/result?attempt=3"),
    ],
)
def test_results_are_named_as_people_name_them(name: Any, target: str) -> None:
    play = Play()
    bytes_ = Reply(status=200, body=b"\0result")
    assert play.run(play.jobs.result(name), (f"s1 GET {target}", bytes_)) == b"\0result"


@pytest.mark.parametrize("name", [42, "42", Name(42)])
def test_the_only_task_of_a_job_need_not_be_named(name: Any) -> None:
    play = Play()
    play.run(
        play.jobs.result(name),
        ("s1 GET /jobs/42", job(a="succeeded")),
        ("s1 GET /jobs/42/tasks/a/result", Reply(status=200, body=b"")),
    )
    with pytest.raises(InvalidRequest, match=r"Job 42 has 2 tasks: .* such as 42/a"):
        play.run(play.jobs.result(name), ("s1 GET /jobs/42", job(a="succeeded", b="failed")))


def test_all_elements_are_listed_page_by_page() -> None:
    play = Play()
    flow = play.jobs.elements("42/a", state=["failed", "skipped"], limit=None)
    line = "s1 GET /jobs/42/tasks/a/elements?state=failed&state=skipped"
    first = reply({"elements": [{"index": 3, "state": "failed"}], "after": 3})
    second = reply({"elements": [{"index": 9, "state": "skipped"}]})
    found = play.run(flow, (f"{line}&limit=1000", first), (f"{line}&after=3&limit=1000", second))
    assert [element.index for element in found] == [3, 9]


# Logs


LOG = "open s1 GET /jobs/42/tasks/a/log?stream=stdout"
ATTEMPTS = "s1 GET /jobs/42/tasks/a/attempts"
EVENTS = "open s1 GET /events?job=42"


def test_a_log_is_read_to_its_end_of_one_attempt() -> None:
    play = Play()
    play.run(
        play.jobs.logs("42/a", stream="stdout", follow=False),
        (ATTEMPTS, attempts("failed", "running")),
        (f"{LOG}&attempt=2", OPENED),
        ("read", b"one"),
        ("read", LOST),
        (f"{LOG}&attempt=2&offset=3", OPENED),
        ("read", b"two"),
        ("read", b""),
        (f"{LOG}&attempt=2&offset=6", OPENED),
        ("read", b""),
    )
    assert play.items == [b"one", b"two"]


def test_a_log_that_nobody_has_begun_to_write_is_not_there() -> None:
    play = Play()
    with pytest.raises(NotFound):
        play.run(
            play.jobs.logs("42/a", stream="stdout", follow=False),
            (ATTEMPTS, attempts()),
            (LOG, refusal("no_attempt", 404)),
        )


def test_a_followed_log_goes_on_over_a_break_where_it_was() -> None:
    play = Play()
    play.run(
        play.jobs.logs("42/a#1", stream="stdout", follow=True),
        (f"{LOG}&attempt=1&follow=1", OPENED),
        ("read", b"one"),
        ("read", LOST),
        (f"{LOG}&attempt=1&offset=3&follow=1", UNREACHED),
        (f"{LOG}&attempt=1&offset=3&follow=1", OPENED),
        ("read", b""),  # the scheduler stops
        (ATTEMPTS, attempts("running")),
        (f"{LOG}&attempt=1&offset=3&follow=1", OPENED),
        ("read", b"two"),
        ("read", b""),
        (ATTEMPTS, attempts("succeeded")),
    )
    assert play.items == [b"one", b"two"]


def test_what_a_followed_attempt_wrote_while_the_scheduler_restarted_is_read_too() -> None:
    """It has ended by the time that anybody can ask, and has written more than was seen."""
    play = Play()
    over = attempts("succeeded", stdout_bytes=6)
    play.run(
        play.jobs.logs("42/a#1", stream="stdout", follow=True),
        (f"{LOG}&attempt=1&follow=1", OPENED),
        ("read", b"one"),
        ("read", b""),  # the scheduler stops
        (ATTEMPTS, over),
        (f"{LOG}&attempt=1&offset=3&follow=1", OPENED),
        ("read", b"two"),
        ("read", b""),
        (ATTEMPTS, over),
    )
    assert play.items == [b"one", b"two"]


def test_a_followed_task_is_waited_for_and_followed_from_attempt_to_attempt() -> None:
    play = Play()
    task_line = "s1 GET /jobs/42/tasks/a"
    play.run(
        play.jobs.logs("42/a", stream="stdout", follow=True),
        (task_line, task("queued")),
        (ATTEMPTS, attempts()),
        (EVENTS, OPENED),
        (task_line, task("queued")),
        (ATTEMPTS, attempts()),
        ("read", b": nothing\n\n"),
        ("read", event(1)),
        (task_line, task("running")),
        (ATTEMPTS, attempts("running")),
        (f"{LOG}&attempt=1&follow=1", OPENED),
        ("read", b"one"),
        ("read", b""),
        (ATTEMPTS, attempts("failed")),
        (task_line, task("pending")),  # backing off
        (ATTEMPTS, attempts("failed")),
        (EVENTS, OPENED),
        (task_line, task("pending")),
        (ATTEMPTS, attempts("failed")),
        ("read", LOST),
        (task_line, task("succeeded")),
        (ATTEMPTS, attempts("failed", "succeeded")),
        (f"{LOG}&attempt=2&follow=1", OPENED),
        ("read", b"two"),
        ("read", b""),
        (ATTEMPTS, attempts("failed", "succeeded")),
        (task_line, task("succeeded")),
        (ATTEMPTS, attempts("failed", "succeeded")),
    )
    assert play.items == [b"one", b"two"]


def test_attempts_that_came_and_went_are_followed_too_if_it_is_to_begin_with_the_first() -> None:
    for from_first, numbers in ((True, (1, 2)), (False, (2,))):
        play = Play()
        task_line = "s1 GET /jobs/42/tasks/a"
        ended = attempts("failed", "succeeded")
        script: list[tuple[object, object]] = [(task_line, task("succeeded")), (ATTEMPTS, ended)]
        for number in numbers:
            script += [
                (f"{LOG}&attempt={number}&follow=1", OPENED),
                ("read", f"{number}".encode()),
                ("read", b""),
                (ATTEMPTS, ended),
            ]
        script += [(task_line, task("succeeded")), (ATTEMPTS, ended)]
        flow = play.jobs.logs("42/a", stream="stdout", follow=True, from_first=from_first)
        play.run(flow, *script)
        assert play.items == [f"{number}".encode() for number in numbers]


def test_a_followed_element_is_looked_at_among_the_elements() -> None:
    play = Play()
    elements = "s1 GET /jobs/42/tasks/a/elements"
    ended = reply({"elements": [{"index": 1, "state": "skipped"}], "after": 1})
    play.run(
        play.jobs.logs("42/a[1]", stream="stdout", follow=True),
        (f"{elements}?after=0&limit=1", ended),
        (f"{ATTEMPTS}?index=1", attempts()),
    )
    assert play.items == []


# Events


def test_events_go_on_after_the_last_one_seen() -> None:
    play = Play()
    missed: list[int] = []
    flow = play.jobs.events(after=None, job=None, missed=lambda: missed.append(len(play.items)))
    with pytest.raises(Unavailable):
        play.run(
            flow,
            ("open s1 GET /events", OPENED),
            ("read", b":\nid: 4\n\n"),
            ("read", event(5)[:20]),
            ("read", event(5)[20:] + event(6, "no such state") + event(7, "succeeded")[:9]),
            ("read", LOST),
            ("open s1 GET /events", OPENED),
            ("read", event(7, "succeeded")),
            ("read", b""),
            ("open s1 GET /events", OPENED),
            ("read", b'id: 9\nevent: gap\ndata: {"after":7,"oldest":10}\n\n' + event(10)),
            ("read", LOST),
            ("open s1 GET /events*", UNREACHED),
        )
    assert [event.id for event in play.items] == ["5", "7", "10"]
    assert [event.ended for event in play.items] == [False, True, False]
    last_ids = [call.request.headers.get("last-event-id") for call in play.calls]
    assert last_ids[:4] == [None, "6", "7", "10"]
    assert missed == [0, 2]


def test_events_after_a_place_miss_nothing() -> None:
    play = Play()
    missed: list[None] = []
    flow = play.jobs.events(after="3", job=42, missed=lambda: missed.append(None))
    with pytest.raises(NotFound):
        play.run(
            flow,
            (EVENTS, OPENED),
            ("read", event(4)),
            ("read", b""),
            (EVENTS, refusal("no_route", 404)),
        )
    assert [call.request.headers["last-event-id"] for call in play.calls] == ["3", "4"]
    assert missed == []


# Others


def test_settings_that_are_not_given_are_not_sent() -> None:
    play = Play()
    row = {"name": "night", "max_running": 2, "max_queued": None, "weight": 1.0, "paused": False}
    row |= {"pending": 0, "queued": 0, "running": 0}
    settings: dict[str, object] = {"max_running": 2, "weight": None, "paused": False}
    flow = play.jobs.set_queue("night", settings)
    assert play.run(flow, ("s1 PUT /queues/night", reply(row))).name == "night"
    assert play.body(0) == {"max_running": 2, "paused": False}


def test_what_is_not_dtask_is_told_so() -> None:
    with pytest.raises(InvalidRequest, match="is this address a dtask process"):
        Play().run(Play().jobs.job(42), ("s1 GET /jobs/42", PAGE))
