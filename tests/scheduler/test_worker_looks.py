"""One worker with what is held on it, and which requirements each worker misses."""

import httpx

import servers
import workers


def test_a_worker_tells_what_takes_its_slots(operator: httpx.Client) -> None:
    url = str(operator.base_url).rstrip("/")
    servers.beat(url, "a/b", resource_tags=["ab"], tasks=["own"])
    placed = operator.post("/api/v1/schedule", json={"task_id": "t", "required_tags": ["ab"]})
    look = operator.get("/api/v1/workers/a%2Fb").json()
    assert (look["worker_id"], look["current_tasks"]) == ("a/b", 2)
    own, lease = look["tasks"]
    assert own == {"task_id": "own", "fence": None, "since": None}
    assert (lease["task_id"], lease["fence"]) == ("t", placed.json()["fence"])
    assert look["history"]["every_s"] == 10.0


def test_attempts_of_jobs_are_named() -> None:
    with (
        servers.running_scheduler() as scheduler,
        workers.worker_process(scheduler=scheduler.url),
        httpx.Client(
            base_url=scheduler.url, headers=servers.bearer(scheduler.token), verify=False
        ) as client,
    ):
        job = {"tasks": {"tile": {"command": ["sleep", "600"], "array": 2}}}
        job_id = client.post("/api/v1/jobs", json=job).json()["job_id"]
        while not (rows := client.get("/api/v1/workers").json()):
            pass
        (worker,) = rows
        path = f"/api/v1/workers/{worker['worker_id']}"
        while len(tasks := client.get(path).json()["tasks"]) < min(2, worker["max_tasks"]):
            pass
        assert tasks[0]["task_id"] == f"{job_id}/tile[0]#1"
        assert (tasks[0]["job_id"], tasks[0]["task"], tasks[0]["index"]) == (job_id, "tile", 0)
        assert tasks[0]["number"] == 1
        client.delete(f"/api/v1/jobs/{job_id}")


def test_a_worker_that_is_not_known_is_not_shown(operator: httpx.Client) -> None:
    answer = operator.get("/api/v1/workers/nobody")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_worker")


def test_each_worker_tells_which_requirements_it_does_not_meet(
    scheduler: servers.RunningScheduler, http: httpx.Client
) -> None:
    servers.beat(scheduler.url, "m1", resource_tags=["mm", "gpu", "cuda-12.4"])
    servers.beat(scheduler.url, "m2", resource_tags=["mm", "cuda-11"])
    asked = {"tag": "mm", "requires": ["gpu,cuda>=12", "!spot"]}
    rows = http.get("/api/v1/workers", params=asked).json()
    assert {row["worker_id"]: row["misses"] for row in rows} == {
        "m1": [],
        "m2": ["gpu", "cuda>=12"],
    }
    assert "misses" not in http.get("/api/v1/workers?tag=mm").json()[0]
    wrong = http.get("/api/v1/workers", params={"requires": "cuda>>12"}).json()
    assert (wrong["code"], wrong["field"]) == ("bad_requirement", "requires[0]")
