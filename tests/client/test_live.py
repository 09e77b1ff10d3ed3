"""Following a fleet as one value, without I/O."""

import json
from typing import Any

import pytest

from client.playing import LOST, UNREACHED, Line, Play, refusal
from dtask.client import live
from dtask.client.acts import Foreign, Reply
from dtask.client.picture import Picture
from dtask.errors import Busy, Denied, NotFound, Unavailable

OPEN = "open s1 GET /live"
OPENED = Reply(status=200, body=b"")

TOTALS: dict[str, Any] = {
    "workers": {"online": 1, "suspect": 0, "offline": 0, "draining": 0},
    "slots": 4,
    "occupied": 1,
    "tasks": {"pending": 0, "queued": 0, "scheduled": 0, "running": 1},
    "ended": {"succeeded": 7, "failed": 0, "cancelled": 0, "skipped": 0},
    "jobs": 1,
    "queues": [],
    "warming_up": False,
    "rates": {"placements": 0, "refusals": 0, "heartbeats": 0.3, "starts": 0, "ends": 0},
    "placement_p99_ms": None,
    "attention": [],
}
A = ["a", "online", False, 1, 4, 99.0]
B = ["b", "offline", True, 0, 4, 50.5]


def message(number: int, kind: str, **data: object) -> bytes:
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode()


def reset(number: int, *workers: object, **more: object) -> bytes:
    data = {"now": 100.0, "started_at": 40.0, "version": "0.2.0"}
    return message(number, "reset", **data | {"workers": workers, "totals": TOTALS} | more)


def update(number: int, **more: object) -> bytes:
    return message(number, "update", **{"now": 101.0, "totals": TOTALS} | more)


def watched(*script: Line, count: int) -> tuple[list[Picture], Play]:
    """The first pictures that come of a script, and how it went."""
    play = Play()

    def some() -> Any:
        flow = live.pictures(play.flows)
        act = next(flow)
        while True:
            try:
                answer = yield act
            except BaseException as error:  # noqa: BLE001 (what is thrown in is for the flow)
                act = flow.throw(error)
            else:
                if len(play.items) == count:
                    return
                act = flow.send(answer)

    play.run(some(), *script)
    return play.items, play


def test_a_picture_is_the_snapshot_with_all_updates_since() -> None:
    pictures, _ = watched(
        (OPEN, OPENED),
        ("read", reset(1, A, B)),
        ("read", update(2, workers=[["a", "suspect", False, 2, 4, 99.0]], jobs=[42])),
        ("read", update(3, gone=["b", "never-known"])),
        ("read", update(4)),
        count=4,
    )
    first, second, third, fourth = pictures
    assert list(first.workers) == ["a", "b"]
    assert (first.workers["b"].status, first.workers["b"].draining) == ("offline", True)
    assert first.more_jobs
    assert (second.workers["a"].status, second.workers["a"].load) == ("suspect", 0.5)
    assert (second.jobs, second.more_jobs) == ({42}, False)
    assert list(third.workers) == ["a"]
    assert fourth.workers == third.workers
    assert (fourth.now, fourth.version, fourth.jobs) == (101.0, "0.2.0", frozenset())
    assert fourth.totals.ended == TOTALS["ended"]
    # A picture that was handed out stays as it is.
    assert (first.workers["a"].status, len(first.workers)) == ("online", 2)


@pytest.mark.parametrize("end", [LOST, b""])
def test_a_break_is_told_once_and_the_stream_goes_on_where_it_was(end: Any) -> None:
    pictures, play = watched(
        (OPEN, OPENED),
        ("read", reset(7, A)),
        ("read", end),
        *[(OPEN, UNREACHED)] * 20,
        (OPEN, OPENED),
        ("read", update(8, workers=[B])),
        count=3,
    )
    assert [picture.connected for picture in pictures] == [True, False, True]
    assert pictures[0].trouble is pictures[2].trouble is None
    assert pictures[1].trouble
    assert pictures[1].workers == pictures[0].workers
    assert list(pictures[2].workers) == ["a", "b"]
    places = [call.request.headers.get("last-event-id") for call in play.calls]
    assert places == [None, *["7"] * 21]
    assert max(pause.seconds for pause in play.pauses) <= 1.0


