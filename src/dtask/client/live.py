"""Following a fleet: `GET /api/v1/live`, opened anew where it breaks, as one value. No I/O."""

from typing import Final

from dtask.client import calls
from dtask.client.acts import Flow, Item, Read, Request
from dtask.client.flows import Flows
from dtask.client.picture import Picture, follow
from dtask.client.server_sent import Parser
from dtask.errors import Busy, NotFound, Unavailable

#: The scheduler says something every 4 s. Silence for so much longer than a try of a call may
#: take means that it is gone, however quietly.
QUIET_S: Final = 4.0
#: Longest message: 100,000 workers with the longest names there may be.
MESSAGE_BYTES_MAX: Final = 64 * 1024 * 1024
#: Streams without a picture after which the first one is not waited for any more.
EMPTY_STREAMS_MAX: Final = 3


def pictures(flows: Flows) -> Flow[None]:
    """Items of Picture: how all stands, and again with each change; without end.

    One more says when the scheduler is not heard any more. Raises what the first try to connect
    raises, and Denied and NotFound whenever they are answered.
    """
    picture: Picture | None = None
    last_id = ""
    failures = 0
    while True:
        trouble = yield from _open(flows, last_id)
        parser = Parser(MESSAGE_BYTES_MAX)
        while trouble is None:
            piece, trouble = yield from _read()
            for message in parser.feed(piece):
                before, picture = picture, follow(picture, message)
                failures = 0
                if picture is not before:
                    yield Item(picture)
            last_id = parser.last_id or last_id
        failures += 1
        if picture is None:
            if failures >= EMPTY_STREAMS_MAX or not isinstance(trouble, Unavailable):
                raise trouble
        elif picture.connected:
            picture = picture.lost(str(trouble))
            yield Item(picture)
        yield flows.pause(failures)


def _open(flows: Flows, last_id: str) -> Flow[Unavailable | Busy | None]:
    """Open the stream after that message; what is in the way, if that may pass."""
    request = Request(
        method="GET",
        target="/api/v1/live",
        headers={"last-event-id": last_id} if last_id else {},
    )
    try:
        sent = yield from flows.send(request, wait_s=QUIET_S, opened=True)
        calls.check(sent.reply)
    except (Unavailable, Busy) as error:
        return error
    except NotFound:
        raise NotFound(
            "The scheduler can't be followed live: it is of dtask 0.1 or older.", code="no_route"
        ) from None
    return None


def _read() -> Flow[tuple[bytes, Unavailable | None]]:
    """The next piece, and what ended the stream, if something did."""
    try:
        piece: bytes = yield Read()
    except Unavailable as error:
        return b"", error
    if piece:
        return piece, None
    return b"", Unavailable("The scheduler has ended the connection.", code="unreachable")
