"""The Mandelbrot set, its tiles computed by all workers at once, joined into one picture.

    dtask up --workers 4 --max-tasks 1
    python examples/mandelbrot/render.py --size 4096 --tiles 16 --picture mandelbrot.png

A job of two tasks: `tile`, an array, and `join`, which needs it. The tiles are files in a directory
beside the picture, so all workers must see that directory: they run on this machine, or share a
disk. For the speed-up the same tiles are first computed one at a time, as a single worker with one
slot would do it; `--alone 0` leaves that out.

Workers on one machine share its cores: with four workers on two cores no more than twice the speed
can come out.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from dtask import Client, DtaskError, TaskFailed

HERE = Path(__file__).resolve().parent

#: A queue that runs one attempt at a time.
ALONE = "mandelbrot-alone"


def tiles_task(size: int, tiles: int, directory: Path) -> dict[str, Any]:
    """The array of tiles; the program travels with it."""
    return {
        "command": ["python3", "tile.py", str(size), str(tiles), "{}", str(directory)],
        "array": tiles,
        "files": {"tile.py": HERE / "tile.py"},
        "retry": {"max": 2},
    }


def join_task(size: int, tiles: int, directory: Path, picture: Path) -> dict[str, Any]:
    """One picture out of all tiles."""
    return {
        "command": ["python3", "join.py", str(size), str(tiles), str(directory), str(picture)],
        "files": {"join.py": HERE / "join.py"},
        "needs": ["tile"],
    }


def ran(client: Client, tasks: dict[str, Any], queue: str) -> tuple[int, float, float]:
    """Run a job; its id, seconds from the first tile's start to the last one's end, CPU seconds."""
    job = client.submit({"name": "mandelbrot", "queue": queue, "tasks": tasks})
    job.wait().check()
    attempts = [one for one in client.attempts(f"{job.id}/tile") if one.state == "succeeded"]
    starts = [one.started_at or 0.0 for one in attempts]
    ends = [one.ended_at or 0.0 for one in attempts]
    return job.id, max(ends) - min(starts), sum(one.cpu_s or 0.0 for one in attempts)


def verdict(speed_up: float, cores: int) -> str:
    """What a speed-up of workers that share the cores of one machine is worth."""
    shared = f"All workers share the {cores} cores of this machine"
    if speed_up <= cores:
        return f"{shared}: {cores} times is the most to expect."
    return (
        f"{shared}, and more than {cores} times they can't give: other programs had their share of "
        f"the time, a larger one while one tile ran at a time."
    )


def main(size: int, tiles: int, picture: Path, *, alone: bool) -> None:
    """Compute, join, and tell how long it took."""
    with (
        Client() as client,
        tempfile.TemporaryDirectory(prefix="mandelbrot-", dir=picture.parent) as tiles_directory,
    ):
        directory = Path(tiles_directory)
        directory.chmod(0o777)  # workers may run as another user
        workers = [worker for worker in client.workers(status="online") if worker.trusted]
        slots = sum(worker.max_tasks for worker in workers)
        print(f"{size} x {size} pixels in {tiles} tiles; {len(workers)} workers, {slots} slots")
        tile = tiles_task(size, tiles, directory)
        alone_s = 0.0
        if alone:
            client.set_queue(ALONE, max_running=1)
            _, alone_s, cpu_s = ran(client, {"tile": tile}, ALONE)
            print(f"one at a time:  {alone_s:6.1f} s, {cpu_s:.1f} s of CPU time")
        tasks = {"tile": tile, "join": join_task(size, tiles, directory, picture)}
        job_id, took_s, cpu_s = ran(client, tasks, "default")
        print(f"all at once:    {took_s:6.1f} s, {cpu_s:.1f} s of CPU time", end="")
        print(f": {alone_s / took_s:.2f} times as fast" if alone else "")
        print(b"".join(client.logs(f"{job_id}/join")).decode(), end="")
    if alone and all(worker.address.startswith("127.0.0.1:") for worker in workers):
        print(verdict(alone_s / took_s, len(os.sched_getaffinity(0))))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Compute the Mandelbrot set on all workers.")
    parser.add_argument("--size", type=int, default=4096, help="pixels of each side")
    parser.add_argument("--tiles", type=int, default=16, help="bands of rows")
    parser.add_argument("--picture", type=Path, default=Path("mandelbrot.png"))
    parser.add_argument("--alone", type=int, choices=[0, 1], default=1, help="measure one worker")
    given = parser.parse_args()
    if not 1 <= given.tiles <= given.size <= 16_384:  # noqa: PLR2004 (a quarter of a gigabyte)
        sys.exit("expected 1 <= --tiles <= --size <= 16384")
    try:
        main(given.size, given.tiles, given.picture.absolute(), alone=bool(given.alone))
    except (DtaskError, TaskFailed) as error:
        sys.exit(f"dtask: {error}")
