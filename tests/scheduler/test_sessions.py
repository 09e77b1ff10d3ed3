"""Browsers sign in with a code, and are let in by a cookie that no other page can use."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import servers
from dtask.clock import ManualClock
from dtask.errors import Denied
from dtask.scheduler.sessions import CODE_S, CODES_MAX, SESSION_S, SESSIONS_MAX, Sessions


@pytest.fixture
def browser(scheduler: servers.RunningScheduler) -> Iterator[httpx.Client]:
    """One that is signed in, and sends what browsers send with a page's requests."""
    with httpx.Client(base_url=scheduler.url, verify=False) as client:
        client.headers["origin"] = scheduler.url
        assert sign_in(client, scheduler).status_code == 200
        yield client


def sign_in(client: httpx.Client, scheduler: servers.RunningScheduler) -> httpx.Response:
    headers = servers.bearer(scheduler.token)
    made = httpx.post(f"{scheduler.url}/api/v1/sign-in-codes", headers=headers, verify=False)
    return client.post("/api/v1/session", json={"code": made.json()["code"]})


def test_a_session_opens_what_the_token_opens(browser: httpx.Client) -> None:
    assert browser.get("/api/v1/jobs").status_code == 200
    assert browser.put("/api/v1/queues/browsers", json={"weight": 2}).status_code == 200
    assert browser.get("/api/v1/session").json()["signed_in"] is True


def test_the_cookie_is_named_after_the_port_and_hidden_from_pages(
    scheduler: servers.RunningScheduler, http: httpx.Client
) -> None:
    cookie = sign_in(http, scheduler).headers["set-cookie"]
    http.cookies.clear()
    port = httpx.URL(scheduler.url).port
    assert cookie.startswith(f"dtask-session-{port}=")
    assert cookie.endswith("; Path=/; HttpOnly; SameSite=Strict; Max-Age=43200")
    assert scheduler.token not in cookie


def test_behind_tls_the_cookie_stays_behind_tls(
    scheduler: servers.RunningScheduler, http: httpx.Client
) -> None:
    http.headers["origin"] = scheduler.url.replace("http:", "https:")
    cookie = sign_in(http, scheduler).headers["set-cookie"]
    del http.headers["origin"]
    http.cookies.clear()
    assert cookie.endswith("; Secure")


def test_a_code_is_good_once(scheduler: servers.RunningScheduler, operator: httpx.Client) -> None:
    code = operator.post("/api/v1/sign-in-codes").json()["code"]
    url = f"{scheduler.url}/api/v1/session"
    assert httpx.post(url, json={"code": code}, verify=False).status_code == 200
    again = httpx.post(url, json={"code": code}, verify=False)
    assert (again.status_code, again.json()["code"]) == (403, "wrong_code")
    assert "dtask dashboard" in again.json()["error"]


def test_a_session_makes_no_codes(browser: httpx.Client) -> None:
    refused = browser.post("/api/v1/sign-in-codes")
    assert (refused.status_code, refused.json()["code"]) == (401, "no_token")


def test_a_cookie_of_our_name_that_another_port_has_set_shuts_nobody_out(
    browser: httpx.Client,
) -> None:
    ((name, word),) = browser.cookies.items()
    browser.cookies.clear()
    browser.headers["cookie"] = f"{name}=of-another; {name}={word}"
    assert browser.get("/api/v1/jobs").status_code == 200
    assert browser.delete("/api/v1/session").status_code == 200
    assert browser.get("/api/v1/jobs").status_code == 401


def test_codes_are_for_those_with_the_token(http: httpx.Client) -> None:
    answer = http.post("/api/v1/sign-in-codes")
    assert (answer.status_code, answer.json()["code"]) == (401, "no_token")


def test_signing_out_ends_the_session_whoever_kept_the_cookie(browser: httpx.Client) -> None:
    kept = dict(browser.cookies)
    answer = browser.delete("/api/v1/session")
    assert answer.json()["signed_in"] is False
    assert "Max-Age=0" in answer.headers["set-cookie"]
    browser.cookies.update(kept)
    refused = browser.get("/api/v1/jobs")
    assert (refused.status_code, refused.json()["code"]) == (401, "no_token")
    assert "session is over" in refused.json()["error"]


@pytest.mark.parametrize("path", ["/api/v1/live", "/api/v1/events"])
def test_what_is_followed_with_a_session_ends_with_it(browser: httpx.Client, path: str) -> None:
    with browser.stream("GET", path, timeout=servers.PATIENCE_S) as stream:
        assert stream.status_code == 200
        with httpx.Client(base_url=browser.base_url, verify=False) as another_tab:
            another_tab.cookies.update(browser.cookies)
            another_tab.headers["origin"] = browser.headers["origin"]
            assert another_tab.delete("/api/v1/session").status_code == 200
        assert b"".join(stream.iter_bytes()), "it ends as an answer does, and is not cut off"


