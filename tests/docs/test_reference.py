"""What exists stands in the documents, and what stands there exists."""

import ast
import re
from collections.abc import Iterable
from importlib import import_module
from typing import Any, get_args

import click
import msgspec
import pytest

from docs import pages
from dtask.cli import main, scheduler, worker
from dtask.client.results import Outcome
from dtask.core import attempts
from dtask.core.jobs import events as job_events
from dtask.core.jobs import model
from dtask.core.jobs.states import Cause, State
from dtask.core.placement import events
from dtask.errors import CODES
from dtask.scheduler import job_lines, log, protocol, server, settings
from dtask.scheduler import metrics as scheduler_metrics
from dtask.scheduler.api.openapi import description
from dtask.wire import job_answers, jobs, live, placement, sessions, tasks
from dtask.worker import api, listener
from dtask.worker import metrics as worker_metrics
from dtask.worker.tallies import OUTCOMES
from tidy.sources import PACKAGE, modules, tree

API = "docs/api.md"
OPERATIONS = "docs/operations.md"

COMMANDS = {
    "dtask": main.group,
    "dtask-scheduler": scheduler.command,
    "dtask-worker": worker.command,
    **{
        f"dtask {name}": main.group.get_command(click.Context(main.group), name)
        for name in main.COMMANDS
    },
}

#: Where the limits are that `docs/api.md` lists.
LIMITS = (
    "dtask.wire.limits",
    "dtask.wire.tasks",
    "dtask.wire.ticket",
    "dtask.core.attempts",
    "dtask.core.cluster",
    "dtask.core.placement.tags",
    "dtask.core.placement.fleet",
    "dtask.core.placement.leases",
    "dtask.core.placement.hear",
    "dtask.core.placement.explain",
    "dtask.core.jobs.model",
    "dtask.core.jobs.flow",
    "dtask.core.jobs.holding",
    "dtask.core.jobs.jobs",
    "dtask.wire.jobs",
    "dtask.scheduler.blobs",
    "dtask.scheduler.feed",
    "dtask.scheduler.log_files",
    "dtask.scheduler.logs",
    "dtask.scheduler.sessions",
    "dtask.scheduler.live",
    "dtask.scheduler.history",
    "dtask.scheduler.attention",
)

#: Numbers that these modules import, and that limit nothing; and how often they look at something.
NO_LIMITS = {
    "WHOLE",
    *(state.name for state in State),
    *(
        "EVERY_S",
        "BEAT_S",
        "LATE_TOLD_S",
        "STORE_S",
        "LOAD_EVERY_S",
        "RATE_POINTS",
        "SLICE_WORKERS",
    ),
    *("FAILED_S", "WAIT_S", "LATE_S"),
}

#: Routes whose errors are those of another one, or none of their own.
AS_OTHERS = (
    "POST /api/v1/workers/{worker_id}/undrain",
    "GET /healthz",
    "GET /readyz",
    "GET /openapi.json",
)

