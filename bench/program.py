"""What all programs here share: arguments, the table, and the JSON file."""

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from dtask.bench import figures
from dtask.bench.figures import Figure

RESULTS = Path(__file__).parent / "results"


def run(name: str, measure: Callable[[bool], Iterable[Figure]]) -> None:
    """Measure (small with `--small`), print a table, write `results/NAME.json`.

    Exits 1 if a figure falls short of its limit; never in the small size, which only proves that
    the program works.
    """
    parser = argparse.ArgumentParser(prog=f"bench/{name}.py")
    parser.add_argument("--small", action="store_true", help="a short run, to try the program")
    small = parser.parse_args().small
    found = list(measure(small))
    print(figures.table(found))
    if small:
        return
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(figures.to_json(found) + "\n")
    sys.exit(not all(figure.holds for figure in found))
