"""Where dtask's processes keep what must outlive them."""

import os
from pathlib import Path


def state_home() -> Path:
    """`$XDG_STATE_HOME/dtask`, by default `~/.local/state/dtask`. Not created here."""
    base = os.environ.get("XDG_STATE_HOME", "")
    # The XDG specification tells programs to ignore a relative path.
    root = Path(base) if base.startswith("/") else Path.home() / ".local" / "state"
    return root / "dtask"
