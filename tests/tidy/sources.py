"""The project's own files, read and parsed once."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "dtask"

#: Where Python is.
CODE = ("src", "tests", "bench", "examples")

#: Where people read: everything that is kept, but not what tools leave behind.
TEXT_SUFFIXES = (".md", ".py", ".toml", ".txt", ".yml", ".yaml", ".service", ".conf", "")
TEXT = (*CODE, "cmd", "deploy", "docs", ".ci")


def modules() -> list[Path]:
    """The modules of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def programs() -> list[Path]:
    """All Python files, the launchers too."""
    found = [path for name in CODE for path in (ROOT / name).rglob("*.py")]
    return sorted([*found, *(ROOT / "cmd").iterdir()])


def texts() -> list[Path]:
    """All files that people read."""
    found = [path for name in TEXT for path in (ROOT / name).rglob("*")]
    found += [path for path in ROOT.iterdir() if not path.name.startswith(".")]
    return sorted(
        path
        for path in found
        if path.is_file()
        and path.suffix in TEXT_SUFFIXES
        and not any(part == "__pycache__" or part.startswith(".") for part in path.parts)
    )


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a Python file."""
    return ast.parse(path.read_text(), path.name)


def name_of(path: Path) -> str:
    """The path as people know it."""
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    """The module in a file of the package: `dtask.core.cluster`."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """All that a file imports, under full names: `random`, and `random.Random` for a part."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found
