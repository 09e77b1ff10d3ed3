"""`dtask dashboard`: the pages of a scheduler in a browser, which is signed in by a one-time code.

The code stands in the part of the address that browsers send to nobody. A browser's command line
shows it to all users of this machine; it is good once, and the browser has used it by then.
"""

import os
import webbrowser
from typing import Final
from urllib.parse import urlsplit

import click

from dtask.addresses import is_loopback
from dtask.cli.invocation import JSON, SCHEDULER, TOKEN_FILE, Invocation, quiet

#: One of these says that there is somewhere to open a browser, or which one.
_PLACES: Final = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")


@click.command("dashboard")
@click.option("--no-browser", is_flag=True, help="Print the address, and open nothing.")
@SCHEDULER
@TOKEN_FILE
@JSON
@quiet("Print the address alone, and open nothing.")
@click.pass_obj
def command(invocation: Invocation, *, no_browser: bool) -> None:
    """Open the dashboard in a browser, signed in for half a day.

    Where there is no browser, it prints an address that signs one in: once, within a minute.
    Whoever opens it can do what you can.
    """
    with invocation.client() as client:
        found = client.sign_in_code()
    if invocation.mode == "json":
        invocation.print_json({"url": found.url, "expires_at": found.expires_at})
    elif invocation.mode == "quiet":
        click.echo(found.url)
    elif not no_browser and _opened(found.url):
        click.echo(f"Opened in a browser: {found.url.partition('#')[0]}")
        click.echo("If none shows it, print an address to open: dtask dashboard --no-browser")
    else:
        click.echo(found.url)
        click.echo("It signs one browser in: open it within a minute.")
        if (hint := _from_afar(found.url)) is not None:
            click.echo(hint)


def _opened(url: str) -> bool:
    """Whether a browser was found, and started."""
    if not any(os.environ.get(place) for place in _PLACES):
        return False
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return False
    if type(browser) is webbrowser.GenericBrowser and not os.environ.get("BROWSER"):
        return False  # one for terminals, which runs no pages
    return browser.open(url)


def _from_afar(url: str) -> str | None:
    """How to come here from the machine that somebody has logged in from."""
    place = urlsplit(url)
    if not os.environ.get("SSH_CONNECTION") or not is_loopback(place.hostname or ""):
        return None
    port = place.port or 80
    return f"On your own machine, first: ssh -N -L {port}:127.0.0.1:{port} {os.uname().nodename}"
