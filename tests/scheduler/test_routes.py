"""Every route over real HTTP, and every error that a well-behaved client may meet."""

import time
from typing import Any

import httpx
import orjson
import pytest

import raw_http
import servers
from dtask.wire import ticket
from dtask.wire.limits import BODY_BYTES_MAX


def test_a_heartbeat_of_a_plain_worker_is_taken_in(scheduler: servers.RunningScheduler) -> None:
    answer = servers.beat(scheduler.url, "plain")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_null_lists_of_a_heartbeat_count_as_empty(
    scheduler: servers.RunningScheduler, http: httpx.Client
) -> None:
    answer = servers.beat(
        scheduler.url, "nulls", resource_tags=None, tasks=None, ended=None, metrics=None
    )
    assert answer.status_code == 200
    assert row(http, "nulls")["resource_tags"] == []


def test_a_heartbeat_ignores_fields_it_does_not_know(scheduler: servers.RunningScheduler) -> None:
    assert servers.beat(scheduler.url, "newer", from_the_future=1).status_code == 200


def test_a_placement_names_the_worker_and_its_lease(
    scheduler: servers.RunningScheduler, http: httpx.Client
) -> None:
    servers.beat(scheduler.url, "p1", address="10.1.2.3:9000", resource_tags=["p1"])
    answer = ask(http, "placed", required_tags=["p1"], ttl_s=60)
    placement = answer.json()
    assert answer.status_code == 200
    assert placement.keys() == {"worker_id", "address", "fence", "expires_at"}
    assert (placement["worker_id"], placement["address"]) == ("p1", "10.1.2.3:9000")
    assert 50 < placement["expires_at"] - time.time() < 70
    assert row(http, "p1")["current_tasks"] == 1


def test_the_same_question_gets_the_same_answer(
    scheduler: servers.RunningScheduler, http: httpx.Client
) -> None:
    servers.beat(scheduler.url, "same", resource_tags=["same"])
    fences = {ask(http, "again", required_tags=["same"]).json()["fence"] for _ in range(5)}
    assert len(fences) == 1


def test_a_request_with_the_token_gets_a_ticket_that_fits(
    scheduler: servers.RunningScheduler, operator: httpx.Client
) -> None:
    servers.beat(scheduler.url, "ticketed", resource_tags=["ticketed"])
    placement = ask(operator, "with-ticket", required_tags=["ticketed"]).json()
    ticket.check_ticket(
        ticket.ticket_key(scheduler.token),
        placement["ticket"],
        worker_id="ticketed",
        task_id="with-ticket",
        fence=placement["fence"],
        now=time.time(),
    )


def test_a_refusal_explains_itself(scheduler: servers.RunningScheduler, http: httpx.Client) -> None:
    servers.beat(scheduler.url, "r1", resource_tags=["refusing"], max_tasks=1, current_tasks=1)
    answer = ask(http, "refused", required_tags=["refusing"])
    body = answer.json()
    assert (answer.status_code, body["code"]) == (503, "no_worker")
    assert body["reasons"]["full"] == 1
    assert body["retry_after_s"] == 1.0
    assert answer.headers["retry-after"] == "1"
    assert "1 full" in body["error"]


def test_a_misspelt_tag_is_answered_with_the_one_meant(
    scheduler: servers.RunningScheduler, http: httpx.Client
) -> None:
    servers.beat(scheduler.url, "spelt", resource_tags=["accelerator"])
    body = ask(http, "misspelt", required_tags=["acelerator"]).json()
    assert body["did_you_mean"] == {"acelerator": ["accelerator"]}


def test_trusted_placements_need_the_token(
    scheduler: servers.RunningScheduler, http: httpx.Client, operator: httpx.Client
) -> None:
    servers.beat(scheduler.url, "stranger", resource_tags=["trust"])
    assert_error(ask(http, "t", required_tags=["trust"], trusted=True), 401, "no_token", "trusted")
    refused = ask(operator, "t", required_tags=["trust"], trusted=True)
    assert refused.json()["reasons"]["untrusted"] >= 1
    servers.beat(scheduler.url, "friend", token=scheduler.token, resource_tags=["trust"])
    placed = ask(operator, "t", required_tags=["trust"], trusted=True)
    assert placed.json()["worker_id"] == "friend"


