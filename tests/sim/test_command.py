import json

import pytest
from click.testing import CliRunner, Result

from dtask.cli.sim import command
from dtask.core.placement.leases import Leases
from dtask.sim.world import simulate


def sim(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, standalone_mode=True)


def test_a_run_that_holds_is_one_line_with_its_hash() -> None:
    result = sim("--seed", "7")
    assert result.exit_code == 0
    assert len(result.output.splitlines()) == 1
    assert result.output.startswith("seed 7: all holds.")
    assert simulate(7).digest in result.output


def test_several_runs_are_summed_up_in_one_line() -> None:
    result = sim("--seed", "3", "--seeds", "2", "--seconds", "10")
    assert result.exit_code == 0
    assert result.output.startswith("2 seeds: all holds.")
    assert len(result.output.splitlines()) == 1


def test_verbose_tells_the_hash_of_each_run() -> None:
    lines = sim("--seeds", "2", "--seconds", "10", "-v").output.splitlines()
    assert [line.split(":")[0] for line in lines] == ["seed 0", "seed 1", "2 seeds"]


def test_the_trace_is_every_event_in_the_order_of_time() -> None:
    lines = sim("--seed", "7", "--seconds", "10", "--trace").output.splitlines()
    times = [float(line[:9]) for line in lines[:-1]]
    assert len(times) == simulate(7, seconds=10).lines
    assert times == sorted(times)


def test_a_run_that_fails_tells_its_last_events_and_how_to_see_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Leases, "expire", lambda *_: None)
    result = sim("--seed", "7", "--seconds", "60")
    assert result.exit_code == 1
    *events, said, size, again = result.output.splitlines()
    assert tuple(events) == simulate(7, seconds=60).tail
    assert said.startswith("seed 7: AssertionError: ")
    assert f"above are the last {len(events)}." in size
    assert again == "To see it again: dtask sim --seed 7 --seconds 60"


def test_of_several_runs_those_that_failed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Leases, "expire", lambda *_: None)
    result = sim("--seed", "7", "--seeds", "2")
    assert result.exit_code == 1
    assert "2 seeds: these failed: 7, 8." in result.output


def test_json_is_one_document() -> None:
    outcomes = json.loads(sim("--seeds", "2", "--seconds", "5", "--json").output)
    assert [outcome["seed"] for outcome in outcomes] == [0, 1]
    assert all(outcome["failure"] is None for outcome in outcomes)


def test_stale_counts_prints_the_peers_rule_beside_ours() -> None:
    lines = sim("--scenario", "stale-counts").output.splitlines()
    shares = {line[:22].strip(): line.split()[-4:-2] for line in lines if "%" in line}
    assert list(shares) == ["peer's rule, counts", "dtask, counts", "dtask, names"]
    assert shares["dtask, names"][0] == "0.00"
    assert shares["peer's rule, counts"][0] != "0.00"