#: Sections of `docs/api.md` with tables of fields, and the bodies that these are of.
BODIES: dict[str, set[str]] = {
    "POST /api/v1/heartbeat": {
        *placement.HeartbeatBody.__struct_fields__,
        *placement.HeartbeatAnswer.__struct_fields__,
    },
    "POST /api/v1/schedule": {
        *placement.ScheduleBody.__struct_fields__,
        *placement.BatchBody.__struct_fields__,
        *placement.PlacementAnswer.__struct_fields__,
    },
    "GET /api/v1/workers": set(placement.WorkerRow.__struct_fields__),
    "POST /api/v1/tasks": {
        *tasks.TaskBody.__struct_fields__,
        *tasks.TaskAnswer.__struct_fields__,
    },
    "POST /api/v1/jobs": {
        *jobs.JobBody.__struct_fields__,
        *jobs.CommandBody.__struct_fields__,
        *model.TaskSpec.__struct_fields__,
        *model.Retry.__struct_fields__,
        *job_answers.SubmitAnswer.__struct_fields__,
    },
    "GET /api/v1/jobs/{job_id}": {
        *job_answers.JobAnswer.__struct_fields__,
        *job_answers.TaskSummary.__struct_fields__,
    },
    "DELETE /api/v1/jobs/{job_id}": {"state", "attempts"},
    "POST /api/v1/jobs/{job_id}/retry": {
        *jobs.RetryBody.__struct_fields__,
        "tasks",
    },
    "GET /api/v1/jobs/{job_id}/why": set(job_events.Reason.__struct_fields__) - {"state"},
    "GET /api/v1/jobs/{job_id}/tasks/{task}": set(job_answers.TaskAnswer.__struct_fields__),
    "GET /api/v1/jobs/{job_id}/tasks/{task}/elements": set(
        job_answers.ElementsAnswer.__struct_fields__
    ),
    "GET /api/v1/jobs/{job_id}/tasks/{task}/attempts": (
        set(job_answers.AttemptAnswer.__struct_fields__) - {"task"}
    ),
    "PUT /api/v1/queues/{name}": set(jobs.QueueBody.__struct_fields__),
    "GET /api/v1/queues/{name}": set(job_events.QueueView.__struct_fields__),
    "PUT /api/v1/blobs/{sha256}": set(job_answers.BlobAnswer.__struct_fields__),
    "GET /api/v1/stats": set(job_events.Stats.__struct_fields__),
    "GET /api/v1/workers/{worker_id}": {
        *live.WorkerDetail.__struct_fields__,
        *live.HeldSlot.__struct_fields__,
        *live.LoadHistory.__struct_fields__,
    },
    "GET /api/v1/failures": {
        *job_answers.FailuresAnswer.__struct_fields__,
        *job_answers.FailureGroup.__struct_fields__,
    },
    "GET /api/v1/live": {
        *live.LiveReset.__struct_fields__,
        *live.LiveUpdate.__struct_fields__,
        *live.Totals.__struct_fields__,
        *live.Attention.__struct_fields__,
    },
    "GET /api/v1/history": set(live.HistoryAnswer.__struct_fields__),
    "POST /api/v1/sign-in-codes": set(sessions.CodeAnswer.__struct_fields__),
    "POST /api/v1/session": {
        *sessions.SignInBody.__struct_fields__,
        *sessions.SessionAnswer.__struct_fields__,
    },
    "Errors": set(placement.ErrorAnswer.__struct_fields__),
}


def test_every_route_of_the_scheduler_has_its_section() -> None:
    routes = {
        f"{method.upper()} {path}"
        for path, methods in description()["paths"].items()
        for method in methods
    }
    assert set(_routes("The scheduler")) == routes


def test_every_route_of_a_worker_has_its_section_and_parameters() -> None:
    assert api.__doc__ is not None
    routes = re.findall(r"^    (GET|POST|DELETE) +(/\S+) *(.*)$", api.__doc__, re.MULTILINE)
    assert set(_routes("The worker")) == {f"{method} {path}" for method, path, _ in routes}
    for method, path, rest in routes:
        asked = set(re.findall(r"(\w+)=", rest))
        if asked:
            assert set(pages.first_codes(pages.section(API, f"{method} {path}"))) == asked, path


def test_every_parameter_of_the_scheduler_stands_in_its_section() -> None:
    for path, methods in description()["paths"].items():
        for method, operation in methods.items():
            asked = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "query"}
            told = set(pages.first_codes(pages.section(API, f"{method.upper()} {path}")))
            assert asked <= told, path


@pytest.mark.parametrize("title", BODIES)
def test_every_field_stands_in_its_section(title: str) -> None:
    told = set(pages.first_codes(pages.section(API, title)))
    assert BODIES[title] - told == set()


def test_no_field_is_told_that_does_not_exist() -> None:
    known = {
        name
        for module in (placement, tasks, jobs, job_answers, model, job_events, sessions, live)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
        for name in kind.__struct_fields__
    }
    parameters = {"fence", "tag", "status", "limit", "after", "wait_s", "stream", "offset"}
    parameters |= {"follow", "state", "before", "attempt", "job", "requires", "search"}
    text = pages.section(API, "The scheduler") + pages.section(API, "The worker")
    told = {code for code in pages.first_codes(text) if re.fullmatch(r"[a-z_]+", code)}
    requirements = set(pages.first_codes(pages.section(API, "Requirements")))
    assert told - known - parameters - requirements == set()


