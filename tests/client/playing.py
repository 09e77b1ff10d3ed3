"""Playing a flow without I/O: each call that it makes meets the next line of a script.

An answer that is read as it arrives is a line `open HOST METHOD PATH`, and each piece of it a line
`read`.
"""

import json
from random import Random
from typing import Any, TypeVar

from dtask.client.acts import (
    Act,
    Call,
    Flow,
    Freed,
    Item,
    Load,
    Lost,
    Open,
    Pause,
    Read,
    Reply,
    Unreached,
)
from dtask.client.flows import Flows
from dtask.client.job_flows import PATIENCE_S, JobFlows
from dtask.client.results import Placement

T = TypeVar("T")

#: A call, as `HOST METHOD PATH?QUERY`, and what comes back: an answer, or what is thrown.
#: With a `*` behind it, as often as the call is made.
Line = tuple[str, Reply | bytes | BaseException]

UNREACHED = Unreached("nobody listens", code="unreachable")
LOST = Lost("the connection broke", code="unreachable")


class Play:
    """One client's flows, their time, and what they did."""

    def __init__(self, *urls: str) -> None:
        self.now = 1_000.0
        #: How long each call takes.
        self.call_s = 0.0
        self.calls: list[Call] = []
        self.pauses: list[Pause] = []
        self.freed = 0
        self.flows = Flows(
            urls or ("http://s1",), timeout_s=5.0, random=Random(7), now=lambda: self.now
        )
        self.jobs = JobFlows(self.flows, PATIENCE_S)
        #: What a flow handed to who iterates, and files that it may read.
        self.items: list[Any] = []
        self.files: dict[str, bytes] = {}

    def run(self, flow: Flow[T], *script: Line) -> T:
        """Play the flow to its end; the script must fit to the last line."""
        lines = list(script)
        try:
            act = next(flow)
            while True:
                try:
                    answer = self._perform(act, lines)
                except BaseException as error:
                    if isinstance(error, AssertionError):
                        raise
                    act = flow.throw(error)
                else:
                    act = flow.send(answer)
        except StopIteration as end:
            value: T = end.value
            return value
        finally:
            left = [line[0] for line in lines]
            if len(left) == 1 and left[0].endswith("*"):
                left = []
            assert not left, f"these calls were not made: {left}"

    def body(self, index: int) -> Any:
        """The body of the call at `index`, as JSON."""
        return json.loads(self.calls[index].request.body or b"null")

    def _perform(self, act: Act, lines: list[Line]) -> Reply | bytes | None:
        if isinstance(act, Pause):
            self.now += act.seconds
            self.pauses.append(act)
            return None
        if isinstance(act, Freed):
            self.freed += 1
            return None
        if isinstance(act, Item):
            self.items.append(act.value)
            return None
        if isinstance(act, Load):
            return self.files[act.path]
        if isinstance(act, Read):
            made = "read"
        elif isinstance(act, Open):
            self.calls.append(act.call)
            made = f"open {told(act.call)}"
        else:
            self.calls.append(act)
            made = told(act)
            self.now += self.call_s
        assert lines, f"the script has no line left for {made}"
        expected, answer = lines[0]
        if expected != f"{made}*":
            if expected.endswith("*"):
                lines.pop(0)
            expected, answer = lines.pop(0)
            assert made == expected
        if isinstance(answer, BaseException):
            raise answer
        return answer


def told(call: Call) -> str:
    """`HOST METHOD PATH?QUERY`, without what all paths have in common."""
    host = call.url.removeprefix("http://")
    return f"{host} {call.request.method} {call.request.target.removeprefix('/api/v1')}"


def reply(body: object, status: int = 200) -> Reply:
    """An answer with a JSON body."""
    return Reply(status=status, body=json.dumps(body).encode())


def refusal(code: str, status: int, **facts: object) -> Reply:
    """An answer of a dtask process that is an error."""
    return reply({"error": f"This is {code}.", "code": code, **facts}, status)


def placed(worker_id: str = "w1", fence: int = 7) -> Reply:
    """The scheduler's answer that names a worker."""
    return reply(
        {
            "worker_id": worker_id,
            "address": f"{worker_id}:1",
            "fence": fence,
            "expires_at": 2_000.0,
            "ticket": f"ticket-{fence}",
        }
    )


def placement(worker_id: str = "w1", fence: int = 7, task_id: str = "t") -> Placement:
    """What `placed` stands for."""
    return Placement(
        task_id=task_id,
        worker_id=worker_id,
        address=f"{worker_id}:1",
        fence=fence,
        expires_at=2_000.0,
        ticket=f"ticket-{fence}",
    )


def task(state: str, *, worker_id: str = "w1", fence: int = 7, **fields: object) -> Reply:
    """A worker's answer about task `t`."""
    known = {"task_id": "t", "fence": fence, "worker_id": worker_id, "state": state}
    return reply(known | {"started_at": 5.0} | fields, 200)


def ended(fence: int = 7, **fields: object) -> Reply:
    """A worker's answer that the task has ended well."""
    known: dict[str, Any] = {"exit_code": 0, "ended_at": 6.0}
    return task("ended", fence=fence, **known | fields)


FULL = refusal("no_worker", 503, reasons={"full": 2}, retry_after_s=1.0)
RELEASED = reply({"status": "released", "worker_id": "w1", "fence": 7})
NO_LEASE = refusal("no_lease", 404)
UNKNOWN_TASK = refusal("unknown_task", 404)
PAGE = Reply(status=200, body=b"<html>welcome</html>")
