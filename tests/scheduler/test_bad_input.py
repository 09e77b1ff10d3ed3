"""Nothing that is sent gets anything but a 4xx that says what was wrong, or a closed connection."""

import json
import random
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import raw_http
import servers

HEARTBEAT = {"worker_id": "w", "address": "a", "resource_tags": [], "max_tasks": 1}
PATHS = {"/api/v1/heartbeat": HEARTBEAT, "/api/v1/schedule": {"task_id": "t"}}


@pytest.fixture(autouse=True)
def _scheduler_survives(http: httpx.Client) -> Any:
    """After each test: it still answers."""
    yield
    assert http.get("/healthz").status_code == 200


def post(http: httpx.Client, path: str, content: bytes) -> httpx.Response:
    return http.post(path, content=content, headers={"content-type": "application/json"})


def assert_refused(answer: httpx.Response, field: str | None = None) -> None:
    body = answer.json()
    assert 400 <= answer.status_code < 500, body
    assert body["error"]
    if field is not None:
        assert body["field"] == field, body


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b"7",
        b'"text"',
        b"{",
        b"{}",
        b"{]",
        b"NaN",
        b"{'task_id':'t'}",
        b"\xff\xfe{\x00}\x00",
        b'\xef\xbb\xbf{"task_id":"t"}',
        b'{"task_id":"t"}}',
        b'{"task_id":"t"}{"task_id":"t"}',
        b'{"a":' * 30_000,
        b"[" * 60_000,
        b'{"task_id":' + b"[" * 60_000 + b"]" * 60_000 + b"}",
        b'{"tasks":' * 5_000,
        b'{"tasks":[{"task_id":"t","x":' + b"[" * 50_000,
        b"\x00" * 1000,
        b'{"task_id":"\xed\xa0\x80"}',
        b'{"task_id":"\xc0\x80"}',
    ],
)
def test_what_is_no_body_is_refused(http: httpx.Client, path: str, content: bytes) -> None:
    assert_refused(post(http, path, content))


@pytest.mark.parametrize("path", PATHS)
def test_a_body_cut_anywhere_is_refused(http: httpx.Client, path: str) -> None:
    whole = json.dumps(PATHS[path]).encode()
    for length in range(len(whole)):
        assert_refused(post(http, path, whole[:length]))