def test_the_errors_of_a_route_are_those_of_its_description() -> None:
    for path, methods in description()["paths"].items():
        for method, operation in methods.items():
            title = f"{method.upper()} {path}"
            listed = re.search(r"^Errors: (.*?)\n\n", _body(title), re.MULTILINE | re.DOTALL)
            if listed is None:
                assert title in AS_OTHERS, title
                continue
            responses = operation["responses"].values()
            described = {
                code
                for answer in responses
                for code in re.findall(r"`(\w+)`: ", answer["description"])
            }
            told = set(pages.codes(listed[1]))
            assert told <= described, title
            # The description allows it for every route; a heartbeat may hold any field.
            assert described - told <= {"unknown_field"}, title


def test_every_error_code_is_told_with_its_status_and_class() -> None:
    told = [row for row in pages.rows(pages.section(API, "Errors")) if row[1].isdigit()]
    assert {row[0].strip("`"): (int(row[1]), row[2].strip("`")) for row in told} == {
        code: (info.status, info.error.__name__) for code, info in CODES.items()
    }


def test_every_error_code_has_its_advice() -> None:
    advised = pages.first_codes(pages.section(OPERATIONS, "Troubleshooting"))
    assert sorted(advised) == sorted(CODES)


def test_every_limit_stands_in_the_document_with_its_value() -> None:
    told: dict[str, float] = {}
    for row in pages.rows(pages.section(API, "Limits")):
        names = pages.codes(row[0])
        values = row[1].split(", ") if len(names) > 1 else [row[1]]
        if names:
            assert len(values) == len(names), row
            numbers = (float(value.replace(",", "")) for value in values)
            told |= dict(zip(names, numbers, strict=True))
    assert told == _limits()


def test_bounds_of_connections_are_as_told() -> None:
    patience = settings.Patience()
    told = pages.rows(pages.section(API, "Limits"))[-5:]
    bounds = {
        "bytes of a request's head": (protocol.HEAD_BYTES_MAX, listener.HEAD_BYTES_MAX),
        "connections": (server.CONNECTIONS_MAX, listener.CONNECTIONS_MAX),
        "seconds for a head": (patience.head_s, listener.HEAD_S),
        "seconds for a body": (patience.body_s, api.BODY_S),
        "seconds without a request": (patience.keep_alive_s, listener.KEEP_ALIVE_S),
    }
    assert {row[0]: (_number(row[1]), _number(row[2])) for row in told} == bounds


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_is_told_with_its_variable_and_default(name: str) -> None:
    told = {}
    for row in pages.rows(pages.section(OPERATIONS, name)):
        for flag in pages.codes(row[0]):
            told[flag] = (row[1].strip("`"), row[2].strip("`"))
    command = COMMANDS[name]
    assert command is not None
    options = [option for option in command.params if isinstance(option, click.Option)]
    assert told == {
        max(option.opts, key=len): (str(option.envvar or ""), _default(option))
        for option in options
    }


def test_every_command_is_told_and_exists() -> None:
    told = pages.titles(pages.section(OPERATIONS, "Settings"))
    assert {title for title in told if title.startswith("dtask")} == set(COMMANDS)


def test_every_command_in_an_example_is_a_valid_one() -> None:
    lines = [
        line.strip().partition("#")[0].split()
        for name in ("README.md", OPERATIONS)
        for block in pages.blocks(name)
        for line in block.text.splitlines()
        if line.strip().startswith("dtask")
    ]
    assert len(lines) > 10
    for words in lines:
        name = " ".join(words[:2]) if words[0] == "dtask" else words[0]
        command = COMMANDS[name]
        assert command is not None
        command.make_context(name, words[len(name.split()) :], resilient_parsing=True)


def test_every_variable_is_told_and_exists() -> None:
    read = {
        node.value
        for path in modules()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"DTASK_[A-Z_]*[A-Z]|XDG_STATE_HOME|NO_COLOR", node.value)
    }
    told = set(pages.first_codes(pages.section(OPERATIONS, "Variables")))
    assert told == read


def test_every_change_in_the_scheduler_s_log_is_told() -> None:
    changes = set(get_args(events.Change))
    rows = pages.rows(pages.section(OPERATIONS, "Logs"))
    levels = {row[0].strip("`"): row[1] for row in rows if len(row) == 3}
    sentences: dict[str, Any] = vars(log)["_SENTENCES"]
    assert set(sentences) == changes
    assert changes <= levels.keys()
    for change, (level, _) in sentences.items():
        assert levels[change] == {20: "info", 30: "warning"}[level], change


