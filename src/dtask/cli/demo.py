"""`make demo`: a fleet on this machine, tasks placed on it and run, a job, and a clean stop.

`python -m dtask.cli.demo` keeps its state in a temporary directory. All it leaves behind is the
picture that the job computes, `mandelbrot.png` in the current directory. It takes 10 to 20 s on
two cores. With `--keep` it goes on until Ctrl-C, with jobs to look at in the dashboard.
"""

import asyncio
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from dtask.cli import entry, fleet, place
from dtask.cli.local import LocalFleet
from dtask.client import AsyncClient, Outcome
from dtask.errors import NoWorker

#: The workers by name, with their tags.
WORKERS: Final = {
    "gpu-1": "gpu,cuda-12.4",
    "gpu-2": "gpu,cuda-11.8",
    "cpu-1": "cpu,zone=eu",
    "cpu-2": "cpu,zone=us",
}
SLOTS: Final = 4

#: Kinds of tasks, each with what its worker must have, and how many of each are run.
KINDS: Final = {"any": "", "gpu": "gpu|tpu", "cuda 12": "gpu,cuda>=12.0", "not gpu": "!gpu"}
EACH: Final = 8

#: What a task does.
TASK: Final = ["sh", "-c", "sleep 0.3; echo done"]

#: Longest wait for a free slot.
WAIT_S: Final = 60.0

#: The job at the end; its program stands in the checkout that this is run from.
RENDER: Final = Path(__file__).resolve().parents[3] / "examples" / "mandelbrot" / "render.py"
PICTURE_PIXELS: Final = 768
TILES: Final = 16

#: Jobs to look at while the demo is kept up: one that takes a while, one that fails, one that fits
#: nowhere.
KEPT_JOBS: Final[dict[str, dict[str, Any]]] = {
    "five minutes of work": {
        "tasks": {
            "prepare": {"command": ["sh", "-c", "echo preparing; sleep 3"]},
            "tile": {
                "command": ["sh", "-c", "echo tile {}; sleep 10"],
                "array": 300,
                "needs": ["prepare"],
            },
            "join": {"command": ["echo", "joined"], "needs": ["tile"]},
        }
    },
    "fails": {"command": ["sh", "-c", "echo 'no such model' >&2; exit 3"], "retry": {"max": 1}},
    "waits for a quantum computer": {"command": ["true"], "tags": ["quantum"]},
}