def test_a_batch_is_answered_entry_by_entry(
    scheduler: servers.RunningScheduler, http: httpx.Client
) -> None:
    servers.beat(scheduler.url, "b1", resource_tags=["batch"], max_tasks=2)
    answer = batch(http, [{"task_id": f"b{i}", "required_tags": ["batch"]} for i in range(3)])
    placements = answer.json()["placements"]
    assert answer.status_code == 200
    assert [each.get("worker_id") for each in placements] == ["b1", "b1", None]
    assert placements[2]["code"] == "no_worker"


def test_all_or_nothing_places_all(
    scheduler: servers.RunningScheduler, operator: httpx.Client
) -> None:
    servers.beat(scheduler.url, "all", resource_tags=["all"], max_tasks=2)
    tasks = [{"task_id": f"all{i}", "required_tags": ["all"]} for i in range(2)]
    placements = batch(operator, tasks, all_or_nothing=True).json()["placements"]
    assert [each["worker_id"] for each in placements] == ["all", "all"]
    assert all(each["ticket"] for each in placements)


def test_all_or_nothing_refused_places_nothing_and_names_the_first(
    scheduler: servers.RunningScheduler, http: httpx.Client
) -> None:
    servers.beat(scheduler.url, "aon", resource_tags=["aon"], max_tasks=2)
    tasks = [{"task_id": f"aon{i}", "required_tags": ["aon"]} for i in range(3)]
    answer = batch(http, tasks, all_or_nothing=True)
    assert_error(answer, 503, "no_worker")
    assert (answer.json()["index"], answer.json()["task_id"]) == (2, "aon2")
    assert "retry-after" in answer.headers
    assert row(http, "aon")["current_tasks"] == 0


def test_a_batch_longer_than_a_slice_is_placed_whole(
    scheduler: servers.RunningScheduler, http: httpx.Client
) -> None:
    servers.beat(scheduler.url, "long", resource_tags=["long"], max_tasks=1000)
    tasks = [{"task_id": f"long{i}", "required_tags": ["long"]} for i in range(1000)]
    placements = batch(http, tasks).json()["placements"]
    assert len({each["fence"] for each in placements}) == 1000


@pytest.mark.parametrize(
    ("tasks", "more"),
    [([], {}), ([], {"all_or_nothing": True})],
    ids=["batch", "all_or_nothing"],
)
def test_an_empty_batch_is_refused(http: httpx.Client, tasks: list[Any], more: Any) -> None:
    assert_error(batch(http, tasks, **more), 400, "malformed", "tasks")


def test_too_many_tasks_are_refused_before_any_is_placed(
    scheduler: servers.RunningScheduler, http: httpx.Client
) -> None:
    servers.beat(scheduler.url, "many", resource_tags=["many"], max_tasks=20_000)
    for length, more in ((10_001, {}), (1_001, {"all_or_nothing": True})):
        tasks = [{"task_id": f"m{i}", "required_tags": ["many"]} for i in range(length)]
        assert_error(batch(http, tasks, **more), 400, "malformed", "tasks")
    assert row(http, "many")["current_tasks"] == 0


@pytest.mark.parametrize(
    ("wrong", "code", "field"),
    [
        ({"task_id": ""}, "malformed", "tasks[1].task_id"),
        ({"task_id": "a\nb"}, "malformed", "tasks[1].task_id"),
        ({}, "malformed", "tasks[1].task_id"),
        ({"task_id": "x", "what": 1}, "unknown_field", "tasks[1].what"),
        ({"task_id": "x", "required_tags": ["a||b"]}, "bad_requirement", None),
        (7, "malformed", "tasks[1]"),
    ],
)
def test_one_wrong_task_refuses_the_batch_and_is_named(
    scheduler: servers.RunningScheduler, http: httpx.Client, wrong: Any, code: str, field: str
) -> None:
    servers.beat(scheduler.url, "wrong", resource_tags=["wrong"])
    answer = batch(http, [{"task_id": "right", "required_tags": ["wrong"]}, wrong])
    assert_error(answer, 400, code, field or "tasks[1].required_tags[0]")
    assert row(http, "wrong")["current_tasks"] == 0


def test_keys_named_twice_in_a_batch_are_refused(http: httpx.Client) -> None:
    raw = b'{"tasks":[{"task_id":"a"},{"task_id":"b","ttl_s":5,"ttl_s":6}]}'
    answer = http.post("/api/v1/schedule", content=raw, headers=JSON)
    assert_error(answer, 400, "malformed", "ttl_s")


