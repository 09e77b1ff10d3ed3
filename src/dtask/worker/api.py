"""The worker's HTTP API: run a task, ask about it, read its log, stop it.

    POST   /api/v1/tasks                        202
    GET    /api/v1/tasks/{task_id}              ?fence= &wait_s=
    DELETE /api/v1/tasks/{task_id}              ?fence=
    GET    /api/v1/tasks/{task_id}/log          ?fence= &stream= &offset= &limit= &follow=
    GET    /healthz
    GET    /metrics

All but the last two need the ticket of exactly this worker, task and fence. An id in the path is
percent-encoded, its slashes too; unencoded ones are understood, except in an id that ends in
`/log`, which would be taken for a log.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Final, cast
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from dtask.addresses import host_of, is_loopback
from dtask.clock import Clock
from dtask.core.attempts import Start
from dtask.errors import Denied, DtaskError, Internal, InvalidRequest, NotFound
from dtask.wire.codec import Body, encode
from dtask.wire.limits import BODY_BYTES_MAX, FENCE_MAX
from dtask.wire.placement import check_id
from dtask.wire.tasks import WAIT_S_MAX, TaskAnswer, TaskBody
from dtask.wire.ticket import check_ticket
from dtask.worker.metrics import Metrics
from dtask.worker.runner import Runner
from dtask.worker.spool import LOG_BYTES_MAX, Folder, Stream

#: A body that takes longer to arrive comes from somebody who only wants to hold us up.
BODY_S: Final = 10.0

#: Bytes of a log in one answer, unless `limit` says otherwise.
LOG_BYTES: Final = 1024 * 1024
#: Bytes read at a time.
PIECE_BYTES: Final = 256 * 1024
#: Who follows a log gets what is new this often.
FOLLOW_S: Final = 0.1

#: Where to go on reading a log.
NEXT_OFFSET: Final = "dtask-next-offset"

_TASKS: Final = "/api/v1/tasks"
_TASK_BODY: Final = Body(TaskBody)


class Api:
    """The application of one worker; an ASGI callable."""

    def __init__(self, runner: Runner, key: bytes, clock: Clock, metrics: Metrics) -> None:
        self._metrics = metrics
        self._runner = runner
        self._key = key
        self._clock = clock
        self._app = Starlette(
            routes=[
                Route("/healthz", _healthz, methods=["GET"]),
                Route("/metrics", self._scrape, methods=["GET"]),
                Route(_TASKS, self._begin, methods=["POST"]),
                Route(_TASKS + "/{rest:path}", self._task, methods=["GET", "DELETE"]),
            ],
            exception_handlers={
                DtaskError: _on_dtask_error,
                HTTPException: _on_http_exception,
                ClientDisconnect: _on_disconnect,
                Exception: _on_bug,
            },
        )
        self._app.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await self._app(scope, receive, send)

    async def _scrape(self, request: Request) -> Response:
        """`GET /metrics`."""
        _check_caller(request)
        _query(request, set())
        body, content_type = await self._metrics.page(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    async def _begin(self, request: Request) -> Response:
        """`POST /api/v1/tasks`."""
        _check_caller(request)
        ticket = _ticket(request)
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise InvalidRequest(
                "The body must be JSON and say so: expected `content-type: application/json`.",
                code="wrong_content_type",
            )
        start = _start(_TASK_BODY.decode(await _body(request)))
        # Only what is new must still be allowed to start; a start sent twice is a question.
        is_known = self._runner.knows(start.task_id, start.fence)
        self._check(ticket, start.task_id, start.fence, starts=not is_known)
        return _json(self._runner.begin(start), 202)

    async def _task(self, request: Request) -> Response:
        """`GET` and `DELETE` of `/api/v1/tasks/{task_id}`, `GET` of its log."""
        _check_caller(request)
        task_id, wants_log = _target(request)
        names = {"fence"}
        if wants_log:
            names |= {"stream", "offset", "limit", "follow"}
        elif request.method != "DELETE":
            names |= {"wait_s"}
        query = _query(request, names)
        fence = _whole(query, "fence", most=FENCE_MAX)
        self._check(_ticket(request), task_id, fence, starts=False)
        if wants_log:
            if request.method == "DELETE":
                raise HTTPException(405, headers={"Allow": "GET"})
            return self._log(task_id, fence, query)
        if request.method == "DELETE":
            return _json(self._runner.end(task_id, fence))
        await self._runner.ended(task_id, fence, _wait_s(query))
        return _json(self._runner.answer(task_id, fence))

    def _log(self, task_id: str, fence: int, query: dict[str, str]) -> Response:
        """A part of a log, or with `follow=1` all of it from the offset until the task ended."""
        stream = _stream(query)
        offset = _whole(query, "offset", most=FENCE_MAX, default=0)
        limit = _whole(query, "limit", most=LOG_BYTES_MAX, default=LOG_BYTES)
        follows = _whole(query, "follow", most=1, default=0)
        self._runner.answer(task_id, fence)  # raises NotFound
        folder = self._runner.folder(task_id, fence)
        media_type = "application/octet-stream"
        if follows:
            pieces = self._followed(task_id, fence, folder, stream, offset)
            return StreamingResponse(pieces, media_type=media_type)
        size = folder.log_bytes(stream) if folder is not None else 0
        count = max(0, min(limit, size - offset))
        return StreamingResponse(
            _pieces(folder, stream, offset, count),
            media_type=media_type,
            headers={"content-length": str(count), NEXT_OFFSET: str(offset + count)},
        )

    async def _followed(
        self, task_id: str, fence: int, folder: Folder | None, stream: Stream, offset: int
    ) -> AsyncIterator[bytes]:
        while True:
            # Asked before reading: what an ended task wrote is all there.
            ended = await self._runner.ended(task_id, fence, 0.0)
            piece = b""
            if folder is not None:
                piece = await asyncio.to_thread(folder.read, stream, offset, PIECE_BYTES)
            if piece:
                offset += len(piece)
                yield piece
            elif ended:
                return
            else:
                await self._runner.ended(task_id, fence, FOLLOW_S)

    def _check(self, ticket: str, task_id: str, fence: int, *, starts: bool) -> None:
        check_ticket(
            self._key,
            ticket,
            worker_id=self._runner.worker_id,
            task_id=task_id,
            fence=fence,
            now=self._clock.now() if starts else None,
        )


# Requests


def _check_caller(request: Request) -> None:
    """Raise Denied for a web page. Without a ticket it could do nothing, and shall not try."""
    if "origin" in request.headers:
        raise Denied(
            "A web page may not drive a worker: expected a request without an Origin header.",
            code="foreign_origin",
        )
    server = request.scope.get("server")
    if (
        server is not None
        and is_loopback(server[0])
        and not is_loopback(host_of(request.headers.get("host", "")))
    ):
        raise Denied(
            "This worker listens on loopback: expected a Host such as 127.0.0.1 or localhost.",
            code="foreign_origin",
        )


def _ticket(request: Request) -> str:
    scheme, _, ticket = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "ticket" or not ticket:
        raise Denied(
            "This needs the ticket of the placement: send it as `authorization: Ticket TICKET`.",
            code="bad_ticket",
        )
    return ticket.strip()


def _target(request: Request) -> tuple[str, bool]:
    """The task id of the path, and whether it is the log that is asked for."""
    raw: bytes = request.scope["raw_path"]
    name = raw[len(_TASKS) + 1 :]
    wants_log = name.endswith(b"/log")
    try:
        task_id = unquote_to_bytes(name.removesuffix(b"/log")).decode()
    except UnicodeDecodeError:
        raise InvalidRequest(
            "task_id: expected percent-encoded UTF-8.", code="malformed", field="task_id"
        ) from None
    check_id(task_id, "task_id")
    return task_id, wants_log


async def _body(request: Request) -> bytes:
    """The whole body. Raises InvalidRequest if it is too large or too slow."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                size += len(part)
                if size > BODY_BYTES_MAX:
                    raise InvalidRequest(
                        f"The body is too large: expected at most {BODY_BYTES_MAX} bytes.",
                        code="too_large",
                        limit_bytes=BODY_BYTES_MAX,
                    )
                parts.append(part)
    except TimeoutError:
        raise InvalidRequest(
            f"The body did not arrive within {BODY_S:g} s: expected all of it.",
            code="malformed",
            field="$",
        ) from None
    return b"".join(parts)


