"""How the elements of an array stand, counted: a picture of a million of them is a small answer."""

from typing import Final

from dtask.core.jobs.model import ELEMENTS_MAX
from dtask.core.jobs.rows import TaskRow
from dtask.core.jobs.states import State
from dtask.errors import InvalidRequest
from dtask.scheduler.api import job_rows
from dtask.scheduler.api.answers import Receive, Scope, Send, encode_struct, send_raw
from dtask.scheduler.api.job_query import job_id_of, task_of
from dtask.scheduler.api.query import number, parameters
from dtask.scheduler.loop import Loop
from dtask.store.base import Store
from dtask.wire.job_answers import StatesAnswer
from dtask.wire.limits import SPANS_MAX

#: Spans of an answer if `every` is not given.
_SPANS_DEFAULT: Final = 1_000


class ElementStates:
    """The endpoint that counts the elements of an array by state, span by span."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    async def __call__(self, scope: Scope, _receive: Receive, send: Send, _trusted: bool) -> None:
        """Of `count` elements from `first` on, `every` so many together."""
        found = parameters(scope, "first", "count", "every")
        body = await self._loop.read(
            states,
            self._loop.store,
            job_id_of(scope),
            task_of(scope),
            first=number(found, "first", least=0, most=ELEMENTS_MAX) or 0,
            count=number(found, "count", least=1, most=ELEMENTS_MAX),
            every=number(found, "every", least=1, most=ELEMENTS_MAX),
        )
        await send_raw(send, body)


def states(
    store: Store, job_id: int, name: str, *, first: int, count: int | None, every: int | None
) -> bytes:
    """The answer. Raises NotFound or InvalidRequest."""
    row, total = job_rows.array(store, job_id, name)
    end = min(total, first + (total if count is None else count))
    size = max(0, end - first)
    every = every or max(1, -(-size // _SPANS_DEFAULT))
    spans = -(-size // every)
    if spans > SPANS_MAX:
        raise InvalidRequest(
            f"every: {size} elements in spans of {every} are {spans} spans: expected at least "
            f"{-(-size // SPANS_MAX)}, for at most {SPANS_MAX}.",
            code="malformed",
            field="every",
        )
    sizes = [min(every, size - every * span) for span in range(spans)]
    counts = _counted(store, row, first=first, every=every, sizes=sizes)
    return encode_struct(StatesAnswer(total, first, every, counts))


def _counted(
    store: Store, row: TaskRow, *, first: int, every: int, sizes: list[int]
) -> dict[State, list[int]]:
    """By state how many elements each span has; those without a row stand where the rest does."""
    found: dict[State, list[int]] = {}
    rest = list(sizes)
    if sizes:
        end = first + sum(sizes)
        for span, state, count in store.tally(row.job_id, row.task, first, end, every=every):
            found.setdefault(state, [0] * len(sizes))[span] = count
            rest[span] -= count
    if row.rest is not None and any(rest):
        known = found.get(row.rest, [0] * len(sizes))
        found[row.rest] = [a + b for a, b in zip(known, rest, strict=True)]
    return found
