"""`dtask dashboard`: a browser that is let in, or an address that lets one in."""

import json
import socket
import stat
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from client.stand_in import error, standing_in
from servers import RunningScheduler
from terminal import Ran, Shell, shell_of


def signs_in(url: str) -> bool:
    """Whether the code of an address is taken."""
    place = urlsplit(url)
    assert place.path == "/dashboard/"
    code = place.fragment.removeprefix("code=")
    assert code != place.fragment
    origin = f"http://{place.netloc}"
    answer = httpx.post(f"{origin}/api/v1/session", json={"code": code}, headers={"origin": origin})
    return answer.status_code == 200


def browser(directory: Path, exit_code: int = 0) -> tuple[str, Path]:
    """A browser that writes down what it is to open; and where."""
    opened = directory / "opened"
    program = directory / "browser"
    program.write_text(f'#!/bin/sh\necho "$1" > {opened}\nexit {exit_code}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program), opened


def without_display(scheduler: RunningScheduler | None = None, **more: str) -> Shell:
    shell = shell_of(scheduler, **more)
    for name in {"DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "SSH_CONNECTION"} - more.keys():
        shell.env.pop(name, None)
    return shell


def test_a_browser_is_opened_signed_in(scheduler: RunningScheduler, tmp_path: Path) -> None:
    program, opened = browser(tmp_path)
    ran = without_display(scheduler, BROWSER=program).run("dashboard")
    assert (ran.code, ran.err) == (0, "")
    assert f"Opened in a browser: {scheduler.url}/dashboard/\n" in ran.out
    assert "code=" not in ran.out
    assert signs_in(opened.read_text().strip())


@pytest.mark.parametrize("more", [{}, {"BROWSER": "false"}, {"DISPLAY": ":98", "PATH": "/nowhere"}])
def test_without_a_browser_the_address_is_printed(
    scheduler: RunningScheduler, more: dict[str, str]
) -> None:
    address, note = without_display(scheduler, **more).run("dashboard").out.splitlines()
    assert "within a minute" in note
    assert signs_in(address)
    assert not signs_in(address)  # once


@pytest.mark.parametrize("option", ["--no-browser", "--quiet", "--json"])
def test_who_wants_the_address_gets_it_alone(
    scheduler: RunningScheduler, tmp_path: Path, option: str
) -> None:
    program, opened = browser(tmp_path)
    ran = without_display(scheduler, BROWSER=program).run("dashboard", option)
    address = ran.json["url"] if option == "--json" else ran.out.splitlines()[0]
    assert signs_in(address)
    assert not opened.exists()
    assert len(ran.out.splitlines()) == {"--no-browser": 2, "--quiet": 1, "--json": 4}[option]


def test_who_has_logged_in_from_elsewhere_is_told_how_to_come_here(
    scheduler: RunningScheduler,
) -> None:
    shell = without_display(scheduler, SSH_CONNECTION="192.0.2.1 50000 192.0.2.2 22")
    port = urlsplit(scheduler.url).port
    assert f"ssh -N -L {port}:127.0.0.1:{port} " in shell.run("dashboard").out


def refused(answer: Any) -> Ran:
    """What is said where the scheduler answers so."""
    with standing_in(lambda _: answer) as scheduler:
        return shell_of(
            DTASK_SCHEDULER=f"http://{scheduler.address}", DTASK_TOKEN="a-token-for-tests"
        ).run("dashboard")


def test_a_scheduler_of_before_is_called_too_old() -> None:
    ran = refused(error("no_route", 404))
    assert (ran.code, ran.out) == (1, "")
    assert "has no dashboard: it is of dtask 0.1 or older." in ran.err


def test_what_is_no_scheduler_is_called_so() -> None:
    ran = refused((404, b"<html>Not found</html>"))
    assert (ran.code, ran.out) == (1, "")
    assert "is this address a dtask process?" in ran.err


def test_a_wrong_token_is_told(scheduler: RunningScheduler) -> None:
    shell = shell_of(DTASK_SCHEDULER=scheduler.url, DTASK_TOKEN="not-the-right-token")
    ran = shell.run("dashboard")
    assert (ran.code, ran.out) == (1, "")
    assert "--token-file" in ran.err
    assert json.loads(shell.run("dashboard", "--json").out)["code"] == "wrong_token"


def test_where_nobody_listens_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    ran = shell_of(DTASK_SCHEDULER=url, DTASK_TOKEN="a-token-for-tests").run("dashboard")
    assert (ran.code, ran.out) == (1, "")
    assert "To start one here: dtask-scheduler --port" in ran.err
