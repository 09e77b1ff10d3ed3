"""`GET /openapi.json`: every route, parameter, answer and body, made from the types of the wire."""

import functools
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from dtask import __version__
from dtask.errors import CODES
from dtask.scheduler.api.answers import Receive, Scope, Send, start
from dtask.scheduler.api.health import HealthAnswer, ReadyAnswer
from dtask.scheduler.api.query import parameters
from dtask.wire import limits
from dtask.wire.codec import encode
from dtask.wire.placement import (
    BatchBody,
    ErrorAnswer,
    HeartbeatAnswer,
    HeartbeatBody,
    Id,
    PlacementAnswer,
    ReleaseAnswer,
    RequirementText,
    ScheduleBody,
    WorkerRow,
)

Json = dict[str, Any]

_TYPES: Final = (
    HeartbeatBody,
    HeartbeatAnswer,
    ScheduleBody,
    BatchBody,
    PlacementAnswer,
    ReleaseAnswer,
    WorkerRow,
    HealthAnswer,
    ReadyAnswer,
    ErrorAnswer,
)

#: What any request may be told before anyone looks at what it asks.
_ANY: Final = ("malformed", "unknown_field", "wrong_token")
#: And what a request that is not open to everyone may be told.
_GUARDED: Final = (*_ANY, "no_token", "foreign_origin")
#: And one with a body.
_WITH_BODY: Final = (*_GUARDED, "wrong_content_type", "too_large")

_OPEN: Final[list[Json]] = [{}]
#: Without the token only on loopback; see `Access`.
_PLACEMENT: Final[list[Json]] = [{}, {"token": []}]
_TOKEN: Final[list[Json]] = [{"token": []}]


class Description:
    """The endpoint."""

    async def __call__(self, scope: Scope, _receive: Receive, send: Send, _trusted: bool) -> None:
        """Answer with the description."""
        parameters(scope)
        body = _encoded()
        await send(start(200, len(body)))
        await send({"type": "http.response.body", "body": body})


@functools.cache
def description() -> Json:
    """The whole OpenAPI document."""
    _, components = msgspec.json.schema_components(
        _TYPES, ref_template="#/components/schemas/{name}"
    )
    components["BatchAnswer"] = _batch_answer()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "dtask scheduler",
            "version": __version__,
            "description": "Which worker should run this?",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": _paths(),
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The token. On loopback, placement is open without it.",
                }
            },
        },
    }


@functools.cache
def _encoded() -> bytes:
    return encode(description())


def _paths() -> Json:
    return {
        "/api/v1/heartbeat": {"post": _heartbeat()},
        "/api/v1/schedule": {"post": _schedule()},
        "/api/v1/schedule/{task_id}": {"delete": _release()},
        "/api/v1/workers": {"get": _workers()},
        "/api/v1/workers/{worker_id}/drain": {"post": _drain("drain", "takes no new tasks")},
        "/api/v1/workers/{worker_id}/undrain": {"post": _drain("undrain", "takes tasks again")},
        "/healthz": {
            "get": _operation(
                "health", "The process serves.", _ref(HealthAnswer), _ANY, security=_OPEN
            )
        },
        "/readyz": {
            "get": _operation(
                "ready",
                "The process serves and knows its workers.",
                _ref(ReadyAnswer),
                (*_ANY, "warming_up"),
                security=_OPEN,
            )
        },
        "/openapi.json": {
            "get": _operation(
                "describe", "This document.", {"type": "object"}, _ANY, security=_OPEN
            )
        },
    }


def _heartbeat() -> Json:
    return _operation(
        "heartbeat",
        "A worker says that it lives and what it holds.",
        _ref(HeartbeatAnswer),
        (*_WITH_BODY, "bad_tag", "held", "superseded", "untrusted", "too_many_workers"),
        body=_ref(HeartbeatBody),
    )


