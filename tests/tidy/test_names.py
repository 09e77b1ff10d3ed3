"""A noun per file, a docstring for what is public, and one list of what the package exports."""

import ast
import sys
from collections.abc import Iterator

import dtask
from dtask import client, errors
from tidy.sources import PACKAGE, ROOT, modules, name_of, tree

#: Names under which anything could be filed, so that everything would be.
BANNED_MODULES = {
    "common",
    "helper",
    "helpers",
    "lib",
    "manager",
    "misc",
    "shared",
    "tools",
    "util",
    "utils",
}


def test_modules_are_named_after_what_they_hold() -> None:
    assert [name_of(path) for path in modules() if path.stem in BANNED_MODULES] == []


def test_no_module_has_the_name_of_one_of_the_standard_library() -> None:
    own = {path.stem for path in PACKAGE.iterdir() if not path.name.startswith("__")}
    assert own & sys.stdlib_module_names == set()


def test_cmd_is_no_package() -> None:
    """With an `__init__.py` it would shadow the standard library's `cmd`, and break pdb."""
    assert sorted(path.name for path in (ROOT / "cmd").glob("*.py")) == []
    assert {path.name for path in (ROOT / "cmd").iterdir() if path.is_file()} == {
        "dtask",
        "dtask-scheduler",
        "dtask-worker",
    }


def test_every_module_and_every_public_name_has_a_docstring() -> None:
    bare = [
        f"{name_of(path)}:{getattr(node, 'lineno', 1)} {name}"
        for path in modules()
        for name, node in _public(tree(path), path.stem)
        if ast.get_docstring(node) is None
    ]
    assert bare == []


def test_the_package_exports_what_it_lists() -> None:
    assert list(dtask.__all__) == sorted(dtask.__all__)
    assert set(dtask.__all__) == _typed_names() | {"__version__"}
    for name in dtask.__all__:
        assert getattr(dtask, name) is not None


def test_the_package_exports_the_sdk_and_every_error() -> None:
    tree_of_errors = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.DtaskError)
    }
    assert set(dtask.__all__) == {*client.__all__, *tree_of_errors, "Heartbeat", "__version__"}


def _typed_names() -> set[str]:
    """What type checkers see: the imports under `if TYPE_CHECKING`."""
    blocks = [node for node in tree(PACKAGE / "__init__.py").body if isinstance(node, ast.If)]
    assert len(blocks) == 1
    return {
        alias.name
        for node in blocks[0].body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def _public(
    parsed: ast.Module, name: str
) -> Iterator[tuple[str, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]]:
    """The module, its public classes and functions, and their public methods."""
    yield name, parsed
    for node in parsed.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            yield from _functions(node.body)
    yield from _functions(parsed.body)


def _functions(
    body: list[ast.stmt],
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in body:
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and not node.name.startswith("_")
            and not any(isinstance(by, ast.Attribute) for by in node.decorator_list)  # a setter
        ):
            yield node.name, node
