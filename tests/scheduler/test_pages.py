"""Files for browsers, as they are, under rules that let a page do no harm."""

import httpx

from dtask.dashboard import STATIC


def test_a_browser_at_the_root_is_sent_to_the_pages(http: httpx.Client) -> None:
    for path in ("/", "/dashboard"):
        answer = http.get(path)
        assert (answer.status_code, answer.headers["location"]) == (307, "/dashboard/")


def test_pages_are_open_and_come_with_their_policy(http: httpx.Client) -> None:
    answer = http.get("/dashboard/")
    assert answer.content == (STATIC / "index.html").read_bytes()
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} <= set(policy)
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_page_that_the_browser_has_is_not_sent_again(http: httpx.Client) -> None:
    etag = http.get("/dashboard/").headers["etag"]
    answer = http.get("/dashboard/", headers={"if-none-match": f'"other", W/{etag}'})
    assert (answer.status_code, answer.content) == (304, b"")


def test_only_pages_are_handed_out(http: httpx.Client) -> None:
    for path in ("/dashboard/no.js", "/dashboard/../__init__.py", "/dashboard/%2e%2e/__init__.py"):
        answer = http.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "no_route"), path