def _start(body: TaskBody) -> Start:
    """The body as an event. Raises InvalidRequest for what no process can be given."""
    check_id(body.task_id, "task_id")
    for index, word in enumerate(body.command):
        if "\0" in word:
            raise _wrong(f"command[{index}]", "expected a word without NUL characters")
    if not body.command[0]:
        raise _wrong("command[0]", "expected the name or the path of a program")
    for name, value in body.env.items():
        field = f"env.{name[:100]}"
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise _wrong(field, "expected a name and a value without NUL, the name without `=`")
        if name.startswith("DTASK_"):
            raise _wrong(field, "names with DTASK_ are dtask's own: expected another")
    return Start(body.task_id, body.fence, body.command, body.env, body.timeout_s)


def _query(request: Request, names: set[str]) -> dict[str, str]:
    """The parameters, each named in `names` and sent once."""
    query: dict[str, str] = {}
    for name, value in parse_qsl(request.scope["query_string"].decode("latin-1"), True):  # noqa: FBT003 (keep blanks)
        if name not in names:
            expected = ", ".join(sorted(names)) or "none"
            raise InvalidRequest(
                f"{name[:100]}: there is no such parameter: expected {expected}.",
                code="unknown_field",
                field=name[:100],
            )
        if name in query:
            raise _wrong(name, "it was sent twice: expected it once")
        query[name] = value
    return query


