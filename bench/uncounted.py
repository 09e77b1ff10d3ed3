"""A scheduler whose counters stop at SIGUSR1 and go on at SIGUSR2, for `metrics_cost.py`.

It takes the statements that count out of the functions that every placement runs through, so that
the product needs no switch for it. What finds nothing to take out fails: then the product counts
elsewhere, and this program is to follow.
"""

import ast
import inspect
import re
import signal
import sys
import textwrap
from collections.abc import Callable
from typing import Any, Final

from dtask.cli import scheduler
from dtask.core.placement.fleet import Fleet
from dtask.scheduler.api.heartbeat import Heartbeats
from dtask.scheduler.api.schedule import Questions
from dtask.scheduler.protocol import Connection

#: Where placements and heartbeats are counted, and what a statement that counts speaks of.
COUNTING: Final[tuple[tuple[type, str, str], ...]] = (
    (Questions, "__call__", r"\b_?tallies\b"),
    (Heartbeats, "__call__", r"\b_tallies\b"),
    (Connection, "on_message_complete", r"\bCOMPLETE_AT\b"),
    (Fleet, "settle", r"\b(offered|taken)\b"),
)


class _Strip(ast.NodeTransformer):
    """Takes out the simple statements that match, and what holds nothing else."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self.taken_out = 0

    def visit(self, node: ast.AST) -> Any:  # noqa: ANN401 (as its base has it)
        """The node as it stays, or None."""
        if isinstance(node, ast.stmt):
            if not hasattr(node, "body") and re.search(self._pattern, ast.unparse(node)):
                self.taken_out += 1
                return None
            self.generic_visit(node)
            return node if getattr(node, "body", True) else None
        return self.generic_visit(node)


def without(function: Callable[..., Any], pattern: str) -> Callable[..., Any]:
    """The function without its statements that match."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    strip = _Strip(pattern)
    strip.visit(tree)
    assert strip.taken_out, f"{function.__qualname__} does not count"
    made: dict[str, Any] = {}
    code = compile(ast.fix_missing_locations(tree), inspect.getfile(function), "exec")
    exec(code, function.__globals__, made)
    stripped: Callable[..., Any] = made[function.__name__]
    return stripped


def main() -> None:
    """Be `dtask-scheduler`, and obey the two signals."""
    counting = [(owner, name, getattr(owner, name)) for owner, name, _ in COUNTING]
    stripped = [
        (owner, name, without(getattr(owner, name), pattern)) for owner, name, pattern in COUNTING
    ]

    def use(functions: list[tuple[type, str, Callable[..., Any]]]) -> None:
        for owner, name, function in functions:
            setattr(owner, name, function)

    signal.signal(signal.SIGUSR1, lambda *_: use(stripped))
    signal.signal(signal.SIGUSR2, lambda *_: use(counting))
    scheduler.main()


if __name__ == "__main__":
    sys.argv[0] = "dtask-scheduler"
    main()
