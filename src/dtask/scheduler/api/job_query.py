"""What the paths and parameters of jobs' routes mean."""

import math
import re
from typing import Final

from dtask.core.jobs.model import ELEMENTS_MAX
from dtask.core.jobs.rows import WHOLE
from dtask.core.jobs.states import State
from dtask.errors import InvalidRequest
from dtask.scheduler.api.answers import Scope
from dtask.scheduler.api.query import number, single
from dtask.wire.tasks import WAIT_S_MAX

#: Ids stay below 2^53, where every JSON reader still counts exactly.
JOB_ID_MAX: Final = 2**53 - 1
#: Attempts of a task are counted up to here.
NUMBER_MAX: Final = 10**9

_DIGITS_MAX: Final = 15
_SECONDS: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,3})?")


def job_id_of(scope: Scope) -> int:
    """The job in the path. Raises InvalidRequest."""
    return job_id(scope["path_params"]["job_id"], "job_id")


def job_id(text: str, field: str) -> int:
    """The number of a job. Raises InvalidRequest."""
    if text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX and int(text) > 0:
        return int(text)
    raise InvalidRequest(
        f"{field}: expected the number of a job, such as 42.", code="malformed", field=field
    )


def task_of(scope: Scope) -> str:
    """The task in the path."""
    name: str = scope["path_params"]["task"]
    return name


def index_of(found: dict[str, list[str]]) -> int:
    """The element asked for, or WHOLE."""
    index = number(found, "index", least=0, most=ELEMENTS_MAX - 1)
    return WHOLE if index is None else index


def states_of(found: dict[str, list[str]]) -> frozenset[State]:
    """The states asked for; none: any. Raises InvalidRequest."""
    names = found.get("state", [])
    try:
        return frozenset(State(name) for name in names)
    except ValueError:
        *most, last = State
        raise InvalidRequest(
            f"state: expected {', '.join(most)} or {last}.", code="malformed", field="state"
        ) from None


def wait_s_of(found: dict[str, list[str]]) -> float:
    """Seconds to wait. Raises InvalidRequest."""
    text = single(found, "wait_s")
    if text is None:
        return 0.0
    seconds = float(text) if _SECONDS.fullmatch(text) else math.nan
    if not 0 <= seconds <= WAIT_S_MAX:
        raise InvalidRequest(
            f"wait_s: expected seconds from 0 to {WAIT_S_MAX:g}.", code="malformed", field="wait_s"
        )
    return seconds


def flag_of(found: dict[str, list[str]], name: str) -> bool:
    """Whether a parameter is 1. Raises InvalidRequest."""
    return number(found, name, least=0, most=1) == 1
