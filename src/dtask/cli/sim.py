"""`dtask sim`: a fleet with faults under virtual time, any run of it by its seed."""

from typing import TYPE_CHECKING

import click

from dtask.cli.entry import FAILED
from dtask.cli.invocation import JSON, Invocation
from dtask.cli.seconds import Seconds
from dtask.sim import SECONDS

if TYPE_CHECKING:
    from dtask.sim.outcome import Outcome


@click.command("sim")
@click.option("--seed", type=int, default=0, show_default=True, help="The run, or the first one.")
@click.option(
    "--seeds", type=click.IntRange(1), default=1, show_default=True, help="How many runs."
)
@click.option(
    "--seconds",
    type=Seconds(0),
    default=SECONDS,
    show_default=True,
    help="Virtual seconds with faults. Then they stop, and everything must settle.",
)
@click.option(
    "--scenario",
    type=click.Choice(["faults", "jobs", "stale-counts"]),
    default="faults",
    show_default=True,
    help="faults: placement. jobs: the job half, its store and channels. stale-counts: how often a "
    "full worker is handed out, by another scheduler's rule and by dtask's.",
)
@click.option("--trace", is_flag=True, help="Print every event, and the hash of them all.")
@click.option("-v", "--verbose", is_flag=True, help="A line for each run, with its hash.")
@JSON
@click.pass_context
def command(
    context: click.Context,
    *,
    seed: int,
    seeds: int,
    seconds: float,
    scenario: str,
    trace: bool,
    verbose: bool,
) -> None:
    """Simulate a fleet with faults: the real scheduler core, where time is only a number.

    The network loses, delays, repeats and reorders, machines freeze and die, clocks jump, the
    scheduler stalls and restarts. After every event everything that must hold is checked. The
    same seed is the same run. Exits 1 if something did not hold, and tells how to see it again.
    """
    invocation = context.find_object(Invocation) or Invocation()
    if scenario == "stale-counts":
        _stale_counts(invocation, seed)
        return
    outcomes = []
    for one in range(seed, seed + seeds):
        outcome = _simulate(scenario, one, seconds, trace=trace)
        outcomes.append(outcome)
        if invocation.mode == "text":
            _tell(outcome, scenario, seconds, verbose=verbose or trace or seeds == 1)
    if invocation.mode == "json":
        invocation.print_json(outcomes)
    elif seeds > 1:
        _sum_up(outcomes)
    if any(outcome.failure for outcome in outcomes):
        context.exit(FAILED)


def _simulate(scenario: str, seed: int, seconds: float, *, trace: bool) -> "Outcome":
    from dtask.sim import world  # noqa: PLC0415 (commands start fast)
    from dtask.sim.jobs import world as jobs_world  # noqa: PLC0415 (same)

    listen = click.echo if trace else None
    if scenario == "jobs":
        return jobs_world.simulate(seed, seconds=seconds, listen=listen)
    return world.simulate(seed, seconds=seconds, listen=listen)


def _tell(outcome: "Outcome", scenario: str, seconds: float, *, verbose: bool) -> None:
    """One run in a line; or, if it failed, its last events and how to see it again."""
    if outcome.failure is None:
        if verbose:
            click.echo(f"seed {outcome.seed}: all holds. {_size(outcome)}, trace {outcome.digest}")
        return
    click.echo("\n".join(outcome.tail))
    click.secho(f"seed {outcome.seed}: {outcome.failure}", fg="red")
    click.echo(f"{_size(outcome)}, trace {outcome.digest}; above are the last {len(outcome.tail)}.")
    longer = "" if seconds == SECONDS else f" --seconds {seconds:g}"
    which = "" if scenario == "faults" else f" --scenario {scenario}"
    click.echo(f"To see it again: dtask sim --seed {outcome.seed}{which}{longer}")


def _size(outcome: "Outcome") -> str:
    counts = outcome.counts
    placements = counts.get("placements", 0)
    return (
        f"{outcome.lines:,} events in {outcome.elapsed_s:g} virtual seconds, "
        f"{counts.get('faults', 0)} faults, "
        + (f"{jobs} jobs" if (jobs := counts.get("jobs")) else f"{placements} placements")
    )


def _sum_up(outcomes: "list[Outcome]") -> None:
    failed = [str(outcome.seed) for outcome in outcomes if outcome.failure is not None]
    events = sum(outcome.lines for outcome in outcomes)
    faults = sum(outcome.counts.get("faults", 0) for outcome in outcomes)
    verdict = f"these failed: {', '.join(failed)}" if failed else "all holds"
    click.echo(f"{len(outcomes)} seeds: {verdict}. {events:,} events, {faults:,} faults")


def _stale_counts(invocation: Invocation, seed: int) -> None:
    from dtask.sim import stale_counts  # noqa: PLC0415 (commands start fast)

    tallies = stale_counts.compare(seed)
    if invocation.mode == "json":
        invocation.print_json(tallies)
        return
    click.echo(
        f"{stale_counts.CLIENTS:,} clients, {stale_counts.WORKERS} workers of "
        f"{stale_counts.SLOTS} slots, {stale_counts.SECONDS:g} virtual seconds, seed {seed}\n"
    )
    rows = [("rule", "handed out", "full", "share", "refused", "tasks run")]
    for tally in tallies:
        share = f"{100 * tally.full / tally.handed_out:.2f} %"
        counted = (tally.handed_out, tally.full, tally.refused, tally.ran)
        handed_out, full, refused, ran = (f"{number:,}" for number in counted)
        rows.append((tally.rule, handed_out, full, share, refused, ran))
    for name, *cells in rows:
        click.echo(f"{name:22}" + "".join(f"{cell:>12}" for cell in cells))
    click.echo("\nfull: a worker was handed out whose slots were all taken.")
