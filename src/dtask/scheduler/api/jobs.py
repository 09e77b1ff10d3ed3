"""Routes of jobs: list them, look at one and wait for its end, stop it, start it over, ask why."""

import asyncio

from msgspec import structs

from dtask.core.jobs.events import (
    Cancel,
    Explain,
    Look,
    NeedsRecord,
    Retried,
    RetryJob,
    Stopping,
    Why,
)
from dtask.core.jobs.model import NAME_CHARS_MAX
from dtask.core.jobs.names import check_task_name
from dtask.core.jobs.rows import WHOLE
from dtask.core.jobs.states import ENDS, HELD
from dtask.errors import Conflict, InvalidRequest
from dtask.scheduler import log
from dtask.scheduler.api import failures, job_rows
from dtask.scheduler.api.answers import Receive, Scope, Send, send_raw, send_struct
from dtask.scheduler.api.body import read_body
from dtask.scheduler.api.caller import Caller
from dtask.scheduler.api.job_query import (
    JOB_ID_MAX,
    index_of,
    job_id_of,
    states_of,
    wait_s_of,
)
from dtask.scheduler.api.parts import JobParts
from dtask.scheduler.api.query import number, parameters, single
from dtask.scheduler.api.request_id import request_id
from dtask.scheduler.loop import Loop
from dtask.wire.codec import Body
from dtask.wire.job_answers import CancelAnswer, RetryAnswer
from dtask.wire.jobs import RetryBody
from dtask.wire.limits import (
    ATTEMPTS_LIMIT_MAX,
    BODY_BYTES_MAX,
    JOBS_LIMIT_MAX,
    LIMIT_DEFAULT,
)


class JobList:
    """The endpoint that lists jobs, the newest first."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    async def __call__(self, scope: Scope, _receive: Receive, send: Send, _trusted: bool) -> None:
        """A page of the jobs in one of the `state`s and the `queue`."""
        found = parameters(scope, "state", "queue", "search", "limit", "before")
        queue = single(found, "queue")
        if queue is not None:
            check_task_name(queue, "queue")
        body = await self._loop.read(
            job_rows.jobs,
            self._loop.store,
            states=states_of(found),
            queue=queue,
            search=_search(found),
            before=number(found, "before", least=1, most=JOB_ID_MAX),
            limit=number(found, "limit", least=1, most=JOBS_LIMIT_MAX) or LIMIT_DEFAULT,
        )
        await send_raw(send, body)


def _search(found: dict[str, list[str]]) -> str | None:
    text = single(found, "search")
    if text is not None and not 0 < len(text) <= NAME_CHARS_MAX:
        raise InvalidRequest(
            f"search: expected 1 to {NAME_CHARS_MAX} characters of a name, or a job's number.",
            code="malformed",
            field="search",
        )
    return text


class JobAttempts:
    """The endpoint that lists the attempts of all tasks of a job."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    async def __call__(self, scope: Scope, _receive: Receive, send: Send, _trusted: bool) -> None:
        """The newest first."""
        found = parameters(scope, "limit")
        limit = number(found, "limit", least=1, most=ATTEMPTS_LIMIT_MAX) or LIMIT_DEFAULT
        store, job_id = self._loop.store, job_id_of(scope)
        await send_raw(send, await self._loop.read(job_rows.job_attempts, store, job_id, limit))


