"""Clients don't verify certificates: there are none, and loading them costs 30 ms a client."""

from collections.abc import Iterator

import httpx
import pytest

import servers


@pytest.fixture(scope="module")
def scheduler() -> Iterator[servers.RunningScheduler]:
    """One scheduler for the tests of a module; each uses worker and task ids of its own."""
    with servers.running_scheduler() as running:
        yield running


@pytest.fixture(scope="module")
def http(scheduler: servers.RunningScheduler) -> Iterator[httpx.Client]:
    """A client of `scheduler` without the token."""
    with httpx.Client(base_url=scheduler.url, verify=False) as client:
        yield client


@pytest.fixture(scope="module")
def operator(scheduler: servers.RunningScheduler) -> Iterator[httpx.Client]:
    """A client of `scheduler` with the token."""
    headers = servers.bearer(scheduler.token)
    with httpx.Client(base_url=scheduler.url, headers=headers, verify=False) as client:
        yield client
