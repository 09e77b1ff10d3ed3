"""Who may ask for what."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import servers
from dtask.errors import Denied, InvalidRequest
from dtask.scheduler.api.access import Access
from dtask.scheduler.sessions import Sessions
from dtask.scheduler.settings import Settings

TOKEN = "a-token-for-tests-only"
NOBODY = Sessions(Path(os.devnull), port=8080, now=lambda: 0.0)
FORWARDING = [
    (b"forwarded", b"for=10.0.0.1"),
    (b"x-forwarded-for", b"10.0.0.1"),
    (b"x-forwarded-proto", b"https"),
    (b"via", b"1.1 proxy"),
]


def check(
    settings: Settings,
    *headers: tuple[bytes, bytes],
    host: bytes = b"localhost:8080",
    peer: str | None = "127.0.0.1",
    **needs: bool,
) -> bool:
    return Access(settings, TOKEN, NOBODY).check([(b"host", host), *headers], peer, **needs)


def token(text: str = TOKEN) -> tuple[bytes, bytes]:
    return (b"authorization", f"Bearer {text}".encode())


@pytest.mark.parametrize("bound", ["127.0.0.1", "localhost", "::1"])
@pytest.mark.parametrize("host", [b"localhost", b"LOCALHOST:80", b"127.0.0.1:8080", b"[::1]:8080"])
@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1"])
def test_placement_is_open_on_loopback(bound: str, host: bytes, peer: str) -> None:
    assert check(Settings(host=bound), host=host, peer=peer) is False


@pytest.mark.parametrize("bound", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_placement_needs_the_token_where_others_can_reach_it(bound: str) -> None:
    assert_denied("no_token", Settings(host=bound))
    assert check(Settings(host=bound), token()) is True


@pytest.mark.parametrize("peer", ["10.0.0.1", "fe80::1", None, "not an address"])
def test_placement_needs_the_token_from_another_machine(peer: str | None) -> None:
    assert_denied("no_token", Settings(), peer=peer)
    assert check(Settings(), token(), peer=peer) is True


@pytest.mark.parametrize(
    "host", [b"example.org", b"localhost.example.org", b"127.0.0.1.example.org:8080", b"", b"\xff"]
)
def test_placement_needs_the_token_under_a_foreign_name(host: bytes) -> None:
    """A web page can point its own name at 127.0.0.1."""
    assert_denied("no_token", Settings(), host=host)
    assert check(Settings(), token(), host=host) is True


def test_two_hosts_or_none_are_not_loopback() -> None:
    assert_denied("no_token", Settings(), (b"host", b"localhost"))
    with pytest.raises(Denied):
        Access(Settings(), TOKEN, NOBODY).check([], "127.0.0.1")


@pytest.mark.parametrize("header", FORWARDING)
def test_placement_needs_the_token_behind_a_proxy(header: tuple[bytes, bytes]) -> None:
    assert_denied("no_token", Settings(), header)
    assert check(Settings(), header, token()) is True


def test_require_token_closes_loopback() -> None:
    assert_denied("no_token", Settings(require_token=True))
    assert check(Settings(require_token=True), token()) is True


@pytest.mark.parametrize("header", [(b"accept", b"*/*"), *FORWARDING])
def test_insecure_opens_placement_to_everyone(header: tuple[bytes, bytes]) -> None:
    settings = Settings(host="0.0.0.0", insecure=True)
    assert check(settings, header, host=b"example.org", peer="10.0.0.1") is False


def test_insecure_does_not_open_what_needs_the_token() -> None:
    assert_denied("no_token", Settings(insecure=True), needs_token=True)
    assert check(Settings(insecure=True), token(), needs_token=True) is True


@pytest.mark.parametrize(
    "value",
    [
        b"Bearer another-token-altogether",
        b"Bearer " + TOKEN.encode() + b"x",
        b"Bearer " + TOKEN[:-1].encode(),
        b"Bearer",
        b"",
        b"Basic YTpi",
        TOKEN.encode(),
        b"\xff\xfe",
    ],
)
@pytest.mark.parametrize("settings", [Settings(), Settings(insecure=True)], ids=["", "insecure"])
def test_a_token_that_is_sent_must_fit(value: bytes, settings: Settings) -> None:
    assert_denied("wrong_token", settings, (b"authorization", value))
    with pytest.raises(Denied):
        Access(settings, TOKEN, NOBODY).check_open([(b"authorization", value)])


def test_one_right_token_does_not_excuse_a_wrong_one() -> None:
    assert_denied("wrong_token", Settings(), token(), token("another-token-altogether"))


@pytest.mark.parametrize("scheme", [b"bearer ", b"BEARER ", b"Bearer  "])
def test_the_scheme_is_read_whatever_its_case(scheme: bytes) -> None:
    assert check(Settings(), (b"authorization", scheme + TOKEN.encode())) is True


@pytest.mark.parametrize(
    "origin",
    [b"https://example.org", b"null", b"http://localhost:9999", b"", b"localhost:8080"],
)
def test_a_web_page_of_another_origin_is_refused_even_with_the_token(origin: bytes) -> None:
    assert_denied("foreign_origin", Settings(), (b"origin", origin))
    assert_denied("foreign_origin", Settings(), (b"origin", origin), token())


def test_a_web_page_of_this_service_is_not_refused() -> None:
    assert check(Settings(), (b"origin", b"http://localhost:8080")) is False


@pytest.mark.parametrize(
    "value", [b"text/plain", b"application/x-www-form-urlencoded", b"", b"application/jsonp"]
)
def test_a_body_of_another_type_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check(Settings(), (b"content-type", value), has_body=True)
    assert caught.value.code == "wrong_content_type"


@pytest.mark.parametrize(
    "value", [b"application/json", b"application/json; charset=utf-8", b"Application/JSON;x"]
)
def test_a_json_body_may_carry_parameters(value: bytes) -> None:
    check(Settings(), (b"content-type", value), has_body=True)


def assert_denied(code: str, *arguments: Any, **named: Any) -> None:
    with pytest.raises(Denied) as caught:
        check(*arguments, **named)
    assert caught.value.code == code


# Over HTTP: which routes stand behind which rule.

PLACEMENT = [
    ("POST", "/api/v1/heartbeat"),
    ("POST", "/api/v1/schedule"),
    ("DELETE", "/api/v1/schedule/t"),
    ("GET", "/api/v1/workers"),
    ("GET", "/metrics"),
]
OPERATOR = [("POST", "/api/v1/workers/w/drain"), ("POST", "/api/v1/workers/w/undrain")]
OPEN = [("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/openapi.json")]


@pytest.fixture(scope="module")
def closed() -> Iterator[httpx.Client]:
    with (
        servers.running_scheduler(require_token=True) as running,
        httpx.Client(base_url=running.url, verify=False) as client,
    ):
        yield client


@pytest.mark.parametrize(("method", "path"), PLACEMENT + OPERATOR)
def test_routes_that_need_the_token_refuse_without_it(
    closed: httpx.Client, method: str, path: str
) -> None:
    answer = closed.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (401, "no_token")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path"), OPEN)
def test_routes_that_are_open_answer_without_the_token(
    closed: httpx.Client, method: str, path: str
) -> None:
    assert closed.request(method, path).status_code == 200


@pytest.mark.parametrize(("method", "path"), PLACEMENT + OPERATOR + OPEN)
def test_a_wrong_token_is_refused_everywhere(closed: httpx.Client, method: str, path: str) -> None:
    answer = closed.request(method, path, headers=servers.bearer("another-token-altogether"))
    assert (answer.status_code, answer.json()["code"]) == (401, "wrong_token")


@pytest.mark.parametrize(("method", "path"), OPERATOR)
def test_an_operators_routes_need_the_token_on_loopback(
    http: httpx.Client, method: str, path: str
) -> None:
    assert http.request(method, path).json()["code"] == "no_token"


@pytest.mark.parametrize(("method", "path"), PLACEMENT + OPERATOR)
def test_a_web_page_cannot_drive_the_scheduler(
    operator: httpx.Client, method: str, path: str
) -> None:
    answer = operator.request(method, path, headers={"origin": "https://example.org"})
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")


@pytest.mark.parametrize("path", ["/api/v1/heartbeat", "/api/v1/schedule"])
def test_a_form_cannot_drive_the_scheduler(http: httpx.Client, path: str) -> None:
    answer = http.post(path, content=b'{"task_id":"t"}', headers={"content-type": "text/plain"})
    assert (answer.status_code, answer.json()["code"]) == (400, "wrong_content_type")


def test_a_heartbeat_with_the_token_makes_its_worker_trusted(
    scheduler: servers.RunningScheduler, http: httpx.Client
) -> None:
    servers.beat(scheduler.url, "t", token=scheduler.token)
    servers.beat(scheduler.url, "u")
    rows = http.get("/api/v1/workers").json()
    assert {row["worker_id"]: row["trusted"] for row in rows} == {"t": True, "u": False}
