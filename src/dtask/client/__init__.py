"""The SDK: jobs, functions on the fleet, and where a task should run.

`calls` and `job_calls` build requests and read answers; `flows`, `runs`, `job_flows` and `live`
say in which order things happen; none of them does I/O. `blocking` and `awaiting` are the two
shells that do. `executor` and `call` run functions, each on its side.
Imported on first use, because a program that blocks needs no asyncio.
"""

from importlib import import_module

TYPE_CHECKING = False  # what typing calls so; importing that takes longer than all of this
if TYPE_CHECKING:
    from dtask.client.awaiting import AsyncClient
    from dtask.client.blocking import Client
    from dtask.client.executor import Executor
    from dtask.client.job_results import Event, JobResult, TaskFailed
    from dtask.client.jobs import AsyncJob, Job
    from dtask.client.picture import Picture
    from dtask.client.results import Outcome, Placement, SignInCode, Worker

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "Client",
    "Event",
    "Executor",
    "Job",
    "JobResult",
    "Outcome",
    "Picture",
    "Placement",
    "SignInCode",
    "TaskFailed",
    "Worker",
]

_HOMES = {
    "AsyncClient": "dtask.client.awaiting",
    "AsyncJob": "dtask.client.jobs",
    "Client": "dtask.client.blocking",
    "Event": "dtask.client.job_results",
    "Executor": "dtask.client.executor",
    "Job": "dtask.client.jobs",
    "JobResult": "dtask.client.job_results",
    "Outcome": "dtask.client.results",
    "Picture": "dtask.client.picture",
    "Placement": "dtask.client.results",
    "SignInCode": "dtask.client.results",
    "TaskFailed": "dtask.client.job_results",
    "Worker": "dtask.client.results",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'dtask.client' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
