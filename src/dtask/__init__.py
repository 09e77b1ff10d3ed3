"""dtask: which worker should run this?

The package exports the SDK and the errors. Everything is imported on first use, so that
`import dtask` costs nothing a program does not use.
"""

from importlib import import_module

TYPE_CHECKING = False  # what typing calls so; importing that takes longer than all of this
if TYPE_CHECKING:
    from dtask.client import (
        AsyncClient,
        AsyncJob,
        Client,
        Event,
        Executor,
        Job,
        JobResult,
        Outcome,
        Picture,
        Placement,
        SignInCode,
        TaskFailed,
        Worker,
    )
    from dtask.errors import (
        Busy,
        Conflict,
        Denied,
        DtaskError,
        Internal,
        InvalidRequest,
        NotFound,
        NoWorker,
        Unavailable,
    )
    from dtask.worker.heartbeat import Heartbeat

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "Busy",
    "Client",
    "Conflict",
    "Denied",
    "DtaskError",
    "Event",
    "Executor",
    "Heartbeat",
    "Internal",
    "InvalidRequest",
    "Job",
    "JobResult",
    "NoWorker",
    "NotFound",
    "Outcome",
    "Picture",
    "Placement",
    "SignInCode",
    "TaskFailed",
    "Unavailable",
    "Worker",
    "__version__",
]

_HOMES = {
    "AsyncClient": "dtask.client",
    "AsyncJob": "dtask.client",
    "Client": "dtask.client",
    "Event": "dtask.client",
    "Executor": "dtask.client",
    "Heartbeat": "dtask.worker.heartbeat",
    "Job": "dtask.client",
    "JobResult": "dtask.client",
    "Outcome": "dtask.client",
    "Picture": "dtask.client",
    "Placement": "dtask.client",
    "SignInCode": "dtask.client",
    "TaskFailed": "dtask.client",
    "Worker": "dtask.client",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'dtask' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "dtask.errors")), name)
