"""Every error dtask can answer or raise, drawn as one tree.

* DtaskError
  + InvalidRequest   the request is wrong: mend it, asking again won't help
  + Denied           the credentials are missing or do not fit
  + NotFound         what was named does not exist (any more)
  + Conflict         someone else holds it, or a newer fact stands
  + Busy             a limit is reached: ask again later, or ask another
  + NoWorker         no worker can take the task now; says why and when to ask again
  + Unavailable      the other side can't be reached or can't serve yet: safe to ask again
  + Internal         a bug of ours: the log of the process that answered has the story

A class exists only where a caller would act differently. What exactly happened is the `code`:
a stable word out of `CODES`, the one list that the API, the docs and the clients share.
"""

from typing import Any, NamedTuple


class DtaskError(Exception):
    """Base of all errors: a sentence for people, a stable code and facts for programs."""

    # By position, so that a fact of another process may have any name.
    def __init__(self, sentence: str, /, *, code: str, **facts: Any) -> None:  # noqa: ANN401 (any JSON value)
        super().__init__(sentence)
        assert code in CODES, code
        self.code = code
        self.facts = facts

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickles: what is raised in one process may be told in another."""
        return _remade, (type(self), str(self), self.code, self.facts)

    @property
    def status(self) -> int:
        """HTTP status that carries this error."""
        return CODES[self.code].status

    def body(self) -> dict[str, Any]:
        """The JSON body on the wire: `{"error": sentence, "code": word, ..facts}`."""
        return {"error": str(self), "code": self.code, **self.facts}


class InvalidRequest(DtaskError):
    """The request can't be understood or breaks a limit; `facts["field"]` names the place."""


class Denied(DtaskError):
    """Token, ticket, Host or Origin do not allow this."""


class NotFound(DtaskError):
    """No such route, worker, lease or task."""


class Conflict(DtaskError):
    """The worker id is held by another life, or the fence is older than one already seen."""


class Busy(DtaskError):
    """A named limit is reached; asking later, or elsewhere, may succeed."""


class NoWorker(DtaskError):
    """No worker can take the task now. `facts` carry `reasons` and `retry_after_s`."""


class Unavailable(DtaskError):
    """The other side did not answer, or is starting or stopping."""


class Internal(DtaskError):
    """A bug in dtask itself."""


class CodeInfo(NamedTuple):
    """What a code stands for: its class, the HTTP status that carries it, its meaning."""

    error: type[DtaskError]
    status: int
    meaning: str


