"""Requests of the API as values, and the answers to them as typed results or errors. No I/O."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal, TypedDict, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from msgspec.json import Decoder

from dtask import errors
from dtask.client.acts import Foreign, Lost, Reply, Request
from dtask.client.results import Placement, SignInCode, Worker
from dtask.core.placement import tags
from dtask.errors import DtaskError, InvalidRequest, NotFound, Unavailable
from dtask.wire import codec, limits
from dtask.wire.placement import PlacementAnswer
from dtask.wire.sessions import CodeAnswer
from dtask.wire.tasks import TaskAnswer

T = TypeVar("T")

#: A list of tags or requirements, or its text form: elements joined by commas.
Tags = str | Iterable[str]
Strategy = Literal["least_loaded", "bin_pack"]
Stream = Literal["stdout", "stderr"]

#: Rows asked for at a time.
PAGE_ROWS: Final = 5_000


class Wishes(TypedDict, total=False):
    """What a task wants of its worker. The same names as on the wire; all may be left out."""

    #: All must hold: a tag, `a|b` (any of), `!a` (none of), or a comparison such as `cuda>=12.0`.
    required_tags: Tags
    #: Workers that carry more of these come first.
    preferred_tags: Tags
    exclude_workers: Iterable[str]
    #: `least_loaded`, the default, or `bin_pack`: the fullest that still fits.
    strategy: Strategy
    #: How long the slot is held for a task that its worker does not report; 30 by default.
    ttl_s: float | None


class Question(Wishes, total=False):
    """Which worker should run this?"""

    #: Made if it is left out. With the same one, asking again gets the same answer.
    task_id: str | None


_FIELDS: Final = ("task_id", *Wishes.__annotations__)


class _BatchAnswer(msgspec.Struct, frozen=True):
    placements: list[msgspec.Raw]


_ANYTHING: Final = Decoder()
_PLACEMENT: Final = Decoder(PlacementAnswer)
_BATCH: Final = Decoder(_BatchAnswer)
_WORKER: Final = Decoder(Worker)
_WORKERS: Final = Decoder(list[Worker])
_TASK: Final = Decoder(TaskAnswer)
_CODE: Final = Decoder(CodeAnswer)


# To the scheduler


def question(given: Question, *, made_id: str) -> dict[str, Any]:
    """`given` as it goes on the wire, named `made_id` if it has no name.

    Raises InvalidRequest for a field that is not one of Question's.
    """
    fields: dict[str, Any] = {"task_id": made_id}
    for name, value in given.items():
        if name not in _FIELDS:
            raise InvalidRequest(
                f"{name}: a task has no such field: expected some of {', '.join(_FIELDS)}.",
                code="unknown_field",
                field=name,
            )
        if value is not None:
            fields[name] = _plain(name, value)
    return fields


def schedule(asked: Mapping[str, Any], *, excluded: Iterable[str] = ()) -> Request:
    """Place one task, on none of the `excluded`, which add to those it excludes itself."""
    if shunned := list(excluded):
        asked = {**asked, "exclude_workers": [*asked.get("exclude_workers", ()), *shunned]}
    return Request(method="POST", target="/api/v1/schedule", body=encoded(asked))


def batches(asked: list[dict[str, Any]], *, all_or_nothing: bool) -> Iterator[tuple[int, Request]]:
    """The requests that place these tasks, each with the number of tasks that it holds.

    A batch that is placed whole or not at all can't be cut: one that is too long is sent as it
    is, and the scheduler's refusal says what fits.
    """
    tail = b'],"all_or_nothing":true}' if all_or_nothing else b"]}"
    pending: list[bytes] = []
    size = 0
    for one in map(encoded, asked):
        over = len(pending) == limits.BATCH_TASKS_MAX or size + len(one) > limits.BATCH_BYTES_MAX
        if over and pending and not all_or_nothing:
            yield len(pending), _batch(pending, tail)
            pending, size = [], 0
        if not pending:
            size = len(b'{"tasks":[') + len(tail)
        pending.append(one)
        size += len(one) + 1
    if pending:
        yield len(pending), _batch(pending, tail)


def release(task_id: str, fence: int | None) -> Request:
    """End the lease of a task; with a fence, only that one."""
    query = "" if fence is None else f"?fence={fence}"
    return Request(method="DELETE", target=f"/api/v1/schedule/{path_segment(task_id)}{query}")


def workers(*, tag: str | None, status: str | None, after: str | None) -> Request:
    """One page of workers, by id, those after `after`."""
    query = {"tag": tag, "status": status, "after": after, "limit": PAGE_ROWS}
    given = {name: value for name, value in query.items() if value is not None}
    return Request(method="GET", target=f"/api/v1/workers?{query_text(given)}")


def drain(worker_id: str, *, drained: bool) -> Request:
    """An operator's word whether a worker takes new tasks."""
    verb = "drain" if drained else "undrain"
    return Request(
        method="POST", target=f"/api/v1/workers/{path_segment(worker_id)}/{verb}", body=b"{}"
    )


