"""Clients of the job half: they submit, send again what was not answered, cancel, retry, pause."""

import itertools
import random
from typing import Any, Final

import msgspec

from dtask.core.cluster import Event
from dtask.core.jobs.events import (
    Cancel,
    Explain,
    Look,
    NeedsRecord,
    RetryJob,
    SetQueue,
    Submit,
    Submitted,
)
from dtask.core.jobs.model import JobSpec, Retry, TaskSpec
from dtask.core.jobs.states import ENDS
from dtask.errors import DtaskError
from dtask.sim.jobs.disk import Disk
from dtask.sim.jobs.scheduler import ADDRESS
from dtask.sim.jobs.site import Site
from dtask.sim.network import Reply

TIMEOUT_S: Final = 3.0

QUEUES: Final = ("default", "night", "small")

#: No worker has this.
IMPOSSIBLE: Final = "quantum"


class Client:
    """Does one thing after the other until it is told to stop."""

    def __init__(self, site: Site, rng: random.Random, name: str, disk: Disk) -> None:
        self._site = site
        self._rng = rng
        self._name = name
        self._disk = disk
        self._keys = itertools.count(1)
        self._jobs: list[int] = []
        self._stopped = False
        #: Submits that were not answered yet.
        self.waiting = 0
        self._rest()

    def stop(self) -> None:
        """Begin nothing new."""
        self._stopped = True

    def _rest(self) -> None:
        self._site.timeline.after(self._rng.expovariate(0.5), self._begin)

    def _begin(self) -> None:
        if self._stopped:
            return
        chance = self._rng.random()
        if chance < 0.6 or not self._jobs:  # noqa: PLR2004 (shares of what it does)
            self._submit()
        elif chance < 0.7:  # noqa: PLR2004
            self._call(Cancel(self._rng.choice(self._jobs)), _ignore)
        elif chance < 0.75:  # noqa: PLR2004
            self._cancel_task()
        elif chance < 0.85:  # noqa: PLR2004
            self._retry(self._rng.choice(self._jobs))
        elif chance < 0.92:  # noqa: PLR2004
            self._call(Explain(self._rng.choice(self._jobs)), _ignore)
        else:
            paused = self._rng.random() < 0.3  # noqa: PLR2004
            most = self._rng.choice((0, 1, 3))
            self._call(SetQueue(self._rng.choice(QUEUES[1:]), most, paused=paused), _ignore)
        self._rest()

    def _submit(self) -> None:
        spec = self._draw_job()
        key = f"{self._name}-{next(self._keys)}"
        raw = msgspec.json.encode(spec).decode()
        self.waiting += 1
        self._send(Submit(spec, raw, raw, key))

    def _send(self, submit: Submit) -> None:
        """Send it, and again as long as nobody answers, or the store can't be used."""

        def answered(answer: object) -> None:
            if isinstance(answer, Submitted):
                self.waiting -= 1
                self._jobs.append(answer.job_id)
                self._site.counts["jobs"] += 1
                twice = self._rng.random() < 0.1  # noqa: PLR2004 (sent again all the same)
                if twice and not self._stopped:
                    self.waiting += 1
                    self._send(submit)
            elif isinstance(answer, DtaskError) and answer.code != "store_failed":
                self.waiting -= 1  # refused
            else:
                delay_s = self._rng.uniform(0.1, 2.0)
                self._site.timeline.after(delay_s, lambda: self._send(submit))

        def see(answer: object) -> None:
            if isinstance(answer, Submitted):
                assert submit.key is not None
                self._site.ledger.submitted(submit.key, submit.spec, answer)

        self._call(submit, answered, see)

    def _retry(self, job_id: int) -> None:
        again: Any = self._rng.choice(("failed", "unsuccessful"))
        self._site.ledger.retry_asked(job_id)

        def see(answer: object) -> None:
            if isinstance(answer, NeedsRecord):
                record = self._disk.store.record(job_id)
                self._site.scheduler.receive(RetryJob(job_id, again, record=record), see)

        self._call(RetryJob(job_id, again), _ignore, see)

    def _cancel_task(self) -> None:
        job_id = self._rng.choice(self._jobs)
        self._call(Cancel(job_id, f"t{self._rng.randint(0, 3)}"), _ignore)

    def _call(self, event: Event, done: Reply, see: Reply = lambda _: None) -> None:
        """A request; `see` is called with its answer at the moment it is released."""

        def serve(reply: Reply) -> None:
            def released(answer: object) -> None:
                see(answer)
                reply(answer)

            self._site.scheduler.receive(event, released)

        self._site.network.call(self._name, ADDRESS, serve, done, timeout_s=TIMEOUT_S)

    # What it submits

    def _draw_job(self) -> JobSpec:
        rng = self._rng
        names = [f"t{i}" for i in range(rng.choice((1, 1, 1, 2, 4)))]
        tasks = {name: self._draw_task(names[:place]) for place, name in enumerate(names)}
        after = (rng.choice(self._jobs),) if self._jobs and rng.random() < 0.1 else ()  # noqa: PLR2004
        not_before = None
        if rng.random() < 0.1:  # noqa: PLR2004 (some later)
            not_before = self._site.timeline.now + rng.uniform(0, 20)
        return JobSpec(
            tasks=tasks,
            queue=rng.choice(QUEUES),
            priority=rng.choice((0, 0, 5, 9)),
            after=after,
            when=rng.choice(("all_succeeded", "all_done")),
            not_before=not_before,
        )

    def _draw_task(self, earlier: list[str]) -> TaskSpec:
        """Its command says what its process will do: how long it runs, and each run's exit code."""
        rng = self._rng
        codes = ",".join(str(rng.choice((0, 0, 0, 1, 75))) for _ in range(3))
        verb = "absent" if rng.random() < 0.05 else "run"  # noqa: PLR2004 (a typo now and then)
        long = rng.random() < 0.03  # noqa: PLR2004 (some take minutes)
        duration_s = 150.0 if long else min(20.0, rng.expovariate(0.4))
        # A commit may take seconds. Where only the scheduler suffers, that makes none too late.
        hasty = rng.choice((1.0, 3.0, 10.0))
        start_timeout_s = 10.0 if self._site.weather.spares_workers else hasty
        tags: tuple[str, ...] = rng.choice(((), (), ("cpu",), ("gpu",), ("gpu|eu",)))
        if rng.random() < 0.03:  # noqa: PLR2004 (and what nobody has)
            tags = (IMPOSSIBLE,)
        return TaskSpec(
            command=(verb, f"{duration_s:.3f}", codes),
            tags=tags,
            array=rng.randint(1, 6) if rng.random() < 0.3 else None,  # noqa: PLR2004
            needs=tuple(name for name in earlier if rng.random() < 0.6),  # noqa: PLR2004
            when="all_done" if rng.random() < 0.2 else "all_succeeded",  # noqa: PLR2004
            retry=Retry(
                max=rng.choice((0, 1, 2)), backoff_s=1.0, on_exit=rng.choice(((), (), (75,)))
            ),
            crash_limit=rng.choice((1, 2, 5)),
            timeout_s=rng.choice((None, None, 5.0)),
            max_queue_s=rng.choice((None, None, None, 30.0)),
            start_timeout_s=start_timeout_s,
            grace_s=1.0,
        )


def tidy_up(site: Site) -> None:
    """An operator lets everything run, and cancels what no worker can take."""
    scheduler = site.scheduler
    for name in QUEUES:
        scheduler.receive(SetQueue(name, 0, paused=False), _ignore)


def cancel_stuck(site: Site, jobs: list[int]) -> None:
    """Jobs that wait for what nobody has are cancelled by their owner."""
    for job_id in jobs:
        try:
            state = site.scheduler.ask(Look(job_id))
        except DtaskError:
            continue
        if state not in ENDS:
            why = site.scheduler.ask(Explain(job_id))
            if any(IMPOSSIBLE in reason.sentence for reason in why.reasons):
                site.scheduler.receive(Cancel(job_id), _ignore)


def _ignore(_answer: object) -> None:
    pass
