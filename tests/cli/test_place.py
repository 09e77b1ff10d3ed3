import time
from collections.abc import Callable

from dtask.cli.place import explained
from servers import RunningScheduler
from terminal import Shell, shell_of

Join = Callable[..., None]


def test_a_placement_says_where_to_run_the_task_and_until_when(shell: Shell, join: Join) -> None:
    join("w-says", "says", address="10.0.0.7:8081")
    ran = shell.run("place", "--tags", "says", "--task-id", "task-1")
    assert ran.code == 0
    rows = dict(line.split(maxsplit=1) for line in ran.out.splitlines())
    assert rows["Worker"] == "w-says"
    assert rows["Address"] == "10.0.0.7:8081"
    assert rows["Task"] == "task-1"
    assert int(rows["Fence"]) > 0
    assert rows["Expires"].startswith("in 30 s, at ")


def test_all_tags_must_hold_however_they_are_given(shell: Shell, join: Join) -> None:
    join("w-old", "fits", "gpu", "cuda-11.8")
    join("w-new", "fits", "gpu", "cuda-12.4")
    for tags in (
        ["--tags", "fits", "--tags", "gpu|tpu", "--tags", "cuda>=12.0"],
        ["--tags", "fits,gpu|tpu,cuda>=12.0"],
    ):
        assert shell.run("place", *tags, "--json").json["worker_id"] == "w-new"


def test_preferred_excluded_and_strategy_reach_the_scheduler(shell: Shell, join: Join) -> None:
    join("w-a", "wish", current_tasks=2)
    join("w-b", "wish", "ssd", current_tasks=1)
    join("w-c", "wish", current_tasks=0)

    def chosen(*options: str) -> str:
        return shell.run("place", "--tags", "wish", *options, "--json").json["worker_id"]

    assert chosen("--prefer", "ssd,nvme") == "w-b"
    assert chosen("--exclude", "w-c", "--exclude", "w-b") == "w-a"
    assert chosen("--strategy", "bin_pack") == "w-a"


def test_ttl_bounds_how_long_the_slot_is_held(shell: Shell, join: Join) -> None:
    join("w-ttl", "ttl")
    placed = shell.run("place", "--tags", "ttl", "--ttl", "300", "--json").json
    assert 290 < placed["expires_at"] - time.time() <= 301


def test_quiet_prints_the_address_alone(shell: Shell, join: Join) -> None:
    join("w-quiet", "quiet", address="10.0.0.7:8081")
    assert shell.run("place", "--tags", "quiet", "--quiet").out == "10.0.0.7:8081\n"


def test_json_carries_the_ticket_for_the_worker(shell: Shell, join: Join) -> None:
    join("w-json", "json")
    placed = shell.run("place", "--tags", "json", "--json").json
    assert placed.keys() == {
        "task_id",
        "worker_id",
        "address",
        "fence",
        "expires_at",
        "ticket",
    }
    assert placed["ticket"]


def test_a_refusal_is_explained_and_exits_with_1(shell: Shell, join: Join) -> None:
    join("w-refuses", "refused-gpu", max_tasks=1, current_tasks=1)
    full = shell.run("place", "--tags", "refused-gpu")
    assert (full.code, full.out) == (1, "")
    assert "  1 is full\n" in full.err
    assert "Ask again in 1 s" in full.err
    typo = shell.run("place", "--tags", "refused-gpuu")
    assert typo.code == 1
    assert "did you mean refused-gpu?" in typo.err


def test_a_refusal_in_json_has_the_facts(shell: Shell, join: Join) -> None:
    join("w-facts", "facts", max_tasks=1, current_tasks=1)
    ran = shell.run("place", "--tags", "facts", "--json")
    assert (ran.code, ran.err) == (1, "")
    assert ran.json["code"] == "no_worker"
    assert ran.json["reasons"]["full"] == 1


def test_wait_asks_again_until_a_slot_is_free(shell: Shell, join: Join) -> None:
    join("w-wait", "wait", max_tasks=1)
    taken = shell.run("place", "--tags", "wait", "--ttl", "2", "--json")
    waited = shell.run("place", "--tags", "wait", "--wait", "20", "--json")
    assert waited.code == 0
    assert waited.json["fence"] > taken.json["fence"]
    assert time.time() > taken.json["expires_at"]


def test_the_reasons_are_words_for_one_and_for_several() -> None:
    reasons = {"offline": 1, "draining": 2, "excluded": 1, "untrusted": 1, "full": 3}
    lines = explained({"reasons": reasons | {"missing_tag": {"gpu": 1, "tpu": 4}}}, waited=False)
    assert lines[1:] == [
        "  4 do not have tpu",
        "  1 does not have gpu",
        "  1 is offline",
        "  2 are draining",
        "  1 is excluded by --exclude",
        "  1 is not trusted",
        "  3 are full",
    ]


def test_a_tag_that_must_not_be_there_is_not_said_to_be_lacking() -> None:
    lines = explained({"reasons": {"missing_tag": {"!spot": 2}}}, waited=False)
    assert lines[1:] == ["  2 do not meet !spot"]


def test_who_has_waited_is_not_told_to_wait() -> None:
    facts = {"reasons": {"full": 1}, "retry_after_s": 1.0}
    assert any("--wait" in line for line in explained(facts, waited=False))
    assert not any("--wait" in line for line in explained(facts, waited=True))


def test_an_empty_fleet_is_said_to_be_empty() -> None:
    (first, *_) = explained({"reasons": {}}, waited=False)
    assert "is known to the scheduler" in first


def test_release_gives_the_slot_back(shell: Shell, join: Join) -> None:
    join("w-release", "release", max_tasks=1)
    fence = shell.run("place", "--tags", "release", "--task-id", "r-1", "--json").json["fence"]
    other = shell.run("release", "r-1", "--fence", str(fence + 1))
    assert other.code == 1
    assert str(fence) in other.err
    ran = shell.run("release", "r-1", "--fence", str(fence))
    assert (ran.code, ran.out) == (0, "The slot of r-1 is free again.\n")
    assert shell.run("place", "--tags", "release", "--quiet").code == 0


def test_an_option_before_the_command_means_the_same(scheduler: RunningScheduler) -> None:
    elsewhere = shell_of(scheduler, DTASK_SCHEDULER="http://127.0.0.1:1")
    assert elsewhere.run("--scheduler", scheduler.url, "workers", "--json").code == 0
    assert elsewhere.run("workers", "--scheduler", scheduler.url, "--json").code == 0
    assert elsewhere.run("workers", "--json").code == 1
