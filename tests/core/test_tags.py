import doctest
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from core import naive
from dtask.core.placement import tags
from dtask.core.placement.tags import COMPARISONS_MAX, Comparison, TagIndex, parse
from dtask.errors import InvalidRequest

LONG = "x" * 64

# The grammar


@pytest.mark.parametrize(
    ("text", "literal", "negated", "alternatives"),
    [
        ("gpu", "gpu", False, ("gpu",)),
        ("zone=eu", "zone=eu", False, ("zone=eu",)),
        ("cuda-12.4", "cuda-12.4", False, ("cuda-12.4",)),
        (LONG, LONG, False, (LONG,)),
        ("größe", "größe", False, ("größe",)),
        ("gpu|tpu", None, False, ("gpu", "tpu")),
        ("!gpu", None, True, ("gpu",)),
        ("!gpu|tpu", None, True, ("gpu", "tpu")),
        ("cuda>=12.0", None, False, (Comparison("cuda", ">=", (12,)),)),
        ("cuda>12", None, False, (Comparison("cuda", ">", (12,)),)),
        ("cuda<=12.0.1", None, False, (Comparison("cuda", "<=", (12, 0, 1)),)),
        ("cuda<0", None, False, (Comparison("cuda", "<", ()),)),
        ("a-b>=007", None, False, (Comparison("a-b", ">=", (7,)),)),
        ("tpu|cuda>=12", None, False, ("tpu", Comparison("cuda", ">=", (12,)))),
    ],
)
def test_a_requirement_is_parsed(
    text: str, literal: str | None, *, negated: bool, alternatives: tuple[Any, ...]
) -> None:
    assert parse((text,)) == (tags.Requirement(text, literal, negated, alternatives),)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "'' in '' is not a tag"),
        ("!", "'' in '!' is not a tag"),
        ("!!gpu", "'!gpu' in '!!gpu' is not a tag"),
        ("|gpu", "'' in '|gpu' is not a tag"),
        ("gpu||tpu", "'' in 'gpu||tpu' is not a tag"),
        ("gpu|!tpu", "'!tpu' in 'gpu|!tpu' is not a tag"),
        ("a b", "'a b' in 'a b' is not a tag"),
        ("a,b", "'a,b' in 'a,b' is not a tag"),
        ("a\tb", "is not a tag"),
        ("a\u200bb", "is not a tag"),
        ("\ud800", "is not a tag"),
        ("x" * 65, f"'{'x' * 64}…' in '{'x' * 64}…' is not a tag"),
        (">=12", "'>=12' in '>=12' is not a tag"),
        ("cuda>12>13", "is not a tag"),
        ("a b>=1", "'a b' in 'a b>=1' is not a tag"),
        ("cuda>=", "'' in 'cuda>=' is not a version"),
        ("cuda>=x", "'x' in 'cuda>=x' is not a version"),
        ("cuda>=12.", "'12.' in 'cuda>=12.' is not a version"),
        ("cuda>=-1", "'-1' in 'cuda>=-1' is not a version"),
        ("cuda>=1 2", "'1 2' in 'cuda>=1 2' is not a version"),
        ("cuda>=٣", "is not a version"),
        ("gpu|" * 200 + "gpu", "has 803 characters: expected at most 512"),
    ],
)
def test_what_is_no_requirement_is_refused_by_its_place_in_the_list(text: str, wrong: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(("gpu", text))
    error = refused.value
    assert wrong in str(error)
    assert "expected" in str(error)
    assert (error.code, error.facts) == ("bad_requirement", {"field": "required_tags[1]"})


def test_the_field_that_is_named_can_be_another() -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(("!",), "tasks[3].required_tags")
    assert refused.value.facts == {"field": "tasks[3].required_tags[0]"}


@pytest.mark.parametrize("tag", ["gpu", "zone=eu", "cuda-12.4", "-", LONG, "größe", "a/b:c"])
def test_a_tag_is_up_to_64_printable_characters(tag: str) -> None:
    tags.check_tag(tag, "resource_tags[0]")


@pytest.mark.parametrize(
    "tag", ["", "x" * 65, "a\n", "\ud800", "a|b", "!a", "a<b", "a>b", "a,b", "a b"]
)
def test_what_is_no_tag_is_refused(tag: str) -> None:
    with pytest.raises(InvalidRequest, match="expected") as refused:
        tags.check_tag(tag, "resource_tags[7]")
    assert (refused.value.code, refused.value.facts) == ("bad_tag", {"field": "resource_tags[7]"})


def test_the_text_form_of_a_list_joins_elements_with_commas() -> None:
    assert tags.split(" gpu, cuda>=12.0,,a|b ,") == ("gpu", "cuda>=12.0", "a|b")
    assert tags.split("") == ()
    assert doctest.testmod(tags).failed == 0


# The index

NAMES = ["gpu", "cuda", "a-b", "cuda-x"]
VERSIONS = ["0", "9", "11.8", "12", "12.0", "12.0.1", "12.4", "12.10", "007"]
known_tags = st.sampled_from(NAMES) | st.builds(
    "-".join, st.tuples(st.sampled_from(NAMES), st.sampled_from([*VERSIONS, "x", "1.", "1..2"]))
)
alternatives = known_tags | st.builds(
    "".join,
    st.tuples(
        st.sampled_from(NAMES), st.sampled_from([">=", ">", "<=", "<"]), st.sampled_from(VERSIONS)
    ),
)
requirements = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", "!"]), st.lists(alternatives, min_size=1, max_size=3).map("|".join)
    ),
)


