"""The token: who has it can run anything as the workers' user.

It is found in this order: `--token-file`, `DTASK_TOKEN`, `DTASK_TOKEN_FILE`, and the file
`$XDG_STATE_HOME/dtask/token`, which the scheduler or worker that needs it first makes, atomically
and for its own user alone (0600). So processes of one user on one machine share it without any
set-up. Clients use one that is there and make none: one of their own would fit nowhere.
"""

import contextlib
import os
import secrets
import stat
import tempfile
from pathlib import Path
from typing import Final

from dtask.errors import Denied, InvalidRequest
from dtask.state_home import state_home

#: Characters of a token, generous both ways: short ones can be guessed.
TOKEN_CHARS_MIN: Final = 16
TOKEN_CHARS_MAX: Final = 512


def find_token(token_file: str | Path | None = None) -> str:
    """The token, made if there is none yet.

    Raises Denied with what is wrong and what to do, InvalidRequest if the user has no home.
    """
    if (token := _named_token(token_file)) is not None:
        return token
    path = state_home() / "token"
    try:
        if not path.exists():
            _make(path)
    except OSError as error:
        raise Denied(
            f"The token file {path} can't be made ({error.strerror}): "
            f"set DTASK_TOKEN_FILE or XDG_STATE_HOME to a place this user may write.",
            code="no_token",
        ) from None
    return _read(path)


def known_token(token_file: str | Path | None = None) -> str | None:
    """The token, None if this user has none. Raises Denied if one that is named can't be used."""
    if (token := _named_token(token_file)) is not None:
        return token
    try:
        path = state_home() / "token"
        return _read(path) if path.exists() else None
    except (InvalidRequest, PermissionError):  # no home, or none of ours
        return None


def _named_token(token_file: str | Path | None) -> str | None:
    if token_file is not None:
        return _read(Path(token_file))
    if text := os.environ.get("DTASK_TOKEN"):
        return _checked(text.strip(), "DTASK_TOKEN")
    if name := os.environ.get("DTASK_TOKEN_FILE"):
        return _read(Path(name))
    return None


def _make(path: Path) -> None:
    """Write a new token beside `path` and link it there: the first of several makers wins."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".token-")  # 0600 by mkstemp
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.unlink(name)  # noqa: PTH108 (mkstemp gave a name, not a Path)


def _read(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Denied(f"The token file {path} can't be read ({reason}).", code="no_token") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise Denied(
            f"The token file {path} is open to other users (mode {mode & 0o777:o}): "
            f"run chmod 600 on it, and make a new token if somebody may have read it.",
            code="wrong_token",
        )
    return _checked(text, str(path))


def _checked(token: str, source: str) -> str:
    if not TOKEN_CHARS_MIN <= len(token) <= TOKEN_CHARS_MAX or not (
        token.isascii() and token.isprintable() and " " not in token
    ):
        raise Denied(
            f"The token in {source} is not usable: expected {TOKEN_CHARS_MIN} to {TOKEN_CHARS_MAX} "
            f"printable ASCII characters without spaces.",
            code="wrong_token",
        )
    return token
