import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtask.errors import Denied
from dtask.wire.ticket import TICKET_CHARS_MAX, check_ticket, make_ticket, ticket_key

KEY = ticket_key("a token of sixteen characters")
NOW = 1_700_000_000.0


def ticket(expires_at: float = NOW + 30) -> str:
    return make_ticket(KEY, worker_id="w1", task_id="t", fence=7, expires_at=expires_at)


def check(
    text: str,
    *,
    key: bytes = KEY,
    worker_id: str = "w1",
    task_id: str = "t",
    fence: int = 7,
    now: float | None = NOW,
) -> None:
    check_ticket(key, text, worker_id=worker_id, task_id=task_id, fence=fence, now=now)


def test_a_ticket_is_good_for_its_worker_task_and_fence() -> None:
    check(ticket())


def test_a_ticket_is_good_for_nothing_else() -> None:
    text = ticket()
    for key, worker_id, task_id, fence in [
        (ticket_key("another token, also long"), "w1", "t", 7),
        (KEY, "w2", "t", 7),
        (KEY, "w1", "u", 7),
        (KEY, "w1", "t", 8),
        (KEY, "w", "1t", 7),
        (KEY, "w1", "t7", 0),
    ]:
        with pytest.raises(Denied) as refused:
            check(text, key=key, worker_id=worker_id, task_id=task_id, fence=fence)
        assert refused.value.code == "bad_ticket"


def test_a_ticket_may_start_its_task_until_it_expires_and_read_it_for_ever() -> None:
    text = ticket(expires_at=NOW + 0.9)
    check(text, now=NOW + 0.9)
    with pytest.raises(Denied, match="has expired"):
        check(text, now=NOW + 2)
    check(text, now=None)


def test_an_expiry_that_was_moved_is_refused() -> None:
    expiry, _, mac = ticket().partition(".")
    with pytest.raises(Denied):
        check(f"{int(expiry) + 1}.{mac}")


def test_a_ticket_fits_its_limit_until_the_year_9999() -> None:
    assert len(ticket(expires_at=253_402_300_799.0)) <= TICKET_CHARS_MAX


@given(
    st.text(max_size=200)
    | st.tuples(st.text("0123456789٣²", max_size=150), st.text(max_size=70)).map(".".join)
)
def test_whatever_is_shown_instead_is_denied_and_nothing_else_happens(text: str) -> None:
    with pytest.raises(Denied):
        check(text)
