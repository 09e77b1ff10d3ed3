"""Every command line of ours in deploy/ is one that our programs understand."""

import re
import shlex
from typing import Any

import click
import yaml

from deploy.services import DEPLOY
from dtask.cli import main, scheduler, worker

PROGRAMS: dict[str, click.Command] = {
    "dtask-scheduler": scheduler.command,
    "dtask-worker": worker.command,
}

COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "container" / "compose.yaml").read_text())


def check(words: list[str]) -> None:
    name, *arguments = words
    command: click.Command | None = PROGRAMS.get(name)
    if name == "dtask":
        command = main.group.get_command(click.Context(main.group), arguments.pop(0))
    assert command is not None
    command.make_context(name, arguments).close()


def test_of_the_units() -> None:
    for unit in (DEPLOY / "systemd").glob("*.service"):
        (command,) = re.findall(r"^ExecStart=/opt/dtask/bin/(.*)$", unit.read_text(), re.MULTILINE)
        check(shlex.split(command))


def test_of_the_services() -> None:
    assert len(COMPOSE["services"]) == 3
    for service in COMPOSE["services"].values():
        check(service["command"])
        if "healthcheck" in service:
            check(service["healthcheck"]["test"][1:])


def test_of_the_image() -> None:
    text = (DEPLOY / "container" / "Containerfile").read_text()
    check(yaml.safe_load(text.rpartition("\nCMD ")[2]))


def test_workers_wait_for_the_token_and_read_it_where_the_scheduler_makes_it() -> None:
    services = COMPOSE["services"]
    made = f"{services['scheduler']['environment']['XDG_STATE_HOME']}/dtask"
    assert f"token:{made}" in services["scheduler"]["volumes"]
    for name in ("worker-1", "worker-2"):
        assert f"token:{made}:ro" in services[name]["volumes"]
        assert services[name]["environment"]["DTASK_TOKEN_FILE"] == f"{made}/token"
        assert services[name]["depends_on"]["scheduler"]["condition"] == "service_healthy"