def _schedule() -> Json:
    return _operation(
        "schedule",
        "Which worker should run this task, or each of these?",
        {"anyOf": [_ref(PlacementAnswer), {"$ref": "#/components/schemas/BatchAnswer"}]},
        (
            *_WITH_BODY,
            "bad_tag",
            "bad_requirement",
            "too_many_leases",
            "no_worker",
            "warming_up",
        ),
        body={"anyOf": [_ref(ScheduleBody), _ref(BatchBody)]},
    )


def _release() -> Json:
    fence = {"type": "integer", "minimum": 0, "maximum": limits.FENCE_MAX}
    return _operation(
        "release",
        "The lease of the task is over.",
        _ref(ReleaseAnswer),
        (*_GUARDED, "no_lease"),
        parameters=[
            _parameter("task_id", _id(), "The task.", where="path"),
            _parameter("fence", fence, "Only if the lease has this fence."),
        ],
    )


def _workers() -> Json:
    tag = {"type": "array", "items": msgspec.json.schema(RequirementText)}
    status = {"type": "array", "items": {"enum": ["online", "suspect", "offline"]}}
    limit = {"type": "integer", "minimum": 1, "maximum": limits.WORKERS_LIMIT_MAX}
    return _operation(
        "workers",
        "The workers, by id.",
        {"type": "array", "items": _ref(WorkerRow)},
        (*_GUARDED, "bad_requirement"),
        parameters=[
            _parameter("tag", tag, "Requirements, repeated or joined by commas; all must hold."),
            _parameter("status", status, "One of these statuses."),
            _parameter("limit", limit, "At most so many."),
            _parameter("after", {"type": "string"}, "Those after this worker id."),
        ],
    )


def _drain(name: str, meaning: str) -> Json:
    return _operation(
        name,
        f"The worker {meaning}, by an operator's word.",
        _ref(WorkerRow),
        (*_GUARDED, "unknown_worker"),
        parameters=[_parameter("worker_id", _id(), "The worker.", where="path")],
        security=_TOKEN,
    )


def _operation(
    name: str,
    summary: str,
    answer: Json,
    codes: Sequence[str],
    *,
    body: Json | None = None,
    parameters: Sequence[Json] = (),
    security: Sequence[Json] = _PLACEMENT,
) -> Json:
    operation: Json = {
        "operationId": name,
        "summary": summary,
        "security": list(security),
        "responses": {"200": _response("As asked.", answer), **_errors(codes)},
    }
    if parameters:
        operation["parameters"] = list(parameters)
    if body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": body}},
        }
    return operation


def _errors(codes: Sequence[str]) -> Json:
    """One answer for each status, with the meanings of the codes that come with it."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(CODES[code].status, []).append(code)
    answers = {}
    for status, named in sorted(by_status.items()):
        meanings = " ".join(f"`{code}`: {CODES[code].meaning}" for code in named)
        answers[str(status)] = response = _response(meanings, _ref(ErrorAnswer))
        if status == 401:  # noqa: PLR2004 (HTTP's Unauthorized)
            response["headers"] = {"WWW-Authenticate": {"schema": {"const": "Bearer"}}}
        elif status == 503:  # noqa: PLR2004 (HTTP's Service Unavailable)
            response["headers"] = {"Retry-After": {"schema": {"type": "integer", "minimum": 1}}}
    return answers


def _response(meaning: str, schema: Json) -> Json:
    return {"description": meaning, "content": {"application/json": {"schema": schema}}}


def _parameter(name: str, schema: Json, meaning: str, *, where: str = "query") -> Json:
    parameter = {"name": name, "in": where, "description": meaning, "schema": schema}
    return parameter | {"required": True} if where == "path" else parameter


def _ref(kind: type) -> Json:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def _id() -> Json:
    return msgspec.json.schema(Id)


def _batch_answer() -> Json:
    """By hand: msgspec can't describe a union of two structs without tags."""
    placement = {"anyOf": [_ref(PlacementAnswer), _ref(ErrorAnswer)]}
    return {
        "title": "BatchAnswer",
        "description": "One entry a task, in the order asked: a placement or an error.",
        "type": "object",
        "properties": {"placements": {"type": "array", "items": placement}},
        "required": ["placements"],
    }
