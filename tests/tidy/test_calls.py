"""What is called where: one clock, one place that prints, no waiting by the clock."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidy.sources import PACKAGE, imports, module_of, modules, name_of, tree

#: A call, and the modules that may make it.
ALLOWED = {
    "time.sleep": {
        "dtask.bench.cluster",  # waits for processes that tell nobody when they are ready
        "dtask.bench.relay",  # lets nothing pass for a while
        "dtask.bench.torture",  # waits for processes that tell nobody when they are ready
        "dtask.cli.map",  # between two tries to stop a job, in a process that does nothing else
        "dtask.cli.screen",  # the pause of --watch, likewise
        "dtask.client.blocking",  # the pause of a client that blocks by design
        "dtask.worker.cgroup",  # used by the guard and by threads, never in a loop
        "dtask.worker.strays",  # the same
    },
    "time.time": {
        "dtask.clock",
        "dtask.cli.asking",  # a time of a command line, such as --at 18:00
        "dtask.cli.seconds",
        "dtask.cli.attempts",  # the CLI tells people how long ago something was
        "dtask.cli.demo",
        "dtask.cli.jobs",
        "dtask.cli.place",
        "dtask.cli.screen",
        "dtask.scheduler.blobs",  # it compares with the times of files
    },
    "time.time_ns": set(),
    "datetime.now": set(),
    "datetime.utcnow": set(),
    "datetime.today": set(),
    "print": set(),
    "os.system": set(),
    "eval": set(),
    "exec": set(),
    "breakpoint": set(),
}

#: All that the core may import: no clock, no randomness, no environment, no I/O.
CORE_MAY_IMPORT = {
    "bisect",
    "collections",
    "dataclasses",
    "difflib",
    "dtask.core",
    "dtask.errors",
    "enum",
    "functools",
    "heapq",
    "itertools",
    "math",
    "msgspec",
    "operator",
    "random.Random",  # a source of randomness that somebody hands in
    "re",
    "typing",
}


@pytest.mark.parametrize("call", ALLOWED)
def test_a_call_is_made_only_where_it_belongs(call: str) -> None:
    makers = {module_of(path) for path in modules() if call in _calls(path)}
    assert makers == makers & ALLOWED[call]


@pytest.mark.parametrize("call", [call for call, makers in ALLOWED.items() if makers])
def test_no_permission_is_left_over(call: str) -> None:
    makers = {module_of(path) for path in modules() if call in _calls(path)}
    assert ALLOWED[call] - makers == set()


def test_the_core_imports_nothing_that_acts() -> None:
    strange = {
        f"{name_of(path)} imports {name}"
        for path in (PACKAGE / "core").rglob("*.py")
        for name in imports(path)
        if not any(name == may or name.startswith(f"{may}.") for may in CORE_MAY_IMPORT)
    }
    assert strange == set()


def test_imports_are_absolute() -> None:
    relative = [
        f"{name_of(path)}:{node.lineno}"
        for path in modules()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


def _calls(path: Path) -> set[str]:
    """The names called in a file, as written: `time.sleep`, `print`."""
    return set(_names(tree(path)))


def _names(parsed: ast.Module) -> Iterator[str]:
    for node in ast.walk(parsed):
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name):
                yield called.id
            elif isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
                yield f"{called.value.id}.{called.attr}"