def test_who_waits_with_a_session_is_told_that_it_is_over(
    browser: httpx.Client, operator: httpx.Client
) -> None:
    job = {"command": ["true"], "tags": ["nowhere"]}
    job_id = operator.post("/api/v1/jobs", json=job).json()["job_id"]

    def wait() -> httpx.Response:
        return browser.get(f"/api/v1/jobs/{job_id}?wait_s=60", timeout=servers.PATIENCE_S)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait)
        cookies = {"cookie": "; ".join(f"{name}={word}" for name, word in browser.cookies.items())}
        origin = {"origin": browser.headers["origin"]}
        httpx.delete(f"{browser.base_url}/api/v1/session", headers=cookies | origin, verify=False)
        answer = waiting.result()
    assert (answer.status_code, answer.json()["code"]) == (401, "no_token")


@pytest.mark.parametrize("origin", ["http://localhost:1", "http://127.0.0.1:1", "null", None])
def test_a_page_of_another_port_changes_nothing_with_our_cookie(
    browser: httpx.Client, origin: str | None
) -> None:
    """To a browser, all ports of localhost are one site: it sends the cookie along."""
    headers = {} if origin is None else {"origin": origin}
    del browser.headers["origin"]
    for method, path in (("PUT", "/api/v1/queues/q"), ("POST", "/api/v1/jobs"), ("DELETE", "/")):
        answer = browser.request(method, path, json={}, headers=headers)
        if path != "/":
            assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin"), path


@pytest.mark.parametrize("path", ["/api/v1/jobs", "/api/v1/events", "/api/v1/live"])
@pytest.mark.parametrize(
    "headers",
    [{"sec-fetch-site": "same-site"}, {"sec-fetch-site": "cross-site"}, {"origin": "http://x:1"}],
)
def test_a_page_of_another_port_reads_nothing_with_our_cookie(
    browser: httpx.Client, path: str, headers: dict[str, str]
) -> None:
    answer = browser.get(path, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")


@pytest.mark.parametrize("headers", [{"sec-fetch-site": "same-site"}, {"origin": "http://x:1"}])
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_page_of_another_port_signs_nobody_in_or_out(
    browser: httpx.Client, method: str, headers: dict[str, str]
) -> None:
    answer = browser.request(method, "/api/v1/session", json={"code": "x"}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
    assert browser.get("/api/v1/session").json()["signed_in"] is True


def test_a_session_outlives_a_restart_and_its_file_opens_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with servers.running_scheduler(data=data) as scheduler:
        port = httpx.URL(scheduler.url).port
        with httpx.Client(base_url=scheduler.url, verify=False) as client:
            sign_in(client, scheduler)
            (kept,) = client.cookies.values()
    file = data / "sessions"
    assert file.stat().st_mode & 0o777 == 0o600
    assert kept not in file.read_text()
    with servers.running_scheduler(data=data, port=port) as scheduler:
        cookie = {"cookie": f"dtask-session-{port}={kept}"}
        answer = httpx.get(f"{scheduler.url}/api/v1/jobs", headers=cookie, verify=False)
        assert answer.status_code == 200


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": "b"}', '{"a": null}'])
def test_a_damaged_file_signs_everybody_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "sessions").write_text(text)
    sessions = Sessions(tmp_path / "sessions", port=1, now=lambda: 0.0)
    assert sessions.end_of(b"dtask-session-1=a") is None


def test_codes_and_sessions_end_in_time(tmp_path: Path) -> None:
    clock = ManualClock(1_000.0)
    sessions = Sessions(tmp_path / "sessions", port=1, now=clock.now)

    async def main() -> None:
        late, code = sessions.code(), sessions.code()
        clock.advance(CODE_S - 1)
        session = await sessions.open(code.word)
        cookie = b"other=1; dtask-session-1=" + session.word.encode()
        clock.advance(1)
        with pytest.raises(Denied):
            await sessions.open(late.word)
        clock.advance(SESSION_S - 1.05)
        assert sessions.end_of(cookie) == session.expires_at
        over = asyncio.create_task(sessions.over(cookie))
        await asyncio.sleep(0)
        assert not over.done()
        clock.advance(1)
        await over
        assert sessions.end_of(cookie) is None

    asyncio.run(main())
    sessions.close()


def test_neither_codes_nor_sessions_grow_without_bound(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path / "sessions", port=1, now=lambda: 1_000.0)

    async def main() -> None:
        first = sessions.code()
        for _ in range(CODES_MAX):
            last = sessions.code()
        with pytest.raises(Denied):
            await sessions.open(first.word)
        words = [last.word, *(sessions.code().word for _ in range(CODES_MAX - 1))]
        opened = [await sessions.open(word) for word in words]
        for _ in range(SESSIONS_MAX - CODES_MAX + 1):
            opened += [await sessions.open(sessions.code().word)]
        ends = [sessions.end_of(b"dtask-session-1=" + one.word.encode()) for one in opened]
        assert ends.count(None) == 1
        assert ends[0] is None

    asyncio.run(main())
    sessions.close()


def test_sessions_go_on_when_they_can_not_be_kept(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path / "missing" / "sessions", port=1, now=lambda: 1_000.0)

    async def main() -> None:
        session = await sessions.open(sessions.code().word)
        assert sessions.end_of(b"dtask-session-1=" + session.word.encode()) is not None

    asyncio.run(main())
    sessions.close()
