"""From the body of a question to the core's event."""

from dtask.core.placement import tags
from dtask.core.placement.events import Ask
from dtask.errors import Denied
from dtask.wire.placement import ScheduleBody, check_id


def ask_of(body: ScheduleBody, trusted: bool) -> Ask:
    """The core's event. Raises InvalidRequest for what the types can't tell.

    `trusted`: the request carries the token. Raises Denied if the body needs that and it does not.
    """
    check_id(body.task_id, "task_id")
    if body.preferred_tags:
        for i, tag in enumerate(body.preferred_tags):
            tags.check_tag(tag, f"preferred_tags[{i}]")
    if body.exclude_workers:
        for i, worker_id in enumerate(body.exclude_workers):
            check_id(worker_id, f"exclude_workers[{i}]")
    if body.trusted and not trusted:
        raise Denied(
            "trusted: only requests with the token may ask for trusted workers: send it as "
            "`authorization: Bearer TOKEN`.",
            code="no_token",
            field="trusted",
        )
    return Ask(
        body.task_id,
        tags.parse(body.required_tags) if body.required_tags else (),
        body.preferred_tags or (),
        body.exclude_workers or (),
        body.strategy,
        body.ttl_s,
        body.trusted,
    )
