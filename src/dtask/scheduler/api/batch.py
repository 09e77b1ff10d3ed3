"""A batch: many questions in one request, each answered as if it had come alone.

Everything is checked before anything is placed, so that a batch with an error in it has placed
nothing. Checking and placing go in slices with a look at the loop between them, so that no batch
holds up a heartbeat.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from msgspec.structs import fields

from dtask.core.placement.events import Ask, AskAll, AskEach, Placement, Refusal
from dtask.errors import DtaskError, InvalidRequest
from dtask.scheduler.api.access import Access
from dtask.scheduler.api.answers import Send, send_error, send_json
from dtask.scheduler.api.ask import ask_of
from dtask.scheduler.api.placement import placed, placed_with_ticket, refused
from dtask.scheduler.loop import Loop
from dtask.wire.codec import Body, refuse_duplicates
from dtask.wire.limits import ALL_OR_NOTHING_TASKS_MAX, BATCH_TASKS_MAX
from dtask.wire.placement import BatchBody, ScheduleBody

#: Tasks between two looks at the loop: about two milliseconds.
SLICE_TASKS: Final = 200


_DECODE: Final = Body(BatchBody, shallow=True).decode

#: The fields of a question: name, name as it stands in the body, default.
_FIELDS: Final = [
    (field.name, f'"{field.encode_name}"'.encode(), field.default) for field in fields(ScheduleBody)
]


class Batches:
    """Answers batches."""

    def __init__(self, loop: Loop, access: Access) -> None:
        self._handle = loop.handle
        self._tallies = loop.tallies
        self._ticket_key = access.ticket_key

    async def answer(self, raw: bytes, send: Send, trusted: bool) -> None:
        """Place the batch in `raw`. Raises InvalidRequest if anything in it is wrong."""
        batch = _DECODE(raw)
        _check_length(len(batch.tasks), batch.all_or_nothing)
        if _may_repeat_keys(raw, batch.tasks):
            refuse_duplicates(raw)
        asks = await _asks(batch.tasks, trusted)
        if not batch.all_or_nothing:
            await send_json(send, {"placements": await self._place_each(asks, trusted)})
            return
        answer = self._handle(AskAll(tuple(asks)))
        if isinstance(answer, Refusal):
            self._tallies.refusals += len(asks)
            await send_error(send, refused(answer))
            return
        self._tallies.placements += len(asks)
        placements = [
            self._placed(placement, ask, trusted)
            for placement, ask in zip(answer, asks, strict=True)
        ]
        await send_json(send, {"placements": placements})

    async def _place_each(self, asks: Sequence[Ask], trusted: bool) -> list[dict[str, Any]]:
        tallies = self._tallies
        answers = []
        for start in range(0, len(asks), SLICE_TASKS):
            if start:
                await asyncio.sleep(0)
            some = asks[start : start + SLICE_TASKS]
            for ask, answer in zip(some, self._handle(AskEach(tuple(some))), strict=True):
                if isinstance(answer, Placement):
                    tallies.placements += 1
                    answers.append(self._placed(answer, ask, trusted))
                    continue
                tallies.refusals += 1
                error = refused(answer) if isinstance(answer, Refusal) else answer
                answers.append(error.body())
        return answers

    def _placed(self, placement: Placement, ask: Ask, trusted: bool) -> dict[str, Any]:
        if trusted:
            return placed_with_ticket(placement, ask.task_id, self._ticket_key)
        return placed(placement)


def _check_length(length: int, all_or_nothing: bool) -> None:
    most = ALL_OR_NOTHING_TASKS_MAX if all_or_nothing else BATCH_TASKS_MAX
    if not 0 < length <= most:
        raise InvalidRequest(
            f"tasks: expected 1 to {most} tasks, got {length}.", code="malformed", field="tasks"
        )


def _may_repeat_keys(raw: bytes, tasks: Sequence[ScheduleBody]) -> bool:
    """Whether a name stands in the body more often than there are tasks that need it.

    So it does when a task names a key twice, and also when one spells out a default or has such a
    word for a value: then a slower look tells.
    """
    return any(
        (count := raw.count(word)) and count > sum(getattr(task, name) != default for task in tasks)
        for name, word, default in _FIELDS
    )


async def _asks(bodies: Sequence[ScheduleBody], trusted: bool) -> list[Ask]:
    asks = []
    for i, body in enumerate(bodies):
        if i % SLICE_TASKS == 0 and i:
            await asyncio.sleep(0)
        try:
            asks.append(ask_of(body, trusted))
        except DtaskError as error:
            facts = error.facts | {"field": f"tasks[{i}].{error.facts['field']}"}
            raise type(error)(f"tasks[{i}].{error}", code=error.code, **facts) from None
    return asks
