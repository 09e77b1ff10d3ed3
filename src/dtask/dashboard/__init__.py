"""The pages over the public API: files that a scheduler hands out, and nothing that runs in it.

There is no build step: what lies in `static` is what a browser gets.
"""

from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

STATIC: Final = Path(__file__).with_name("static")

#: What browsers are told of each kind of file; others are no pages.
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class Page(NamedTuple):
    """One file as it is sent."""

    body: bytes
    content_type: str
    etag: str


def pages() -> dict[str, Page]:
    """All files, by their path below `/dashboard/`; `index.html` is the empty one."""
    found = {}
    for file in sorted(STATIC.rglob("*")):
        if file.suffix in _TYPES:
            body = file.read_bytes()
            name = file.relative_to(STATIC).as_posix()
            etag = f'"{sha256(body).hexdigest()[:32]}"'
            found["" if name == "index.html" else name] = Page(body, _TYPES[file.suffix], etag)
    return found