@pytest.mark.parametrize(
    "text",
    [
        '"\\ud800"',
        '"\\udc00x"',
        '"\\ud800\\ud800"',
        '"\\u0000"',
        '"a\\nb"',
        '"\\u202e"',
        '""',
        '"' + "x" * 129 + '"',
        "7",
        "7.0",
        "null",
        "true",
        "[]",
        "{}",
        "NaN",
        "1e999",
        "9" * 10_000,
    ],
)
@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/api/v1/schedule", "task_id"),
        ("/api/v1/heartbeat", "worker_id"),
        ("/api/v1/heartbeat", "address"),
        ("/api/v1/heartbeat", "incarnation"),
    ],
)
def test_what_is_no_id_is_refused(http: httpx.Client, path: str, field: str, text: str) -> None:
    if (field, text) in {("address", '"' + "x" * 129 + '"'), ("incarnation", "null")}:
        return
    rest = {name: value for name, value in PATHS[path].items() if name != field}
    content = json.dumps(rest)[:-1] + (", " if rest else "") + f'"{field}": {text}}}'
    assert_refused(post(http, path, content.encode()))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"max_tasks": 0}, "max_tasks"),
        ({"max_tasks": 100_001}, "max_tasks"),
        ({"max_tasks": 1.5}, "max_tasks"),
        ({"max_tasks": 1.0}, "max_tasks"),
        ({"max_tasks": "1"}, "max_tasks"),
        ({"max_tasks": True}, "max_tasks"),
        ({"max_tasks": 10**400}, "max_tasks"),
        ({"current_tasks": -1}, "current_tasks"),
        ({"seq": 2**53}, "seq"),
        ({"resource_tags": "gpu"}, "resource_tags"),
        ({"resource_tags": ["gpu", 7]}, "resource_tags[1]"),
        ({"resource_tags": ["gpu", ""]}, "resource_tags[1]"),
        ({"resource_tags": ["a|b"]}, "resource_tags[0]"),
        ({"resource_tags": ["a b"]}, "resource_tags[0]"),
        ({"resource_tags": ["a\0"]}, "resource_tags[0]"),
        ({"resource_tags": ["x" * 65]}, "resource_tags[0]"),
        ({"resource_tags": [f"t{i}" for i in range(65)]}, "resource_tags"),
        ({"tasks": [{"task_id": "t"}]}, "tasks[0].fence"),
        ({"tasks": [{"task_id": "t", "fence": -1}]}, "tasks[0].fence"),
        ({"tasks": ["ok", "a\0"]}, "tasks[1]"),
        ({"ended": ["\u2028"]}, "ended[0]"),
        ({"ended": 5}, "ended"),
        ({"draining": 1}, "draining"),
        ({"metrics": {"a": [1]}}, "metrics[...]"),
        ({"metrics": {"a": 2**64}}, "metrics[...]"),
        ({"metrics": {"a": "\0"}}, "metrics"),
        ({"metrics": {"a": "x" * 129}}, "metrics[...]"),
        ({"metrics": {f"m{i}": 1 for i in range(65)}}, "metrics"),
        ({"timestamp": []}, "timestamp"),
    ],
)
def test_a_heartbeat_that_makes_no_sense_names_the_field(
    http: httpx.Client, fields: dict[str, Any], field: str
) -> None:
    content = json.dumps(HEARTBEAT | fields).encode()
    assert_refused(post(http, "/api/v1/heartbeat", content), field)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"required_tags": "gpu"}, "required_tags"),
        ({"required_tags": [1]}, "required_tags[0]"),
        ({"required_tags": ["gpu", "!"]}, "required_tags[1]"),
        ({"required_tags": ["cuda>=twelve"]}, "required_tags[0]"),
        ({"required_tags": ["x" * 513]}, "required_tags[0]"),
        ({"required_tags": ["x"] * 65}, "required_tags"),
        ({"preferred_tags": ["a|b"]}, "preferred_tags[0]"),
        ({"exclude_workers": [""]}, "exclude_workers[0]"),
        ({"exclude_workers": ["a\0"]}, "exclude_workers[0]"),
        ({"exclude_workers": ["w"] * 1001}, "exclude_workers"),
        ({"strategy": "fastest"}, "strategy"),
        ({"ttl_s": 0}, "ttl_s"),
        ({"ttl_s": 3601}, "ttl_s"),
        ({"ttl_s": "30"}, "ttl_s"),
        ({"ttl_s": float("nan")}, None),
        ({"ttl_s": float("inf")}, None),
        ({"trusted": "yes"}, "trusted"),
        ({"tag": []}, "tag"),
        ({"x" * 1000: 1}, None),
        ({"\u202e\0": 1}, None),
    ],
)
def test_a_question_that_makes_no_sense_names_the_field(
    http: httpx.Client, fields: dict[str, Any], field: str | None
) -> None:
    content = json.dumps({"task_id": "t"} | fields).encode()
    assert_refused(post(http, "/api/v1/schedule", content), field)


@pytest.mark.parametrize(
    "content",
    [
        b'{"task_id":"a","task_id":"b"}',
        b'{"task_id":"a","task\\u005fid":"b"}',
        b'{"task_id":"a","ttl_s":5,"ttl_s":5}',
    ],
)
def test_a_key_named_twice_is_refused(http: httpx.Client, content: bytes) -> None:
    assert_refused(post(http, "/api/v1/schedule", content))


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=[])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
FIELD_NAMES = st.sampled_from(
    [
        "task_id",
        "worker_id",
        "address",
        "resource_tags",
        "required_tags",
        "exclude_workers",
        "max_tasks",
        "current_tasks",
        "tasks",
        "ended",
        "metrics",
        "all_or_nothing",
        "ttl_s",
        "fence",
        "seq",
    ]
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    path=st.sampled_from(sorted(PATHS)),
    fields=st.dictionaries(FIELD_NAMES, JSON_VALUES, max_size=8),
    whole=st.booleans(),
)
def test_random_values_in_known_fields_never_break_it(
    http: httpx.Client, path: str, fields: dict[str, Any], whole: bool
) -> None:
    body = PATHS[path] | fields if whole else fields
    answer = post(http, path, json.dumps(body).encode())
    assert answer.status_code in {200, 400, 401, 409, 503}, answer.text
    answer.json()


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(path=st.sampled_from(sorted(PATHS)), content=st.binary(max_size=300))
def test_random_bytes_for_a_body_never_break_it(
    http: httpx.Client, path: str, content: bytes
) -> None:
    assert_refused(post(http, path, content))


@pytest.mark.parametrize("seed", range(30))
def test_random_bytes_for_a_request_are_refused_or_cut_off(
    scheduler: servers.RunningScheduler, seed: int
) -> None:
    rng = random.Random(seed)
    answer = raw_http.exchange(scheduler.url, rng.randbytes(rng.randrange(1, 5000)) + b"\r\n\r\n")
    assert raw_http.status_of(answer) in {0, 400}


