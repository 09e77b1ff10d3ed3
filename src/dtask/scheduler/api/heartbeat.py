"""`POST /api/v1/heartbeat`: a worker says that it lives and what it holds."""

from typing import Final

from dtask.core.placement import events
from dtask.errors import InvalidRequest
from dtask.scheduler.api.answers import Message, Receive, Scope, Send, ok_start
from dtask.scheduler.api.body import read_body
from dtask.scheduler.loop import Loop
from dtask.wire.codec import Body, encode
from dtask.wire.limits import BODY_BYTES_MAX
from dtask.wire.placement import HeartbeatBody, HeldTask, check_id

_DECODE: Final = Body(HeartbeatBody).decode

#: The answers to a worker that is not drained, and to one that is.
_Answers = tuple[Message, Message]


def _answers(**facts: str) -> _Answers:
    ok = {"status": "ok", **facts}
    return (
        {"type": "http.response.body", "body": encode(ok)},
        {"type": "http.response.body", "body": encode({**ok, "drained": True})},
    )


_PLAIN: Final = _answers()


class Heartbeats:
    """The endpoint. The answer tells a worker whether an operator drains it.

    A trusted one, which may get jobs, is told whose they would be.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._handle = loop.handle
        self._tallies = loop.tallies
        #: With the cluster_id, which is known once the loop runs.
        self._trusted: _Answers | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send, trusted: bool) -> None:
        """Take in one heartbeat."""
        body = _DECODE(await read_body(scope, receive, BODY_BYTES_MAX))
        heard = self._handle(event_of(body, trusted))
        self._tallies.heartbeats += 1
        answer = (self._trusted_answers() if trusted else _PLAIN)[heard.drained]
        await send(ok_start(len(answer["body"])))
        await send(answer)

    def _trusted_answers(self) -> _Answers:
        if self._trusted is None:
            self._trusted = _answers(cluster_id=self._loop.cluster_id)
        return self._trusted


def event_of(body: HeartbeatBody, trusted: bool) -> events.Heartbeat:
    """The core's event. Raises InvalidRequest for what the types can't tell."""
    check_id(body.worker_id, "worker_id")
    if not body.address.isprintable():
        raise _unprintable("address")
    if body.incarnation is not None:
        check_id(body.incarnation, "incarnation")
    if body.metrics:
        _check_metrics(body.metrics)
    return events.Heartbeat(
        body.worker_id,
        body.address,
        body.resource_tags or (),
        body.max_tasks,
        body.current_tasks,
        body.incarnation,
        body.seq,
        None if body.tasks is None else _named(body.tasks, "tasks"),
        _named(body.ended, "ended") if body.ended else (),
        body.draining,
        body.leaving,
        body.drained,
        body.metrics,
        trusted,
    )


def _named(entries: tuple[str | HeldTask, ...], field: str) -> tuple[events.Named, ...]:
    named: list[events.Named] = []
    for entry in entries:
        if isinstance(entry, str):
            task_id, fence = entry, None
        else:
            task_id, fence = entry.task_id, entry.fence
        if not task_id.isprintable():
            raise _unprintable(f"{field}[{len(named)}]")
        named.append((task_id, fence))
    return tuple(named)


def _check_metrics(metrics: dict[str, float | int | str | bool | None]) -> None:
    for name, value in metrics.items():
        if not name.isprintable() or (isinstance(value, str) and not value.isprintable()):
            raise _unprintable("metrics")


def _unprintable(field: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: expected printable characters.", code="malformed", field=field)