@click.command("demo")
@click.option(
    "--size",
    type=click.IntRange(TILES),
    default=PICTURE_PIXELS,
    show_default=True,
    help="Pixels of each side of the picture.",
)
@click.option("--keep", is_flag=True, help="Stay up until Ctrl-C, with jobs to look at.")
def command(size: int, *, keep: bool) -> None:
    """Start a scheduler and four workers, place tasks and run them, render a picture, stop all."""
    for name in [name for name in os.environ if name.startswith("DTASK_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="dtask-demo-") as state_home:
        os.environ["XDG_STATE_HOME"] = state_home
        asyncio.run(_demo(size, keep=keep))


async def _demo(size: int, *, keep: bool) -> None:
    local = LocalFleet(lambda _name, _line: None)
    try:
        started_at = time.monotonic()
        url = await local.start_scheduler("--port", "0", "--warm-up", "0")
        slots = ["--max-tasks", str(SLOTS)]
        await local.start_workers(
            url, {name: ["--tags", tags, *slots] for name, tags in WORKERS.items()}
        )
        await local.joined(url)
        _head(f"A scheduler at {url} and four workers ({time.monotonic() - started_at:.1f} s)")
        async with AsyncClient(url) as client:
            await _show_dashboard(client)
            await _show_fleet(client)
            await _show_placements(client)
            await _show_runs(client)
        await _show_picture(url, size)
        if keep:
            await _keep(local, url)
    finally:
        await local.stop()
    click.echo("\nAll stopped; nothing is left running.")


async def _show_dashboard(client: AsyncClient) -> None:
    found = await client.sign_in_code()
    click.echo("The dashboard; this address signs you in, once, within a minute:")
    click.echo(click.style(found.url, fg="cyan"))


async def _keep(local: LocalFleet, url: str) -> None:
    """Submit something to look at, and wait for Ctrl-C."""
    _head("It stays up until Ctrl-C, with a job that works, one that fails and one that waits")
    async with AsyncClient(url) as client:
        jobs = [await client.submit(body, name=name) for name, body in KEPT_JOBS.items()]
        await _show_dashboard(client)
    token = Path(os.environ["XDG_STATE_HOME"]) / "dtask" / "token"
    click.echo(f"In another terminal:\n  export DTASK_SCHEDULER={url} DTASK_TOKEN_FILE={token}")
    program = "dtask" if shutil.which("dtask") else Path(sys.executable).with_name("dtask")
    for words in ("dashboard", "top", f"why {jobs[-1].id}"):
        click.echo(f"  {program} {words}")
    asked = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    waits = [asyncio.create_task(asked.wait()), asyncio.create_task(local.first_end())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    if not asked.is_set():
        raise click.ClickException("A part of the demo has ended by itself.")


async def _show_fleet(client: AsyncClient) -> None:
    workers = await client.workers()
    lines = fleet.table(workers, now=time.time(), width=None, ascii_only=False)
    click.echo("\n".join([*lines, fleet.summary(workers)]))


async def _show_placements(client: AsyncClient) -> None:
    """Ask for slots as `dtask place` does: two are granted, one is refused."""
    _head("Which worker should run this?")
    for requirement in ("gpu", "cuda>=12.0", "gpuu"):
        click.echo(f"$ dtask place --tags {shlex.quote(requirement)}")
        try:
            placement = await client.place(required_tags=requirement)
        except NoWorker as refusal:
            click.echo("\n".join(place.explained(refusal.facts, waited=False)))
        else:
            click.echo(f"{placement.worker_id} at {placement.address}, fence {placement.fence}")
            await client.release(placement)


async def _show_runs(client: AsyncClient) -> None:
    """Run tasks of all kinds at once, each where it was placed, and show who ran how many."""
    _head(f"{EACH * len(KINDS)} tasks, each run on the worker it was placed on")
    click.echo(f"run_on({TASK}, required_tags=...)")
    started_at = time.monotonic()
    wanted = [(kind, tags) for kind, tags in KINDS.items() for _ in range(EACH)]
    outcomes = await asyncio.gather(
        *(client.run_on(TASK, required_tags=tags, timeout=WAIT_S) for _, tags in wanted)
    )
    took_s = time.monotonic() - started_at
    spread = Counter(
        (outcome.worker_id, kind) for outcome, (kind, _) in zip(outcomes, wanted, strict=True)
    )
    click.echo(_spread(spread))
    click.echo(f"{len(outcomes)} tasks on {len(WORKERS) * SLOTS} slots in {took_s:.1f} s.")
    _check(outcomes, spread)


async def _show_picture(url: str, size: int) -> None:
    """Submit the job of the example, and wait until its picture is written."""
    if not RENDER.exists():
        return  # installed without the examples
    _head("A job: tiles of the Mandelbrot set as an array, then one picture of them all")
    words = [str(RENDER), "--size", str(size), "--tiles", str(TILES)]
    click.echo(f"$ python examples/mandelbrot/render.py {shlex.join(words[1:])}")
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, env=os.environ | {"DTASK_SCHEDULER": url}
    )
    try:
        code = await process.wait()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if code:
        raise click.ClickException("The picture could not be made.")


def _spread(spread: Counter[tuple[str, str]]) -> str:
    """Workers down, kinds of tasks across, and how many each worker ran."""
    lines = [click.style(f"{'':8}{''.join(f'{kind:>9}' for kind in KINDS)}{'all':>9}", dim=True)]
    for worker in WORKERS:
        counts = [spread[worker, kind] for kind in KINDS]
        total = sum(counts)
        cells = "".join(f"{count or '':>9}" for count in [*counts, total])
        lines.append(f"{worker:8}{cells}  {click.style('█' * total, fg='green')}")
    return "\n".join(lines)


def _check(outcomes: Sequence[Outcome], spread: Counter[tuple[str, str]]) -> None:
    """Raise ClickException unless every task succeeded on a worker that it may run on."""
    if failed := [outcome for outcome in outcomes if not outcome.ok]:
        raise click.ClickException(f"{len(failed)} tasks failed, such as {failed[0]}.")
    allowed = {"any": set(WORKERS), "gpu": {"gpu-1", "gpu-2"}, "cuda 12": {"gpu-1"}}
    allowed["not gpu"] = {"cpu-1", "cpu-2"}
    if wrong := [pair for pair in spread if pair[0] not in allowed[pair[1]]]:
        raise click.ClickException(f"Tasks ran where they must not: {wrong}.")


def _head(text: str) -> None:
    click.echo(f"\n{click.style(text, bold=True)}")


if __name__ == "__main__":
    entry.run(command, "demo")
