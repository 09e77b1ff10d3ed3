"""A new file that is there whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from dtask.errors import InvalidRequest


@contextlib.contextmanager
def saving(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write to, which gets its name at the end, for its owner alone.

    Raises InvalidRequest if the name is taken or nothing can be written there.
    """
    target = Path(path)
    temporary: Path | None = None
    if target.exists():  # before anything is asked for
        raise _taken(target)
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
        temporary = Path(name)
        with open(handle, "wb") as file:  # noqa: PTH123 (mkstemp gave a handle)
            yield file
            file.flush()
            os.fsync(file.fileno())
        target.hardlink_to(temporary)  # unlike a rename, it replaces nothing
    except FileExistsError:
        raise _taken(target) from None
    except OSError as error:
        raise InvalidRequest(
            f"{target} can't be written: {error.strerror}.", code="malformed", field="path"
        ) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _taken(target: Path) -> InvalidRequest:
    return InvalidRequest(
        f"{target} exists: expected the name of a new file.", code="malformed", field="path"
    )