@pytest.mark.parametrize("seed", range(30))
def test_a_request_with_bytes_changed_never_breaks_it(
    scheduler: servers.RunningScheduler, seed: int
) -> None:
    rng = random.Random(seed)
    data = bytearray(raw_http.request("POST", "/api/v1/schedule", b'{"task_id":"t"}'))
    for _ in range(3):
        data[rng.randrange(len(data))] = rng.randrange(256)
    with raw_http.connect(scheduler.url) as client:
        client.sendall(data)
        client.shutdown(1)  # some changes make the body longer than what is sent
        assert raw_http.status_of(raw_http.read_all(client)) < 600


@pytest.mark.parametrize(
    "data",
    [
        raw_http.request("POST", "/api/v1/schedule", b"", "content-length: -1"),
        raw_http.request("POST", "/api/v1/schedule", b"", "content-length: 99999999999999999999"),
        raw_http.request("POST", "/api/v1/schedule", b"", "content-length: 1", "content-length: 2"),
        raw_http.request("POST", "/api/v1/schedule", b"", "transfer-encoding: chunked"),
        raw_http.CHUNKED + b"xyz\r\n",
        raw_http.CHUNKED + b"ffffffffffffffffff\r\n",
        b"POST /api/v1/schedule HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: gzip\r\n\r\n",
        b"GET http:// HTTP/1.1\r\n\r\n",
        b"GET * HTTP/1.1\r\nconnection: close\r\n\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nho st: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nx: a\r\n b\x00\r\n\r\n",
        b"FETCH /healthz HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x07" * 500,
    ],
)
def test_what_is_not_http_is_refused_in_json_or_cut_off(
    scheduler: servers.RunningScheduler, data: bytes
) -> None:
    answer = raw_http.exchange(scheduler.url, data)
    assert raw_http.status_of(answer) in {0, 400, 404}
    if answer:
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]


@pytest.mark.parametrize(
    "path", ["/%", "/%zz", "/%80", "/%00", "/api/v1/schedule/%ff", "//", "/?%"]
)
@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
def test_paths_that_decode_to_nothing_are_refused(
    scheduler: servers.RunningScheduler, method: str, path: str
) -> None:
    answer = raw_http.exchange(scheduler.url, raw_http.request(method, path))
    assert raw_http.status_of(answer) in {400, 404, 405}


def test_a_head_over_the_limit_is_refused(scheduler: servers.RunningScheduler) -> None:
    for size in (33_000, 10_000_000):
        data = raw_http.request("GET", "/healthz", b"", "x-large: " + "x" * size)
        assert raw_http.status_of(raw_http.exchange(scheduler.url, data)) in {0, 413}
        many = [f"x-{i}: y" for i in range(size // 8)]
        data = raw_http.request("GET", "/healthz", b"", *many)
        assert raw_http.status_of(raw_http.exchange(scheduler.url, data)) in {0, 413}


def test_a_url_over_the_limit_is_refused(scheduler: servers.RunningScheduler) -> None:
    data = raw_http.request("GET", "/healthz?" + "x" * 10_000_000)
    assert raw_http.status_of(raw_http.exchange(scheduler.url, data)) in {0, 413}


@pytest.mark.parametrize(
    "endless",
    [
        b"0\r\n" + b"x: y\r\n" * 100_000,
        b"0\r\nx: " + b"y" * 1_000_000,
        b"1;" + b"x" * 1_000_000,
        b"0" * 1_000_000,
    ],
    ids=["trailers", "one trailer", "chunk extension", "chunk size"],
)
def test_what_surrounds_a_body_is_bounded(
    scheduler: servers.RunningScheduler, endless: bytes
) -> None:
    answer = raw_http.exchange(scheduler.url, raw_http.CHUNKED + b"2\r\n{}\r\n" + endless)
    assert raw_http.status_of(answer) in {0, 400, 413}


def test_trailers_are_not_headers(scheduler: servers.RunningScheduler) -> None:
    data = raw_http.CHUNKED + b'f\r\n{"task_id":"t"}\r\n0\r\nauthorization: Bearer wrong\r\n\r\n'
    assert raw_http.status_of(raw_http.exchange(scheduler.url, data)) in {200, 503}


def test_a_head_within_the_limit_is_read(scheduler: servers.RunningScheduler) -> None:
    data = raw_http.request("GET", "/healthz", b"", "x-large: " + "x" * 30_000)
    assert raw_http.status_of(raw_http.exchange(scheduler.url, data)) == 200


def test_an_upgrade_to_something_else_is_ignored(scheduler: servers.RunningScheduler) -> None:
    data = (
        b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade, http2-settings\r\n"
        b"upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n"
    )
    answer = raw_http.exchange(scheduler.url, data)
    assert answer.endswith(b'{"status":"ok"}')
