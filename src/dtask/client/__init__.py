"""The SDK: ask where a task should run, run it there, see who is there.

`calls` builds requests and reads answers, `flows` and `runs` say in which order things happen;
none of them does I/O. `blocking` and `awaiting` are the two shells that do.
Imported on first use, because a program that blocks needs no asyncio.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dtask.client.awaiting import AsyncClient
    from dtask.client.blocking import Client
    from dtask.client.results import Outcome, Placement, Worker

__all__ = ["AsyncClient", "Client", "Outcome", "Placement", "Worker"]

_HOMES = {
    "AsyncClient": "dtask.client.awaiting",
    "Client": "dtask.client.blocking",
    "Outcome": "dtask.client.results",
    "Placement": "dtask.client.results",
    "Worker": "dtask.client.results",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 (whatever the home module holds)
    if name not in _HOMES:
        raise AttributeError(f"module 'dtask.client' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
