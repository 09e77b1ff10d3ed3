"""How jobs, tasks and their ends are told."""

from typing import Any

import click
import pytest

from dtask.cli import ending, tables
from dtask.client.job_results import AttemptAnswer, JobResult, JobSummary, QueueView, TaskSummary
from dtask.core.jobs.states import Cause, State

NOW = 1_700_000_000.0


def task(state: State, **fields: Any) -> TaskSummary:
    return TaskSummary(state=state, **fields)


def failed(cause: Cause, **fields: Any) -> TaskSummary:
    return task(State.FAILED, cause=cause, **fields)


ENDS = {
    "succeeded": (task(State.SUCCEEDED, exit_code=0), 0),
    "failed with exit code 3": (failed(Cause.EXIT, exit_code=3), 3),
    "was ended by SIGKILL": (failed(Cause.EXIT, exit_code=-9), 137),
    "was ended by signal 40": (failed(Cause.EXIT, exit_code=-40), 168),
    "ran longer than its timeout and was stopped": (failed(Cause.TIMEOUT, exit_code=-15), 124),
    "could not be started: no such thing": (
        failed(Cause.START_FAILED, error="no such thing."),
        127,
    ),
    "failed on the worker's side: disk full": (failed(Cause.WORKER_FAILED, error="disk full"), 125),
    "got no slot in the time that it may be queued": (failed(Cause.QUEUE_TIMEOUT), 125),
    "was cancelled": (task(State.CANCELLED, cause=Cause.STOPPED, exit_code=-15), 125),
    "was skipped, because what it needs did not succeed": (
        task(State.SKIPPED, cause=Cause.UPSTREAM),
        125,
    ),
    "was skipped: It needs a, which failed": (
        task(State.SKIPPED, cause=Cause.UPSTREAM, error="It needs a, which failed."),
        125,
    ),
}


@pytest.mark.parametrize("said", ENDS)
def test_an_end_has_its_words_and_its_exit_code(said: str) -> None:
    ended, code = ENDS[said]
    assert ending.told(ended) == said
    assert ending.exit_code(ended) == code


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_has_its_words(cause: Cause) -> None:
    assert ending.told(failed(cause)).split()[0] in ("failed", "ran", "could", "left", "was", "got")
    assert ending.exit_code(failed(cause)) != 0


def plain(lines: list[str]) -> list[str]:
    return [click.unstyle(line) for line in lines]


def test_jobs_stand_in_columns_and_the_name_gives_way_to_the_window() -> None:
    found = [
        JobSummary(
            job_id=number,
            name="x" * 200,
            queue="default",
            priority=0,
            state=State.RUNNING,
            submitted_at=NOW - 200,
            cancelled=number == 7,
        )
        for number in (42, 7)
    ]
    lines = plain(tables.jobs(found, now=NOW, width=80))
    assert lines[0] == "JOB  STATE               QUEUE    SUBMITTED       NAME"
    assert lines[1].startswith(" 42  running             default  3 min 20 s ago  xxx")
    assert lines[2].startswith("  7  running (stopping)  default  ")
    assert max(map(len, lines)) == 80
    assert lines[1].endswith("…")


def test_what_somebody_else_wrote_can_t_act_on_the_terminal() -> None:
    sneaky = JobSummary(
        job_id=1,
        name="a\x1b[2Jb\nc",
        queue="default",
        priority=0,
        state=State.FAILED,
        submitted_at=NOW,
    )
    lines = plain(tables.jobs([sneaky], now=NOW, width=None))
    assert lines[1].endswith("a [2Jb c")
    assert "\x1b" not in ending.told(failed(Cause.START_FAILED, error="\x1b[2J"))


