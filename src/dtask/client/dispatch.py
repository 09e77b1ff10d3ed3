"""The two threads behind an Executor: one sends calls, the other follows what becomes of them.

**Sending.** Whatever waits goes out as one job, so that the calls of a loop, which come while an
earlier request is under way, need few requests. The key of the job makes it safe to send it again
after an answer that got lost.

**Following.** One stream of events tells what has ended; the results are fetched one by one. Where
events may have been missed (when the stream begins, and after a gap), each job with open calls is
looked at once. The stream is open while calls are. A job must not end before its calls are known
here, so events of jobs newer than all known ones wait until a submit under way is through.

Every call ends: with its result, with what it raised, or with the error that says why that can't
be known. When the scheduler stays silent for longer than the client's patience, all open calls do.
"""

import contextlib
import threading
from collections import Counter, deque
from collections.abc import Hashable
from typing import Any, Final, TypeVar

from dtask.client import packing
from dtask.client.blocking import Client
from dtask.client.futures import FleetFuture
from dtask.client.job_results import ElementAnswer, Event, TaskFailed, TaskSummary
from dtask.client.packing import Group, Package
from dtask.core.jobs.names import Name
from dtask.core.jobs.states import ENDS, State
from dtask.errors import Busy, DtaskError, NotFound

T = TypeVar("T", bound=Hashable)

#: A call's job, task, and index in an array.
Key = tuple[int, str, int | None]

#: Pause before asking again where too many follow events already.
BUSY_S: Final = 1.0
#: Bytes of stderr that are told of a call that left no outcome.
STDERR_BYTES_MAX: Final = 2_000
#: Bytes of it that are read to find the last ones.
STDERR_READ_MAX: Final = 1024 * 1024


class _Idle(Exception):
    """No call is open: nothing is to be followed."""