def test_every_line_of_an_attempt_is_told_with_its_level() -> None:
    rows = pages.rows(pages.section(OPERATIONS, "Logs"))
    told = {row[0].strip("`"): row[1] for row in rows if len(row) == 3}
    sentences: dict[Cause, tuple[int, str]] = vars(job_lines)["_SENTENCES"]
    for level, sentence in sentences.values():
        assert told[sentence] == {20: "info", 30: "warning"}[level]


def test_every_change_in_the_worker_s_log_is_told() -> None:
    rows = pages.rows(pages.section(OPERATIONS, "Logs"))
    told = {row[0].strip("`") for row in rows if len(row) == 3}
    said = set(_changes(tree(PACKAGE / "worker" / "link.py")))
    assert {"answered", "drained", "undrained"} <= said
    assert said - told == set()


def test_every_line_of_a_log_is_told() -> None:
    text = " ".join(pages.section(OPERATIONS, "Logs").split())
    said = {
        re.sub(r"%\w", "…", sentence)
        for part in ("scheduler", "worker")
        for path in (PACKAGE / part).rglob("*.py")
        for sentence in _said(tree(path))
    }
    assert len(said) >= 10
    assert [sentence for sentence in said if sentence not in text] == []


def test_every_outcome_of_a_worker_s_metrics_is_told() -> None:
    assert set(OUTCOMES) <= set(pages.codes(pages.section(OPERATIONS, "Metrics")))


def test_every_metric_is_told_with_its_kind_and_labels() -> None:
    told = [row for row in pages.rows(pages.section(OPERATIONS, "Metrics")) if len(row) == 4]
    assert {row[0].strip("`"): (row[1], tuple(pages.codes(row[2]))) for row in told} == {
        metric.name: (metric.kind, metric.labels)
        for metric in (*scheduler_metrics.METRICS, *worker_metrics.METRICS)
    }


def test_every_state_and_cause_of_a_task_is_told() -> None:
    text = pages.section(API, "POST /api/v1/tasks")
    words = {*get_args(attempts.State), *get_args(attempts.Cause)}
    assert words - set(pages.codes(text)) == set()


def test_every_state_and_cause_of_a_job_is_told() -> None:
    text = pages.section(API, "GET /api/v1/jobs/{job_id}")
    assert {*State, *Cause} - set(pages.codes(text)) == set()


def test_the_data_of_events_is_told() -> None:
    text = pages.section(API, "GET /api/v1/events")
    assert set(job_answers.EventAnswer.__struct_fields__) - set(pages.codes(text)) == set()


def test_the_readme_uses_only_what_an_outcome_has() -> None:
    text = pages.page("README.md").read_text()
    used = set(re.findall(r"\boutcome\.(\w+)", text))
    assert used
    assert used <= set(Outcome.__dataclass_fields__) | {"ok"}


def _routes(part: str) -> list[str]:
    """The routes that have a section under this part of the page."""
    titles = pages.titles(pages.section(API, part))
    return [title for title in titles if re.match(r"(GET|POST|PUT|DELETE) /", title)]


def _body(title: str) -> str:
    return pages.section(API, title) + "\n\n"


def _limits() -> dict[str, float]:
    """All public numbers in capitals of the modules that hold limits."""
    return {
        name: value
        for module in LIMITS
        for name, value in vars(import_module(module)).items()
        if re.fullmatch(r"[A-Z][A-Z_]*", name)
        and type(value) in (int, float)
        and name not in NO_LIMITS
    }


def _default(option: click.Option) -> str:
    """What the help shows as its default."""
    if not option.show_default or option.default is None:
        return ""
    values = option.default if isinstance(option.default, list | tuple) else [option.default]
    return " ".join(str(value) for value in values)


def _number(text: str) -> float:
    return float(text.partition(", or")[0].replace(",", ""))


def _said(parsed: ast.Module) -> Iterable[str]:
    """The constant sentences that a module gives to a log."""
    for node in ast.walk(parsed):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = ast.unparse(node.func)
            if re.search(r"(^|\.)(_?say|_?log\.\w+|logger\.\w+)$", name) and name != "self._say":
                yield str(node.args[0].value)


def _changes(parsed: ast.Module) -> Iterable[str]:
    """The words that a link to a scheduler gives to its log as the change."""
    for node in ast.walk(parsed):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "self._say":
            named = node.args[0]
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "change":
            named = node.value
        else:
            continue
        for part in ast.walk(named):
            if isinstance(part, ast.Constant):
                yield str(part.value)
