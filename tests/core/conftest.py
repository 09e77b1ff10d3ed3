from collections.abc import Iterator

import pytest

from core.env import Env


@pytest.fixture
def env() -> Iterator[Env]:
    """A cluster past its warm-up, whose every effect the test must take."""
    env = Env()
    yield env
    env.quiet()


@pytest.fixture
def jobs() -> Iterator[Env]:
    """The same with a job half, and no worker yet."""
    env = Env(with_jobs=True)
    yield env
    env.quiet()
