"""Everything fits on a screen, or nearly."""

import ast
from collections.abc import Iterator

from tidy.sources import name_of, programs, tree

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 800


def test_no_function_is_longer_than_seventy_lines() -> None:
    lengths = {
        f"{name_of(path)}:{node.lineno} {node.name}": length
        for path in programs()
        for node, length in _functions(tree(path))
    }
    assert lengths
    assert [name for name, length in lengths.items() if length > FUNCTION_LINES_MAX] == []


def test_no_file_is_longer_than_eight_hundred_lines() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in programs()}
    assert [name for name, length in lengths.items() if length > FILE_LINES_MAX] == []


def _functions(
    parsed: ast.Module,
) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, int]]:
    for node in ast.walk(parsed):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node, node.end_lineno - node.lineno + 1
