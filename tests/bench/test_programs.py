"""Each program of `bench/` runs, in its small size: a program that is never run does not work."""

import ast
import re
import subprocess
import sys

import pytest

from tidy.sources import ROOT, imports, tree

BENCH = ROOT / "bench"
PROGRAMS = sorted(path.stem for path in BENCH.glob("*.py") if "program" in imports(path))

#: Seconds for one program; reached only when it is broken.
PATIENCE_S = 120


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_prints_its_table(name: str) -> None:
    ended = subprocess.run(
        [sys.executable, BENCH / f"{name}.py", "--small"],
        cwd=BENCH,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    head, *rows = ended.stdout.splitlines()
    assert head.split()[:2] == ["what", "measured"]
    assert rows
    assert name != "torture" or "FALLS SHORT" not in ended.stdout, "nothing may be lost in any size"
    for row in rows:
        assert re.search(r"  [0-9][0-9.,e+-]* \S", row), row


def test_make_bench_runs_every_program() -> None:
    listed = next(
        node.value
        for node in tree(BENCH / "run_all.py").body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PROGRAMS"
    )
    assert sorted(ast.literal_eval(listed)) == PROGRAMS


def test_the_readme_tells_what_every_program_measures() -> None:
    text = (BENCH / "README.md").read_text()
    assert sorted(re.findall(r"^\| `(\w+)\.py` \|", text, re.MULTILINE)) == PROGRAMS
