"""What clients do with jobs, step by step, written once for both shells. No I/O.

**Across a restart.** A job is durable, so its calls outlast the scheduler that was asked first:
each is sent again for `patience_s` of silence (see `flows`). That is safe for reads, and for

* a submit, because it always carries a key: sent twice, it is one job;
* a cancel, a blob and the settings of a queue, because doing them twice is doing them once.

Only a retry is not quite: between the two the job may have ended once more. It is sent again for
a moment, as all calls are, and no longer.

**Streams** (logs, events) go on after a break where they were: a log at its offset, events after
the last one seen. A stream of which nothing is heard for QUIET_S is opened anew, because a
scheduler's machine that is gone says no goodbye.

**Files** are named by their hash, and sent only when the scheduler says that it lacks them.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from dtask.client import calls, job_calls, specs
from dtask.client.acts import Flow, Item, Load, Pause, Read, Reply, Request
from dtask.client.flows import BACKOFF_S_MAX, Flows, Sent
from dtask.client.job_calls import States
from dtask.client.job_results import AttemptAnswer, ElementAnswer, Event, JobResult, JobSummary
from dtask.client.server_sent import Parser
from dtask.client.specs import HasId, Source, Wishes
from dtask.core.jobs import names
from dtask.core.jobs.events import Again, QueueView, Stats, Why
from dtask.core.jobs.names import Name
from dtask.core.jobs.states import ENDS, State
from dtask.errors import Busy, Conflict, InvalidRequest, NotFound, Unavailable
from dtask.wire.job_answers import CancelAnswer, RetryAnswer, SubmitAnswer, TaskAnswer

T = TypeVar("T")

#: What names a task: `42/train`, `42/tile[7]`, `42/train#2`; or a job that has one task alone.
TaskName = int | str | Name | HasId

#: How long a call outlasts the silence of a scheduler that answered before.
PATIENCE_S: Final = 60.0
#: How long a submit, or a cancel, goes on asking one that says that its store can't be used.
STORE_PATIENCE_S: Final = 10.0
#: How long a question for the end of a job is held open.
WAIT_S: Final = 30.0
#: Silence of a stream after which it is opened anew.
QUIET_S: Final = 30.0
#: Rows asked for at a time.
PAGE_ROWS: Final = 1_000
#: Bytes of one file that can be sent.
BLOB_BYTES_MAX: Final = 64 * 1024 * 1024
#: How often files are sent that the scheduler lacks.
UPLOADS: Final = 3


class JobFlows:
    """The calls of a client that are about jobs. Safe to share between threads."""

    def __init__(self, flows: Flows, patience_s: float) -> None:
        self._flows = flows
        self._patience_s = patience_s

    # Submitting

    def submit(self, what: Iterable[str] | Mapping[str, Any], wishes: Wishes) -> Flow[SubmitAnswer]:
        """Submit a job, and send the files that it names if the scheduler lacks them."""
        made_key = f"{self._flows.random.getrandbits(128):032x}"
        body = specs.body(what, wishes, made_key=made_key)
        sources = yield from _hashed(body)
        request = job_calls.submit(body)
        for _ in range(UPLOADS):
            sent = yield from self._flows.send(
                request, patience_s=self._patience_s, store_patience_s=STORE_PATIENCE_S
            )
            try:
                return job_calls.read_submitted(sent.reply)
            except InvalidRequest as error:
                lacking = error.facts.get("blobs")
                if error.code != "missing_blobs" or not isinstance(lacking, list):
                    raise
                known = [digest for digest in map(_digest, lacking) if digest in sources]
                if not known:
                    raise
                missing = error
            for digest in known:
                yield from self._upload(digest, sources[digest])
        raise missing

    def blob(self, content: bytes) -> Flow[str]:
        """Send bytes; the digest by which a job names them."""
        digest = _digest_of(content)
        yield from self._upload(digest, content)
        return digest

    def _upload(self, digest: str, source: Source) -> Flow[None]:
        content = source if isinstance(source, bytes) else (yield from _loaded(source, "files"))
        sent = yield from self._insist(job_calls.blob(digest, content))
        calls.check(sent.reply)

    # One job

    def job(self, job: int | HasId) -> Flow[JobResult]:
        """How a job stands now."""
        return (yield from self._ask(job_calls.job(specs.job_id(job)), job_calls.read_job))

    def wait(self, job: int | HasId, *, timeout_s: float | None) -> Flow[JobResult]:
        """Wait for the end of a job. Raises TimeoutError if it takes longer."""
        job_id = specs.job_id(job)
        deadline = self._flows.deadline(timeout_s)
        while True:
            left_s = None if deadline is None else deadline - self._flows.now()
            wait_s = WAIT_S if left_s is None else max(0.0, min(WAIT_S, left_s))
            patience_s = self._patience_s if left_s is None else min(self._patience_s, left_s)
            request = job_calls.job(job_id, wait_s=wait_s)
            sent = yield from self._flows.send(
                request, wait_s=wait_s, patience_s=max(0.001, patience_s)
            )
            try:
                found = job_calls.read_job(sent.reply)
            except Busy:  # too many wait already
                if left_s is not None and left_s <= 0:
                    raise
                yield Pause(seconds=self._flows.random.uniform(0, BACKOFF_S_MAX))
                continue
            if found.ended:
                return found
            if left_s is not None and left_s <= 0:
                raise TimeoutError(f"Job {job_id} is {found.state} after {timeout_s:g} s.")

    def jobs(
        self, *, state: States, queue: str | None, limit: int | None
    ) -> Flow[list[JobSummary]]:
        """Jobs, the newest first, page by page; `limit` of them at most."""
        found: list[JobSummary] = []
        while limit is None or len(found) < limit:
            rows = PAGE_ROWS if limit is None else min(PAGE_ROWS, limit - len(found))
            before = found[-1].job_id if found else None
            request = job_calls.jobs(state=state, queue=queue, limit=rows, before=before)
            page = yield from self._ask(request, job_calls.read_jobs)
            found += page
            if len(page) < rows:
                break
        return found

    def cancel(self, job: int | HasId, task: str | None) -> Flow[CancelAnswer]:
        """Stop a job, or one task of it."""
        job_id = specs.job_id(job)
        sent = yield from self._flows.send(
            job_calls.cancel(job_id, task),
            patience_s=self._patience_s,
            store_patience_s=STORE_PATIENCE_S,
        )
        try:
            return job_calls.read_cancelled(sent.reply)
        except Conflict as error:
            if not (sent.repeated and error.facts.get("state") == State.CANCELLED):
                raise
            return CancelAnswer(job_id, State.CANCELLED, 0)  # the first one was heeded

    def retry(self, job: int | HasId, *, again: Again, task: str | None) -> Flow[RetryAnswer]:
        """Start over what did not succeed."""
        job_id = specs.job_id(job)
        request = job_calls.retry(job_id, again=again, task=task)
        sent = yield from self._flows.send(request)
        try:
            return job_calls.read_retried(sent.reply)
        except Conflict as error:
            if not sent.repeated or error.code == "upstream":
                raise
            raise Unavailable(
                f"The answer to the retry of job {job_id} got lost, and it may have been heeded: "
                f"look at the job.",
                code="unreachable",
                job_id=job_id,
            ) from None

    def why(self, name: TaskName) -> Flow[Why]:
        """What everything of a job, or one task or element of it, waits for."""
        return (yield from self._ask(job_calls.why(_named(name)), job_calls.read_why))

    # Tasks, elements, results

    def elements(
        self, name: TaskName, *, state: States, limit: int | None
    ) -> Flow[list[ElementAnswer]]:
        """Elements of an array, by index, page by page; `limit` of them at most."""
        named = yield from self._task(name)
        found: list[ElementAnswer] = []
        after: int | None = None
        while limit is None or len(found) < limit:
            rows = PAGE_ROWS if limit is None else min(PAGE_ROWS, limit - len(found))
            request = job_calls.elements(named, state=state, after=after, limit=rows)
            page = yield from self._ask(request, job_calls.read_elements)
            found += page.elements
            after = page.after
            if after is None:
                break
        return found

    def task(self, name: TaskName) -> Flow[TaskAnswer]:
        """How a task stands, what it was submitted as, and its last attempts."""
        named = yield from self._task(name)
        return (yield from self._ask(job_calls.task(named), job_calls.read_task))

    def attempts(self, name: TaskName) -> Flow[list[AttemptAnswer]]:
        """The attempts of a task or an element, the newest first."""
        named = yield from self._task(name)
        return (yield from self._ask(job_calls.attempts(named), job_calls.read_attempts))

    def result(self, name: TaskName) -> Flow[bytes]:
        """What a task, an element or an attempt left as its result."""
        named = yield from self._task(name)
        return (yield from self._ask(job_calls.result(named), calls.read_bytes))

    def _task(self, name: TaskName) -> Flow[Name]:
        """The task of that name; of a job without one, its only task."""
        named = _named(name)
        if named.task is not None:
            return named
        tasks = (yield from self.job(named.job_id)).tasks
        if len(tasks) > 1:
            raise InvalidRequest(
                f"Job {named.job_id} has {len(tasks)} tasks: name one of them, such as "
                f"{named.job_id}/{next(iter(tasks))}.",
                code="malformed",
                field="name",
            )
        return _replaced(named, task=next(iter(tasks)))

    # Streams

    def logs(
        self, name: TaskName, *, stream: str, follow: bool, from_first: bool = False
    ) -> Flow[None]:
        """Items of bytes: what a task wrote.

        With `follow` as it comes, and of every attempt from the current one on, or `from_first`,
        unless one is named.
        """
        named = yield from self._task(name)
        if named.number is not None or not follow:
            yield from self._follow(named, stream) if follow else self._pages(named, stream)
            return
        shown = 0
        while (newest := (yield from self._next_attempt(named, shown))) is not None:
            # Attempts may have come and gone while an earlier one was read.
            for number in range(shown + 1 if shown or from_first else newest, newest + 1):
                yield from self._follow(_replaced(named, number=number), stream)
            shown = newest

    def _pages(self, name: Name, stream: str) -> Flow[None]:
        """What one attempt has written so far."""
        if name.number is None:  # else the next page might be of another one
            newest = yield from self._attempt(name)
            name = name if newest is None else _replaced(name, number=newest.number)
        offset = 0
        while True:
            end = yield from self._log(name, stream, offset=offset)
            if end == offset:
                return
            offset = end

    def _follow(self, name: Name, stream: str) -> Flow[None]:
        """One attempt, until it has ended and all of it is read."""
        offset = 0
        over = False
        while True:
            end = yield from self._log(name, stream, offset=offset, follow=True)
            attempt = yield from self._attempt(name)
            if attempt is None:
                return
            if attempt.state in ENDS:
                size = attempt.stdout_bytes if stream == "stdout" else attempt.stderr_bytes
                # It may have ended while the scheduler was restarted, and have written on before.
                if end >= size or (over and end == offset):
                    return
                over = True
            offset = end
            yield self._flows.pause(1)

    def _log(self, name: Name, stream: str, *, offset: int = 0, follow: bool = False) -> Flow[int]:
        """Items of bytes from `offset` to the end of the stream; where that is."""
        position = [offset]

        def take(piece: bytes) -> list[bytes]:
            position[0] += len(piece)
            return [piece]

        def request() -> Request:
            return job_calls.log(name, stream=stream, offset=position[0], follow=follow)

        yield from self._stream(request, take)
        return position[0]

    def _attempt(self, name: Name) -> Flow[AttemptAnswer | None]:
        found = yield from self._ask(job_calls.attempts(name), job_calls.read_attempts)
        return next((one for one in found if name.number in (None, one.number)), None)

    def _next_attempt(self, name: Name, shown: int) -> Flow[int | None]:
        """Wait for an attempt after number `shown`; None if the task ended without one."""
        found, ended = yield from self._newer_attempt(name, shown)
        while found is None and not ended:
            # Events say when it is worth asking again. What moves while nothing is open is seen by
            # asking once more as soon as it is.
            yield from self._open(job_calls.events(job_id=name.job_id, after=None))
            found, ended = yield from self._newer_attempt(name, shown)
            parser = Parser()
            while found is None and not ended:
                try:
                    while (piece := (yield Read())) and not parser.feed(piece):
                        pass
                except Unavailable:
                    piece = b""
                found, ended = yield from self._newer_attempt(name, shown)
                if not piece:
                    yield self._flows.pause(1)
                    break
        return found

    def _newer_attempt(self, name: Name, shown: int) -> Flow[tuple[int | None, bool]]:
        """The number of the newest attempt if it is above `shown`, and whether the task ended."""
        ended = (yield from self._state(name)) in ENDS  # first: what it ended with comes before
        newest = yield from self._attempt(name)
        return (newest.number if newest is not None and newest.number > shown else None), ended

    def _state(self, name: Name) -> Flow[State]:
        """Where a task or an element stands."""
        if name.index is None:
            found = yield from self._ask(job_calls.task(name), job_calls.read_task)
            return found.summary.state
        request = job_calls.elements(
            name, state=None, after=name.index - 1 if name.index else None, limit=1
        )
        page = yield from self._ask(request, job_calls.read_elements)
        if not page.elements or page.elements[0].index != name.index:
            raise NotFound(f"Task {name.job_id}/{name.task} has no such element.", code="no_task")
        return page.elements[0].state

    def events(
        self,
        *,
        after: str | None,
        job: int | HasId | None,
        missed: Callable[[], None] | None = None,
        alive: Callable[[], None] | None = None,
    ) -> Flow[None]:
        """Items of Event, from now on or after the one of that id, without end.

        `missed` is called where there may have been events that are not among them, and `alive`
        with each sign of life.
        """
        job_id = None if job is None else specs.job_id(job)
        parser = Parser()
        position = after

        def take(piece: bytes) -> list[Event]:
            nonlocal position
            messages = parser.feed(piece)
            if alive is not None:
                alive()
            is_gap = position is None or any(message.kind == "gap" for message in messages)
            position = parser.last_id or position
            if is_gap and missed is not None:
                missed()
            events = map(job_calls.read_event, messages)
            return [event for event in events if event is not None]

        def request() -> Request:
            nonlocal parser
            parser = Parser()
            return job_calls.events(job_id=job_id, after=position)

        while True:
            yield from self._stream(request, take)
            yield self._flows.pause(1)

    def backup(self) -> Flow[None]:
        """Items of bytes: a copy of the store. Raises Unavailable if it breaks off."""
        yield from self._open(job_calls.backup())
        while piece := (yield Read()):
            yield Item(piece)

    def _stream(
        self, request: Callable[[], Request], take: Callable[[bytes], list[Any]]
    ) -> Flow[None]:
        """Items of what `take` makes of the pieces of an answer, opened anew where it breaks."""
        failures = 0
        while True:
            yield from self._open(request())
            while True:
                try:
                    piece = yield Read()
                except Unavailable:
                    failures += 1
                    yield self._flows.pause(failures)
                    break
                if not piece:
                    return
                failures = 0
                for item in take(piece):
                    yield Item(item)

    def _open(self, request: Request) -> Flow[None]:
        sent = yield from self._flows.send(
            request, wait_s=QUIET_S, patience_s=self._patience_s, opened=True
        )
        calls.check(sent.reply)

    # Queues and counts

    def queues(self) -> Flow[list[QueueView]]:
        """All queues, by name."""
        return (yield from self._ask(job_calls.queues(), job_calls.read_queues))

    def set_queue(self, name: str, settings: dict[str, object]) -> Flow[QueueView]:
        """Make a queue, or change it."""
        given = {key: value for key, value in settings.items() if value is not None}
        return (yield from self._ask(job_calls.set_queue(name, given), job_calls.read_queue))

    def stats(self) -> Flow[Stats]:
        """Counts of jobs and tasks."""
        return (yield from self._ask(job_calls.stats(), job_calls.read_stats))

    def _ask(self, request: Request, read: Callable[[Reply], T]) -> Flow[T]:
        return read((yield from self._insist(request)).reply)

    def _insist(self, request: Request) -> Flow[Sent]:
        return (yield from self._flows.send(request, patience_s=self._patience_s))


def _hashed(body: dict[str, Any]) -> Flow[dict[str, Source]]:
    """Put hashes in the place of all local files of a body; the files by their hash."""
    sources: dict[str, Source] = {}
    known: dict[str | int, str] = {}  # many tasks may name the same file, or hold the same bytes
    for place, task in specs.tasks(body):
        for where, source in specs.sources(task, place).items():
            same = source if isinstance(source, str) else id(source)
            digest = known.get(same)
            if digest is None:
                field = f"{place}{'.'.join(where)}"
                content = (
                    source if isinstance(source, bytes) else (yield from _loaded(source, field))
                )
                digest = known[same] = _digest_of(content)
                sources[digest] = source
            match where:
                case ("files", name):
                    task["files"][name] = digest
                case _:
                    task["stdin"] = digest
    return sources


def _named(name: TaskName) -> Name:
    if isinstance(name, str):
        return names.parse(name)
    return name if isinstance(name, Name) else Name(specs.job_id(name))


def _loaded(path: str, field: str) -> Flow[bytes]:
    content: bytes = yield Load(path, field, BLOB_BYTES_MAX)
    return content


def _digest_of(content: bytes) -> str:
    return specs.SHA256 + hashlib.sha256(content).hexdigest()


def _digest(name: object) -> str:
    """A blob's name, with or without what it begins with."""
    text = str(name)
    return text if text.startswith(specs.SHA256) else specs.SHA256 + text


def _replaced(name: Name, *, task: str | None = None, number: int | None = None) -> Name:
    return Name(name.job_id, task or name.task, name.index, number or name.number)
