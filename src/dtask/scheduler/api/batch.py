"""A batch: many questions in one request, each answered as if it had come alone.

Everything is checked before anything is placed, so that a batch with an error in it has placed
nothing. Checking and placing go in slices with a look at the loop between them, so that no batch
holds up a heartbeat. Elements are decoded one by one, which also finds keys named twice.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Raw, Struct

from dtask.core.placement.events import Ask, AskAll, Placement, Refusal
from dtask.errors import DtaskError, InvalidRequest
from dtask.scheduler.api.access import Access
from dtask.scheduler.api.answers import Send, send_error, send_json
from dtask.scheduler.api.ask import ask_of
from dtask.scheduler.api.placement import placed, placed_with_ticket, refused
from dtask.scheduler.loop import Loop
from dtask.wire.codec import Body
from dtask.wire.limits import ALL_OR_NOTHING_TASKS_MAX, BATCH_TASKS_MAX
from dtask.wire.placement import ScheduleBody

#: Tasks between two looks at the loop: about two milliseconds.
SLICE_TASKS: Final = 200


class _Envelope(Struct, forbid_unknown_fields=True):
    """A BatchBody whose tasks are not decoded yet."""

    tasks: list[Raw]
    all_or_nothing: bool = False


_DECODE_ENVELOPE: Final = Body(_Envelope).decode
_DECODE_TASK: Final = Body(ScheduleBody).decode


class Batches:
    """Answers batches."""

    def __init__(self, loop: Loop, access: Access) -> None:
        self._handle = loop.handle
        self._ticket_key = access.ticket_key

    async def answer(self, raw: bytes, send: Send, trusted: bool) -> None:
        """Place the batch in `raw`. Raises InvalidRequest if anything in it is wrong."""
        envelope = _DECODE_ENVELOPE(raw)
        _check_length(len(envelope.tasks), envelope.all_or_nothing)
        asks = await _asks(envelope.tasks, trusted)
        if not envelope.all_or_nothing:
            await send_json(send, {"placements": await self._place_each(asks, trusted)})
            return
        answer = self._handle(AskAll(tuple(asks)))
        if isinstance(answer, Refusal):
            await send_error(send, refused(answer))
            return
        placements = [
            self._placed(placement, ask, trusted)
            for placement, ask in zip(answer, asks, strict=True)
        ]
        await send_json(send, {"placements": placements})

    async def _place_each(self, asks: Sequence[Ask], trusted: bool) -> list[dict[str, Any]]:
        answers = []
        for i, ask in enumerate(asks):
            if i % SLICE_TASKS == 0 and i:
                await asyncio.sleep(0)
            try:
                answer = self._handle(ask)
            except DtaskError as error:
                answers.append(error.body())
                continue
            if isinstance(answer, Placement):
                answers.append(self._placed(answer, ask, trusted))
            else:
                answers.append(refused(answer).body())
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


async def _asks(raws: Sequence[Raw], trusted: bool) -> list[Ask]:
    asks = []
    for i, raw in enumerate(raws):
        if i % SLICE_TASKS == 0 and i:
            await asyncio.sleep(0)
        try:
            asks.append(ask_of(_DECODE_TASK(bytes(raw)), trusted))
        except DtaskError as error:
            field = f"tasks[{i}].{error.facts['field']}".removesuffix(".$")
            facts = error.facts | {"field": field}
            raise type(error)(f"tasks[{i}]: {error}", code=error.code, **facts) from None
    return asks
