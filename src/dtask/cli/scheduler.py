"""`dtask-scheduler`: be the scheduler process."""

import sys
from pathlib import Path

import click

from dtask import __version__
from dtask.addresses import PORT_MAX
from dtask.cli import entry
from dtask.errors import DtaskError
from dtask.state_home import state_home


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    envvar="DTASK_HOST",
    show_envvar=True,
    help="Address to listen on. Anywhere but on loopback, every request needs the token.",
)
@click.option(
    "--port",
    type=click.IntRange(0, PORT_MAX),
    default=8080,
    show_default=True,
    envvar="DTASK_PORT",
    show_envvar=True,
    help="Port to listen on; 0 for any free one.",
)
@click.option(
    "--token-file",
    help="File that holds the token, for its owner alone (0600).  [default: DTASK_TOKEN, "
    "DTASK_TOKEN_FILE, or dtask/token in the state directory, made if it is not there]",
)
@click.option(
    "--insecure", is_flag=True, help="Placement needs no token, wherever a request comes from."
)
@click.option("--require-token", is_flag=True, help="Placement needs the token on loopback too.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    envvar="DTASK_LOG_FORMAT",
    show_envvar=True,
    help="Lines for people or for programs, on stderr.",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="DTASK_DATA",
    show_envvar=True,
    help="Directory for jobs, logs and blobs, for this scheduler alone.  [default: dtask/scheduler "
    "in the state directory]",
)
@click.option(
    "--keep-days",
    type=float,
    default=30.0,
    show_default=True,
    metavar="DAYS",
    help="How long jobs that ended are kept, with their logs.",
)
@click.option(
    "--keep-jobs",
    type=int,
    default=100_000,
    show_default=True,
    metavar="COUNT",
    help="How many jobs that ended are kept at most.",
)
@click.option(
    "--log-max-mb",
    type=int,
    default=64,
    show_default=True,
    metavar="MIB",
    help="How much output of one attempt is kept, half for each stream.",
)
@click.option(
    "--suspect-after",
    type=float,
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Silence after which a worker is used only when no other fits.",
)
@click.option(
    "--offline-after",
    type=float,
    default=20.0,
    show_default=True,
    metavar="SECONDS",
    help="Silence after which a worker is not used, and its leases are over.",
)
@click.option(
    "--forget-after",
    type=float,
    default=3600.0,
    show_default=True,
    metavar="SECONDS",
    help="How long an offline worker is still listed.",
)
@click.option(
    "--warm-up",
    type=float,
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="After the start, how long refusals say that not all workers may be known.",
)
@click.version_option(__version__, prog_name="dtask-scheduler")
def command(  # noqa: PLR0917 (click passes them by name)
    host: str,
    port: int,
    token_file: str | None,
    insecure: bool,
    require_token: bool,
    log_format: str,
    data: Path | None,
    keep_days: float,
    keep_jobs: int,
    log_max_mb: int,
    suspect_after: float,
    offline_after: float,
    forget_after: float,
    warm_up: float,
) -> None:
    """Answer which worker should run a task, and keep jobs until workers have run them.

    Prints `listening on URL` when it does. SIGTERM and Ctrl-C end it, after the requests under way.
    """
    from dtask.dashboard import pages  # noqa: PLC0415 (--help and --version start fast)
    from dtask.log_lines import logging_to  # noqa: PLC0415 (same)
    from dtask.scheduler import server  # noqa: PLC0415 (same)
    from dtask.scheduler.settings import Settings  # noqa: PLC0415 (same)

    try:
        settings = Settings(
            host=host,
            port=port,
            token_file=token_file,
            insecure=insecure,
            require_token=require_token,
            log_format="json" if log_format == "json" else "text",
            data=data or state_home() / "scheduler",
            keep_days=keep_days,
            keep_jobs=keep_jobs,
            log_max_mb=log_max_mb,
            suspect_after_s=suspect_after,
            offline_after_s=offline_after,
            forget_after_s=forget_after,
            warm_up_s=warm_up,
        )
    except DtaskError as error:
        raise click.UsageError(str(error)) from None
    with logging_to(sys.stderr, settings.log_format):
        server.run(settings, pages(), listening=entry.say_listening)


def main() -> None:
    """Run `dtask-scheduler`."""
    entry.run(command, "dtask-scheduler")
