"""What every test may use. Hypothesis draws the same examples in every run, and prints the blob
that replays a failure; HYPOTHESIS_PROFILE=explore draws new ones."""

import os
import random
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "same",
    derandomize=True,
    database=None,
    deadline=None,  # the machines that run the tests are shared
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "explore", settings.get_profile("same"), derandomize=False, max_examples=1_000
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture
def rng() -> Callable[[int], random.Random]:
    """`rng(seed)`: a source of randomness that repeats itself."""
    return random.Random