#: The one list of codes. A code is never renamed and never changes its meaning.
CODES: dict[str, CodeInfo] = {
    "malformed": CodeInfo(
        InvalidRequest, 400, "The body or a parameter is not what was expected; `field` says where."
    ),
    "unknown_field": CodeInfo(
        InvalidRequest, 400, "The body holds a field that nobody reads; `field` names it."
    ),
    "bad_tag": CodeInfo(
        InvalidRequest, 400, "A tag is empty, too long, or holds a reserved character."
    ),
    "bad_requirement": CodeInfo(
        InvalidRequest, 400, "An element of `required_tags` does not follow the grammar."
    ),
    "wrong_content_type": CodeInfo(
        InvalidRequest, 400, "A body must be sent as `content-type: application/json`."
    ),
    "bad_graph": CodeInfo(
        InvalidRequest, 400, "The tasks of the job don't fit together; `field` says where."
    ),
    "missing_blobs": CodeInfo(
        InvalidRequest, 400, "The job names blobs that are not there; `blobs` lists them."
    ),
    "wrong_hash": CodeInfo(InvalidRequest, 400, "The bytes of the blob have another hash."),
    "no_token": CodeInfo(Denied, 401, "This needs the token, and the request carried none."),
    "wrong_token": CodeInfo(Denied, 401, "The token that was sent is not this scheduler's."),
    "wrong_code": CodeInfo(
        Denied, 403, "The sign-in code was used before, is too old, or never was."
    ),
    "bad_ticket": CodeInfo(Denied, 403, "The ticket is missing, expired, or for something else."),
    "foreign_origin": CodeInfo(
        Denied, 403, "A web page of another origin may not drive this service."
    ),
    "untrusted": CodeInfo(
        Denied, 403, "The worker id belongs to a trusted worker; a heartbeat needs the token."
    ),
    "no_route": CodeInfo(NotFound, 404, "There is no such path."),
    "no_lease": CodeInfo(NotFound, 404, "No lease is held for this task (with this fence)."),
    "unknown_worker": CodeInfo(NotFound, 404, "No worker of this id is known."),
    "unknown_task": CodeInfo(NotFound, 404, "The worker holds no task of this id and fence."),
    "no_job": CodeInfo(NotFound, 404, "No job of this id is known (any more)."),
    "no_task": CodeInfo(NotFound, 404, "The job has no such task, or the task no such element."),
    "no_attempt": CodeInfo(NotFound, 404, "There was no such attempt (yet)."),
    "no_result": CodeInfo(
        NotFound,
        404,
        "The attempt has not ended, left no result, or its result is not in the data directory "
        "any more.",
    ),
    "no_blob": CodeInfo(NotFound, 404, "No blob of this hash is there."),
    "unknown_queue": CodeInfo(NotFound, 404, "No queue of this name is known."),
    "wrong_method": CodeInfo(InvalidRequest, 405, "The path exists; `Allow` lists its methods."),
    "held": CodeInfo(Conflict, 409, "Another live process heartbeats under this worker id."),
    "superseded": CodeInfo(Conflict, 409, "A newer life of this worker has taken over its id."),
    "stale_fence": CodeInfo(Conflict, 409, "A newer fence of this task has been seen."),
    "key_taken": CodeInfo(Conflict, 409, "Another job was submitted with this key."),
    "job_ended": CodeInfo(Conflict, 409, "The job has ended, or is not where this can be done."),
    "upstream": CodeInfo(
        Conflict, 409, "It would be skipped again: retry what it needs, or comes after, first."
    ),
    "store_in_use": CodeInfo(Conflict, 409, "Another scheduler uses the data directory."),
    "store_newer": CodeInfo(Conflict, 409, "A newer dtask wrote the store."),
    "file_exists": CodeInfo(Conflict, 409, "The file is there already, and is not overwritten."),
    "too_large": CodeInfo(
        InvalidRequest, 413, "The body is over its limit; `limit_bytes` says what fits."
    ),
    "slots_full": CodeInfo(Busy, 429, "All slots of the worker are taken."),
    "too_many_workers": CodeInfo(Busy, 429, "The table of workers is full of live workers."),
    "too_many_leases": CodeInfo(Busy, 429, "The table of leases is full."),
    "queue_full": CodeInfo(Busy, 429, "The queue, or the table of jobs, is full."),
    "too_many_waiters": CodeInfo(Busy, 429, "Too many requests wait for something to happen."),
    "internal": CodeInfo(Internal, 500, "A bug: the log of the process that answered tells more."),
    "no_worker": CodeInfo(NoWorker, 503, "No worker can take the task now; `reasons` counts why."),
    "warming_up": CodeInfo(
        NoWorker, 503, "The scheduler has just started and does not know all workers yet."
    ),
    "draining": CodeInfo(
        Unavailable, 503, "The worker takes no new tasks; it ends those it holds."
    ),
    "spool_unusable": CodeInfo(
        Unavailable, 503, "The worker can't use its spool, or can't end what was left there."
    ),
    "store_failed": CodeInfo(
        Unavailable, 503, "The store can't be written or read: what was asked may have happened."
    ),
    "store_corrupt": CodeInfo(
        Unavailable, 503, "The store's file is damaged, or is not dtask's; nothing was changed."
    ),
    "unreachable": CodeInfo(Unavailable, 503, "No answer came, or the connection broke."),
}


def _remade(kind: type[DtaskError], sentence: str, code: str, facts: dict[str, Any]) -> DtaskError:
    return kind(sentence, code=code, **facts)


def from_body(status: int, body: object) -> DtaskError:
    """Rebuild the error that an answer of HTTP `status` with a JSON `body` describes.

    A body that is not dtask's (a proxy's page, say) becomes `unreachable` for 5xx and
    `malformed` otherwise, so that a caller never meets another kind of exception.
    """
    if isinstance(body, dict):
        facts = {str(name): value for name, value in body.items()}
        code = facts.pop("code", None)
        sentence = facts.pop("error", None)
        if isinstance(code, str) and code in CODES and isinstance(sentence, str):
            return CODES[code].error(sentence, code=code, **facts)
    code = "unreachable" if status >= 500 else "malformed"  # noqa: PLR2004 (HTTP's server errors)
    return CODES[code].error(
        f"HTTP {status} with a body that is not dtask's: is this address a dtask process?",
        code=code,
    )
