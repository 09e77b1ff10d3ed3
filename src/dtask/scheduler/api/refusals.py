"""Refused requests that an operator wants to hear of: wrong credentials, and a store that fails.

Refusals of placement are answers like others and stand in no line.
"""

import logging
from typing import Final

from dtask.errors import Denied, DtaskError, Unavailable
from dtask.scheduler import log
from dtask.scheduler.api.answers import Scope
from dtask.scheduler.api.request_id import request_id

#: Lines a second. Whoever has the wrong token asks again and again.
LINES_MAX: Final = 10

#: Characters of a path that are told.
_PATH_CHARS_MAX: Final = 200


class Refusals:
    """Tells of them."""

    def __init__(self) -> None:
        self._lines = log.Rationed("more requests were refused", lines_max=LINES_MAX)

    def note(self, scope: Scope, error: DtaskError) -> bool:
        """Write the line, if the error is worth one, and whether it is."""
        if not isinstance(error, Denied | Unavailable):
            return False
        client = scope["client"]
        self._lines.say(
            "request refused",
            level=logging.WARNING,
            request_id=request_id(scope),
            method=scope.get("method", "GET"),  # a WebSocket has none
            path=scope["path"][:_PATH_CHARS_MAX],
            peer=client[0] if client else None,
            code=error.code,
            error=str(error),
        )
        return True
