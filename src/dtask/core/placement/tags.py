"""Tags, the grammar of requirements, and the bitset index that answers them.

A *tag* is what a worker is: `gpu`, `cuda-12.4`, `zone=eu`. A *requirement* is one element of
`required_tags`; all elements of the list must hold:

    element      = [ "!" ] alternative *( "|" alternative )
    alternative  = tag | name ( ">=" | ">" | "<=" | "<" ) version
    version      = number *( "." number )

`a|b` holds for a worker that has any of them; a leading `!` turns the whole element round, so
`!a|b` holds for a worker that has none of them. `cuda>=12.0` looks at the tags `cuda-VERSION`,
where VERSION stands after the *last* hyphen; versions are compared number by number and a
missing number is 0, so `cuda-12` meets `cuda>=12.0`. Reserved in tags: `| ! < > ,` and space.

The index holds one Python int per tag with a bit per worker's slot in the table, so that a
requirement is a few `&` and `|` over machine words (0.2 us each at 50,000 workers), or, for a tag
that few workers carry, a tuple of slots (see `slots`).
"""

import functools
import operator
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from dtask.core.placement import slots
from dtask.core.placement.slots import Slots
from dtask.errors import InvalidRequest

#: Tags of one worker, and characters of one tag.
TAGS_MAX: Final = 64
TAG_CHARS_MAX: Final = 64

#: Characters of one requirement: eight alternatives of the longest tag.
REQUIREMENT_CHARS_MAX: Final = 8 * TAG_CHARS_MAX

RESERVED: Final = "|!<>, "

#: Remembered answers of version comparisons per name. Programs ask for few; a hostile client
#: only makes the memory start over.
COMPARISONS_MAX: Final = 64

_COMPARISON = re.compile(r"([^<>]+)(>=|<=|>|<)([^<>]*)")
_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+)*")

_OPERATORS: Final[dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
}

Version = tuple[int, ...]


class Comparison(NamedTuple):
    """`cuda>=12.0`: the tags `name-VERSION` whose version stands so to `version`."""

    name: str
    symbol: str
    version: Version


class Requirement(NamedTuple):
    """One element of `required_tags`, parsed."""

    #: As the client wrote it; refusals name it so.
    text: str
    #: The tag, when the element is nothing but one tag: by far the most are.
    literal: str | None
    negated: bool
    alternatives: tuple[str | Comparison, ...]


#: All of them must hold.
Requirements = tuple[Requirement, ...]


def check_tag(tag: str, field: str) -> None:
    """Raise InvalidRequest unless `tag` is 1 to 64 printable characters, none of them reserved."""
    if not tag or len(tag) > TAG_CHARS_MAX or not tag.isprintable():
        raise InvalidRequest(
            f"{field}: {_short(tag)} is not a tag: "
            f"expected 1 to {TAG_CHARS_MAX} printable characters.",
            code="bad_tag",
            field=field,
        )
    for char in RESERVED:
        if char in tag:
            raise InvalidRequest(
                f"{field}: the tag {tag!r} holds {char!r}, which is reserved for requirements: "
                f"expected none of | ! < > , or a space.",
                code="bad_tag",
                field=field,
            )


@functools.lru_cache(maxsize=512)  # of the longest lists, 32 KB each, they would take 16 MB
def parse(texts: tuple[str, ...], field: str = "required_tags") -> Requirements:
    """Parse the elements of `required_tags`. Raises InvalidRequest that names the element."""
    return tuple(_parse_one(text, f"{field}[{i}]") for i, text in enumerate(texts))


def split(text: str) -> tuple[str, ...]:
    """The text form of a list of tags or requirements: elements joined by commas.

    >>> split("gpu, cuda>=12.0")
    ('gpu', 'cuda>=12.0')
    """
    return tuple(element for part in text.split(",") if (element := part.strip()))


def _parse_one(text: str, field: str) -> Requirement:
    if len(text) > REQUIREMENT_CHARS_MAX:
        raise InvalidRequest(
            f"{field} has {len(text)} characters: expected at most {REQUIREMENT_CHARS_MAX}.",
            code="bad_requirement",
            field=field,
        )
    negated = text.startswith("!")
    parts = text[negated:].split("|")
    alternatives = tuple(_parse_alternative(part, text, field) for part in parts)
    plain = not negated and len(alternatives) == 1 and isinstance(alternatives[0], str)
    return Requirement(text, text if plain else None, negated, alternatives)


def _parse_alternative(part: str, text: str, field: str) -> str | Comparison:
    if found := _COMPARISON.fullmatch(part):
        name, symbol, version = found.groups()
        if name.endswith("="):
            raise InvalidRequest(
                f"{field}: {_short(text)} turns the sign round: expected "
                f"{_short(f'{name[:-1]}{symbol[0]}={version}')}.",
                code="bad_requirement",
                field=field,
            )
        if not _VERSION.fullmatch(version):
            raise InvalidRequest(
                f"{field}: {_short(version)} in {text!r} is not a version: "
                f"expected numbers and dots, such as cuda>=12.0.",
                code="bad_requirement",
                field=field,
            )
        _check_part(name, text, field)
        return Comparison(name, symbol, _version(version))
    _check_part(part, text, field)
    return part


