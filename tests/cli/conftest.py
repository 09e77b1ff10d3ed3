"""One scheduler for the tests of a module; each uses workers and tags of its own."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from servers import RunningScheduler, beat, running_scheduler
from terminal import Shell, shell_of


@pytest.fixture(scope="module")
def scheduler() -> Iterator[RunningScheduler]:
    with running_scheduler() as running:
        yield running


@pytest.fixture(scope="module")
def shell(scheduler: RunningScheduler) -> Shell:
    """Where DTASK_SCHEDULER and DTASK_TOKEN name that scheduler."""
    return shell_of(scheduler)


@pytest.fixture
def join(scheduler: RunningScheduler) -> Callable[..., None]:
    """`join(worker_id, tag, ..)`: a trusted worker heartbeats."""

    def once(worker_id: str, *tags: str, **fields: Any) -> None:
        answer = beat(
            scheduler.url, worker_id, token=scheduler.token, resource_tags=list(tags), **fields
        )
        assert answer.status_code == 200, answer.text

    return once