def sign_in_code() -> Request:
    """A code that signs one browser in."""
    return Request(method="POST", target="/api/v1/sign-in-codes", body=b"{}")


# To a worker


def worker_url(address: str) -> str:
    """Where a worker's listener is: addresses are HOST:PORT or URLs."""
    return (address if "://" in address else f"http://{address}").rstrip("/")


def task_fields(
    command: Iterable[str], env: Mapping[str, str] | None, timeout_s: float | None
) -> dict[str, Any]:
    """What a worker is told to run. Raises InvalidRequest unless `command` is a list of words."""
    fields: dict[str, Any] = {"command": words(command)}
    if env:
        fields["env"] = {str(name): str(value) for name, value in env.items()}
    if timeout_s is not None:
        fields["timeout_s"] = timeout_s
    return fields


def words(command: Iterable[str]) -> list[str]:
    """A command as it goes on the wire. Raises InvalidRequest unless it is a list of words."""
    if isinstance(command, str):
        raise InvalidRequest(
            f"command: {command!r} is one text: expected a list of words, such as "
            f"['sh', '-c', 'echo hello | wc'] for a line of shell.",
            code="malformed",
            field="command",
        )
    return [str(word) for word in command]


def start(placement: Placement, fields: Mapping[str, Any]) -> Request:
    """Run a command in the slot of a placement."""
    body = {"task_id": placement.task_id, "fence": placement.fence, **fields}
    return Request(
        method="POST", target="/api/v1/tasks", body=encoded(body), ticket=placement.ticket
    )


def look(placement: Placement, *, wait_s: float = 0.0) -> Request:
    """Read the state of a task; with `wait_s`, once it has ended or that time has passed."""
    return _task("GET", placement, "", {"wait_s": f"{wait_s:g}"} if wait_s else {})


def stop(placement: Placement) -> Request:
    """Stop a task and all its processes."""
    return _task("DELETE", placement, "", {})


def log(placement: Placement, stream: Stream, *, limit: int) -> Request:
    """Read the first `limit` bytes that a task wrote."""
    return _task("GET", placement, "/log", {"stream": stream, "limit": str(limit)})


# Answers


def read_placement(task_id: str, reply: Reply) -> Placement:
    """The placement. Raises NoWorker, or any other error that the scheduler answered."""
    return _placement(task_id, read(_PLACEMENT, reply))


def read_batch(task_ids: list[str], reply: Reply) -> list[Placement | DtaskError]:
    """One placement or error for each task, in their order."""
    entries = read(_BATCH, reply).placements
    if len(entries) != len(task_ids):
        raise _foreign(reply)
    return [_entry(task_id, bytes(raw)) for task_id, raw in zip(task_ids, entries, strict=True)]


def read_workers(reply: Reply) -> list[Worker]:
    """One page of workers."""
    return read(_WORKERS, reply)


def read_worker(reply: Reply) -> Worker:
    """One worker."""
    return read(_WORKER, reply)


def read_sign_in_code(url: str, reply: Reply) -> SignInCode:
    """The code, and where the scheduler at `url` takes it."""
    try:
        answer = read(_CODE, reply)
    except NotFound:
        raise NotFound(
            f"The scheduler at {url} has no dashboard: it is of dtask 0.1 or older.",
            code="no_route",
        ) from None
    link = f"{url}/dashboard/#code={answer.code}"
    return SignInCode(code=answer.code, expires_at=answer.expires_at, url=link)


