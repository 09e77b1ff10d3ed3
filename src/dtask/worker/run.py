"""What the worker's shell keeps of one attempt while it is remembered."""

import asyncio

from dtask.core.attempts import Attempt, Name
from dtask.core.jobs.names import attempt_text
from dtask.wire.frames import EndedFrame, StartFrame
from dtask.worker import journal
from dtask.worker.journal import End
from dtask.worker.limits import Bounds
from dtask.worker.spool import Folder

Key = journal.Key

#: Task ids of attempts of jobs start with this, and those that clients name can't.
_JOBS = "\x1f"


class Run:
    """The shell's side of an attempt; `key` is None for a task by ticket."""

    def __init__(
        self, folder: Folder, key: Key | None = None, frame: StartFrame | None = None
    ) -> None:
        self.folder = folder
        #: What its processes are known by.
        self.mark = folder.mark
        self.key = key
        #: What is to be done; None for a task by ticket, and for what an earlier life left.
        self.frame = frame
        self.ended = asyncio.Event()
        #: Epoch seconds of its launch; None if it never was.
        self.started_at: float | None = None
        #: CPU seconds of its processes, and the largest resident size of one.
        self.cpu_s: float | None = None
        self.max_rss_bytes: int | None = None
        #: How its limits are held.
        self.bounds = Bounds()
        #: Fetches its files, if it has any; until it is done, somebody writes in the folder.
        self.preparing: asyncio.Task[None] | None = None
        #: How an attempt of a job ended, once it has.
        self.end: End | None = None

    def facts(self, task_id: str) -> dict[str, str]:
        """What the environment of its processes tells them of themselves, beside the fence."""
        if self.frame is None:
            return {"DTASK_TASK": task_id}
        return {
            "DTASK_JOB": str(self.frame.job_id),
            "DTASK_TASK": self.frame.task,
            "DTASK_NUMBER": str(self.frame.number),
            "DTASK_RESULT": self.folder.result,
            "DTASK_DIR": self.folder.work,
        }

    def outcome(self, attempt: Attempt) -> End:
        """The end of an attempt of a job, as the state machine and its files tell it."""
        assert self.key is not None
        assert attempt.ended_at is not None
        return End(
            mark=self.mark if self.folder.made else None,
            task_id=attempt.task_id,
            cluster_id=self.key[0],
            fence=attempt.fence,
            exit_code=attempt.exit_code,
            # A newer fence tells the same story to whoever gave it out.
            cause="stopped" if attempt.cause == "superseded" else attempt.cause,
            error=attempt.error,
            started_at=self.started_at,
            ended_at=attempt.ended_at,
            stdout_bytes=self.folder.log_bytes("stdout"),
            stderr_bytes=self.folder.log_bytes("stderr"),
            result_bytes=self.folder.log_bytes("result"),
            truncated=self.folder.truncated,
            cpu_s=self.cpu_s,
            max_rss_bytes=self.max_rss_bytes,
        )


def name_of(cluster_id: str, frame: StartFrame) -> Name:
    """What the state machine calls an attempt of a job: a retry has the same task id."""
    text = attempt_text(frame.job_id, frame.task, frame.index)
    return f"{_JOBS}{cluster_id}/{text}", frame.fence


def of_a_job(task_id: str) -> bool:
    """Whether the state machine's name is an attempt of a job."""
    return task_id.startswith(_JOBS)


def shown_name(name: Name) -> str:
    """An attempt of a job for people: `42/tile[7]`."""
    return name[0].partition("/")[2]


def ended_frame(end: End) -> EndedFrame:
    """The frame that tells of an end."""
    return EndedFrame(
        fence=end.fence,
        exit_code=end.exit_code,
        cause=end.cause,
        error=end.error,
        started_at=end.started_at,
        ended_at=end.ended_at,
        stdout_bytes=end.stdout_bytes,
        stderr_bytes=end.stderr_bytes,
        result_bytes=end.result_bytes,
        truncated=end.truncated,
        log_lost=False,
        cpu_s=end.cpu_s,
        max_rss_bytes=end.max_rss_bytes,
    )
