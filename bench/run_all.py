"""Every program here, one after the other: `make bench`."""

import subprocess
import sys
from pathlib import Path

PROGRAMS = (
    "core",
    "over_http",
    "heartbeats",
    "viewers",
    "metrics_cost",
    "memory",
    "start",
    "short_tasks",
    "ended_jobs",
    "scheduler_jobs",
    "true_tasks",
    "peers",
    "torture",
)


def main() -> None:
    """Run all, however each ends; exit 1 if one of them fell short."""
    here = Path(__file__).parent
    failed = []
    for name in PROGRAMS:
        print(f"\n{name}", flush=True)
        if subprocess.run(
            [sys.executable, here / f"{name}.py", *sys.argv[1:]], check=False
        ).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"fell short: {', '.join(failed)}")


if __name__ == "__main__":
    main()
