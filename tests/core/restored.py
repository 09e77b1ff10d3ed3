"""Whether the rows written so far tell all: a cluster restored from them stands as this one."""

from typing import Any

from core.env import Env
from dtask.core.cluster import Cluster
from dtask.core.jobs.events import Explain, ListQueues, Reason
from dtask.core.jobs.job import Job
from dtask.core.jobs.jobs import Jobs

#: A restored cluster knows no worker yet, so these can't be told apart there.
_OF_WORKERS = {"no_worker", "full", "turn"}


def must_restore(env: Env) -> None:
    """Assert that a restored job half equals the one in memory, but for what workers will say."""
    memory = env.cluster._jobs
    assert memory is not None
    cluster = Cluster(env.now, env._settings)
    step = cluster.restore(env.book.snapshot(), env.now)
    cluster.check()
    assert step.changes == (), "all that was due had happened"
    restored = cluster._jobs
    assert restored is not None
    anew, before = told(restored), told(memory)
    for job_id, job in before.pop("jobs").items():
        assert anew["jobs"][job_id]["tasks"] == job["tasks"]
        assert anew["jobs"].pop(job_id) == job
    assert anew.pop("jobs") == {}
    assert anew == before
    for job_id in memory._register.jobs:
        assert reasons(cluster, env.now, job_id) == reasons(env.cluster, env.now, job_id)
    queues = {view.name: view for view in cluster.handle(ListQueues(), env.now).answer}
    for view in env.handle(ListQueues()):
        idle = not view.pending and not view.queued and not view.running
        assert queues.get(view.name) == view or (idle and view.name not in queues)
    assert env.cluster._leases._fence >= env.book.last_fence


def told(jobs: Jobs) -> dict[str, Any]:
    """All that a store should remember, in plain values."""
    register = jobs._register
    return {
        "jobs": {job_id: of_job(job) for job_id, job in register.jobs.items()},
        "past": sorted(register.past.items()),
        "keys": register.keys,
        "last": register.last_job_id,
        "attempts": {
            fence: (str(one.element), one.row()) for fence, one in register.attempts.items()
        },
        "heirs": register.heirs,
        "live": jobs._flow.tasks_live,
    }


def of_job(job: Job) -> dict[str, Any]:
    """All of a job in plain values."""
    return {
        "row": job.row(),
        "after": job.after,
        "waits_until": job.waits_until,
        "tasks": {
            name: (
                bytes(task.states),
                task.fresh,
                None if task.ended else task.unmet,
                task.counts,
                task.row(),
                {index: element.row() for index, element in task.elements.items()},
            )
            for name, task in job.tasks.items()
        },
    }


def reasons(cluster: Cluster, now: float, job_id: int) -> list[Reason | tuple[Any, ...]]:
    """Why it waits, but for what workers would say."""
    found: list[Reason | tuple[Any, ...]] = []
    for reason in cluster.handle(Explain(job_id), now).answer.reasons:
        if reason.code in _OF_WORKERS:
            found.append((reason.name, reason.state, reason.count))
        elif reason.state in ("scheduled", "running"):
            found.append((reason.name, reason.state, reason.code))
        else:
            found.append(reason)
    return found
