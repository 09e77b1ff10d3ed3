"""Every example of docs/sdk.md is run, and all that the SDK can do stands there."""

import inspect
from pathlib import Path

import pytest

from docs import pages
from docs.reader import follow
from dtask import AsyncClient, Client
from dtask.client import specs
from dtask.client.jobs import AsyncJob, Job

PAGE = "docs/sdk.md"


def test_every_example_prints_what_the_page_shows(tmp_path: Path) -> None:
    assert follow(PAGE, tmp_path) == 6


def test_every_field_of_a_job_stands_on_the_page() -> None:
    fields = pages.first_codes(pages.section(PAGE, "A command"))
    assert sorted(fields) == sorted(specs.Wishes.__annotations__)


def test_every_call_stands_on_the_page() -> None:
    calls = pages.first_codes(pages.section(PAGE, "Following"))
    assert sorted(calls) == sorted(_public(Client))
    told = pages.codes(pages.section(PAGE, "Following"))
    assert set(_public(Job)) - set(told) == set()


@pytest.mark.parametrize(("one", "other"), [(Client, AsyncClient), (Job, AsyncJob)])
def test_the_twins_can_do_the_same(one: type, other: type) -> None:
    twins = {"close": "aclose"}
    ours = {twins.get(name, name): function for name, function in _public(one).items()}
    theirs = _public(other)
    assert set(ours) == set(theirs)
    for name, function in ours.items():
        mine = inspect.signature(function).parameters
        assert str(mine) == str(inspect.signature(theirs[name]).parameters), name


def _public(kind: type) -> dict[str, object]:
    """The public methods of a class."""
    return {
        name: value
        for name, value in vars(kind).items()
        if not name.startswith("_") and inspect.isfunction(value)
    }
