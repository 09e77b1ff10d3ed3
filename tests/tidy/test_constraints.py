"""`constraints.txt` pins all that the project needs, by name and version alone."""

import re
import tomllib
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tidy.sources import ROOT

LINES = (ROOT / "constraints.txt").read_text().splitlines()
PINNED: dict[str, str] = {
    canonicalize_name(line.partition("==")[0]): line.partition("==")[2] for line in LINES
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_line_is_a_name_and_a_version() -> None:
    assert [line for line in LINES if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    assert len(PINNED) == len(LINES)
    assert sorted(LINES, key=str.lower) == LINES


def test_what_the_project_asks_for_is_pinned_to_a_version_that_it_accepts() -> None:
    asked = [Requirement(text) for text in _direct()]
    unmet = [
        str(requirement)
        for requirement in asked
        if not requirement.specifier.contains(PINNED.get(canonicalize_name(requirement.name), ""))
    ]
    assert asked
    assert unmet == []


def test_what_those_need_is_pinned_too_in_the_version_that_the_tests_run_with() -> None:
    needed = _closure({Requirement(text) for text in _direct(build=False)})
    assert {name: version for name, version in needed.items() if PINNED.get(name) != version} == {}


def _direct(*, build: bool = True) -> list[str]:
    project = PROJECT["project"]
    extras = [text for group in project["optional-dependencies"].values() for text in group]
    needed_to_build = PROJECT["build-system"]["requires"] if build else []
    return [*project["dependencies"], *extras, *needed_to_build]


def _closure(wanted: set[Requirement]) -> dict[str, str]:
    """All installed distributions that these need, themselves included: name -> version."""
    found: dict[str, str] = {}
    queue = [(requirement, "") for requirement in wanted]
    while queue:
        requirement, extra = queue.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        known = name in found
        distribution = metadata.distribution(name)
        found[name] = distribution.version
        for asked in {""} | requirement.extras:
            if asked or not known:
                queue += [(Requirement(text), asked) for text in distribution.requires or ()]
    return found