class Failures:
    """The endpoint that lists what has failed, by what it failed of."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    async def __call__(self, scope: Scope, _receive: Receive, send: Send, _trusted: bool) -> None:
        """The newest first."""
        found = parameters(scope, "queue", "limit")
        queue = single(found, "queue")
        if queue is not None:
            check_task_name(queue, "queue")
        limit = number(found, "limit", least=1, most=JOBS_LIMIT_MAX) or LIMIT_DEFAULT
        body = await self._loop.read(failures.groups, self._loop.store, queue=queue, limit=limit)
        await send_raw(send, body)


class JobLooks:
    """The endpoint that shows one job, now or when it has ended."""

    def __init__(self, loop: Loop, parts: JobParts) -> None:
        self._loop = loop
        self._feed = parts.feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send, _trusted: bool) -> None:
        """With `wait_s`: when it has ended, or so many seconds have passed."""
        wait_s = wait_s_of(parameters(scope, "wait_s"))
        job_id = job_id_of(scope)
        if wait_s:
            async with Caller(receive) as caller:
                await self._until_ended(job_id, caller, wait_s)
        await send_raw(send, await self._loop.read(job_rows.job, self._loop.store, job_id))

    async def _until_ended(self, job_id: int, caller: Caller, wait_s: float) -> None:
        """Raises NotFound, Busy or Disconnected."""
        clock = asyncio.get_running_loop().time
        until = clock() + wait_s
        with self._feed.watch(job_id) as waiter:
            while await self._loop.ask(Look(job_id)) not in ENDS and not self._feed.stopping:
                happened = await caller.wait(waiter.changed(), seconds=max(0.0, until - clock()))
                if not happened:
                    return
                waiter.take()


class Cancels:
    """The endpoints that stop a job, or one task of it."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    async def __call__(self, scope: Scope, _receive: Receive, send: Send, _trusted: bool) -> None:
        """The answer comes at once, the end when everything is stopped."""
        parameters(scope)
        event = Cancel(job_id_of(scope), scope["path_params"].get("task"))
        stopping: Stopping = await self._loop.ask(event)
        log.say(
            "job cancelled by a request",
            job_id=event.job_id,
            request_id=request_id(scope),
            task=event.task,
            attempts=stopping.attempts,
        )
        answer = CancelAnswer(stopping.job_id, stopping.state, stopping.attempts)
        await send_struct(send, answer)


class Retries:
    """The endpoint that starts over what did not succeed."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._decode = Body(RetryBody).decode

    async def __call__(self, scope: Scope, receive: Receive, send: Send, _trusted: bool) -> None:
        """How many tasks and elements start over."""
        parameters(scope)
        job_id = job_id_of(scope)
        body = self._decode(await read_body(scope, receive, BODY_BYTES_MAX))
        event = RetryJob(job_id, body.again, body.task)
        answer: Retried | NeedsRecord = await self._loop.ask(event)
        while isinstance(answer, NeedsRecord):  # it has ended, or did once more meanwhile
            record = await self._loop.read(self._loop.store.record, job_id)
            if record is None:
                raise job_rows.no_job(job_id)
            answer = await self._loop.ask(RetryJob(job_id, body.again, body.task, record))
        log.say(
            "job retried by a request",
            job_id=job_id,
            request_id=request_id(scope),
            again=body.again,
            task=body.task,
            tasks=answer.tasks,
        )
        await send_struct(send, RetryAnswer(answer.job_id, answer.tasks))


class Whys:
    """The endpoint that says why a job stands where it does."""

    def __init__(self, loop: Loop, parts: JobParts) -> None:
        self._loop = loop
        self._logs = parts.logs

    async def __call__(self, scope: Scope, _receive: Receive, send: Send, _trusted: bool) -> None:
        """Of all that waits and runs; of an ended job, why it ended as it did."""
        found = parameters(scope, "task", "index")
        job_id = job_id_of(scope)
        task, index = single(found, "task"), index_of(found)
        if task is None and index != WHOLE:
            raise InvalidRequest(
                "index: an element is one of a task: expected task, too.",
                code="malformed",
                field="index",
            )
        try:
            why: Why = await self._loop.ask(
                Explain(job_id, task, None if index == WHOLE else index)
            )
        except Conflict:  # it has ended, and the core remembers no more of it
            body = await self._loop.read(job_rows.ended_why, self._loop.store, job_id, task, index)
            await send_raw(send, body)
        else:
            if self._logs.trouble is not None:
                why = _with_trouble(why, self._logs.trouble)
            await send_struct(send, why)


def _with_trouble(why: Why, trouble: str) -> Why:
    """What workers hold can't end, and may not seem to go on, while its log can't be written."""
    reasons = (
        structs.replace(reason, sentence=f"{reason.sentence} {trouble}")
        if reason.state in HELD
        else reason
        for reason in why.reasons
    )
    return structs.replace(why, reasons=tuple(reasons))
