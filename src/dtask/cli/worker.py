"""`dtask-worker`: offer this machine's slots, and run what is placed on them."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dtask import __version__
from dtask.cli import entry
from dtask.errors import InvalidRequest

if TYPE_CHECKING:
    from dtask.worker.agent import Settings


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--id",
    "worker_id",
    envvar="DTASK_WORKER_ID",
    show_envvar=True,
    help="Name of this worker, its own among all.  [default: the host's name and the port]",
)
@click.option(
    "--addr",
    metavar="HOST:PORT",
    envvar="DTASK_ADDR",
    show_envvar=True,
    help="Where to listen for tasks; port 0 for any free one.  "
    "[default: 127.0.0.1 and the first free port from 8081 on]",
)
@click.option(
    "--advertise",
    metavar="HOST:PORT",
    envvar="DTASK_ADVERTISE",
    show_envvar=True,
    help="Where others reach the listener.  "
    "[default: the local address of a connection to the scheduler, with the port of --addr]",
)
@click.option(
    "--tags",
    multiple=True,
    metavar="TAG,..",
    envvar="DTASK_TAGS",
    show_envvar=True,
    help="What this worker is; may be repeated. `auto` adds what the machine is: system, "
    "architecture, CPUs, memory, GPUs.",
)
@click.option(
    "--max-tasks",
    type=int,
    metavar="N",
    envvar="DTASK_MAX_TASKS",
    show_envvar=True,
    help="Tasks that it takes at once.  [default: the CPUs it may use]",
)
@click.option(
    "--gpus-per-task",
    type=int,
    default=0,
    show_default=True,
    metavar="N",
    envvar="DTASK_GPUS_PER_TASK",
    show_envvar=True,
    help="GPUs that each task has for itself; with 0, every task sees all of them. "
    "--max-tasks is then at most what they suffice for.",
)
@click.option(
    "--scheduler",
    multiple=True,
    metavar="URL,..",
    help="Scheduler to report to; may be repeated, and then all are told.  "
    "[default: DTASK_SCHEDULER, or http://127.0.0.1:8080]",
)
@click.option(
    "--interval",
    type=float,
    default=3.0,
    show_default=True,
    metavar="SECONDS",
    envvar="DTASK_INTERVAL",
    show_envvar=True,
    help="Longest time between two heartbeats.",
)
@click.option(
    "--grace",
    type=float,
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    envvar="DTASK_GRACE",
    show_envvar=True,
    help="After SIGTERM or Ctrl-C, how long running tasks may go on before they are stopped.",
)
@click.option(
    "--token-file",
    metavar="FILE",
    help="File that holds the token, for its owner alone (0600).  [default: DTASK_TOKEN, "
    "DTASK_TOKEN_FILE, or dtask/token in the state directory, made if it is not there]",
)
@click.option(
    "--spool",
    metavar="DIR",
    envvar="DTASK_SPOOL",
    show_envvar=True,
    help="Where logs and working directories of tasks are kept while they are remembered, on a "
    "local disk.  [default: a directory of this worker in the state directory]",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    envvar="DTASK_LOG_FORMAT",
    show_envvar=True,
    help="Lines for people or for programs, on stderr.",
)
@click.version_option(__version__, prog_name="dtask-worker")
def command(  # noqa: PLR0917 (click passes them by name)
    worker_id: str | None,
    addr: str | None,
    advertise: str | None,
    tags: tuple[str, ...],
    max_tasks: int | None,
    gpus_per_task: int,
    scheduler: tuple[str, ...],
    interval: float,
    grace: float,
    token_file: str | None,
    spool: str | None,
    log_format: str,
) -> None:
    """Heartbeat to the scheduler, and run the tasks that it places here.

    Prints `listening on HOST:PORT` when it takes tasks. On SIGTERM or Ctrl-C it takes no more and
    ends when those it holds have ended; a second signal stops them at once.
    """
    from dtask.log_lines import logging_to  # noqa: PLC0415 (--help and --version start fast)
    from dtask.worker import agent  # noqa: PLC0415 (same)

    try:
        settings = _settings(
            worker_id=worker_id,
            addr=addr,
            advertise=advertise,
            tags=tags,
            max_tasks=max_tasks,
            gpus_per_task=gpus_per_task,
            schedulers=scheduler,
            interval_s=interval,
            drain_s=grace,
            token_file=token_file,
            spool=spool,
        )
    except InvalidRequest as error:
        raise click.UsageError(str(error)) from None
    with logging_to(sys.stderr, "json" if log_format == "json" else "text"):
        agent.run(settings, listening=entry.say_listening)


def _settings(
    *,
    worker_id: str | None,
    addr: str | None,
    advertise: str | None,
    tags: tuple[str, ...],
    max_tasks: int | None,
    gpus_per_task: int,
    schedulers: tuple[str, ...],
    interval_s: float,
    drain_s: float,
    token_file: str | None,
    spool: str | None,
) -> "Settings":
    """The settings that the flags ask for. Raises DtaskError that names the wrong one."""
    from dtask.addresses import scheduler_urls, split_host_port  # noqa: PLC0415 (as above)
    from dtask.core.placement.tags import split  # noqa: PLC0415 (same)
    from dtask.credentials import find_token  # noqa: PLC0415 (same)
    from dtask.worker import machine  # noqa: PLC0415 (same)
    from dtask.worker.agent import Settings  # noqa: PLC0415 (same)
    from dtask.worker.devices import visible_devices  # noqa: PLC0415 (same)

    host, port = split_host_port(addr, "--addr") if addr is not None else ("127.0.0.1", None)
    if advertise is not None:
        split_host_port(advertise, "--advertise")
    named = [tag for text in tags for tag in split(text)]
    own = machine.auto_tags() if "auto" in named else ()
    devices = visible_devices(os.environ) if gpus_per_task > 0 else ()
    if max_tasks is None:
        max_tasks = machine.usable_cpus()
        if gpus_per_task > 0:
            max_tasks = max(1, min(max_tasks, len(devices) // gpus_per_task))
    return Settings(
        worker_id=worker_id,
        host=host,
        port=port,
        advertise=advertise,
        tags=tuple(dict.fromkeys([*(tag for tag in named if tag != "auto"), *own])),
        max_tasks=max_tasks,
        gpus_per_task=gpus_per_task,
        devices=devices,
        schedulers=scheduler_urls(schedulers),
        interval_s=interval_s,
        drain_s=drain_s,
        token=find_token(token_file),
        spool=Path(spool) if spool is not None else None,
    )


def main() -> None:
    """Run `dtask-worker`."""
    entry.run(command, "dtask-worker")
