"""What tests run besides dtask is installed by one script, and never silently left out."""

import ast
import subprocess

import pytest

from programs import program
from tidy.sources import ROOT, name_of, programs, tree

PACKAGES = ROOT / ".ci" / "packages"


def test_every_program_that_tests_ask_for_is_installed_by_the_script() -> None:
    listed = PACKAGES.read_text().partition("<<'END'\n")[2].partition("\nEND\n")[0]
    installed = {line.split()[0] for line in listed.splitlines()}
    asked = {
        f"{node.args[0].value}"
        for path in programs()
        if name_of(path).startswith("tests/")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "program"
        and isinstance(node.args[0], ast.Constant)
    }
    assert asked - {"no-such-program"} <= installed


def test_a_missing_program_fails_in_ci_and_skips_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="not installed"):
        program("no-such-program")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="not installed"):
        program("no-such-program")


def test_the_script_does_nothing_where_all_is_there() -> None:
    for name in ("prometheus", "promtool", "nginx", "openssl", "chromium", "tmux"):
        program(name)
    program("systemd-analyze")
    ended = subprocess.run([PACKAGES], capture_output=True, text=True, timeout=10, check=True)
    assert ended.stdout + ended.stderr == ""
