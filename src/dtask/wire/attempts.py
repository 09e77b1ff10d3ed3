"""Attempts on the worker channel: orders of the core as frames, and frames as reports to it."""

from typing import Final

from dtask.core.jobs import model
from dtask.core.jobs.events import Ended, StartAttempt, Started
from dtask.core.jobs.states import Cause
from dtask.errors import InvalidRequest
from dtask.wire.frames import EndedFrame, StartedFrame, StartFrame

#: What a worker may say of an end: text, and numbers that any store can keep.
ERROR_CHARS_MAX: Final = 4_000
_NUMBER_MAX: Final = 2**62
_TIME_MAX: Final = 2.0**40


def start_frame(order: StartAttempt) -> StartFrame:
    """What a worker is sent."""
    spec, index = order.spec, order.index
    return StartFrame(
        fence=order.fence,
        job_id=order.job_id,
        task=order.task,
        index=index,
        number=order.number,
        command=model.command(spec, index),
        env=spec.env if index is None else {**spec.env, **model.element_env(spec, index)},
        timeout_s=spec.timeout_s,
        grace_s=spec.grace_s,
        files=spec.files,
        stdin=spec.stdin,
        cwd=spec.cwd,
        cpus=spec.cpus,
        memory_mb=spec.memory_mb,
    )


def report(frame: StartedFrame | EndedFrame) -> Started | Ended:
    """What the core is told. Raises InvalidRequest for what no store could keep."""
    if isinstance(frame, StartedFrame):
        _check_time(frame.started_at)
        return Started(frame.fence, frame.started_at)
    return _ended(frame)


def _ended(frame: EndedFrame) -> Ended:
    _check_time(frame.started_at)
    _check_time(frame.ended_at)
    _check_time(frame.cpu_s)
    for number in (
        frame.exit_code,
        frame.stdout_bytes,
        frame.stderr_bytes,
        frame.result_bytes,
        frame.max_rss_bytes,
    ):
        if number is not None and not -_NUMBER_MAX < number < _NUMBER_MAX:
            raise _no_number(number)
    try:
        cause = None if frame.cause is None else Cause(frame.cause)
    except ValueError:
        raise InvalidRequest(
            f"{frame.cause[:80] if frame.cause else ''!r} is no cause of an end.",
            code="malformed",
            field="cause",
        ) from None
    return Ended(
        fence=frame.fence,
        exit_code=frame.exit_code,
        cause=cause,
        error=frame.error[:ERROR_CHARS_MAX] if frame.error else frame.error,
        started_at=frame.started_at,
        ended_at=frame.ended_at,
        stdout_bytes=frame.stdout_bytes,
        stderr_bytes=frame.stderr_bytes,
        result_bytes=frame.result_bytes,
        truncated=frame.truncated,
        log_lost=frame.log_lost,
        cpu_s=frame.cpu_s,
        max_rss_bytes=frame.max_rss_bytes,
    )


def _check_time(seconds: float | None) -> None:
    if seconds is not None and not 0 <= seconds < _TIME_MAX:
        raise _no_number(seconds)


def _no_number(number: float) -> InvalidRequest:
    return InvalidRequest(
        f"A report holds {number}, which is no time, size or code.", code="malformed", field="$"
    )
