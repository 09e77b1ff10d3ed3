"""One scheduler as its worker sees it: a heartbeat at a time, answered or not, for ever.

Each scheduler has a link of its own, so that a slow or dead one delays no other. A link sends
through httpx's transport, below the client: the client writes a log line for every request.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from typing import Final, NoReturn

import httpx
import orjson

from dtask import errors
from dtask.errors import CODES, Denied, DtaskError, InvalidRequest, Unavailable
from dtask.wire import codec
from dtask.wire.placement import HeartbeatAnswer
from dtask.worker.report import Ended

#: Seconds between heartbeats that are sent because something changed: 5 a second at most.
GAP_S: Final = 0.2

#: An interval is cut by up to this part, so that a fleet started at once spreads out. It is
#: never lengthened: that would bring `suspect` nearer.
JITTER: Final = 0.1

#: An answer is waited for this part of an interval, so that the next heartbeat comes in time, but
#: no less and no more than so many seconds.
TIMEOUT: Final = 0.6
TIMEOUT_S_MIN: Final = 1.0
TIMEOUT_S_MAX: Final = 2.0

#: First bound of the pause after a failure, doubled with each one up to the interval.
BACKOFF_S: Final = 0.5

#: How long another holder of the worker id is waited out. A dead one is suspect after 10 s, and
#: then its id is free; one that still holds it after that is alive.
HELD_S: Final = 12.0

#: How long the last heartbeat may take: who stops a worker waits for it.
LEAVE_S: Final = 1.0

#: Makes the body of the next heartbeat over a link, and the mark of the ends it tells of; the
#: flag says that it is the last one.
Compose = Callable[["Link", bool], tuple[bytes, int]]

_ANSWER: Final = codec.Body(HeartbeatAnswer)
_log: Final = logging.getLogger("dtask.worker")


class Link:
    """The heartbeats to one scheduler."""

    def __init__(
        self,
        url: str,
        *,
        transport: httpx.AsyncBaseTransport,
        token: str | None,
        interval_s: float,
        compose: Compose,
        on_answered: Callable[[str, str | None], None],
    ) -> None:
        self.url = url
        self.ended = Ended()
        #: What the last answer said of an operator's drain.
        self.drained = False
        self._transport = transport
        self._headers = {"content-type": "application/json"}
        if token is not None:
            self._headers["authorization"] = f"Bearer {token}"
        self._interval_s = interval_s
        self._timeout_s = min(max(TIMEOUT * interval_s, TIMEOUT_S_MIN), TIMEOUT_S_MAX)
        self._compose = compose
        #: Called for each answered heartbeat with the URL and the answer's cluster_id.
        self._on_answered = on_answered
        #: Heartbeats so far that were answered, and those that were not.
        self.answers = 0
        self.failures = 0
        #: One has been answered.
        self._known = False
        self._wanted = asyncio.Event()
        #: Since the last answer: failures, the codes of those that were said, and the loop time
        #: of the first one that was `held`.
        self._failures = 0
        self._said: set[str] = set()
        self._held_since: float | None = None

    def wake(self) -> None:
        """Something changed: heartbeat as soon as the gap allows."""
        self._wanted.set()

    async def run(self) -> NoReturn:
        """Heartbeat until cancelled. Raises the DtaskError after which trying on is no use."""
        now = asyncio.get_running_loop().time
        while True:
            sent_at = now()
            self._wanted.clear()
            try:
                answer = await self._send(within_s=self._timeout_s)
            except DtaskError as error:
                self._note_failure(error, now())
                await asyncio.sleep(sent_at + self._backoff_s() - now())
            else:
                self._note_answer(answer)
                await self._pause(sent_at)

    async def leave(self) -> None:
        """Say, once, that the worker leaves; nobody is left to care whether it was heard."""
        with contextlib.suppress(DtaskError):
            await self._send(within_s=LEAVE_S, leaving=True)

    async def _send(self, *, within_s: float, leaving: bool = False) -> HeartbeatAnswer:
        """Send one heartbeat and take in its answer. Raises DtaskError for any other end."""
        raw, mark = self._compose(self, leaving)
        url = f"{self.url}/api/v1/heartbeat"
        request = httpx.Request("POST", url, headers=self._headers, content=raw)
        try:
            async with asyncio.timeout(within_s):
                response = await self._transport.handle_async_request(request)
                try:
                    body = await response.aread()
                finally:
                    await response.aclose()
        except TimeoutError:
            reason = f"no answer within {within_s:g} s"
            raise Unavailable(reason, code="unreachable") from None
        except httpx.RequestError as error:
            raise Unavailable(_reason(error), code="unreachable") from None
        answer = _answer(response.status_code, body)
        drained = answer.drained
        self.ended.answered(mark)
        if drained != self.drained:
            self.drained = drained
            change = "drained" if drained else "undrained"
            verb = "drains" if drained else "no longer drains"
            self._say(change, f"The scheduler {self.url} {verb} this worker.")
        return answer

    def _note_failure(self, error: DtaskError, now: float) -> None:
        """Say what is wrong, once until the next answer. Raises the error if it will stay."""
        self._failures += 1
        self.failures += 1
        if isinstance(error, Unavailable):
            sentence = f"The scheduler {self.url} does not answer ({error})."
        else:
            sentence = f"The scheduler {self.url} does not take this worker: {error}"
        if self._is_final(error, now):
            raise CODES[error.code].error(sentence, code=error.code, **error.facts) from None
        if error.code not in self._said:
            self._said.add(error.code)
            hope = (
                "for a while, in case that one is dead" if error.code == "held" else "until it does"
            )
            self._say(error.code, f"{sentence} Trying {hope}.", level=logging.WARNING)

    def _is_final(self, error: DtaskError, now: float) -> bool:
        if error.code == "held":
            if self._held_since is None:
                self._held_since = now
            return now - self._held_since >= HELD_S
        if isinstance(error, Denied | InvalidRequest):
            # Before the first answer this worker was started wrongly. After it something changed
            # at the scheduler, and that is no reason to give up tasks that run.
            return not self._known
        return error.code == "superseded"

    def _note_answer(self, answer: HeartbeatAnswer) -> None:
        if self._said:
            self._say("answered", f"The scheduler {self.url} answers again.")
        elif not self._known:
            self._say("answered", f"The scheduler {self.url} knows this worker.")
        self._failures = 0
        self.answers += 1
        self._said.clear()
        self._held_since = None
        self._known = True
        self._on_answered(self.url, answer.cluster_id)

    def _backoff_s(self) -> float:
        """Full jitter: a scheduler that comes back is not met by its whole fleet at once."""
        doublings = min(self._failures, 10)
        bound_s = min(self._interval_s, BACKOFF_S * 2.0**doublings)
        return random.uniform(0, bound_s)  # noqa: S311 (spreads load, hides nothing)

    def _say(self, change: str, sentence: str, *, level: int = logging.INFO) -> None:
        _log.log(level, sentence, extra={"facts": {"change": change, "scheduler": self.url}})

    async def _pause(self, sent_at: float) -> None:
        """Wait for the next heartbeat's time, or for a change."""
        now = asyncio.get_running_loop().time
        part = random.uniform(1 - JITTER, 1)  # noqa: S311 (spreads load, hides nothing)
        if self.ended:  # more ended than one body holds
            self._wanted.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(sent_at + part * self._interval_s):
                await self._wanted.wait()
                await asyncio.sleep(sent_at + GAP_S - now())


def _reason(error: BaseException) -> str:
    """What broke a request, in the system's words where it has some: `Connection refused`."""
    root = error
    while (cause := root.__cause__ or root.__context__) is not None:
        root = cause
    words = root.strerror if isinstance(root, OSError) else None
    return words or str(error) or type(error).__name__


def _answer(status: int, body: bytes) -> HeartbeatAnswer:
    """The answer, if it is one of a scheduler that took the heartbeat in."""
    if status == httpx.codes.OK:
        with contextlib.suppress(InvalidRequest):
            return _ANSWER.decode(body)
        raise errors.from_body(status, None)
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = None
    raise errors.from_body(status, parsed)