def test_defaults_spelt_out_in_a_batch_are_no_repetition(
    scheduler: servers.RunningScheduler, http: httpx.Client
) -> None:
    servers.beat(scheduler.url, "spelt-out", resource_tags=["spelt-out"])
    task = {"required_tags": ["spelt-out"], "preferred_tags": None, "strategy": "least_loaded"}
    answer = batch(http, [task | {"task_id": f"s{i}"} for i in range(2)])
    assert all("fence" in each for each in answer.json()["placements"])


def test_release_ends_the_lease(scheduler: servers.RunningScheduler, http: httpx.Client) -> None:
    servers.beat(scheduler.url, "rel", resource_tags=["rel"])
    fence = ask(http, "over", required_tags=["rel"]).json()["fence"]
    answer = http.delete("/api/v1/schedule/over")
    assert answer.json() == {"status": "released", "worker_id": "rel", "fence": fence}
    assert_error(http.delete("/api/v1/schedule/over"), 404, "no_lease")


def test_release_with_a_fence_ends_only_that_lease(
    scheduler: servers.RunningScheduler, http: httpx.Client
) -> None:
    servers.beat(scheduler.url, "fenced", resource_tags=["fenced"])
    fence = ask(http, "f", required_tags=["fenced"]).json()["fence"]
    url = "/api/v1/schedule/f"
    assert_error(http.delete(url, params={"fence": fence - 1}), 404, "no_lease")
    assert http.delete(url, params={"fence": fence}).status_code == 200


@pytest.mark.parametrize("task_id", ["a/b", "a b", "42/train#2", "50%", "naïve", "?", "x/"])
def test_any_printable_task_id_can_be_released(
    scheduler: servers.RunningScheduler, http: httpx.Client, task_id: str
) -> None:
    servers.beat(scheduler.url, "ids", resource_tags=["ids"], max_tasks=10)
    assert ask(http, task_id, required_tags=["ids"]).status_code == 200
    quoted = "".join(f"%{byte:02X}" for byte in task_id.encode())
    assert http.delete(f"/api/v1/schedule/{quoted}").status_code == 200


def test_a_slash_in_a_task_id_may_stand_as_it_is(
    scheduler: servers.RunningScheduler, http: httpx.Client
) -> None:
    servers.beat(scheduler.url, "slash", resource_tags=["slash"])
    ask(http, "job/task", required_tags=["slash"])
    assert http.delete("/api/v1/schedule/job/task").status_code == 200


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("", "task_id"),
        ("%00", "task_id"),
        ("%ff", "task_id"),
        ("x" * 129, "task_id"),
        ("t?fence=-1", "fence"),
        ("t?fence=1.0", "fence"),
        ("t?fence=", "fence"),
        ("t?fence=1&fence=1", "fence"),
        (f"t?fence={2**53}", "fence"),
        (f"t?fence={'9' * 5000}", "fence"),
        ("t?fence=%ff", "?"),
        ("t?fense=1", "fense"),
    ],
)
def test_a_release_that_makes_no_sense_is_refused(
    http: httpx.Client, path: str, field: str
) -> None:
    answer = http.delete(f"/api/v1/schedule/{path}")
    code = "unknown_field" if field == "fense" else "malformed"
    assert_error(answer, 400, code, field)


