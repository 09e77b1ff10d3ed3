from collections.abc import Iterator

import pytest

from client.fleet import Fleet, running_fleet


@pytest.fixture(scope="module", name="fleet")
def a_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with running_fleet(tmp_path_factory.mktemp("fleet")) as fleet:
        yield fleet