def test_a_reset_replaces_everything() -> None:
    pictures, _ = watched(
        (OPEN, OPENED),
        ("read", reset(7, A) + update(8, workers=[B])),
        ("read", reset(1, B, started_at=98.0)),
        count=3,
    )
    assert list(pictures[2].workers) == ["b"]
    assert pictures[2].started_at == 98.0


def test_what_is_cut_off_is_not_taken_and_asked_for_again() -> None:
    pictures, play = watched(
        (OPEN, OPENED),
        ("read", reset(7, A)),
        ("read", update(8, workers=[B])[:-1]),
        ("read", LOST),
        (OPEN, OPENED),
        ("read", update(8, workers=[B])),
        count=3,
    )
    assert [len(picture.workers) for picture in pictures] == [1, 1, 2]
    assert play.calls[-1].request.headers == {"last-event-id": "7"}


def test_kinds_and_fields_that_a_newer_scheduler_sends_are_passed_over() -> None:
    pictures, _ = watched(
        (OPEN, OPENED),
        ("read", reset(1, [*A, "more"], more=1) + message(2, "weather", sunny=True)),
        ("read", update(3, more=[])),
        count=2,
    )
    assert [picture.now for picture in pictures] == [100.0, 101.0]
    assert pictures[0].workers["a"].current_tasks == 1


@pytest.mark.parametrize(
    "broken", [message(1, "reset", now=1.0), b"event: reset\ndata: <html>\n\n"]
)
def test_what_can_not_be_read_is_told(broken: bytes) -> None:
    with pytest.raises(Foreign, match="same version"):
        watched((OPEN, OPENED), ("read", broken), count=1)


def test_where_nothing_answers_at_first_that_is_told_at_once() -> None:
    with pytest.raises(Unavailable, match="DTASK_SCHEDULER"):
        watched(*[(OPEN, UNREACHED)] * 9, count=1)


def test_streams_that_never_say_anything_are_not_opened_for_ever() -> None:
    nothing: list[Line] = [(OPEN, OPENED), ("read", b"")]
    with pytest.raises(Unavailable, match="ended the connection"):
        watched(*nothing * live.EMPTY_STREAMS_MAX, count=1)


def test_a_limit_that_is_reached_passes_unless_it_is_so_from_the_start() -> None:
    busy = (OPEN, refusal("too_many_waiters", 429))
    with pytest.raises(Busy):
        watched(busy, count=1)
    pictures, _ = watched(
        *[(OPEN, OPENED), ("read", reset(1, A)), ("read", b"")],
        *[busy, (OPEN, OPENED), ("read", update(2))],
        count=3,
    )
    assert [picture.connected for picture in pictures] == [True, False, True]


def test_a_token_that_fits_no_more_ends_it() -> None:
    refused = (OPEN, refusal("wrong_token", 401))
    with pytest.raises(Denied):
        watched(*[(OPEN, OPENED), ("read", reset(1)), ("read", b""), refused], count=3)


def test_an_old_scheduler_is_called_one() -> None:
    with pytest.raises(NotFound, match=r"dtask 0\.1 or older"):
        watched((OPEN, refusal("no_route", 404)), count=1)


def test_a_large_fleet_is_taken_in_pieces() -> None:
    workers = [[f"worker-{i}", "online", False, 1, 4, 99.0] for i in range(100_000)]
    whole = reset(1, *workers)
    pieces = [whole[start : start + 65_536] for start in range(0, len(whole), 65_536)]
    pictures, _ = watched((OPEN, OPENED), *[("read", piece) for piece in pieces], count=1)
    assert len(pictures[0].workers) == 100_000


# The code for a browser


def test_a_sign_in_code_comes_with_the_address_of_who_gave_it() -> None:
    play = Play("http://s1", "http://s2")
    found = play.run(
        play.flows.sign_in_code(),
        ("s1 POST /sign-in-codes", UNREACHED),
        ("s2 POST /sign-in-codes", Reply(status=200, body=b'{"code":"c0de","expires_at":60.0}')),
    )
    assert (found.url, found.expires_at) == ("http://s2/dashboard/#code=c0de", 60.0)
    assert "c0de" not in repr(found)


def test_a_scheduler_without_a_dashboard_is_called_old() -> None:
    play = Play()
    with pytest.raises(NotFound, match=r"http://s1 .* dtask 0\.1 or older"):
        play.run(play.flows.sign_in_code(), ("s1 POST /sign-in-codes", refusal("no_route", 404)))