def read_bytes(reply: Reply) -> bytes:
    """A part of a log."""
    check(reply)
    return reply.body


def check(reply: Reply) -> None:
    """Raise the error that the reply is, if it is one."""
    if 200 <= reply.status < 300:  # noqa: PLR2004 (HTTP's successes)
        return
    check_sound(reply)
    body = _json(reply.body)
    if not _is_ours(body):
        raise _foreign(reply)
    raise errors.from_body(reply.status, body)


def check_sound(reply: Reply) -> None:
    """Raise Lost for a 5xx that is not dtask's: a proxy lost the request, or the answer to it."""
    if reply.status >= 500 and not _is_ours(_json(reply.body)):  # noqa: PLR2004 (server errors)
        raise Lost(f"HTTP {reply.status} from something else than dtask", code="unreachable")


def check_serving(reply: Reply) -> None:
    """Raise Unavailable if that is what the reply says."""
    if reply.status == 503:  # noqa: PLR2004 (all of Unavailable's codes)
        body = _json(reply.body)
        if _is_ours(body) and isinstance(error := errors.from_body(503, body), Unavailable):
            raise error


def read_task(placement: Placement, reply: Reply) -> TaskAnswer:
    """The task of this placement as its worker sees it. Raises the error that is answered."""
    answer = read(_TASK, reply)
    if (answer.task_id, answer.fence) != (placement.task_id, placement.fence):
        raise _foreign(reply)
    return answer


def read(decoder: Decoder[T], reply: Reply) -> T:
    """The body of a success. Raises the error that is answered."""
    check(reply)
    try:
        return decoder.decode(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _foreign(reply) from None


def _is_ours(body: object) -> bool:
    return isinstance(body, dict) and body.get("code") in errors.CODES


def _foreign(reply: Reply) -> Foreign:
    return Foreign(str(errors.from_body(reply.status, None)), code="malformed")


def _entry(task_id: str, raw: bytes) -> Placement | DtaskError:
    try:
        return _placement(task_id, _PLACEMENT.decode(raw))
    except msgspec.DecodeError:
        return errors.from_body(503, _json(raw))


def _placement(task_id: str, answer: PlacementAnswer) -> Placement:
    return Placement(
        task_id=task_id,
        worker_id=answer.worker_id,
        address=answer.address,
        fence=answer.fence,
        expires_at=answer.expires_at,
        ticket=answer.ticket,
    )


def _json(raw: bytes) -> object:
    try:
        return _ANYTHING.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _batch(entries: list[bytes], tail: bytes) -> Request:
    body = b'{"tasks":[' + b",".join(entries) + tail
    return Request(method="POST", target="/api/v1/schedule", body=body)


def _task(method: str, placement: Placement, suffix: str, query: dict[str, str]) -> Request:
    target = f"/api/v1/tasks/{path_segment(placement.task_id)}{suffix}"
    return Request(
        method=method,
        target=f"{target}?{query_text({'fence': placement.fence, **query})}",
        ticket=placement.ticket,
    )


def path_segment(name: str) -> str:
    """An id as part of a path. An id of dots alone would be taken for a step up or none."""
    return quote(name, safe="", errors="surrogatepass").replace(".", "%2E")


def query_text(given: Mapping[str, object]) -> str:
    """Parameters. What is no text of Unicode is for the other side to refuse, as in paths."""
    return urlencode(given, doseq=True, errors="surrogatepass")


def encoded(body: object) -> bytes:
    """JSON. Raises InvalidRequest for values that it has no form for."""
    try:
        return codec.encode(body)
    except TypeError as error:
        raise InvalidRequest(
            f"This can't be sent as JSON ({error}): expected text, numbers and lists of them.",
            code="malformed",
            field="$",
        ) from None


def _plain(name: str, value: object) -> object:
    """A field's value as JSON has it: lists of any kind, and their text forms, as a list."""
    if isinstance(value, str):
        if name in ("required_tags", "preferred_tags"):
            return list(tags.split(value))
        return [value] if name == "exclude_workers" else value
    return list(value) if isinstance(value, Iterable) else value
