import pytest

from dtask import addresses
from dtask.errors import InvalidRequest


@pytest.fixture(autouse=True)
def _no_scheduler_of_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DTASK_SCHEDULER", raising=False)


@pytest.mark.parametrize(
    ("given", "urls"),
    [
        (None, ("http://127.0.0.1:8080",)),
        ([], ("http://127.0.0.1:8080",)),
        ("http://a:1/", ("http://a:1",)),
        ("http://a:1, https://b/dtask", ("http://a:1", "https://b/dtask")),
        (["http://a:1,http://[::1]:2", "http://a:1/"], ("http://a:1", "http://[::1]:2")),
    ],
)
def test_schedulers_are_one_or_several_urls(
    given: str | list[str] | None, urls: tuple[str, ...]
) -> None:
    assert addresses.scheduler_urls(given) == urls


def test_environment_names_the_scheduler_unless_one_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DTASK_SCHEDULER", "http://a:1,http://b:2")
    assert addresses.scheduler_urls() == ("http://a:1", "http://b:2")
    assert addresses.scheduler_urls("http://c:3") == ("http://c:3",)


@pytest.mark.parametrize(
    "text",
    [
        "localhost:8080",
        "ftp://a",
        "http://",
        "http://:80",
        "http://a:0",
        "http://a:x",
        "http://a:99999",
        "http://[::1",
        "http://user:word@a",
        "http://a?b",
        "http://a#b",
        "http://a b",
        "http://ä",
    ],
)
def test_what_is_no_url_is_refused_by_name(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidRequest, match=r"^scheduler: .*expected a URL such as"):
        addresses.scheduler_urls(text)
    monkeypatch.setenv("DTASK_SCHEDULER", text)
    with pytest.raises(InvalidRequest, match=r"^DTASK_SCHEDULER: .*expected a URL such as"):
        addresses.scheduler_urls()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("127.0.0.1:8081", ("127.0.0.1", 8081)),
        ("worker.example:0", ("worker.example", 0)),
        ("[::1]:8081", ("::1", 8081)),
    ],
)
def test_address_of_a_listener_has_a_host_and_a_port(text: str, parts: tuple[str, int]) -> None:
    assert addresses.split_host_port(text, "--addr") == parts
    assert addresses.join_host_port(*parts) == text


@pytest.mark.parametrize("text", ["", "1", ":8081", "a:", "a:-1", "::1:8081", "a b:1", "a:70000"])
def test_what_is_no_address_is_refused_by_the_flag(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^--addr: .*expected"):
        addresses.split_host_port(text, "--addr")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST"])
def test_loopback_is_known(host: str) -> None:
    assert addresses.is_loopback(host)


@pytest.mark.parametrize("host", ["10.0.0.1", "127.example.com", "localhost.example.com", "::"])
def test_what_only_looks_like_loopback_is_not(host: str) -> None:
    assert not addresses.is_loopback(host)


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("localhost:8080", "localhost"),
        ("localhost", "localhost"),
        ("[::1]:8080", "::1"),
        ("[::1]", "::1"),
        ("[::1", "::1"),
        ("127.0.0.1.example.com:1", "127.0.0.1.example.com"),
        ("", ""),
    ],
)
def test_a_host_header_is_a_host_and_maybe_a_port(header: str, host: str) -> None:
    assert addresses.host_of(header) == host
