"""`dtask bench`: how fast is it on this box."""

import click


@click.command("bench")
@click.option("--workers", default=500, show_default=True, help="Size of the fleet.")
@click.option("--seconds", default=10.0, show_default=True, help="Time for each measurement.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(workers: int, seconds: float, *, as_json: bool) -> None:
    """Measure placement over HTTP against a bare server, here and now.

    Starts a scheduler and a bare HTTP server of its own on loopback and asks them in turn: one
    connection for latency while the fleet heartbeats, then 16 connections, each of which holds
    50 leases and alternates schedule and DELETE.
    """
    if not 1 <= workers <= 100_000:  # noqa: PLR2004 (the table's limit)
        raise click.BadParameter("expected 1 to 100,000.", param_hint="--workers")
    if not 1 <= seconds <= 600:  # noqa: PLR2004 (ten minutes are enough for anyone)
        raise click.BadParameter("expected 1 to 600.", param_hint="--seconds")
    from dtask.bench import figures, measure  # noqa: PLC0415 (start-up time of the other commands)

    measurements = {
        "latency of one connection": measure.latencies(min(workers, 1_000), seconds=seconds),
        "throughput of 16 connections": measure.placements(workers, seconds=seconds),
        "batches": measure.batches(workers, seconds=seconds),
    }
    found: list[figures.Figure] = []
    for name, figures_of in measurements.items():
        click.echo(f"Measuring {name} ...", err=True)
        found += figures_of
    if as_json:
        click.echo(figures.to_json(found))
    else:
        click.echo(figures.table(found))
