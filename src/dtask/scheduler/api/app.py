"""The ASGI application: the hot paths by a look-up, everything else by Starlette's router."""

from collections.abc import Awaitable, Callable, Iterator
from enum import Enum, auto
from typing import Final, NamedTuple

from starlette.exceptions import HTTPException
from starlette.routing import Route, Router

from dtask.errors import DtaskError, InvalidRequest, NotFound
from dtask.scheduler.api.access import Access
from dtask.scheduler.api.answers import Receive, Scope, Send, send_bug, send_error
from dtask.scheduler.api.backup import Backups
from dtask.scheduler.api.blobs import BlobReads, BlobUploads
from dtask.scheduler.api.body import Disconnected
from dtask.scheduler.api.element_states import ElementStates
from dtask.scheduler.api.events import Events
from dtask.scheduler.api.health import Health, Readiness
from dtask.scheduler.api.heartbeat import Heartbeats
from dtask.scheduler.api.job_log import Outputs, Results
from dtask.scheduler.api.jobs import (
    Cancels,
    Failures,
    JobAttempts,
    JobList,
    JobLooks,
    Retries,
    Whys,
)
from dtask.scheduler.api.live import Histories, LiveStreams
from dtask.scheduler.api.metrics import Scrapes
from dtask.scheduler.api.openapi import Description
from dtask.scheduler.api.pages import Pages, go_home
from dtask.scheduler.api.parts import JobParts, PageParts
from dtask.scheduler.api.queues import Counts, QueueList, QueueLooks, QueueSettings
from dtask.scheduler.api.refusals import Refusals
from dtask.scheduler.api.release import PREFIX as RELEASE_PREFIX
from dtask.scheduler.api.release import Releases
from dtask.scheduler.api.request_id import echoing, request_id
from dtask.scheduler.api.schedule import Questions
from dtask.scheduler.api.sessions import Codes, SessionLooks, SignIns, SignOuts
from dtask.scheduler.api.signed_in import SignedIn
from dtask.scheduler.api.submit import Submits
from dtask.scheduler.api.tasks import Attempts, Elements, TaskLooks
from dtask.scheduler.api.workers import Drains, Listing, WorkerLooks
from dtask.scheduler.loop import Loop
from dtask.scheduler.metrics import Metrics
from dtask.wire.frames import PATH as CHANNEL_PATH

#: Methods that change nothing.
_READS: Final = ("GET", "HEAD")

#: An endpoint: an ASGI function that is told whether the request carries the token.
Endpoint = Callable[[Scope, Receive, Send, bool], Awaitable[None]]


class Needs(Enum):
    """What opens a route."""

    NOTHING = auto()
    #: The rules of placement.
    PLACEMENT = auto()
    TOKEN = auto()


class Entry(NamedTuple):
    """One route."""

    method: str
    path: str
    endpoint: Endpoint
    needs: Needs
    #: It takes a body of JSON.
    has_body: bool = False


