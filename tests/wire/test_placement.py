import pytest

from dtask.errors import InvalidRequest
from dtask.wire import limits
from dtask.wire.codec import Body
from dtask.wire.placement import BatchBody, HeartbeatBody, ScheduleBody, check_id

SCHEDULE = Body(ScheduleBody)
HEARTBEAT = Body(HeartbeatBody)


def heartbeat(**fields: str) -> bytes:
    texts = {"worker_id": '"w"', "address": '"a:1"', "resource_tags": "[]", "max_tasks": "1"}
    return b"{" + ",".join(f'"{k}":{v}' for k, v in (texts | fields).items()).encode() + b"}"


def test_the_first_lines_of_the_contract_are_all_that_is_needed() -> None:
    assert HEARTBEAT.decode(heartbeat()).tasks is None
    ask = SCHEDULE.decode(b'{"task_id":"t"}')
    assert (ask.required_tags, ask.ttl_s, ask.strategy) == (None, 30.0, "least_loaded")


@pytest.mark.parametrize("timestamp", ["1700000000.5", "1700000000", '"2023-11-14T22:13:20Z"'])
def test_any_form_of_timestamp_is_taken(timestamp: str) -> None:
    HEARTBEAT.decode(heartbeat(timestamp=timestamp))


@pytest.mark.parametrize("missing", ["worker_id", "address", "resource_tags", "max_tasks"])
def test_what_every_heartbeat_needs_is_asked_for_by_name(missing: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        HEARTBEAT.decode(heartbeat().replace(f'"{missing}"'.encode(), b'"other"'))
    assert refused.value.facts == {"field": missing}


@pytest.mark.parametrize(
    ("field", "largest", "too_large"),
    [
        ("worker_id", '"' + "x" * 128 + '"', '"' + "x" * 129 + '"'),
        ("address", '"' + "x" * 300 + '"', '"' + "x" * 301 + '"'),
        ("resource_tags", str(["t"] * 64).replace("'", '"'), str(["t"] * 65).replace("'", '"')),
        ("max_tasks", "100000", "100001"),
        ("seq", str(2**53 - 1), str(2**53)),
    ],
)
def test_limits_of_a_heartbeat_hold_to_the_last_one(
    field: str, largest: str, too_large: str
) -> None:
    HEARTBEAT.decode(heartbeat(**{field: largest}))
    with pytest.raises(InvalidRequest) as refused:
        HEARTBEAT.decode(heartbeat(**{field: too_large}))
    assert refused.value.facts == {"field": field}


@pytest.mark.parametrize("max_tasks", ["0", "-1", "1.5", "true", '"4"'])
def test_max_tasks_is_a_whole_number_from_one_on(max_tasks: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        HEARTBEAT.decode(heartbeat(max_tasks=max_tasks))
    assert refused.value.facts == {"field": "max_tasks"}


@pytest.mark.parametrize(("ttl_s", "good"), [("1", True), ("3600", True), ("0.9", False)])
def test_a_ttl_is_between_a_second_and_an_hour(ttl_s: str, *, good: bool) -> None:
    raw = b'{"task_id":"t","ttl_s":' + ttl_s.encode() + b"}"
    if good:
        assert SCHEDULE.decode(raw).ttl_s == float(ttl_s)
    else:
        with pytest.raises(InvalidRequest):
            SCHEDULE.decode(raw)


def test_a_batch_holds_at_most_ten_thousand_tasks() -> None:
    batch = Body(BatchBody, shallow=True)
    task = b'{"task_id":"t"}'
    for count, good in ((limits.BATCH_TASKS_MAX, True), (limits.BATCH_TASKS_MAX + 1, False)):
        raw = b'{"tasks":[' + b",".join([task] * count) + b"]}"
        if good:
            assert len(batch.decode(raw).tasks) == count
        else:
            with pytest.raises(InvalidRequest, match="tasks: expected a list of length <= 10000"):
                batch.decode(raw)


@pytest.mark.parametrize("text", ["t", "x" * 128, "a/b:c d", "größe"])
def test_an_id_is_1_to_128_printable_characters(text: str) -> None:
    check_id(text, "task_id")


@pytest.mark.parametrize("text", ["", "x" * 129, "a\nb", "a\0", "\ud800", "\u200b"])
def test_what_is_no_id_is_refused_by_the_name_of_its_field(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_id(text, "task_id")
    assert refused.value.facts == {"field": "task_id"}
