"""Bytes to typed bodies and back, with errors that name the field.

msgspec decodes and validates in one pass. What it lets through is twice the same key in one
object. That takes a second, slower pass, which is made only where it could find something: when a
known name stands twice in the bytes (a few scans of 50 ns tell), or when objects are nested.
"""

import functools
import json
import re
from typing import Any, Generic, TypeVar

import msgspec
import orjson

from dtask.errors import InvalidRequest

T = TypeVar("T", bound=msgspec.Struct)

_PLACE = re.compile(r" - at `(?:key in )?\$(.*)`$")
_INDEX = re.compile(r"\[[^]]*\]")
_TYPES = re.compile(r"`((?:\w+ \| )*\w+)`")
_NAMED = re.compile(r"Object (missing required|contains unknown) field `(.*)`", re.DOTALL)


class Body(Generic[T]):
    """Decoder of one kind of body, a msgspec Struct.

    `shallow`: look for repeated keys in the outermost object only; whoever decodes looks into
    the nested ones. `usual`: the one optional field that most bodies have beside those they must
    have, None by default.
    """

    def __init__(self, kind: type[T], *, shallow: bool = False, usual: str | None = None) -> None:
        self._kind = kind
        self._shallow = shallow
        self._usual = usual
        self._decoder = msgspec.json.Decoder(kind)
        fields = msgspec.structs.fields(kind)
        self._usual_count = 1 + sum(field.required for field in fields)
        self._names = [f'"{field.encode_name}"'.encode() for field in fields]

    def decode(self, raw: bytes) -> T:
        """The body in `raw`. Raises InvalidRequest that names the field and what was expected."""
        try:
            body = self._decoder.decode(raw)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise self._explained(error) from None
        if (
            self._usual is not None
            and getattr(body, self._usual) is not None
            and raw.count(b":") == self._usual_count
        ):
            return body  # a colon for each field that is there: no room for a second key
        if self._may_repeat_keys(raw):
            refuse_duplicates(raw)
        return body

    def _may_repeat_keys(self, raw: bytes) -> bool:
        count = raw.count
        for name in self._names:
            if count(name) > 1:
                return True
        if b"\\" in raw:  # an escape may spell a name that was already there
            return True
        return not self._shallow and count(b"{") > 1

    def _explained(self, error: Exception) -> InvalidRequest:
        """What msgspec says as a sentence of ours, with the path of the field."""
        if isinstance(error, RecursionError):
            return _malformed("The body is nested too deeply.")
        if not isinstance(error, msgspec.ValidationError):
            reason = str(error).removeprefix("JSON is malformed: ")
            return _malformed(f"The body is not JSON: {_lower(reason)}.")
        text = str(error)
        place = found.group(1).lstrip(".") if (found := _PLACE.search(text)) else ""
        text = _TYPES.sub(_in_words, _PLACE.sub("", text))
        if named := _NAMED.fullmatch(text):
            inside, place = place, f"{place}.{named.group(2)}".lstrip(".")
            if named.group(1) == "contains unknown":
                return InvalidRequest(
                    f"{_cut(place)}: there is no such field: expected {self._fields(inside)}.",
                    code="unknown_field",
                    field=_cut(place),
                )
            text = "it is missing"
        elif text.startswith("Invalid enum value") and (words := self._words(place)):
            text += f", expected one of {', '.join(words)}"
        field = _cut(place or "$")
        name = field if place else "The body"
        return _malformed(f"{name}: {_lower(text.replace('`', ''))}.", field)

    def _fields(self, inside: str) -> str:
        """The fields that the object at the path `inside` may have."""
        definitions = _definitions(self._kind)
        node = definitions[self._kind.__name__]
        for part in filter(None, _INDEX.sub("", inside).split(".")):  # such as `tasks[3]`
            held = node["properties"][part]
            while "$ref" not in held:  # a list of objects, or objects by name
                held = held.get("items") or held["additionalProperties"]
            node = definitions[held["$ref"].rpartition("/")[2]]
        *names, last = node["properties"]
        return f"{', '.join(names)} or {last}"

    def _words(self, place: str) -> list[str]:
        """The words that the field at `place` may hold, if they are a list."""
        name = place.rpartition(".")[2]
        for definition in _definitions(self._kind).values():
            words: list[str] = definition.get("properties", {}).get(name, {}).get("enum", [])
            if words:
                return words
        return []


#: Kinds of values by msgspec's names for them.
_KINDS = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
}


def _in_words(types: re.Match[str]) -> str:
    """`array | null` as `a list or null`."""
    names = types.group(1).split(" | ")
    if not _KINDS.keys() & names:
        return types.group(0)  # a name of something else
    *first, last = (_KINDS.get(name, name) for name in names)
    return f"{', '.join(first)} or {last}" if first else last


@functools.cache
def _definitions(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The JSON Schemas of a body and of the objects in it, by the names of their types."""
    definitions: dict[str, Any] = msgspec.json.schema(kind)["$defs"]
    return definitions


def encode(value: Any) -> bytes:  # noqa: ANN401 (any JSON value)
    """JSON bytes of plain values."""
    return orjson.dumps(value)


def refuse_duplicates(raw: bytes) -> None:
    """Raise InvalidRequest if an object in the valid JSON `raw` names a key twice."""
    try:
        # Numbers stay text: one of 5,000 digits, in a field nobody reads, is no number to Python.
        json.loads(raw, object_pairs_hook=_unique, parse_int=str, parse_float=str)
    except RecursionError:
        raise _malformed("The body is nested too deeply.") from None
    except ValueError as error:  # in a field nobody reads, msgspec is less strict
        raise _malformed(f"The body is not JSON: {_lower(str(error))}.") from None


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) == len(pairs):
        return
    seen = set()
    for name, _ in pairs:
        if name in seen:
            raise InvalidRequest(
                f"{_cut(name)}: the body holds this key twice: expected it once.",
                code="malformed",
                field=_cut(name),
            )
        seen.add(name)


def _malformed(sentence: str, field: str = "$") -> InvalidRequest:
    return InvalidRequest(sentence, code="malformed", field=field)


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _cut(text: str) -> str:
    return text if len(text) <= 100 else text[:99] + "…"  # noqa: PLR2004 (what fits a line)