class Dispatch:
    """Calls of one Executor, from submit to result."""

    def __init__(
        self,
        client: Client,
        *,
        owned: bool,
        python: str,
        job_fields: dict[str, Any],
        task_fields: dict[str, Any],
    ) -> None:
        self._client = client
        self._owned = owned
        self._python = python
        self._job_fields = job_fields
        self._task_fields = task_fields
        #: Guards all below, and is notified of each change.
        self._changed = threading.Condition()
        self._waiting: deque[Group] = deque()
        #: Tasks that nobody waits for any more.
        self._unwanted: deque[tuple[int, str]] = deque()
        self._open: dict[Key, FleetFuture] = {}
        #: How many open calls a task and a job have.
        self._of_task: Counter[tuple[int, str]] = Counter()
        self._of_job: Counter[int] = Counter()
        self._newest_job = 0
        self._closed = False
        self._all_sent = False
        self._threads: list[threading.Thread] = []
        #: Held from a submit to its calls being known.
        self._submitting = threading.Lock()

    def add(self, group: Group) -> None:
        """Send these calls. Raises RuntimeError after `close`."""
        with self._changed:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._waiting.append(group)
            if not self._threads:
                self._start()
            self._changed.notify_all()

    def cancelled(self, future: FleetFuture) -> None:
        """Nobody waits for this call any more."""
        with self._changed:
            if future.place is not None:
                self._drop(future.place, unwanted=True)
            self._changed.notify_all()

    def close(self) -> None:
        """Take no more calls. The threads end when all are done."""
        with self._changed:
            self._closed = True
            if not self._threads and self._owned:
                self._client.close()
            self._changed.notify_all()

    def cancel_all(self) -> None:
        """Cancel all calls that have not ended."""
        with self._changed:
            futures = [call.future for group in self._waiting for call in group.calls]
            futures += self._open.values()
        for future in futures:
            future.cancel()

    def join(self) -> None:
        """Wait until all calls are done, after `close`."""
        for thread in self._threads:
            thread.join()

    def _start(self) -> None:
        works = {"send": self._send, "follow": self._follow}
        self._threads = [
            threading.Thread(target=work, name=f"dtask-executor-{name}", daemon=True)
            for name, work in works.items()
        ]
        for thread in self._threads:
            thread.start()

    # Sending

    def _send(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._unwanted or self._closed)
                groups, unwanted = list(self._waiting), list(self._unwanted)
                self._waiting.clear()
                self._unwanted.clear()
                if not groups and not unwanted and not self._open:
                    self._all_sent = True
                    self._changed.notify_all()
                    return
                if not groups and not unwanted:  # closed; cancels may still come
                    self._changed.wait_for(lambda: self._unwanted or not self._open)
            for job_id, task in unwanted:
                with contextlib.suppress(DtaskError):  # it ends by itself
                    self._client.cancel(job_id, task)
            for package in packing.packages(groups, self._python, self._task_fields):
                self._submit(package)

    def _submit(self, package: Package) -> None:
        name = package.label
        if len(package.places) > 1:
            name += f" and {len(package.places) - 1} more"
        with self._submitting:
            try:
                body = {"name": name, "tasks": package.tasks, **self._job_fields}
                job_id = self._client.submit(body).id
            except Exception as error:  # noqa: BLE001 (whatever it is, these calls end with it)
                for place in package.places:
                    _fail(place.future, error)
                return
            with self._changed:
                self._newest_job = max(self._newest_job, job_id)
                for place in package.places:
                    key = place.future.place = (job_id, place.task, place.index)
                    self._open[key] = place.future
                    self._of_task[job_id, place.task] += 1
                    self._of_job[job_id] += 1
                for place in package.places:
                    if place.future.cancelled():  # meanwhile
                        self._drop((job_id, place.task, place.index), unwanted=True)
                self._changed.notify_all()

    def _drop(self, key: Key, *, unwanted: bool = False) -> FleetFuture | None:
        """A call is not open any more; None if it was not."""
        future = self._open.pop(key, None)
        if future is None:
            return None
        job_id, task, _ = key
        _count_down(self._of_task, (job_id, task))
        _count_down(self._of_job, job_id)
        if unwanted and (job_id, task) not in self._of_task:
            self._unwanted.append((job_id, task))
        self._changed.notify_all()
        return future

    # Following

    def _follow(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._open or self._all_sent)
                if not self._open:
                    break
            try:
                self._heed_events()
            except Busy:
                self._look_at_all()
                with self._changed:
                    self._changed.wait(BUSY_S)
            except Exception as error:  # noqa: BLE001 (whatever it is, no call may wait for ever)
                with self._changed:
                    keys = list(self._open)
                for key in keys:
                    self._end(key, error)
        if self._owned:
            self._client.close()

    def _heed_events(self) -> None:
        """Until no call is open."""

        def missed() -> None:
            self._look_at_all()
            self._check_open()

        events = self._client.events(missed=missed, alive=self._check_open)
        with contextlib.closing(events), contextlib.suppress(_Idle):
            for event in events:
                self._heed(event)
                self._check_open()

    def _check_open(self) -> None:
        with self._changed:
            if not self._open:
                raise _Idle

    def _heed(self, event: Event) -> None:
        if event.job_id > self._newest_job:
            with self._submitting:
                pass  # it may be the one under way
        if event.job_id not in self._of_job:
            return
        key = (event.job_id, event.task or "", event.index)
        future = self._open.get(key)
        if future is None:
            if event.ended and event.index is None:
                self._look_at(event.job_id)  # a job or an array, so all that belongs to it
        elif event.ended:
            self._settle(key, event)
        elif event.state is State.RUNNING:
            future.started = True

    def _look_at_all(self) -> None:
        with self._submitting:
            jobs = list(self._of_job)
        for job_id in jobs:
            self._look_at(job_id)

    def _look_at(self, job_id: int) -> None:
        """Settle all calls of a job that have ended."""
        with self._changed:
            keys = [key for key in self._open if key[0] == job_id]
        try:
            tasks = self._client.job(job_id).tasks
            for task in {key[1] for key in keys}:
                if tasks[task].counts is None:
                    if tasks[task].state in ENDS:
                        self._settle((job_id, task, None), tasks[task])
                elif any(tasks[task].counts.get(state) for state in ENDS):  # type: ignore[union-attr]
                    for element in self._client.elements(Name(job_id, task), state=ENDS):
                        self._settle((job_id, task, element.index), element)
        except NotFound as error:  # it is kept no longer
            for key in keys:
                self._end(key, error)

    def _settle(self, key: Key, seen: Event | TaskSummary | ElementAnswer) -> None:
        """A call has ended: find out how, and tell its future."""
        with self._changed:
            future = self._drop(key)
        if future is None:
            return
        if seen.state is State.CANCELLED:
            future.cancel()
            return
        if not future.begin():
            return
        try:
            outcome = self._outcome(Name(*key, seen.number or None), seen)
        except BaseException as error:  # noqa: BLE001 (what the call raised, SystemExit or anything)
            future.set_exception(error)
        else:
            future.set_result(outcome)

    def _outcome(self, name: Name, seen: Event | TaskSummary | ElementAnswer) -> Any:  # noqa: ANN401 (whatever the call returned)
        """What the call returned. Raises what it raised, or why there is nothing."""
        succeeded = seen.state is State.SUCCEEDED
        try:
            returned, value = packing.unpacked(self._client.result(name))
        except NotFound:
            if succeeded:
                raise
        else:
            if not returned:
                raise value
            if succeeded:
                return value
        failure = TaskFailed(str(Name(name.job_id, name.task, name.index)), seen)
        if note := self._last_words(name):
            failure.add_note(f"It wrote to stderr:\n{note}")
        raise failure

    def _last_words(self, name: Name) -> str:
        """The end of what a call wrote to stderr."""
        tail, size = b"", 0
        with contextlib.suppress(DtaskError):
            for piece in self._client.logs(name, stream="stderr"):
                tail = (tail + piece)[-STDERR_BYTES_MAX:]
                size += len(piece)
                if size > STDERR_READ_MAX:
                    break
        return tail.decode("utf-8", "replace").strip()

    def _end(self, key: Key, error: Exception) -> None:
        with self._changed:
            future = self._drop(key)
        if future is not None:
            _fail(future, error)


def _count_down(counter: Counter[T], name: T) -> None:
    counter[name] -= 1
    if not counter[name]:
        del counter[name]


def _fail(future: FleetFuture, error: Exception) -> None:
    if future.begin():
        future.set_exception(error)