class App:
    """All routes of one scheduler.

    Placement, its end and heartbeats come by the thousands a second. They are found by one or two
    look-ups, because a router and a middleware cost as much as the placement itself.
    """

    def __init__(
        self, loop: Loop, access: Access, parts: JobParts, pages: PageParts, metrics: Metrics
    ) -> None:
        questions, releases, beats = Questions(loop, access), Releases(loop), Heartbeats(loop)
        entries = (
            *_of_jobs(loop, parts),
            Entry("POST", "/api/v1/heartbeat", beats, Needs.PLACEMENT),
            Entry("POST", "/api/v1/schedule", questions, Needs.PLACEMENT),
            Entry("DELETE", RELEASE_PREFIX + "{task_id:path}", releases, Needs.PLACEMENT),
            Entry("GET", "/api/v1/workers", Listing(loop), Needs.PLACEMENT),
            Entry(
                "POST",
                "/api/v1/workers/{worker_id:path}/drain",
                Drains(loop, drained=True),
                Needs.TOKEN,
            ),
            Entry(
                "POST",
                "/api/v1/workers/{worker_id:path}/undrain",
                Drains(loop, drained=False),
                Needs.TOKEN,
            ),
            *_of_pages(loop, pages),
            Entry("GET", "/metrics", Scrapes(metrics), Needs.PLACEMENT),
            Entry("GET", "/healthz", Health(), Needs.NOTHING),
            Entry("GET", "/readyz", Readiness(loop), Needs.NOTHING),
            Entry("GET", "/openapi.json", Description(), Needs.NOTHING),
        )
        self._posts: dict[str, Endpoint] = {
            "/api/v1/schedule": questions,
            "/api/v1/heartbeat": beats,
        }
        self._release = releases
        self._check = access.check
        self._refusals = Refusals()
        by_path: dict[str, dict[str, Entry]] = {}
        for entry in entries:
            by_path.setdefault(entry.path, {})[entry.method] = entry
        self._router = Router(
            [
                Route(path, _Guarded(methods, access), methods=list(methods))
                for path, methods in by_path.items()
            ],
            redirect_slashes=False,
            default=_no_route,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            method = scope["method"]
            endpoint: Endpoint | None = None
            if method == "POST":
                endpoint = self._posts.get(scope["path"])
            elif method == "DELETE" and scope["path"].startswith(RELEASE_PREFIX):
                endpoint = self._release
            if endpoint is None:
                if method not in _READS:
                    send = echoing(scope, send)
                scope["app"] = self  # then the router raises what it would else answer as text
                await self._router(scope, receive, send)
                return
            client = scope["client"]
            trusted = self._check(
                scope["headers"], client[0] if client else None, has_body=method == "POST"
            )
            await endpoint(scope, receive, send, trusted)
        except DtaskError as error:
            if self._refusals.note(scope, error):
                send = echoing(scope, send)
            await send_error(send, error)
        except HTTPException as error:
            await _send_wrong_method(send, scope, error)
        except Disconnected:
            pass
        except Exception:  # noqa: BLE001 (whatever the bug, the client is answered and the loop lives)
            await send_bug(echoing(scope, send), scope, request_id(scope))


class _Guarded:
    """The endpoints of a path, by method, behind their access rules, for the router."""

    def __init__(self, entries: dict[str, Entry], access: Access) -> None:
        self._entries = dict(entries)
        if (get := entries.get("GET")) is not None:
            self._entries["HEAD"] = get
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        entry = self._entries[scope["method"]]
        trusted = False
        if entry.needs is Needs.NOTHING:
            self._access.check_open(scope["headers"], has_body=entry.has_body)
        else:
            client = scope["client"]
            trusted = self._access.check(
                scope["headers"],
                client[0] if client else None,
                has_body=entry.has_body,
                needs_token=entry.needs is Needs.TOKEN,
                reads=scope["method"] in _READS,
            )
        reads = scope["method"] in _READS
        if trusted and reads and (over := self._access.session_of(scope["headers"])) is not None:
            signed_in = SignedIn(receive, send, over)
            await signed_in.until_over(
                entry.endpoint(scope, signed_in.receive, signed_in.send, trusted)
            )
            return
        await entry.endpoint(scope, receive, send, trusted)


def _of_jobs(loop: Loop, parts: JobParts) -> Iterator[Entry]:
    """The routes of jobs, all of them behind the token; those most asked for first."""
    job, queue = "/api/v1/jobs/{job_id}", "/api/v1/queues/{name}"
    task, blob = job + "/tasks/{task}", "/api/v1/blobs/{sha256}"
    cancels = Cancels(loop)
    routes: tuple[tuple[str, str, Endpoint], ...] = (
        ("POST", "/api/v1/jobs", Submits(loop, parts)),
        ("GET", job, JobLooks(loop, parts)),
        ("GET", "/api/v1/jobs", JobList(loop)),
        ("DELETE", job, cancels),
        ("POST", job + "/retry", Retries(loop)),
        ("GET", job + "/why", Whys(loop, parts)),
        ("GET", job + "/attempts", JobAttempts(loop)),
        ("GET", task, TaskLooks(loop)),
        ("DELETE", task, cancels),
        ("GET", task + "/log", Outputs(loop, parts)),
        ("GET", task + "/result", Results(loop, parts)),
        ("GET", task + "/elements", Elements(loop)),
        ("GET", task + "/states", ElementStates(loop)),
        ("GET", task + "/attempts", Attempts(loop)),
        ("GET", "/api/v1/failures", Failures(loop)),
        ("GET", "/api/v1/events", Events(parts)),
        ("GET", "/api/v1/queues", QueueList(loop)),
        ("GET", queue, QueueLooks(loop)),
        ("PUT", queue, QueueSettings(loop)),
        ("PUT", blob, BlobUploads(parts)),
        ("GET", blob, BlobReads(parts)),
        ("GET", "/api/v1/stats", Counts(loop)),
        ("GET", "/api/v1/backup", Backups(loop, parts)),
    )
    for method, path, endpoint in routes:
        has_body = method in ("POST", "PUT") and path != blob
        yield Entry(method, path, endpoint, Needs.TOKEN, has_body)


def _of_pages(loop: Loop, parts: PageParts) -> Iterator[Entry]:
    """The routes of browsers: the pages, and what lets them in."""
    sessions, clock, session = parts.sessions, parts.clock, "/api/v1/session"
    yield Entry("POST", "/api/v1/sign-in-codes", Codes(sessions), Needs.TOKEN)
    yield Entry("GET", session, SessionLooks(sessions, clock), Needs.NOTHING)
    yield Entry("POST", session, SignIns(sessions, clock), Needs.NOTHING, has_body=True)
    yield Entry("DELETE", session, SignOuts(sessions, clock), Needs.NOTHING)
    yield Entry("GET", "/api/v1/live", LiveStreams(parts.live), Needs.TOKEN)
    yield Entry(
        "GET",
        "/api/v1/workers/{worker_id:path}",
        WorkerLooks(loop, parts.history),
        Needs.TOKEN,
    )
    yield Entry("GET", "/api/v1/history", Histories(parts.history), Needs.TOKEN)
    yield Entry("GET", "/", go_home, Needs.NOTHING)
    yield Entry("GET", "/dashboard", go_home, Needs.NOTHING)
    yield Entry("GET", "/dashboard/{file:path}", Pages(parts.pages), Needs.NOTHING)


async def _no_route(scope: Scope, _receive: Receive, _send: Send) -> None:
    if scope["path"] == CHANNEL_PATH:
        raise InvalidRequest(
            "Workers open a WebSocket here: expected a GET with the head of a WebSocket's "
            "handshake (RFC 6455, version 13).",
            code="malformed",
            field="upgrade",
        )
    raise NotFound(
        f"There is no such path as {scope['path'][:100]!r}: /openapi.json lists those there are.",
        code="no_route",
    )


async def _send_wrong_method(send: Send, scope: Scope, error: HTTPException) -> None:
    allow = ", ".join(sorted((error.headers or {})["Allow"].split(", ")))
    answer = InvalidRequest(
        f"{scope['method']} is not a method of this path: expected {allow}.", code="wrong_method"
    )
    await send_error(send, answer, more=((b"allow", allow.encode()),))
