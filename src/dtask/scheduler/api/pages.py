"""The pages for browsers: `/dashboard/` and the files below it, handed out as they are."""

from collections.abc import Mapping
from typing import Final, Protocol

from dtask.errors import NotFound
from dtask.scheduler.api.answers import Receive, Scope, Send
from dtask.scheduler.api.query import parameters

#: A page runs our own files, speaks with us alone, and stands in nobody's frame.
_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_SAFETY: Final = [
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    # Kept, but asked for again each time: after an upgrade no page is made of two versions.
    (b"cache-control", b"no-cache"),
]

HOME: Final = b"/dashboard/"


class Page(Protocol):
    """One file."""

    @property
    def body(self) -> bytes:
        """The bytes of the file."""
        ...

    @property
    def content_type(self) -> str:
        """What they are."""
        ...

    @property
    def etag(self) -> str:
        """Another one for other bytes, quoted."""
        ...


class Pages:
    """The endpoint."""

    def __init__(self, pages: Mapping[str, Page]) -> None:
        self._pages = pages

    async def __call__(self, scope: Scope, _receive: Receive, send: Send, _trusted: bool) -> None:
        """The file, unless the browser has it already."""
        parameters(scope)
        name = scope["path_params"]["file"]
        page = self._pages.get(name)
        if page is None:
            raise NotFound(
                f"There is no page {name[:100]!r}: expected /dashboard/.", code="no_route"
            )
        etag = page.etag.encode()
        known = any(name == b"if-none-match" and etag in value for name, value in scope["headers"])
        headers = [
            *_SAFETY,
            (b"etag", etag),
            (b"content-type", page.content_type.encode()),
            (b"content-length", b"%d" % len(page.body)),  # of a 304: what a 200 would have
        ]
        await send(
            {"type": "http.response.start", "status": 304 if known else 200, "headers": headers}
        )
        await send({"type": "http.response.body", "body": b"" if known else page.body})


async def go_home(scope: Scope, _receive: Receive, send: Send, _trusted: bool) -> None:
    """The endpoint of `/`: people with a browser want the pages."""
    parameters(scope)
    headers = [(b"location", HOME), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 307, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
