"""The description of the API against the live API, by schemathesis."""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    ignored_auth,
    negative_data_rejection,
    positive_data_acceptance,
)

import servers

HEADERS = servers.bearer("a-token-for-tests-only")

ROUTES = [
    ("POST", "/api/v1/heartbeat"),
    ("POST", "/api/v1/schedule"),
    ("DELETE", "/api/v1/schedule/{task_id}"),
    ("GET", "/api/v1/workers"),
    ("POST", "/api/v1/workers/{worker_id}/drain"),
    ("POST", "/api/v1/workers/{worker_id}/undrain"),
    ("POST", "/api/v1/jobs"),
    ("GET", "/api/v1/jobs"),
    ("GET", "/api/v1/jobs/{job_id}"),
    ("DELETE", "/api/v1/jobs/{job_id}"),
    ("POST", "/api/v1/jobs/{job_id}/retry"),
    ("GET", "/api/v1/jobs/{job_id}/why"),
    ("GET", "/api/v1/jobs/{job_id}/tasks/{task}"),
    ("DELETE", "/api/v1/jobs/{job_id}/tasks/{task}"),
    ("GET", "/api/v1/jobs/{job_id}/tasks/{task}/elements"),
    ("GET", "/api/v1/jobs/{job_id}/tasks/{task}/states"),
    ("GET", "/api/v1/jobs/{job_id}/tasks/{task}/attempts"),
    ("GET", "/api/v1/jobs/{job_id}/tasks/{task}/log"),
    ("GET", "/api/v1/jobs/{job_id}/tasks/{task}/result"),
    ("GET", "/api/v1/queues/{name}"),
    ("PUT", "/api/v1/queues/{name}"),
    ("GET", "/api/v1/blobs/{sha256}"),
    ("PUT", "/api/v1/blobs/{sha256}"),
    ("GET", "/api/v1/queues"),
    ("POST", "/api/v1/session"),
    ("GET", "/api/v1/workers/{worker_id}"),
    ("GET", "/api/v1/jobs/{job_id}/attempts"),
    ("GET", "/api/v1/failures"),
    ("GET", "/api/v1/history"),
    ("GET", "/api/v1/stats"),
    ("POST", "/api/v1/sign-in-codes"),
    ("GET", "/api/v1/session"),
    ("DELETE", "/api/v1/session"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
]
ROUTES_WITH_INPUT = ROUTES[:-8]
#: Streams without an end, and a file and a text of no JSON: their own tests read them.
ROUTES_READ_ELSEWHERE = [
    ("GET", "/api/v1/events"),
    ("GET", "/api/v1/live"),
    ("GET", "/api/v1/backup"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
]
#: What no schema of one value tells: how they stand to each other, and to what there is.
OF_THE_WHOLE = {"bad_graph", "missing_blobs", "wrong_hash"}
FIELDS_OF_THE_WHOLE = re.compile(r"index|limit|queue|tasks(\..*)?")


@pytest.fixture(scope="module")
def scheduler() -> Iterator[servers.RunningScheduler]:
    with servers.running_scheduler() as running:
        servers.beat(running.url, resource_tags=["gpu"], max_tasks=1000)
        job = {"tasks": {"main": {"command": ["x"], "array": 3}, "one": {"command": ["x"]}}}
        answer = httpx.post(f"{running.url}/api/v1/jobs", json=job, headers=HEADERS, verify=False)
        assert answer.json()["job_id"] == 1
        yield running


@pytest.fixture(scope="module")
def described(scheduler: servers.RunningScheduler) -> Any:
    return schemathesis.openapi.from_url(f"{scheduler.url}/openapi.json")


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_what_the_description_allows_is_answered_as_it_says(
    described: Any, method: str, path: str
) -> None:
    exchange(described[path][method].as_strategy().map(mended), examples_for(path))


@pytest.mark.parametrize(("method", "path"), ROUTES_WITH_INPUT)
def test_what_the_description_forbids_is_refused_as_it_says(
    described: Any, method: str, path: str
) -> None:
    cases = described[path][method].as_strategy(generation_mode=GenerationMode.NEGATIVE)
    exchange(cases, examples_for(path))


def test_the_description_names_every_route_there_is(described: Any) -> None:
    named = {
        (method.upper(), path)
        for path, methods in described.raw_schema["paths"].items()
        for method in methods
    }
    assert named == {*ROUTES, *ROUTES_READ_ELSEWHERE}


def examples_for(path: str) -> int:
    """Fewer for the many routes that take little more than a name."""
    return 12 if path.startswith(("/api/v1/jobs/", "/api/v1/queues", "/api/v1/blobs")) else 30


def exchange(cases: Any, examples: int) -> None:
    @given(case=cases)
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any) -> None:
        response = case.call(headers=HEADERS)
        assert response.status_code != 500
        # 503 is how a refused placement is answered, 413 what is too large to look at; who may
        # ask what is another test's.
        excluded = [not_a_server_error, ignored_auth]
        if response.status_code == 413:
            excluded.append(negative_data_rejection)
        if response.status_code == 400 and is_of_the_whole(response.json()):
            excluded.append(positive_data_acceptance)
        case.validate_response(response, excluded_checks=excluded)

    ask()


def is_of_the_whole(error: dict[str, Any]) -> bool:
    """Whether the schema could not have told that the request would be refused."""
    field = error.get("field", "")
    return error["code"] in OF_THE_WHOLE or FIELDS_OF_THE_WHOLE.fullmatch(field) is not None


def mended(case: Any) -> Any:
    """The case within what it was meant to be.

    The generator's idea of printable characters has unassigned ones in it, and JSON Schema takes
    5.0 for an integer where this API wants 5. Nothing is waited for: nobody runs the jobs.
    """
    for name, value in (case.path_parameters or {}).items():
        if isinstance(value, str):  # it is percent-encoded already
            case.path_parameters[name] = quote(mend(unquote(value)), safe="")
    if "task" in (case.path_parameters or {}):
        case.path_parameters["task"] = "main"
    case.query = mend(case.query)
    for name in {"wait_s", "follow"} & set(case.query or {}):
        case.query[name] = 0
    case.body = mend(case.body)
    return case


def mend(value: Any) -> Any:
    if isinstance(value, str):
        return "".join(char if char.isprintable() else "x" for char in value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return type(value)({name: mend(each) for name, each in value.items()})
    if isinstance(value, list):
        return [mend(each) for each in value]
    return value