class Index(RuleBasedStateMachine):
    """The index answers as if every worker's tags were looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.index = TagIndex()
        self.tags: dict[int, tuple[str, ...]] = {}

    @rule(
        members=st.integers(0, 2**21 - 1),
        worn=st.lists(known_tags, unique=True, max_size=5).map(tuple),
    )
    def wear(self, members: int, worn: tuple[str, ...]) -> None:
        for slot in [slot for slot in range(21) if members >> slot & 1]:
            self.index.remove(slot, self.tags.pop(slot, ()))
            self.index.add(slot, worn)
            self.tags[slot] = worn

    @rule(text=requirements, among=st.integers(0, 2**21 - 1))
    def ask(self, text: str, among: int) -> None:
        (requirement,) = parse((text,))
        expected = sum(
            1 << slot
            for slot, worn in self.tags.items()
            if among >> slot & 1 and naive.meets(worn, text)
        )
        everyone = sum(1 << slot for slot in self.tags)
        assert self.index.meeting(requirement, among & everyone) == expected

    @invariant()
    def equals_a_rebuild(self) -> None:
        self.index.check(self.tags)
        assert set(self.index) == {tag for worn in self.tags.values() for tag in worn}
        assert len(self.index) == len(set(self.index))


TestIndex = Index.TestCase
TestIndex.settings = settings(stateful_step_count=20)


@given(st.sampled_from(VERSIONS), st.sampled_from(VERSIONS))
def test_versions_are_compared_number_by_number(worn: str, asked: str) -> None:
    index = TagIndex()
    index.add(0, (f"cuda-{worn}",))
    one, two = ([*map(int, v.split(".")), 0, 0, 0][:3] for v in (worn, asked))
    for symbol, holds in {
        ">=": one >= two,
        ">": one > two,
        "<=": one <= two,
        "<": one < two,
    }.items():
        (requirement,) = parse((f"cuda{symbol}{asked}",))
        assert index.meeting(requirement, 1) == holds


def test_an_answered_comparison_is_answered_anew_when_a_tag_of_its_name_changes() -> None:
    index = TagIndex()
    index.add(0, ("cuda-11",))
    (requirement,) = parse(("cuda>=12",))
    assert index.meeting(requirement, 0b11) == 0
    index.add(1, ("cuda-12.4",))
    assert index.meeting(requirement, 0b11) == 0b10
    index.remove(1, ("cuda-12.4",))
    assert index.meeting(requirement, 0b11) == 0


def test_remembered_comparisons_are_bounded_and_unknown_names_take_no_memory() -> None:
    index = TagIndex()
    index.add(0, ("cuda-11",))
    for n in range(3 * COMPARISONS_MAX):
        for name in ("cuda", f"unknown{n}"):
            index.meeting(parse((f"{name}>={n}",))[0], 1)
    assert sum(map(len, index._compared.values())) <= COMPARISONS_MAX


def test_what_the_index_knows_are_tags_and_names_with_a_version() -> None:
    index = TagIndex()
    index.add(0, ("gpu", "cuda-12.4", "driver-x"))
    assert index.knows("gpu")
    assert not index.knows("cuda")
    assert index.knows(Comparison("cuda", ">=", (13,)))
    assert not index.knows(Comparison("driver", ">=", ()))
    assert list(index.versioned()) == ["cuda"]
    index.remove(0, ("cuda-12.4",))
    assert list(index.versioned()) == []
    assert "cuda-12.4" not in index


def test_a_comparison_with_its_sign_turned_round_is_told_the_right_way() -> None:
    with pytest.raises(InvalidRequest, match=r"expected 'cuda>=12'"):
        tags.parse(("cuda=>12",))
