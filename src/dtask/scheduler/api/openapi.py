"""`GET /openapi.json`: every route, parameter, answer and body, made from the types of the wire."""

import functools
from typing import Final

import msgspec

from dtask import __version__
from dtask.scheduler.api.answers import Receive, Scope, Send, start
from dtask.scheduler.api.health import HealthAnswer, ReadyAnswer
from dtask.scheduler.api.openapi_jobs import TYPES as TYPES_OF_JOBS
from dtask.scheduler.api.openapi_jobs import paths as paths_of_jobs
from dtask.scheduler.api.openapi_pages import TYPES as TYPES_OF_PAGES
from dtask.scheduler.api.openapi_pages import paths as paths_of_pages
from dtask.scheduler.api.operations import (
    ANY,
    GUARDED,
    OPEN,
    TOKEN,
    WITH_BODY,
    Json,
    operation,
    parameter,
    ref,
    response,
)
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
    *TYPES_OF_JOBS,
    *TYPES_OF_PAGES,
)


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
        _TYPES, schema_hook=_any, ref_template="#/components/schemas/{name}"
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


def _any(kind: type) -> Json:
    """The schema of facts, which may be anything."""
    assert kind is object, kind
    return {"description": "Any JSON value."}


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
            "get": operation("health", "The process serves.", ref(HealthAnswer), ANY, security=OPEN)
        },
        "/readyz": {
            "get": operation(
                "ready",
                "The process serves and knows its workers.",
                ref(ReadyAnswer),
                (*ANY, "warming_up"),
                security=OPEN,
            )
        },
        "/metrics": {"get": _metrics()},
        "/openapi.json": {
            "get": operation("describe", "This document.", {"type": "object"}, ANY, security=OPEN)
        },
        **paths_of_jobs(),
        **paths_of_pages(),
    }


def _heartbeat() -> Json:
    return operation(
        "heartbeat",
        "A worker says that it lives and what it holds.",
        ref(HeartbeatAnswer),
        (*WITH_BODY, "bad_tag", "held", "superseded", "untrusted", "too_many_workers"),
        body=ref(HeartbeatBody),
    )


def _schedule() -> Json:
    return operation(
        "schedule",
        "Which worker should run this task, or each of these?",
        {"anyOf": [ref(PlacementAnswer), {"$ref": "#/components/schemas/BatchAnswer"}]},
        (
            *WITH_BODY,
            "bad_tag",
            "bad_requirement",
            "too_many_leases",
            "no_worker",
            "warming_up",
        ),
        body={"anyOf": [ref(ScheduleBody), ref(BatchBody)]},
    )


def _release() -> Json:
    fence = {"type": "integer", "minimum": 0, "maximum": limits.FENCE_MAX}
    return operation(
        "release",
        "The lease of the task is over.",
        ref(ReleaseAnswer),
        (*GUARDED, "no_lease"),
        parameters=[
            parameter("task_id", _id(), "The task.", where="path"),
            parameter("fence", fence, "Only if the lease has this fence."),
        ],
    )


def _workers() -> Json:
    one = msgspec.json.schema(RequirementText)["pattern"].removeprefix("^").removesuffix("$")
    text = {"type": "string", "pattern": rf"^\s*{one}\s*$"}
    tag = {"type": "array", "items": text}
    status = {"type": "array", "items": {"enum": ["online", "suspect", "offline"]}}
    limit = {"type": "integer", "minimum": 1, "maximum": limits.WORKERS_LIMIT_MAX}
    return operation(
        "workers",
        "The workers, by id.",
        {"type": "array", "items": ref(WorkerRow)},
        (*GUARDED, "bad_requirement"),
        parameters=[
            parameter("tag", tag, "Requirements, repeated or joined by commas; all must hold."),
            parameter("status", status, "One of these statuses."),
            parameter("requires", tag, "Likewise; each worker tells which it does not meet."),
            parameter("limit", limit, "At most so many."),
            parameter("after", {"type": "string"}, "Those after this worker id."),
        ],
    )


def _metrics() -> Json:
    described = operation(
        "metrics",
        "The scheduler's own numbers, for Prometheus.",
        {},
        (*GUARDED, "too_many_waiters"),
    )
    described["responses"]["200"] = answer = response(
        "Prometheus' text format, or OpenMetrics for who prefers that.",
        {"type": "string"},
        media="text/plain",
    )
    answer["content"]["application/openmetrics-text"] = answer["content"]["text/plain"]
    return described


def _drain(name: str, meaning: str) -> Json:
    return operation(
        name,
        f"The worker {meaning}, by an operator's word.",
        ref(WorkerRow),
        (*GUARDED, "unknown_worker"),
        parameters=[parameter("worker_id", _id(), "The worker.", where="path")],
        security=TOKEN,
    )


def _id() -> Json:
    return msgspec.json.schema(Id)


def _batch_answer() -> Json:
    """By hand: msgspec can't describe a union of two structs without tags."""
    placement = {"anyOf": [ref(PlacementAnswer), ref(ErrorAnswer)]}
    return {
        "title": "BatchAnswer",
        "description": "One entry a task, in the order asked: a placement or an error.",
        "type": "object",
        "properties": {"placements": {"type": "array", "items": placement}},
        "required": ["placements"],
    }