def _whole(query: dict[str, str], name: str, *, most: int, default: int | None = None) -> int:
    text = query.get(name)
    if text is None and default is not None:
        return default
    digits = len(str(most))
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > digits:
        raise _wrong(name, f"expected a whole number from 0 to {most}")
    if int(text) > most:
        raise _wrong(name, f"expected a whole number from 0 to {most}")
    return int(text)


def _wait_s(query: dict[str, str]) -> float:
    text = query.get("wait_s", "0")
    try:
        wait_s = float(text)
    except ValueError:
        wait_s = math.nan
    if not 0 <= wait_s <= WAIT_S_MAX:
        raise _wrong("wait_s", f"expected seconds from 0 to {WAIT_S_MAX:g}")
    return wait_s


def _stream(query: dict[str, str]) -> Stream:
    stream = query.get("stream", "stdout")
    if stream not in ("stdout", "stderr"):
        raise _wrong("stream", "expected stdout or stderr")
    return cast("Stream", stream)


def _wrong(field: str, what: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {what}.", code="malformed", field=field)


# Answers


async def _healthz(request: Request) -> Response:
    del request
    return Response(b'{"status":"ok"}', media_type="application/json")


async def _pieces(
    folder: Folder | None, stream: Stream, offset: int, count: int
) -> AsyncIterator[bytes]:
    end = offset + count
    while folder is not None and offset < end:
        most = min(PIECE_BYTES, end - offset)
        piece = await asyncio.to_thread(folder.read, stream, offset, most)
        if not piece:
            return  # forgotten meanwhile: the connection breaks, and that says so
        offset += len(piece)
        yield piece


def _json(answer: TaskAnswer, status: int = 200) -> Response:
    return Response(msgspec.json.encode(answer), status, media_type="application/json")


def _refusal(error: DtaskError, headers: dict[str, str] | None = None) -> Response:
    body = encode(error.body())
    return Response(body, error.status, headers=headers, media_type="application/json")


async def _on_dtask_error(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, DtaskError)
    # The rest of a body that was not read to its end is nobody's next request.
    unread = error.code == "too_large" or error.facts.get("field") == "$"
    return _refusal(error, {"connection": "close"} if unread else None)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:  # noqa: PLR2004 (HTTP's wrong method)
        allow = (error.headers or {}).get("Allow", "")
        refused = InvalidRequest(
            f"{request.method} is not for this path: expected one of {allow}.", code="wrong_method"
        )
        return _refusal(refused, {"Allow": allow})
    return _refusal(
        NotFound(
            f"This is a worker, which has no such path: expected {_TASKS}, {_TASKS}/TASK_ID or "
            f"{_TASKS}/TASK_ID/log; jobs and workers are asked of the scheduler.",
            code="no_route",
        )
    )


async def _on_disconnect(request: Request, error: Exception) -> Response:
    del request, error
    return Response(status_code=400)  # nobody reads it


async def _on_bug(request: Request, error: Exception) -> Response:
    del request, error  # Starlette raises it again, and the server logs it
    return _refusal(
        Internal("The worker met a bug of its own: its log has the story.", code="internal")
    )
