import ast
import inspect
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dtask
from dtask import errors
from dtask.errors import CODES, Busy, DtaskError, NotFound, Unavailable, from_body

SOURCE = Path(dtask.__file__).parent

CLASSES: list[type[DtaskError]] = [
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, DtaskError) and kind is not DtaskError
]


def codes_raised() -> dict[str, str]:
    """Every `code="word"` that stands in the package, with the file that holds it."""
    found = {}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "code":
                for part in ast.walk(node.value):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        found[part.value] = path.name
    return found


def test_every_code_that_is_raised_is_in_the_list() -> None:
    raised = codes_raised()
    assert set(raised) - set(CODES) == set(), raised
    assert len(raised) > 10, "the search found what it looks for"


def test_a_code_stands_in_the_list_once() -> None:
    tree = ast.parse((SOURCE / "errors.py").read_text())
    (table,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "CODES"
    )
    assert isinstance(table, ast.Dict)
    assert len(table.keys) == len(CODES)


@pytest.mark.parametrize("code", CODES)
def test_a_code_has_a_class_a_status_and_a_sentence(code: str) -> None:
    info = CODES[code]
    assert code == code.lower()
    assert code.isidentifier()
    assert info.error in CLASSES
    assert 400 <= info.status <= 599
    assert info.meaning.endswith(".")
    error = info.error("What was wrong.", code=code, field="x")
    assert (error.status, str(error)) == (info.status, "What was wrong.")
    assert error.body() == {"error": "What was wrong.", "code": code, "field": "x"}


def test_a_code_outside_the_list_is_a_bug_that_shows() -> None:
    with pytest.raises(AssertionError, match="made_up"):
        Busy("Never.", code="made_up")


def test_every_class_is_drawn_in_the_tree_and_has_a_code() -> None:
    drawn = [
        line.split()[1]
        for line in (errors.__doc__ or "").splitlines()
        if line.lstrip().startswith(("+ ", "* "))
    ]
    assert drawn == ["DtaskError", *(kind.__name__ for kind in CLASSES)]
    assert {info.error for info in CODES.values()} == set(CLASSES)


def test_every_class_can_be_imported_from_the_package() -> None:
    kinds: list[type[DtaskError]] = [DtaskError, *CLASSES]
    for kind in kinds:
        assert getattr(dtask, kind.__name__) is kind


@pytest.mark.parametrize("code", CODES)
def test_an_error_survives_the_wire(code: str) -> None:
    before = CODES[code].error("Why.", code=code, reasons={"full": 2}, retry_after_s=1.0)
    after = from_body(before.status, before.body())
    assert (type(after), after.code, str(after)) == (type(before), code, "Why.")
    assert after.facts == before.facts


@pytest.mark.parametrize("name", ["self", "sentence", "code_", "status", "args"])
def test_a_fact_may_have_any_name(name: str) -> None:
    error = from_body(404, {"error": "Gone.", "code": "no_lease", name: 1})
    assert isinstance(error, NotFound)
    assert error.facts == {name: 1}


@pytest.mark.parametrize(
    "body",
    [None, "<html>", [], {}, {"code": "held"}, {"error": "x", "code": "new_word"}, {"error": 1}],
)
def test_a_body_that_is_not_ours_becomes_an_error_of_ours(body: object) -> None:
    assert isinstance(from_body(502, body), Unavailable)
    assert from_body(418, body).code == "malformed"
    assert "HTTP 418" in str(from_body(418, body))


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(
    st.integers(400, 599),
    json_values
    | st.fixed_dictionaries(
        {"error": st.text(), "code": st.sampled_from(sorted(CODES))}, optional={"self": json_values}
    ),
)
def test_any_body_becomes_an_error_and_nothing_else_happens(status: int, body: object) -> None:
    assert isinstance(from_body(status, body), DtaskError)
