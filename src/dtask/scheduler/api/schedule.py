"""`POST /api/v1/schedule`: which worker should run this?"""

from time import perf_counter
from typing import Final

from dtask.core.placement.events import Placement
from dtask.errors import Busy, InvalidRequest
from dtask.scheduler.api.access import Access
from dtask.scheduler.api.answers import Receive, Scope, Send, ok_start
from dtask.scheduler.api.ask import ask_of
from dtask.scheduler.api.batch import Batches
from dtask.scheduler.api.body import read_body, refuse_size
from dtask.scheduler.api.placement import placed, placed_with_ticket, refusal_messages
from dtask.scheduler.loop import Loop
from dtask.scheduler.protocol import COMPLETE_AT
from dtask.wire.codec import Body, encode
from dtask.wire.limits import BATCH_BYTES_MAX, BODY_BYTES_MAX
from dtask.wire.placement import ScheduleBody

_DECODE: Final = Body(ScheduleBody, usual="required_tags").decode

#: A body with one of these is a batch. One question has neither, so that it is decoded as such
#: first, and only what fails is looked at twice: msgspec stops at the first unknown name.
_BATCH_FIELDS: Final = frozenset({"tasks", "all_or_nothing"})


class Questions:
    """The endpoint, for one task or for a batch of them."""

    def __init__(self, loop: Loop, access: Access) -> None:
        self._handle = loop.handle
        self._tallies = loop.tallies
        self._ticket_key = access.ticket_key
        self._batches = Batches(loop, access)

    async def __call__(self, scope: Scope, receive: Receive, send: Send, trusted: bool) -> None:
        """Place one task, or hand a batch on."""
        raw = await read_body(scope, receive, BATCH_BYTES_MAX)
        try:
            body = _DECODE(raw)
        except InvalidRequest as error:
            if error.facts["field"] in _BATCH_FIELDS:
                await self._batches.answer(raw, send, trusted)
                return
            if len(raw) <= BODY_BYTES_MAX:
                raise
        if len(raw) > BODY_BYTES_MAX:
            refuse_size(BODY_BYTES_MAX)
        tallies = self._tallies
        try:
            answer = self._handle(ask_of(body, trusted))
        except Busy:
            tallies.refusals += 1
            raise
        if not isinstance(answer, Placement):
            messages = refusal_messages(answer)
            tallies.refusals += 1
            tallies.latencies.append(perf_counter() - scope[COMPLETE_AT])
            for message in messages:
                await send(message)
            return
        if trusted:
            out = encode(placed_with_ticket(answer, body.task_id, self._ticket_key))
        else:
            out = encode(placed(answer))
        tallies.placements += 1
        tallies.latencies.append(perf_counter() - scope[COMPLETE_AT])
        await send(ok_start(len(out)))
        await send({"type": "http.response.body", "body": out})
