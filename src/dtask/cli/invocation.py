"""What one command line says that means the same for every command.

Which scheduler is asked, with which token, and how the answer is printed: as text for people, as
one JSON document for programs (errors included), or `quiet`, the bare names for shell scripts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

import click

from dtask.addresses import is_loopback, scheduler_urls
from dtask.errors import DtaskError

if TYPE_CHECKING:
    from dtask.client import AsyncClient, Client

Mode = Literal["text", "json", "quiet"]

#: What an option can be added to: a command, or a function that is about to become one.
FC = TypeVar("FC", bound=Callable[..., Any] | click.Command)


@dataclass(slots=True)
class Invocation:
    """The values of the shared options; commands receive it through `click.pass_obj`."""

    #: URLs joined by commas; None: DTASK_SCHEDULER, or the default.
    scheduler: str | None = None
    #: None: found as `dtask.credentials` says.
    token_file: str | None = None
    mode: Mode = "text"
    #: A token was found here, so one that is refused is the wrong one.
    has_token: bool = False

    @property
    def url(self) -> str:
        """The scheduler that is asked first."""
        return scheduler_urls(self.scheduler)[0]

    def client(self) -> "Client":
        """A client of the scheduler that was named."""
        from dtask.client import Client  # noqa: PLC0415 (httpx: 100 ms that --help need not pay)

        return Client(self.scheduler, token=self._token())

    def async_client(self) -> "AsyncClient":
        """The same for asyncio."""
        from dtask.client import AsyncClient  # noqa: PLC0415 (as above)

        return AsyncClient(self.scheduler, token=self._token())

    def print_json(self, value: Any) -> None:  # noqa: ANN401 (whatever has a JSON form)
        """Print `value` as one JSON document."""
        from msgspec import json  # noqa: PLC0415 (13 ms that --help need not pay)

        click.echo(json.format(json.encode(value), indent=2))

    def print_json_line(self, value: Any) -> None:  # noqa: ANN401 (same)
        """Print `value` as one line of JSON, at once: one of many."""
        from msgspec import json  # noqa: PLC0415 (same)

        click.echo(json.encode(value))

    def fail(self, error: DtaskError) -> None:
        """Tell the user what went wrong: a sentence on standard error, or a JSON document."""
        if self.mode == "json":
            self.print_json(error.body())
            return
        click.echo(f"Error: {error}", err=True)
        if error.code == "unreachable" and (hint := _to_start(self.url)):
            click.echo(hint, err=True)
        if error.code == "no_token" or (error.code == "wrong_token" and self.has_token):
            which = "another" if self.has_token else "the"
            click.echo(f"To send {which} token: --token-file FILE, or DTASK_TOKEN_FILE.", err=True)

    def _token(self) -> str | None:
        from dtask.credentials import known_token  # noqa: PLC0415 (as above)

        token = known_token(self.token_file)
        self.has_token = token is not None
        return token


def _to_start(scheduler: str) -> str | None:
    """How a scheduler would be started that is to answer at this URL; None if it isn't here."""
    url = urlsplit(scheduler)
    if url.scheme == "https":
        return "dtask-scheduler itself speaks http://, https:// is a proxy's."
    if is_loopback(url.hostname or ""):
        return f"To start one here: dtask-scheduler --port {url.port or 80}"
    return None


def _note(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """Keep what was given; an option left out takes nothing back that stood before the command."""
    if value is not None:
        setattr(context.ensure_object(Invocation), str(parameter.name), value)


SCHEDULER = click.option(
    "--scheduler",
    metavar="URL",
    expose_value=False,
    callback=_note,
    help="Scheduler to ask; several, joined by commas, are tried in turn. "
    "Else DTASK_SCHEDULER, else http://127.0.0.1:8080.",
)
TOKEN_FILE = click.option(
    "--token-file",
    metavar="FILE",
    type=click.Path(),
    expose_value=False,
    callback=_note,
    help="File that holds the token. Else DTASK_TOKEN, DTASK_TOKEN_FILE, or this user's own.",
)
JSON = click.option(
    "--json",
    "mode",
    flag_value="json",
    default=None,
    expose_value=False,
    callback=_note,
    help="Print one JSON document, errors too.",
)


def quiet(help_text: str) -> Callable[[FC], FC]:
    """The option --quiet; what it prints depends on the command."""
    return click.option(
        "--quiet",
        "mode",
        flag_value="quiet",
        default=None,
        expose_value=False,
        callback=_note,
        help=help_text,
    )