def _check_part(part: str, text: str, field: str) -> None:
    try:
        check_tag(part, field)
    except InvalidRequest:
        raise InvalidRequest(
            f"{field}: {_short(part)} in {_short(text)} is not a tag: "
            f"expected a tag, a|b (any of), !a (none of) or a comparison such as cuda>=12.0.",
            code="bad_requirement",
            field=field,
        ) from None


def _short(text: str) -> str:
    return repr(text if len(text) <= TAG_CHARS_MAX else text[:TAG_CHARS_MAX] + "…")


def _version(text: str) -> Version:
    """Numbers without trailing zeros, so that equal versions are equal tuples (12 is 12.0)."""
    numbers = [int(number) for number in text.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


class TagIndex:
    """Which slots of the worker table carry which tag."""

    def __init__(self) -> None:
        self._slots: dict[str, Slots] = {}
        #: Tags with a version, by the name before it. Only for names that are compared.
        self._versions: dict[str, dict[str, Version]] = {}
        #: Answers of comparisons, dropped when a tag of that name changes.
        self._compared: dict[str, dict[Comparison, int]] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._slots)

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, tag: str) -> bool:
        return tag in self._slots

    def add(self, slot: int, tags: Iterable[str]) -> None:
        """The worker in `slot` carries `tags` from now on; it carried none of them before."""
        for tag in tags:
            members = self._slots.get(tag)
            if members is None:
                self._slots[tag] = (slot,)
                self._learn_version(tag)
            else:
                self._slots[tag] = slots.including(members, slot)
            self._forget_answers(tag)

    def remove(self, slot: int, tags: Iterable[str]) -> None:
        """The worker in `slot` carries `tags` no longer; it carried all of them before."""
        for tag in tags:
            members = slots.excluding(self._slots[tag], slot)
            if members:
                self._slots[tag] = members
            else:
                del self._slots[tag]
                self._unlearn_version(tag)
            self._forget_answers(tag)

    def bits(self, tag: str) -> int:
        """The slots that carry `tag`, as a bitset."""
        members = self._slots.get(tag, 0)
        return members if isinstance(members, int) else slots.bits_of(members)

    def meeting(self, requirement: Requirement, among: int) -> int:
        """The slots of the bitset `among` that meet `requirement`."""
        if requirement.literal is not None:
            return among & self.bits(requirement.literal)
        found = 0
        for alternative in requirement.alternatives:
            if isinstance(alternative, str):
                found |= self.bits(alternative)
            else:
                found |= self._comparing(alternative)
        found &= among
        return among ^ found if requirement.negated else found

    def knows(self, alternative: str | Comparison) -> bool:
        """Whether any worker carries the tag, or any version of the name compared."""
        if isinstance(alternative, str):
            return alternative in self._slots
        return alternative.name in self._versions

    def versioned(self) -> Iterable[str]:
        """The names that stand before a version in any tag."""
        return self._versions

    def check(self, tags_by_slot: dict[int, tuple[str, ...]]) -> None:
        """Assert that the index equals one built from scratch."""
        fresh = TagIndex()
        for slot, tags in tags_by_slot.items():
            fresh.add(slot, tags)
        assert self._slots.keys() == fresh._slots.keys()
        for tag in self._slots:
            assert self.bits(tag) == fresh.bits(tag), tag
        assert self._versions == fresh._versions
        for answers in self._compared.values():
            for comparison, bits in answers.items():
                assert bits == fresh._comparing(comparison), comparison

    def _comparing(self, comparison: Comparison) -> int:
        answers = self._compared.setdefault(comparison.name, {})
        bits = answers.get(comparison)
        if bits is None:
            holds = _OPERATORS[comparison.symbol]
            versions = self._versions.get(comparison.name, {})
            bits = 0
            rare: list[int] = []
            for tag, version in versions.items():
                if holds(version, comparison.version):
                    members = self._slots[tag]
                    if isinstance(members, int):
                        bits |= members
                    else:
                        rare.extend(members)
            bits |= slots.bits_of(rare)
            if not versions:
                del self._compared[comparison.name]  # an unknown name must not take memory
                return bits
            if len(answers) >= COMPARISONS_MAX:
                answers.clear()
            answers[comparison] = bits
        return bits

    def _learn_version(self, tag: str) -> None:
        name, _, version = tag.rpartition("-")
        if name and _VERSION.fullmatch(version):
            self._versions.setdefault(name, {})[tag] = _version(version)

    def _unlearn_version(self, tag: str) -> None:
        name = tag.rpartition("-")[0]
        versions = self._versions.get(name)
        if versions is not None and versions.pop(tag, None) is not None and not versions:
            del self._versions[name]

    def _forget_answers(self, tag: str) -> None:
        if self._compared:
            self._compared.pop(tag.rpartition("-")[0], None)
