from functools import cache

from dtask.sim import stale_counts
from dtask.sim.stale_counts import Tally


@cache
def compared() -> list[Tally]:
    return stale_counts.compare(seed=7)


def test_the_peers_rule_hands_out_full_workers_and_ours_never_does() -> None:
    peer, counts, names = compared()
    assert peer.full > 0
    assert counts.full == names.full == 0
    assert names.ran > peer.ran


def test_the_comparison_is_the_same_for_the_same_seed() -> None:
    assert stale_counts.compare(seed=7) == compared()
