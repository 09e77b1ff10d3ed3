"""Routes of queues, and counts of everything."""

from dtask.core.jobs.events import CountJobs, ListQueues, QueueView, SetQueue, Stats
from dtask.core.jobs.names import check_task_name
from dtask.scheduler import log
from dtask.scheduler.api.answers import Receive, Scope, Send, send_struct
from dtask.scheduler.api.body import read_body
from dtask.scheduler.api.query import parameters
from dtask.scheduler.api.request_id import request_id
from dtask.scheduler.loop import Loop
from dtask.wire.codec import Body
from dtask.wire.jobs import QueueBody
from dtask.wire.limits import BODY_BYTES_MAX


class QueueList:
    """The endpoint that lists the queues, by name."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    async def __call__(self, scope: Scope, _receive: Receive, send: Send, _trusted: bool) -> None:
        """All of them."""
        parameters(scope)
        views: list[QueueView] = await self._loop.ask(ListQueues())
        await send_struct(send, views)


class QueueLooks:
    """The endpoint that shows one queue."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    async def __call__(self, scope: Scope, _receive: Receive, send: Send, _trusted: bool) -> None:
        """As it stands now."""
        parameters(scope)
        name = _name(scope)
        views: list[QueueView] = await self._loop.ask(ListQueues(name))
        await send_struct(send, views[0])


class QueueSettings:
    """The endpoint that makes a queue, or changes it."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._decode = Body(QueueBody).decode

    async def __call__(self, scope: Scope, receive: Receive, send: Send, _trusted: bool) -> None:
        """The queue as it is from now on."""
        parameters(scope)
        name = _name(scope)
        body = self._decode(await read_body(scope, receive, BODY_BYTES_MAX))
        event = SetQueue(name, body.max_running, body.max_queued, body.weight, body.paused)
        view: QueueView = await self._loop.ask(event)
        log.say(
            "queue set by a request",
            queue=view.name,
            request_id=request_id(scope),
            max_running=view.max_running,
            max_queued=view.max_queued,
            weight=view.weight,
            paused=view.paused,
        )
        await send_struct(send, view)


class Counts:
    """The endpoint that counts jobs, tasks and what became of them."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    async def __call__(self, scope: Scope, _receive: Receive, send: Send, _trusted: bool) -> None:
        """Of now, and since the start."""
        parameters(scope)
        stats: Stats = await self._loop.ask(CountJobs())
        await send_struct(send, stats)


def _name(scope: Scope) -> str:
    name: str = scope["path_params"]["name"]
    check_task_name(name, "name")
    return name