def test_workers_are_listed_by_id_with_what_is_known_of_them(
    scheduler: servers.RunningScheduler, http: httpx.Client
) -> None:
    servers.beat(
        scheduler.url,
        "row",
        address="10.0.0.9:1",
        resource_tags=["row", "cuda-12.4"],
        max_tasks=8,
        current_tasks=2,
        incarnation="life-1",
        metrics={"cpu": 0.5},
    )
    ask(http, "row-task", required_tags=["row"])
    found = row(http, "row")
    heard = found.pop("last_heartbeat")
    assert abs(heard - time.time()) < 10
    assert found == {
        "worker_id": "row",
        "address": "10.0.0.9:1",
        "resource_tags": ["row", "cuda-12.4"],
        "max_tasks": 8,
        "current_tasks": 3,
        "reported_tasks": 2,
        "available": 5,
        "load": 0.375,
        "status": "online",
        "trusted": False,
        "draining": False,
        "leases": 1,
        "incarnation": "life-1",
        "metrics": {"cpu": 0.5},
    }


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("tag=flt", ["flt-a", "flt-b", "flt-c"]),
        ("tag=flt&tag=cuda>=12.0", ["flt-b", "flt-c"]),
        ("tag=flt,cuda>=12.0", ["flt-b", "flt-c"]),
        ("tag=flt,!big|cuda>=12.0", ["flt-a"]),
        ("tag=flt&limit=2", ["flt-a", "flt-b"]),
        ("tag=flt&limit=2&after=flt-b", ["flt-c"]),
        ("tag=flt&status=online&status=suspect", ["flt-a", "flt-b"]),
        ("tag=flt&status=offline", ["flt-c"]),
        ("tag=nobody-has-it", []),
    ],
)
def test_workers_are_filtered(
    scheduler: servers.RunningScheduler, http: httpx.Client, query: str, expected: list[str]
) -> None:
    servers.beat(scheduler.url, "flt-a", resource_tags=["flt", "cuda-11"])
    servers.beat(scheduler.url, "flt-b", resource_tags=["flt", "cuda-12"])
    servers.beat(scheduler.url, "flt-c", resource_tags=["flt", "cuda-12.4"], leaving=True)
    rows = http.get(f"/api/v1/workers?{query}").json()
    assert [each["worker_id"] for each in rows] == expected


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        ("status=lost", "malformed", "status"),
        ("limit=0", "malformed", "limit"),
        ("limit=100001", "malformed", "limit"),
        ("limit=ten", "malformed", "limit"),
        ("tag=", "malformed", "tag"),
        ("tag=" + ",".join("t" * 65), "malformed", "tag"),
        ("tag=a||b", "bad_requirement", "tag[0]"),
        ("tag=%80", "malformed", "?"),
        ("tags=gpu", "unknown_field", "tags"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(
    http: httpx.Client, query: str, code: str, field: str
) -> None:
    assert_error(http.get(f"/api/v1/workers?{query}"), 400, code, field)


def test_a_listing_longer_than_a_slice_is_complete() -> None:
    with (
        servers.running_scheduler() as running,
        httpx.Client(base_url=running.url, verify=False) as http,
    ):
        ids = [f"w{i:04}" for i in range(1201)]
        for worker_id in ids:
            body = {"worker_id": worker_id, "address": "a", "resource_tags": [], "max_tasks": 1}
            http.post("/api/v1/heartbeat", json=body)
        assert [each["worker_id"] for each in http.get("/api/v1/workers").json()] == ids


def test_an_operator_drains_a_worker_and_lets_it_work_again(
    scheduler: servers.RunningScheduler, http: httpx.Client, operator: httpx.Client
) -> None:
    servers.beat(scheduler.url, "host:9/a", resource_tags=["drained"])
    drained = operator.post("/api/v1/workers/host%3A9%2Fa/drain")
    assert (drained.status_code, drained.json()["draining"]) == (200, True)
    assert servers.beat(scheduler.url, "host:9/a", resource_tags=["drained"]).json() == {
        "status": "ok",
        "drained": True,
    }
    refused = ask(http, "d", required_tags=["drained"])
    assert refused.json()["reasons"]["draining"] == 1
    undrained = operator.post("/api/v1/workers/host%3A9%2Fa/undrain")
    assert undrained.json()["draining"] is False
    assert ask(http, "d", required_tags=["drained"]).status_code == 200


def test_draining_a_worker_that_nobody_knows_is_an_error(operator: httpx.Client) -> None:
    assert_error(operator.post("/api/v1/workers/nobody/drain"), 404, "unknown_worker")


def test_a_second_live_process_under_an_id_is_told_who_holds_it(
    scheduler: servers.RunningScheduler,
) -> None:
    servers.beat(scheduler.url, "held", address="10.0.0.1:1", incarnation="one")
    answer = servers.beat(scheduler.url, "held", address="10.0.0.2:1", incarnation="two")
    assert_error(answer, 409, "held")
    assert answer.json()["holder"] == {
        "worker_id": "held",
        "address": "10.0.0.1:1",
        "incarnation": "one",
    }


def test_a_late_heartbeat_of_an_old_life_is_told_so(scheduler: servers.RunningScheduler) -> None:
    for incarnation, status in (("one", 200), ("two", 200), ("one", 409)):
        answer = servers.beat(scheduler.url, "lives", incarnation=incarnation)
        assert answer.status_code == status
    assert_error(answer, 409, "superseded")


def test_an_untrusted_heartbeat_cannot_take_a_trusted_id(
    scheduler: servers.RunningScheduler,
) -> None:
    servers.beat(scheduler.url, "trusted", token=scheduler.token)
    assert_error(servers.beat(scheduler.url, "trusted"), 403, "untrusted")


def test_health_and_readiness(http: httpx.Client) -> None:
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.get("/readyz").json() == {"status": "ready"}


def test_a_scheduler_that_warms_up_says_so() -> None:
    with (
        servers.running_scheduler(warm_up_s=60.0) as running,
        httpx.Client(base_url=running.url, verify=False) as http,
    ):
        ready = http.get("/readyz")
        assert_error(ready, 503, "warming_up")
        assert 50 < int(ready.headers["retry-after"]) <= 60
        refused = ask(http, "early")
        assert_error(refused, 503, "warming_up")
        assert refused.json()["warming_up"] is True
        servers.beat(running.url)
        assert ask(http, "early").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/api/v1/heartbeat", "POST"),
        ("PUT", "/api/v1/schedule", "POST"),
        ("DELETE", "/api/v1/schedule", "POST"),
        ("POST", "/api/v1/schedule/x", "DELETE"),
        ("POST", "/api/v1/workers", "GET, HEAD"),
        ("PUT", "/api/v1/workers/x/drain", "POST"),
        ("POST", "/healthz", "GET, HEAD"),
        ("PATCH", "/readyz", "GET, HEAD"),
        ("OPTIONS", "/openapi.json", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(
    http: httpx.Client, method: str, path: str, allow: str
) -> None:
    answer = http.request(method, path)
    assert_error(answer, 405, "wrong_method")
    assert answer.headers["allow"] == allow


@pytest.mark.parametrize(
    "path", ["/x", "/api/v1/schedule/../x", "/api/v1/worker/x", "/api/v1/jobs/", "/%00", "/é"]
)
def test_an_unknown_path_is_an_error_in_json(http: httpx.Client, path: str) -> None:
    assert_error(http.get(path), 404, "no_route")


def test_an_old_client_gets_a_listing_it_can_read(
    scheduler: servers.RunningScheduler, http: httpx.Client
) -> None:
    servers.beat(scheduler.url, "old")
    data = b"GET /api/v1/workers HTTP/1.0\r\nhost: localhost\r\n\r\n"
    head, _, body = raw_http.exchange(scheduler.url, data).partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert len(orjson.loads(body)) == len(http.get("/api/v1/workers").json())


def test_head_is_get_without_a_body(http: httpx.Client) -> None:
    for path in ("/healthz", "/api/v1/workers"):
        answer = http.head(path)
        assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize(
    ("body", "limit_bytes"),
    [
        (b'{"task_id":"t","required_tags":["' + b"x" * BODY_BYTES_MAX + b'"]}', BODY_BYTES_MAX),
        (b'{"task_id":"t"}' + b" " * BODY_BYTES_MAX, BODY_BYTES_MAX),
        (b'{"tasks":[' + b" " * 4 * 1024 * 1024 + b"]}", 4 * 1024 * 1024),
    ],
    ids=["one", "one with blanks", "batch"],
)
def test_a_body_over_its_limit_is_told_the_limit(
    http: httpx.Client, body: bytes, limit_bytes: int
) -> None:
    answer = http.post("/api/v1/schedule", content=body, headers=JSON)
    assert_error(answer, 413, "too_large")
    assert answer.json()["limit_bytes"] == limit_bytes


def test_a_chunked_body_over_its_limit_is_told_the_limit(http: httpx.Client) -> None:
    chunks = (b" " * 10_000 for _ in range(1000))
    answer = http.post("/api/v1/heartbeat", content=chunks, headers=JSON)
    assert_error(answer, 413, "too_large")


JSON = {"content-type": "application/json; charset=utf-8"}


def ask(client: httpx.Client, task_id: str, **fields: Any) -> httpx.Response:
    return client.post("/api/v1/schedule", json={"task_id": task_id, **fields})


def batch(client: httpx.Client, tasks: list[Any], **fields: Any) -> httpx.Response:
    return client.post("/api/v1/schedule", json={"tasks": tasks, **fields})


def row(client: httpx.Client, worker_id: str) -> dict[str, Any]:
    rows = client.get("/api/v1/workers").json()
    return next(each for each in rows if each["worker_id"] == worker_id)


def assert_error(answer: httpx.Response, status: int, code: str, field: str | None = None) -> None:
    body = answer.json()
    assert (answer.status_code, body["code"], body.get("field")) == (status, code, field), body
    assert body["error"]
    assert answer.headers["content-type"] == "application/json"
