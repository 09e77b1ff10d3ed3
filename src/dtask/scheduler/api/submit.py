"""`POST /api/v1/jobs`: a job is accepted, for good."""

import asyncio
from typing import Final

from dtask.core.jobs.events import Submit, Submitted
from dtask.core.jobs.model import JobSpec
from dtask.errors import InvalidRequest
from dtask.scheduler import log
from dtask.scheduler.api.answers import Receive, Scope, Send, send_struct
from dtask.scheduler.api.body import read_body
from dtask.scheduler.api.parts import JobParts
from dtask.scheduler.api.query import parameters
from dtask.scheduler.api.request_id import request_id
from dtask.scheduler.loop import Loop
from dtask.wire import jobs
from dtask.wire.job_answers import SubmitAnswer
from dtask.wire.jobs import Submission
from dtask.wire.limits import SUBMIT_BYTES_MAX

#: Bytes of a body from which on it is decoded in a thread: a few milliseconds.
SLOW_BYTES: Final = 128 * 1024
#: Of the blobs that are missing, so many are named.
MISSING_NAMED_MAX: Final = 100


class Submits:
    """The endpoint."""

    def __init__(self, loop: Loop, parts: JobParts) -> None:
        self._loop = loop
        self._blobs = parts.blobs
        #: One large body is decoded at a time. Measured with 16 MiB: a million items of an array
        #: take 135 MiB in all, 205 to 265 if they are not ASCII; 10,000 tasks of 400 words 365.
        self._decoding = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send, _trusted: bool) -> None:
        """201 for a new job, 200 for one that is known by its key."""
        parameters(scope)
        raw = await read_body(scope, receive, SUBMIT_BYTES_MAX)
        submission = await self._decoded(raw)
        del raw
        await self._check_blobs(submission.spec)
        event = Submit(submission.spec, submission.raw, submission.digest, submission.key)
        submitted: Submitted = await self._loop.ask(event)
        _note(scope, submitted, submission.spec)
        if not submitted.known:
            self._loop.tallies.submitted += 1
        answer = SubmitAnswer(submitted.job_id, submitted.known)
        place = b"/api/v1/jobs/%d" % submitted.job_id
        await send_struct(send, answer, 200 if submitted.known else 201, (b"location", place))

    async def _decoded(self, raw: bytes) -> Submission:
        if len(raw) < SLOW_BYTES:
            return jobs.decode(raw)
        async with self._decoding:
            return await asyncio.to_thread(jobs.decode, raw)

    async def _check_blobs(self, spec: JobSpec) -> None:
        """Raise InvalidRequest if the job names blobs that are not there."""
        named = jobs.blobs(spec)
        if not named:
            return
        missing = await asyncio.to_thread(self._missing, named)
        if missing:
            raise InvalidRequest(
                f"The job names blobs that are not here, {len(missing)} in all: send each with "
                f"PUT /api/v1/blobs/SHA256 first.",
                code="missing_blobs",
                blobs=[f"sha256:{digest}" for digest in missing[:MISSING_NAMED_MAX]],
            )

    def _missing(self, named: set[str]) -> list[str]:
        return [digest for digest in sorted(named) if not self._blobs.has(digest)]


def _note(scope: Scope, submitted: Submitted, spec: JobSpec) -> None:
    if submitted.known:
        log.say("job known by its key", job_id=submitted.job_id, request_id=request_id(scope))
    else:
        log.say(
            "job submitted",
            job_id=submitted.job_id,
            request_id=request_id(scope),
            name=spec.name,
            queue=spec.queue,
            tasks=len(spec.tasks),
        )
