import pytest

from core.env import Env, an_ask
from dtask.core.cluster import Settings
from dtask.core.placement.explain import UNKNOWN_MAX


@pytest.mark.parametrize(
    ("asked", "known", "meant"),
    [
        ("gpuu", "gpu,cpu", ["gpu"]),
        ("gup", "gpu", ["gpu"]),
        ("GPU", "gpu", ["gpu"]),
        ("zone_eu", "zone-eu", ["zone-eu"]),
        ("cuda", "cuda-12.4,cuda-11", ["cuda-11", "cuda-12.4"]),
        ("cuda-12.4.1", "cuda-12.4", ["cuda-12.4"]),
        ("a100", "a10,a30,a40,h100,tpu", ["a10", "h100"]),
        ("quantum", "gpu,cpu", []),
        ("g", "gpu", []),
        ("gpux", "g", []),
        ("-", "gpu,cpu", []),
        ("arm", "-,_", []),
    ],
)
def test_near_misses_are_other_spellings_beginnings_and_typos(
    env: Env, asked: str, known: str, meant: list[str]
) -> None:
    env.worker("w1", known)
    assert env.refuse("t", asked).did_you_mean == ({asked: meant} if meant else {})


@pytest.mark.parametrize(
    ("asked", "meant"),
    [("cdua>=12", {"cdua": ["cuda"]}), ("CUDA<13", {"CUDA": ["cuda"]}), ("gpu>=1", {})],
)
def test_near_misses_of_a_comparison_are_names_that_have_a_version(
    env: Env, asked: str, meant: dict[str, list[str]]
) -> None:
    env.worker("w1", "gpu,cuda-12.4")
    assert env.refuse("t", asked).did_you_mean == meant


def test_every_unknown_alternative_is_looked_up_but_none_that_is_unwanted(env: Env) -> None:
    env.worker("w1", "gpu,tpu", slots=1, current_tasks=1)
    refusal = env.refuse("t", "gpuu|tpuu,!gppu")
    assert refusal.did_you_mean == {"gpuu": ["gpu"], "tpuu": ["tpu"]}


def test_the_search_for_near_misses_is_bounded(env: Env) -> None:
    env.worker("w1", "gpu")
    refusal = env.refuse("t", ",".join(f"gpu{n}" for n in range(9)))
    assert len(refusal.did_you_mean) == UNKNOWN_MAX


def test_the_same_requirement_twice_counts_its_workers_once(env: Env) -> None:
    env.worker("w1")
    assert env.refuse("t", "gpu,gpu").missing == {"gpu": 1}


def test_a_refusal_can_be_explained_without_asking(env: Env) -> None:
    env.worker("w1", "gpu", slots=1)
    env.place("t")
    before = env.workers()
    assert env.cluster.explain(an_ask("u", "gpu")) == env.refuse("u", "gpu")
    assert env.workers() == before


def test_retry_after_never_outlasts_the_warm_up() -> None:
    env = Env(Settings(warm_up_s=2.0))
    assert env.refuse().retry_after_s == 2.0
    env.worker("w1", slots=1, current_tasks=1)
    assert env.refuse().retry_after_s == 1.0
    env.advance(1.5)
    assert env.refuse().retry_after_s == 0.5
