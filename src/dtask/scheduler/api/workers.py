"""`GET /api/v1/workers`, one of them, and an operator's word on it: drain, undrain."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from dtask.core.jobs.events import AttemptName, ListHeld
from dtask.core.jobs.names import attempt_text
from dtask.core.placement import tags
from dtask.core.placement.events import (
    Drain,
    ListWorkers,
    LookAtWorker,
    SlotHeld,
    WorkerLook,
    WorkerView,
)
from dtask.core.placement.tags import Requirements, TagIndex
from dtask.errors import InvalidRequest, Unavailable
from dtask.scheduler import log
from dtask.scheduler.api.answers import JSON, Receive, Scope, Send, part, send_json, send_struct
from dtask.scheduler.api.query import number, parameters, single
from dtask.scheduler.api.request_id import request_id
from dtask.scheduler.history import History
from dtask.scheduler.loop import Loop
from dtask.wire.codec import encode
from dtask.wire.limits import REQUIREMENTS_MAX, WORKERS_LIMIT_MAX
from dtask.wire.live import HeldSlot
from dtask.wire.placement import check_id

#: Workers looked at between two looks at the loop: a few milliseconds.
SLICE_WORKERS: Final = 500

STATUSES: Final = ("online", "suspect", "offline")


class Listing:
    """The endpoint that lists workers by id, as a stream."""

    def __init__(self, loop: Loop) -> None:
        self._handle = loop.handle

    async def __call__(self, scope: Scope, _receive: Receive, send: Send, _trusted: bool) -> None:
        """List the workers that meet all `tag`s and have one of the `status`es."""
        found = parameters(scope, "tag", "status", "requires", "limit", "after")
        requirements = _requirements(found, "tag")
        required = _requirements(found, "requires") if "requires" in found else None
        statuses = _statuses(found.get("status", []))
        limit = number(found, "limit", least=1, most=WORKERS_LIMIT_MAX) or WORKERS_LIMIT_MAX
        after = single(found, "after") or ""
        await send({"type": "http.response.start", "status": 200, "headers": [JSON]})
        between = b"["
        async for views in self._slices(requirements, statuses, limit, after):
            rows = [row(view) for view in views]
            if required is not None:
                for one, misses in zip(rows, _misses(required, views), strict=True):
                    one["misses"] = misses
            await send(part(between + encode(rows)[1:-1]))
            between = b","
        await send(part(b"[]" if between == b"[" else b"]", more=False))

    async def _slices(
        self, requirements: Requirements, statuses: frozenset[str], limit: int, after: str
    ) -> AsyncIterator[list[WorkerView]]:
        """Workers, at most `limit` in all, in slices that are never empty."""
        while limit:
            views: list[WorkerView] = self._handle(ListWorkers(SLICE_WORKERS, after))
            if not views:
                return
            after = views[-1].worker_id
            wanted = [view for view in _meeting(requirements, views) if view.status in statuses]
            wanted = wanted[:limit]
            limit -= len(wanted)
            if wanted:
                yield wanted
            await asyncio.sleep(0)


class WorkerLooks:
    """The endpoint that shows one worker, what is held on it, and how loaded it was."""

    def __init__(self, loop: Loop, history: History) -> None:
        self._loop = loop
        self._history = history

    async def __call__(self, scope: Scope, _receive: Receive, send: Send, _trusted: bool) -> None:
        """As it stands now. Attempts of jobs are named as long as their store can be used."""
        parameters(scope)
        worker_id = scope["path_params"]["worker_id"]
        check_id(worker_id, "worker_id")
        look: WorkerLook = self._loop.handle(LookAtWorker(worker_id))
        try:
            names: list[AttemptName] = await self._loop.ask(ListHeld(worker_id))
        except Unavailable:
            names = []
        attempts = {name.fence: name for name in names}
        answer = {
            **row(look.view),
            "tasks": [_held(one, attempts) for one in look.held],
            "history": self._history.load_of(worker_id),
        }
        await send_struct(send, answer)


class Drains:
    """The endpoint that takes an operator's word on one worker."""

    def __init__(self, loop: Loop, *, drained: bool) -> None:
        self._handle = loop.handle
        self._drained = drained

    async def __call__(self, scope: Scope, _receive: Receive, send: Send, _trusted: bool) -> None:
        """Take it, and answer with the worker's row."""
        parameters(scope)
        worker_id = scope["path_params"]["worker_id"]
        check_id(worker_id, "worker_id")
        view: WorkerView = self._handle(Drain(worker_id, self._drained))
        log.say(
            "worker drained by a request" if self._drained else "worker undrained by a request",
            worker_id=worker_id,
            request_id=request_id(scope),
        )
        await send_json(send, row(view))


def row(view: WorkerView) -> dict[str, Any]:
    """One worker as it goes out."""
    return {
        "worker_id": view.worker_id,
        "address": view.address,
        "resource_tags": view.tags,
        "max_tasks": view.max_tasks,
        "current_tasks": view.occupancy,
        "reported_tasks": view.reported,
        "available": max(0, view.max_tasks - view.occupancy),
        "load": round(view.occupancy / view.max_tasks, 6),
        "status": view.status,
        "last_heartbeat": round(view.last_heartbeat, 3),
        "trusted": view.trusted,
        "draining": view.draining,
        "leases": view.leases,
        "incarnation": view.incarnation,
        "metrics": view.metrics,
    }


def _held(one: SlotHeld, attempts: dict[int, AttemptName]) -> HeldSlot:
    name = attempts.get(one.fence) if one.task_id is None and one.fence is not None else None
    if name is None:
        return HeldSlot(task_id=one.task_id, fence=one.fence, since=one.since)
    return HeldSlot(
        task_id=attempt_text(name.job_id, name.task, name.index, name.number),
        fence=one.fence,
        since=one.since,
        job_id=name.job_id,
        task=name.task,
        index=name.index,
        number=name.number,
    )


def _meeting(requirements: Requirements, views: list[WorkerView]) -> list[WorkerView]:
    """The views that meet all requirements."""
    if not requirements:
        return views
    missed = _misses(requirements, views)
    return [view for view, misses in zip(views, missed, strict=True) if not misses]


def _misses(requirements: Requirements, views: list[WorkerView]) -> list[list[str]]:
    """For each view the requirements that it does not meet, by the index that placement uses."""
    index = TagIndex()
    for i, view in enumerate(views):
        index.add(i, view.tags)
    everyone = (1 << len(views)) - 1
    met = [(one.text, index.meeting(one, everyone)) for one in requirements]
    return [[text for text, bits in met if not bits >> i & 1] for i in range(len(views))]


def _requirements(found: dict[str, list[str]], field: str) -> Requirements:
    texts = found.get(field, [])
    elements = tuple(element for text in texts for element in tags.split(text))
    if len(elements) > REQUIREMENTS_MAX or (texts and not elements):
        raise InvalidRequest(
            f"{field}: expected 1 to {REQUIREMENTS_MAX} requirements, got {len(elements)}.",
            code="malformed",
            field=field,
        )
    return tags.parse(elements, field)


def _statuses(names: list[str]) -> frozenset[str]:
    for name in names:
        if name not in STATUSES:
            raise InvalidRequest(
                f"status: expected {', '.join(STATUSES[:-1])} or {STATUSES[-1]}.",
                code="malformed",
                field="status",
            )
    return frozenset(names or STATUSES)
