"""The hot events of the job half, and what it must not cost to have much of something.

Bounds are loose: machines that run the tests are shared. They are in CPU time of this process,
and would be missed by whatever looks at everything where it should look at one. As in
`test_speed`, `--benchmark-enable` measures the events more closely.
"""

import gc
import time
import tracemalloc
from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec
from pytest_benchmark.fixture import BenchmarkFixture

from core.env import START, WARM, Tasks, a_job
from dtask.core.cluster import Cluster, Step
from dtask.core.jobs.events import (
    Attach,
    Cancel,
    Ended,
    Explain,
    Reports,
    StartAttempt,
    Started,
    Submit,
)
from dtask.core.jobs.model import ELEMENTS_MAX, TASKS_MAX, JobSpec
from dtask.core.jobs.rows import Past, Snapshot
from dtask.core.jobs.states import State
from dtask.core.placement.events import Heartbeat, Tick

MUCH = 10_000


class Site:
    """A cluster with a job half, and what its workers were given and have not ended."""

    def __init__(self, past: list[Past] | None = None) -> None:
        self.cluster = Cluster(START, WARM)
        self.given: list[StartAttempt] = []
        snapshot = Snapshot("c", [], [], past or [], len(past or []), 0)
        self.note(self.cluster.restore(snapshot, START))

    def note(self, step: Step) -> Step:
        self.given += [one for one in step.effects if isinstance(one, StartAttempt)]
        return step

    def handle(self, event: Any) -> Any:
        return self.note(self.cluster.handle(event, START)).answer

    def settle(self) -> None:
        self.handle(Tick())
        while self.cluster.hurries:
            self.handle(Tick())

    def worker(self, name: str, *tags: str, slots: int = 2) -> None:
        beat = Heartbeat(name, f"{name}:1", tags, slots, incarnation="i", trusted=True)
        self.handle(beat)
        self.handle(Attach(name, "i"))

    def live_one(self) -> None:
        """One attempt starts and ends, and the next one is given out."""
        start = self.given.pop(0)
        for report in (
            Started(start.fence, START),
            Ended(start.fence, 0, started_at=START, ended_at=START),
        ):
            self.handle(Reports(start.worker_id, "i", (report,)))


def cpu_s(act: Callable[[], object]) -> float:
    """Seconds of this process that `act` takes."""
    gc.collect()
    began = time.process_time()
    act()
    return time.process_time() - began


def lives_s(site: Site, lives: int = 1000) -> float:
    """Seconds of one attempt's whole life."""
    return cpu_s(lambda: [site.live_one() for _ in range(lives)]) / lives


def test_a_million_elements_are_submitted_explained_and_cancelled_at_once() -> None:
    site = Site()
    event = a_job(array=ELEMENTS_MAX)
    gc.collect()
    tracemalloc.start()
    try:
        site.handle(event)
        taken, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 2_000_000
    assert most < 5_000_000
    site.worker("w1", slots=100)
    assert cpu_s(lambda: site.handle(a_job(array=ELEMENTS_MAX))) < 0.5
    assert cpu_s(lambda: site.handle(Explain(2))) < 0.1
    assert cpu_s(lambda: site.handle(Cancel(2))) < 0.5


def test_an_attempt_s_whole_life_in_the_core(benchmark: BenchmarkFixture) -> None:
    """Its start, its end, and the dispatch of the next one."""
    site = Site()
    site.worker("w1", "gpu")
    site.handle(a_job(array=ELEMENTS_MAX, tags="gpu"))
    benchmark(site.live_one)
    assert lives_s(site) < 0.001


def test_speed_of_a_submit_that_is_dispatched_at_once(benchmark: BenchmarkFixture) -> None:
    site, numbers = Site(), count()
    site.worker("w1", slots=1_000_000)
    benchmark(lambda: site.handle(a_job(key=f"k{next(numbers)}")))
    assert site.given


def test_a_freed_slot_looks_at_none_of_what_fits_nowhere() -> None:
    site = Site()
    site.worker("w1", "gpu")
    site.handle(a_job(array=ELEMENTS_MAX, tags="gpu"))
    alone_s = lives_s(site)
    tasks: Tasks = {f"t{n}": {"tags": f"gpu,tpu-{n},cuda>={n}"} for n in range(MUCH)}
    site.handle(a_job(tasks, priority=9))
    site.settle()
    assert lives_s(site) < 5 * alone_s + 0.0002


def test_what_fits_nowhere_costs_a_worker_with_tags_of_its_own_little_and_once() -> None:
    site = Site()
    for n in range(50):
        site.worker(f"w{n}", "cpu", f"host-{n}", slots=1)
    site.handle(a_job(array=ELEMENTS_MAX, tags="cpu"))
    site.handle(a_job({f"t{n}": {"tags": f"tpu-{n}"} for n in range(MUCH)}))
    site.settle()
    assert lives_s(site, 50) < 0.03
    assert lives_s(site) < 0.001


def test_many_demands_of_one_job_are_tried_in_short_steps() -> None:
    site = Site()
    site.worker("w1", "gpu")
    tasks: Tasks = {f"t{n}": {"tags": f"tpu-{n}"} for n in range(TASKS_MAX)}
    site.handle(a_job(tasks))
    longest_s, steps = 0.0, 0
    while site.cluster.hurries:
        began = time.process_time()
        site.handle(Tick())
        longest_s, steps = max(longest_s, time.process_time() - began), steps + 1
    assert longest_s < 0.1
    assert 40 < steps < 60


def test_many_queued_jobs_take_little_memory_each_and_slow_nothing_down() -> None:
    site, decode = Site(), msgspec.json.Decoder(JobSpec).decode

    def submit(n: int) -> None:
        body = f'{{"tasks":{{"main":{{"command":["echo","{n}"],"tags":["gpu"]}}}}}}'
        site.handle(Submit(decode(body), body, f"{n:064}", f"key-{n:028}"))

    submit(0)
    tracemalloc.start()
    try:
        for n in range(1, 2_001):
            submit(n)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken / 2_000 < 2_500
    for n in range(2_001, 3 * MUCH):
        submit(n)
    site.worker("w1", "gpu")
    few = Site()
    few.worker("w1", "gpu")
    for _ in range(1_100):
        few.handle(a_job(tags="gpu"))
    assert lives_s(site) < 5 * lives_s(few) + 0.0002


def test_a_hundred_thousand_ended_jobs_are_taken_up_fast_and_slow_nothing_down() -> None:
    past = [Past(n, State.SUCCEEDED, f"k{n}", "d", START - n) for n in range(1, 100_001)]
    sites: list[Site] = []
    assert cpu_s(lambda: sites.append(Site(past))) < 2
    none = Site()
    for site in (sites[0], none):
        site.worker("w1")
        site.handle(a_job(array=ELEMENTS_MAX))
    assert lives_s(sites[0]) < 5 * lives_s(none) + 0.0002
    for _ in range(1000):
        job_id = sites[0].handle(a_job(tags="npu")).job_id
        assert sites[0].handle(Cancel(job_id)).attempts == 0


def test_a_graph_of_many_needs_is_taken_up_and_cancelled_fast() -> None:
    names = [f"t{n}" for n in range(TASKS_MAX)]
    tasks: Tasks = {
        name: {"needs": names[max(0, n - 20) : n], "tags": "npu"} for n, name in enumerate(names)
    }
    site, event = Site(), a_job(tasks)
    assert cpu_s(lambda: site.handle(event)) < 2
    assert cpu_s(lambda: site.handle(Explain(1))) < 2
    assert cpu_s(lambda: site.handle(Cancel(1))) < 2
