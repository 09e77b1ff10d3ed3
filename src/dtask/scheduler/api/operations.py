"""How a route is described in OpenAPI: its parameters, bodies, answers and errors."""

from collections.abc import Sequence
from typing import Any, Final

from dtask.errors import CODES
from dtask.wire.placement import ErrorAnswer

Json = dict[str, Any]

#: What any request may be told before anyone looks at what it asks.
ANY: Final = ("malformed", "unknown_field", "wrong_token")
#: And what a request that is not open to everyone may be told.
GUARDED: Final = (*ANY, "no_token", "foreign_origin")
#: And one with a body.
WITH_BODY: Final = (*GUARDED, "wrong_content_type", "too_large")

OPEN: Final[list[Json]] = [{}]
#: Without the token only on loopback; see `Access`.
PLACEMENT: Final[list[Json]] = [{}, {"token": []}]
TOKEN: Final[list[Json]] = [{"token": []}]

JSON: Final = "application/json"
BYTES: Final = "application/octet-stream"


def operation(
    name: str,
    summary: str,
    answer: Json,
    codes: Sequence[str],
    *,
    body: Json | None = None,
    parameters: Sequence[Json] = (),
    security: Sequence[Json] = PLACEMENT,
) -> Json:
    """A route that answers 200 with JSON of the schema `answer`, or an error of one of `codes`.

    `body` is the schema of the JSON that it takes.
    """
    described: Json = {
        "operationId": name,
        "summary": summary,
        "security": list(security),
        "responses": {"200": response("As asked.", answer), **_errors(codes)},
    }
    if parameters:
        described["parameters"] = list(parameters)
    if body is not None:
        described["requestBody"] = {"required": True, "content": {JSON: {"schema": body}}}
    return described


def response(meaning: str, schema: Json, *, media: str = JSON) -> Json:
    """One answer."""
    return {"description": meaning, "content": {media: {"schema": schema}}}


def parameter(name: str, schema: Json, meaning: str, *, where: str = "query") -> Json:
    """One parameter; those in the path are required."""
    described = {"name": name, "in": where, "description": meaning, "schema": schema}
    return described | {"required": True} if where == "path" else described


def ref(kind: type) -> Json:
    """The schema of a type of the wire."""
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def _errors(codes: Sequence[str]) -> Json:
    """One answer for each status, with the meanings of the codes that come with it."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(CODES[code].status, []).append(code)
    answers = {}
    for status, named in sorted(by_status.items()):
        meanings = " ".join(f"`{code}`: {CODES[code].meaning}" for code in named)
        answers[str(status)] = answer = response(meanings, ref(ErrorAnswer))
        if status == 401:  # noqa: PLR2004 (HTTP's Unauthorized)
            answer["headers"] = {"WWW-Authenticate": {"schema": {"const": "Bearer"}}}
        elif status == 503:  # noqa: PLR2004 (HTTP's Service Unavailable)
            answer["headers"] = {"Retry-After": {"schema": {"type": "integer", "minimum": 1}}}
    return answers
