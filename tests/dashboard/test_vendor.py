"""The modules of others are what their packages had, and load nothing from elsewhere."""

import json
import re
from hashlib import sha256

from dtask.dashboard import STATIC

VENDOR = STATIC / "vendor"
TAKEN = json.loads((VENDOR / "versions.json").read_text())


def test_every_file_is_recorded_with_its_version_and_licence() -> None:
    recorded = {name: digest for package in TAKEN for name, digest in package["files"].items()}
    found = {
        path.relative_to(VENDOR).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.rglob("*")
        if path.suffix in {".js", ".css"}
    }
    assert found == recorded
    for package in TAKEN:
        assert re.fullmatch(r"\d+\.\d+\.\d+", package["version"]), package["name"]
        assert package["licence"]
        assert (VENDOR / package["licence_text"]).read_text()


def test_our_modules_and_those_of_others_import_by_relative_paths_alone() -> None:
    statement = re.compile(
        r"""^(?!\s*(?:\*|//)).*?(?:\bfrom|\bimport\(?)\s*["']([^"']+)["']""", re.MULTILINE
    )
    bare = [
        f"{path.relative_to(STATIC)}: {name}"
        for path in STATIC.rglob("*.js")
        for name in statement.findall(path.read_text())
        if not name.startswith((".", "/"))
    ]
    assert bare == []


def test_our_modules_never_make_markup_of_text() -> None:
    banned = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(")
    found = [
        path.name
        for path in STATIC.rglob("*.js")
        if VENDOR not in path.parents and banned.search(path.read_text())
    ]  # those of others are not ours to judge; the content policy holds for them too
    assert found == []
