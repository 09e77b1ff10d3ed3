"""`Executor`: functions that run on the fleet, behind the interface of concurrent.futures."""

import itertools
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import Any, ParamSpec, TypeVar, Unpack, cast

import cloudpickle

from dtask.client import call, packing, specs
from dtask.client.blocking import Client
from dtask.client.dispatch import Dispatch
from dtask.client.futures import FleetFuture
from dtask.client.packing import Call, Group

P = ParamSpec("P")
T = TypeVar("T")


class Executor(futures.Executor):
    """A `concurrent.futures.Executor` whose calls run on the fleet, each in a process of its own.

    Functions and arguments travel by cloudpickle, so a function may be a lambda or one of a script.
    Modules that they import must be importable on the workers, and so must dtask, by `python`, the
    interpreter there; by default the path of this one. A result takes at most 1 MiB.

    `client`: by default a new one, which `shutdown` closes. `wishes` are those of
    `dtask.client.specs.CommonWishes`, of every call: tags, timeout_s, retry, queue, priority, ...
    A call that raises is a failed task, and so is retried if `retry` says so.

    What was submitted is durable: it is done even if this process ends, and it is waited for
    over restarts of the scheduler.
    """

    def __init__(
        self,
        client: Client | None = None,
        *,
        python: str | None = None,
        **wishes: Unpack[specs.CommonWishes],
    ) -> None:
        specs.check_names(wishes, specs.COMMON_FIELDS, "an Executor has no such setting")
        usual = specs.fields(wishes)
        self._dispatch = Dispatch(
            client or Client(),
            owned=client is None,
            python=python or sys.executable,
            job_fields={name: usual.pop(name) for name in specs.JOB_FIELDS if name in usual},
            task_fields=usual,
        )
        # One that is forgotten without a shutdown must not leave threads behind.
        weakref.finalize(self, self._dispatch.close).atexit = False

    def submit(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> "futures.Future[T]":
        """Have `fn(*args, **kwargs)` called by a worker. Raises what can't be pickled."""
        found = self._submit(fn, [(args, kwargs)])
        return cast("futures.Future[T]", found[0])

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[T]:
        """The results of `fn` for the items of the iterables, in order.

        All calls go out at once, as an array; `chunksize` of them make one task, which is worth it
        where a call takes less than the start of a Python. Raises what the first of them raised,
        and TimeoutError `timeout` seconds from now; the rest is cancelled then.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        end = None if timeout is None else time.monotonic() + timeout
        arguments = zip(*iterables, strict=False)  # as the built-in map: the shortest ends it
        if chunksize == 1:
            found = self._submit(fn, [(one, {}) for one in arguments])
            return _results(found, end)
        chunks = iter(lambda: tuple(itertools.islice(arguments, chunksize)), ())
        found = self._submit(call.run_all, [((fn, chunk), {}) for chunk in chunks], of=fn)
        return itertools.chain.from_iterable(_results(found, end))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; cancel those that have not ended, if so wished; wait for the rest."""
        self._dispatch.close()
        if cancel_futures:
            self._dispatch.cancel_all()
        if wait:
            self._dispatch.join()

    def _submit(
        self,
        function: Callable[..., Any],
        calls: list[tuple[tuple[Any, ...], dict[str, Any]]],
        *,
        of: Callable[..., Any] | None = None,
    ) -> list[FleetFuture]:
        label = packing.label_of(of or function)
        pickled = cloudpickle.dumps(function)
        group = [
            Call(FleetFuture(self._dispatch.cancelled), cloudpickle.dumps(arguments))
            for arguments in calls
        ]
        if group:
            self._dispatch.add(Group(label, pickled, group))
        return [one.future for one in group]


def _results(found: list[FleetFuture], end: float | None) -> Iterator[Any]:
    found.reverse()
    try:
        while found:
            left_s = None if end is None else end - time.monotonic()
            yield found.pop().result(left_s)  # nothing here holds on to it meanwhile
    finally:
        for future in found:
            future.cancel()
