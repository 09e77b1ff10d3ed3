"""Routes of one task of a job: how it stands, its elements, its attempts."""

from dtask.core.jobs.model import ELEMENTS_MAX
from dtask.scheduler.api import job_rows
from dtask.scheduler.api.answers import Receive, Scope, Send, send_raw
from dtask.scheduler.api.job_query import index_of, job_id_of, states_of, task_of
from dtask.scheduler.api.query import number, parameters
from dtask.scheduler.loop import Loop
from dtask.wire.limits import ATTEMPTS_LIMIT_MAX, ELEMENTS_LIMIT_MAX, LIMIT_DEFAULT


class TaskLooks:
    """The endpoint that shows one task, its spec and its last attempts."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    async def __call__(self, scope: Scope, _receive: Receive, send: Send, _trusted: bool) -> None:
        """As it stands now."""
        parameters(scope)
        job_id, task = job_id_of(scope), task_of(scope)
        await send_raw(send, await self._loop.read(job_rows.task, self._loop.store, job_id, task))


class Elements:
    """The endpoint that lists the elements of an array, by index."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    async def __call__(self, scope: Scope, _receive: Receive, send: Send, _trusted: bool) -> None:
        """A page of those in one of the `state`s."""
        found = parameters(scope, "state", "after", "limit")
        after = number(found, "after", least=0, most=ELEMENTS_MAX)
        body = await self._loop.read(
            job_rows.elements,
            self._loop.store,
            job_id_of(scope),
            task_of(scope),
            states=states_of(found),
            after=-1 if after is None else after,
            limit=number(found, "limit", least=1, most=ELEMENTS_LIMIT_MAX) or LIMIT_DEFAULT,
        )
        await send_raw(send, body)


class Attempts:
    """The endpoint that lists the attempts of a task or an element, the newest first."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    async def __call__(self, scope: Scope, _receive: Receive, send: Send, _trusted: bool) -> None:
        """Of an array without `index`: those of all its elements."""
        found = parameters(scope, "index", "limit")
        limit = number(found, "limit", least=1, most=ATTEMPTS_LIMIT_MAX) or LIMIT_DEFAULT
        body = await self._loop.read(
            job_rows.attempts,
            self._loop.store,
            job_id_of(scope),
            task_of(scope),
            index_of(found),
            limit,
        )
        await send_raw(send, body)