def test_a_job_tells_what_its_tasks_are_up_to() -> None:
    found = JobResult(
        job_id=42,
        name="render",
        queue="night",
        priority=5,
        state=State.RUNNING,
        submitted_at=NOW - 60,
        tasks={
            "a": task(
                State.SUCCEEDED,
                number=2,
                worker_id="w1",
                started_at=NOW - 9,
                ended_at=NOW,
            ),
            "tile": task(State.RUNNING, counts={State.SUCCEEDED: 12, State.RUNNING: 3}),
            "b": task(State.PENDING, number=1, failures=1, not_before=NOW + 5),
            "c": task(State.QUEUED, number=2, failures=2, worker_id="w1", started_at=NOW - 9),
            "d": task(
                State.CANCELLED,
                number=1,
                worker_id="w1",
                started_at=NOW - 9,
                cause=Cause.STOPPED,
                ended_at=NOW,
            ),
        },
    )
    lines = [" ".join(line.split()) for line in plain(tables.job(found, now=NOW, width=None))]
    assert lines[0] == "Job 42 'render': running, submitted 1 min ago, queue night, priority 5"
    assert lines[3:] == [
        "a succeeded 2 w1 9 s",
        "tile running 3 running, 12 succeeded",
        "b pending 1 runs again in 5 s",
        "c queued 2 failed 2 times so far",
        "d cancelled 1 was cancelled",
    ]


def test_a_job_that_was_retried_took_what_its_last_attempt_did() -> None:
    last = task(State.SUCCEEDED, started_at=NOW - 3, ended_at=NOW)
    found = JobResult(
        job_id=42,
        name="x",
        queue="default",
        priority=0,
        state=State.SUCCEEDED,
        submitted_at=NOW - 600,
        ended_at=NOW,
        tasks={"main": last},
    )
    assert ", took 3 s, " in click.unstyle(tables.headline(found, now=NOW))


@pytest.mark.parametrize(
    ("cause", "error", "word", "note"),
    [
        (Cause.LOST, None, "lost", "was lost with its worker"),
        (Cause.LOST, "It died.", "lost", "was lost with its worker: It died"),
        (
            Cause.RETURNED,
            "Its worker was shut down.",
            "returned",
            "was returned by its worker: Its worker was shut down",
        ),
        (Cause.STOPPED, None, "cancelled", "was cancelled"),
    ],
)
def test_an_attempt_that_nobody_cancelled_is_not_called_so(
    cause: Cause, error: str | None, word: str, note: str
) -> None:
    one = AttemptAnswer(
        number=1,
        fence=1,
        worker_id="w1",
        state=State.CANCELLED,
        scheduled_at=NOW,
        cause=cause,
        error=error,
    )
    line = plain(tables.attempts([("42/a#1", one)], now=NOW, width=None))[1]
    assert line.split(None, 3)[1:] == [word, "w1", note]


def test_an_attempt_tells_what_is_missing_of_its_output() -> None:
    one = AttemptAnswer(
        number=1,
        fence=1,
        worker_id="w1",
        state=State.FAILED,
        scheduled_at=NOW,
        started_at=NOW,
        ended_at=NOW + 75,
        exit_code=1,
        cause=Cause.EXIT,
        truncated=True,
        log_lost=True,
        cpu_s=0.5,
        max_rss_bytes=3 * 1024 * 1024,
    )
    line = plain(tables.attempts([("42/a#1", one)], now=NOW, width=None))[1]
    assert line.startswith("42/a#1   failed  w1      ")
    assert line.endswith(
        "1 min 15 s  0.5 s  3.0 MiB  failed with exit code 1, its output was cut, some output was "
        "lost with its worker"
    )


def test_a_queue_tells_its_limits() -> None:
    found = QueueView(
        name="night",
        max_running=4,
        max_queued=None,
        weight=0.5,
        paused=True,
        pending=1,
        queued=2,
        running=3,
    )
    lines = [" ".join(line.split()) for line in plain(tables.queues([found], width=None))]
    assert lines[0] == "QUEUE RUNNING MAX RUNNING QUEUED PENDING WEIGHT NOTES"
    assert lines[1] == "night 3 4 2 1 0.5 paused"


@pytest.mark.parametrize(
    ("count", "text"), {0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 2**40 * 3: "3.0 TiB"}.items()
)
def test_sizes_are_told_in_their_unit(count: int, text: str) -> None:
    assert tables.size(count) == text
