"""What must be so of jobs, seen from outside: promises, needs, ends, runs that are explained.

It sees what clients, watchers and workers see, at the moment they see it, and compares that with
what is committed then. It knows nothing of the core's memory.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from dtask.core.jobs.events import JobForgotten, StartAttempt, Submitted, TaskChanged
from dtask.core.jobs.model import JobSpec, TaskSpec
from dtask.core.jobs.rows import WHOLE, AttemptRow, TaskRow
from dtask.core.jobs.states import ENDS, HELD, Cause, State
from dtask.sim.jobs.disk import Disk
from dtask.wire.frames import StartFrame

if TYPE_CHECKING:
    from dtask.sim.jobs.worker import Process

Element = tuple[int, str, int]

#: More rows than any job here has.
_ALL = 1_000_000


class Ledger:
    """The account of one run."""

    def __init__(self, disk: Disk, *, workers_spared: bool) -> None:
        self._disk = disk
        self._workers_spared = workers_spared
        #: Jobs whose submit was acknowledged, with the disk's setbacks until then.
        self._acknowledged: dict[int, tuple[JobSpec, int]] = {}
        self._keys: dict[str, tuple[int, int]] = {}
        #: Elements that were shown to have succeeded, with the setbacks until then.
        self._succeeded: dict[Element, int] = {}
        #: Living processes of attempts: fence -> which.
        self._processes: dict[int, tuple[str, Element]] = {}
        #: How the processes of attempts ended.
        self._exits: dict[int, int | None] = {}
        #: Attempts that were sent to workers, by fence: job, task, index and number.
        self._sent: dict[int, tuple[int, str, int | None, int]] = {}
        self._retried: set[int] = set()
        self.starts = 0

    @property
    def known_jobs(self) -> tuple[int, ...]:
        """Every job that was ever acknowledged."""
        return tuple(self._acknowledged)

    # What clients see

    def submitted(self, key: str, spec: JobSpec, answer: Submitted) -> None:
        """A submit is acknowledged: from now on it is never lost."""
        found = self._disk.store.record(answer.job_id) is not None
        # One that was known may have been forgotten in the very commit that let the answer out.
        assert found or answer.known, "acknowledged, not committed"
        setbacks = self._disk.setbacks
        before = self._keys.get(key)
        if before is not None and before[1] == setbacks and before[0] not in self._disk.forgotten:
            assert before[0] == answer.job_id, f"key {key} stands for two jobs"
        self._keys[key] = (answer.job_id, setbacks)
        self._acknowledged[answer.job_id] = (spec, setbacks)

    def retry_asked(self, job_id: int) -> None:
        """An explicit retry is sent: whether or not it is answered, ends may not be final."""
        self._retried.add(job_id)

    # What watchers and workers are sent

    def see(self, effect: object) -> None:
        """An effect is released: what it says must be committed."""
        match effect:
            case StartAttempt():
                name = (effect.job_id, effect.task, effect.index, effect.number)
                row = self._attempt(*name)
                assert row is not None, "a start was sent that is not committed"
                self._sent[effect.fence] = name
                assert row.fence == effect.fence
            case TaskChanged():
                self._see_change(effect)
            case JobForgotten():
                assert self._disk.store.record(effect.job_id) is None
            case _:
                pass

    def _see_change(self, change: TaskChanged) -> None:
        record = self._disk.store.record(change.job_id)
        if record is None:
            return  # it has been forgotten in the same commit
        if change.task is None:
            return
        element = (change.job_id, change.task, WHOLE if change.index is None else change.index)
        shown = self._succeeded.get(element)
        if shown == self._disk.setbacks and change.index is not None:
            raise AssertionError(f"{element} had succeeded, and is {change.state}")
        if change.state is State.SUCCEEDED:
            self._succeeded[element] = self._disk.setbacks

    # What workers report

    def stale(self, fences: Iterable[int]) -> set[int]:
        """Those that nobody waits for, by what is committed now: they must be refused."""
        return {fence for fence in fences if not self._is_waited_for(fence)}

    def _is_waited_for(self, fence: int) -> bool:
        row = self._attempt(*self._sent[fence])
        return row is not None and row.fence == fence and row.state in HELD

    def answered(self, stale: set[int], dropped: Iterable[int]) -> None:
        """A worker that told of these, which were stale, is told in answer to drop those."""
        missed = stale.difference(dropped)
        assert not missed, f"a worker tells of {missed}, nobody waits for it, and it may go on"

    # What machines do

    def process_started(self, process: "Process", frame: StartFrame) -> None:
        """A worker starts an attempt's process."""
        self.starts += 1
        element = (frame.job_id, frame.task, WHOLE if frame.index is None else frame.index)
        machine = process.machine.worker_id
        for where, other in self._processes.values():
            if other != element:
                continue
            assert where != machine, f"{element} runs beside its own retry on {machine}"
            assert not self._workers_spared, f"{element} runs on {where} and is started again"
        self._processes[frame.fence] = (machine, element)
        self._assert_needs(frame)

    def process_ended(self, fence: int, exit_code: int | None) -> None:
        """Nothing is left of an attempt's process."""
        self._processes.pop(fence, None)
        self._exits[fence] = exit_code

    def _assert_needs(self, frame: StartFrame) -> None:
        """A task runs only after its needs, and the jobs that come first.

        They are committed, if the job is still this one.
        """
        row = self._attempt(frame.job_id, frame.task, frame.index, frame.number)
        record = self._disk.store.record(frame.job_id)
        known = self._acknowledged.get(frame.job_id)
        if record is None or known is None or row is None or row.fence != frame.fence:
            return
        if row.state not in HELD or known[1] != self._disk.setbacks:
            return  # it was taken back meanwhile
        for earlier in known[0].after if known[0].when == "all_succeeded" else ():
            first = self._disk.store.record(earlier)
            assert first is None or first.job.state is State.SUCCEEDED, f"{earlier} did not succeed"
        spec = known[0].tasks.get(frame.task)
        if spec is None or (spec.when == "all_done" and frame.job_id in self._retried):
            return  # an explicit retry of a need may overtake it
        states = {row.task: row.state for row in record.tasks if row.idx == WHOLE}
        for need in spec.needs:
            wanted = (State.SUCCEEDED,) if spec.when == "all_succeeded" else tuple(ENDS)
            assert states[need] in wanted, f"{frame.task} runs, but {need} is {states[need]}"

    # In the end

    def assert_no_orphans(self) -> None:
        """Every process belongs to an attempt that is waited for. When all is quiet for a while."""
        for fence, (machine, (job_id, task, idx)) in self._processes.items():
            rows = self._disk.store.attempts(job_id, task, idx, limit=_ALL)
            held = any(row.fence == fence and row.state in HELD for row in rows)
            assert held, f"{job_id}/{task}[{idx}] runs on {machine}, and nobody waits for it"

    def assert_settled(self) -> None:
        """Every acknowledged job has ended, and every run of it can be explained."""
        assert not self._processes, f"processes live on: {sorted(self._processes)}"
        for job_id, (spec, setbacks) in self._acknowledged.items():
            if setbacks != self._disk.setbacks or job_id in self._disk.forgotten:
                continue
            record = self._disk.store.record(job_id)
            assert record is not None, f"job {job_id} was acknowledged, and is lost"
            assert record.job.state in ENDS, f"job {job_id} is {record.job.state}"
            assert not record.live
            attempts = self._disk.store.attempts(job_id, None, None, limit=_ALL)
            rows = {(row.task, row.idx): row for row in record.tasks}
            for name, task in spec.tasks.items():
                for key, row in rows.items():
                    if key[0] == name and (row.rest is None and row.counts is None):
                        its = [a for a in attempts if (a.task, a.idx) == key]
                        self._assert_explained(task, row, its, retried=job_id in self._retried)

    def _assert_explained(
        self, task: TaskSpec, row: TaskRow, attempts: list[AttemptRow], *, retried: bool
    ) -> None:
        """Why there were so many attempts of one element, and why it ended as it did."""
        name = f"{row.job_id}/{row.task}[{row.idx}]"
        numbers = sorted(attempt.number for attempt in attempts)
        assert numbers == list(range(1, row.number + 1)), f"{name}: attempts {numbers}"
        accepted = [a for a in attempts if a.state is State.SUCCEEDED]
        assert len(accepted) == (row.state is State.SUCCEEDED), f"{name}: {len(accepted)} results"
        if row.state is State.SUCCEEDED:
            assert self._exits[accepted[0].fence] == 0, f"{name}: it did not end so"
            assert accepted[0].number == row.number, f"{name}: its last attempt did not succeed"
        if retried:
            return
        failed = [a for a in attempts if a.state is State.FAILED]
        lost = [a for a in attempts if a.cause is Cause.LOST]
        assert len(failed) <= task.retry.max + 1, f"{name}: {len(failed)} failures"
        assert len(lost) <= task.crash_limit, f"{name}: lost {len(lost)} times"
        if row.state is State.FAILED and row.cause is Cause.LOST:
            assert len(lost) == task.crash_limit, f"{name}: given up after {len(lost)} losses"

    def _attempt(self, job_id: int, task: str, index: int | None, number: int) -> AttemptRow | None:
        idx = WHOLE if index is None else index
        rows = self._disk.store.attempts(job_id, task, idx, limit=_ALL)
        return next((row for row in rows if row.number == number), None)
