"""Parameters behind the `?` of a request, each named, none ignored."""

from typing import Final
from urllib.parse import parse_qsl, unquote_to_bytes

from dtask.errors import InvalidRequest
from dtask.scheduler.api.answers import Scope
from dtask.wire.limits import FENCE_MAX

#: Parameters of one request, repeated ones counted.
PARAMETERS_MAX: Final = 100

#: Digits of the largest number anyone may send.
_DIGITS_MAX: Final = len(str(FENCE_MAX))


def parameters(scope: Scope, *names: str) -> dict[str, list[str]]:
    """The values by name, in the order sent. Raises InvalidRequest for names not in `names`."""
    if not scope["query_string"]:
        return {}
    try:
        pairs = parse_qsl(
            scope["query_string"].decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=PARAMETERS_MAX,
        )
    except ValueError:  # UnicodeDecodeError is one
        raise InvalidRequest(
            f"The query string can't be read: expected at most {PARAMETERS_MAX} parameters "
            f"`name=value`, percent-encoded as UTF-8.",
            code="malformed",
            field="?",
        ) from None
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        if name not in names:
            raise InvalidRequest(
                f"There is no parameter {name[:100]!r} here: expected "
                f"{' or '.join(names) or 'none'}.",
                code="unknown_field",
                field=name[:100],
            )
        found.setdefault(name, []).append(value)
    return found


def single(found: dict[str, list[str]], name: str) -> str | None:
    """The one value of a parameter that must not be repeated; None if it was not sent."""
    values = found.get(name)
    if values is None:
        return None
    if len(values) > 1:
        raise InvalidRequest(
            f"{name}: it was sent {len(values)} times: expected it once.",
            code="malformed",
            field=name,
        )
    return values[0]


def number(found: dict[str, list[str]], name: str, *, least: int, most: int) -> int | None:
    """The one whole number of a parameter, `least` to `most`; None if it was not sent."""
    text = single(found, name)
    if text is None:
        return None
    if (
        text.isascii()
        and text.isdigit()
        and len(text) <= _DIGITS_MAX
        and least <= int(text) <= most
    ):
        return int(text)
    raise InvalidRequest(
        f"{name}: expected a whole number from {least} to {most}.", code="malformed", field=name
    )


def path_text(raw: bytes, field: str) -> str:
    """A part of the path as text. Raises InvalidRequest if it is not percent-encoded UTF-8."""
    try:
        return (unquote_to_bytes(raw) if b"%" in raw else raw).decode()
    except UnicodeDecodeError:
        raise InvalidRequest(
            f"{field}: the path is not percent-encoded UTF-8.", code="malformed", field=field
        ) from None
