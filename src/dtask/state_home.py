"""Where dtask's processes keep what must outlive them."""

import os
from pathlib import Path

from dtask.errors import InvalidRequest


def state_home() -> Path:
    """`$XDG_STATE_HOME/dtask`, by default `~/.local/state/dtask`. Not created here.

    Raises InvalidRequest if the user has no home (a container's made-up user, say).
    """
    base = os.environ.get("XDG_STATE_HOME", "")
    # The XDG specification tells programs to ignore a relative path.
    if base.startswith("/"):
        return Path(base) / "dtask"
    try:
        return Path.home() / ".local" / "state" / "dtask"
    except RuntimeError:
        raise InvalidRequest(
            "XDG_STATE_HOME: this user has no home directory: set it to an absolute path that "
            "this user may write.",
            code="malformed",
            field="XDG_STATE_HOME",
        ) from None
