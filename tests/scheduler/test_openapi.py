"""The description of the API against the live API, by schemathesis."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import negative_data_rejection

import servers

ROUTES = [
    ("POST", "/api/v1/heartbeat"),
    ("POST", "/api/v1/schedule"),
    ("DELETE", "/api/v1/schedule/{task_id}"),
    ("GET", "/api/v1/workers"),
    ("POST", "/api/v1/workers/{worker_id}/drain"),
    ("POST", "/api/v1/workers/{worker_id}/undrain"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
]
ROUTES_WITH_INPUT = ROUTES[:-2]


@pytest.fixture(scope="module")
def scheduler() -> Iterator[servers.RunningScheduler]:
    with servers.running_scheduler() as running:
        servers.beat(running.url, resource_tags=["gpu"], max_tasks=1000)
        yield running


@pytest.fixture(scope="module")
def described(scheduler: servers.RunningScheduler) -> Any:
    return schemathesis.openapi.from_url(f"{scheduler.url}/openapi.json")


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_what_the_description_allows_is_answered_as_it_says(
    described: Any, method: str, path: str
) -> None:
    exchange(described[path][method].as_strategy().map(mended))


@pytest.mark.parametrize(("method", "path"), ROUTES_WITH_INPUT)
def test_what_the_description_forbids_is_refused_as_it_says(
    described: Any, method: str, path: str
) -> None:
    exchange(described[path][method].as_strategy(generation_mode=GenerationMode.NEGATIVE))


def test_the_description_names_every_route_there_is(described: Any) -> None:
    named = {
        (method.upper(), path)
        for path, methods in described.raw_schema["paths"].items()
        for method in methods
    }
    assert named == {*ROUTES, ("GET", "/openapi.json")}


def exchange(cases: Any) -> None:
    @given(case=cases)
    @settings(
        max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    def ask(case: Any) -> None:
        response = case.call()
        assert response.status_code != 500
        # 503 is how a refused placement is answered, 413 what is too large to look at.
        excluded = [not_a_server_error]
        if response.status_code == 413:
            excluded.append(negative_data_rejection)
        case.validate_response(response, excluded_checks=excluded)

    ask()


def mended(case: Any) -> Any:
    """The case within what it was meant to be.

    The generator's idea of printable characters has unassigned ones in it, and JSON Schema takes
    5.0 for an integer where this API wants 5.
    """
    case.path_parameters = mend(case.path_parameters)
    case.query = mend(case.query)
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
