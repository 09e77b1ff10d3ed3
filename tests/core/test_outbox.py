"""Nothing that is not durable is shown: letters wait for the commit that they depend on."""

from dtask.core.jobs.rows import Forget
from dtask.core.outbox import Outbox

ROWS = [Forget(n) for n in range(9)]


def test_with_nothing_to_write_and_nothing_under_way_a_letter_goes_out_at_once() -> None:
    outbox: Outbox[str] = Outbox()
    assert not outbox.add((), "a")
    assert outbox.next() is None


def test_a_letter_waits_for_the_commit_of_its_changes() -> None:
    outbox: Outbox[str] = Outbox()
    assert outbox.add((ROWS[0],), "a")
    assert outbox.next() == [ROWS[0]]
    assert outbox.next() is None, "one commit at a time"
    assert outbox.committed() == ["a"]
    assert not outbox.add((), "b")


def test_a_letter_without_changes_waits_for_all_that_it_may_have_seen() -> None:
    outbox: Outbox[str] = Outbox()
    outbox.add((ROWS[0],), "a")
    assert outbox.add((), "reads what a wrote")
    outbox.next()
    assert outbox.add((), "reads it during the commit")
    assert outbox.committed() == ["a", "reads what a wrote", "reads it during the commit"]


def test_steps_behind_a_commit_are_the_next_one_together_and_in_order() -> None:
    outbox: Outbox[str] = Outbox()
    outbox.add((ROWS[0],), "a")
    outbox.next()
    outbox.add((ROWS[1], ROWS[2]), "b")
    outbox.add((), "reads b")
    outbox.add((ROWS[3],), "c")
    assert outbox.committed() == ["a"]
    assert outbox.add((), "reads c")
    assert outbox.next() == ROWS[1:4]
    outbox.add((ROWS[4],), "d")
    assert outbox.committed() == ["b", "reads b", "c", "reads c"]
    assert outbox.next() == [ROWS[4]]
    assert outbox.committed() == ["d"]


def test_after_a_failed_commit_no_letter_of_it_nor_of_what_followed_goes_out() -> None:
    outbox: Outbox[str] = Outbox()
    outbox.add((ROWS[0],), "a")
    outbox.next()
    outbox.add((ROWS[1],), "b")
    outbox.add((), "reads b")
    assert outbox.failed() == ["a", "b", "reads b"]
    assert outbox.next() is None
    assert not outbox.add((), "later")
