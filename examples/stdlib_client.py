"""A client of nothing but the standard library: copy it, or write it anew in any language.

    DTASK_SCHEDULER=http://127.0.0.1:8080 python3 examples/stdlib_client.py echo hello

It asks for a slot. With the token it also gets a ticket, and runs the command on the worker with
it; without, it prints where the task should go. The token is for the scheduler alone: it comes
from DTASK_TOKEN, or the file DTASK_TOKEN_FILE, or the one that dtask's processes share.
The SDK does more: it asks another worker when one is gone, and asks twice before it gives up.
"""

import json
import os
import sys
import uuid
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

SCHEDULER = os.environ.get("DTASK_SCHEDULER", "http://127.0.0.1:8080")
STATE_HOME = os.environ.get("XDG_STATE_HOME") or "~/.local/state"


class NoRedirects(HTTPRedirectHandler):
    """A redirect would take the token along, wherever it leads."""

    def redirect_request(self, *_: object) -> None:
        """Answer a redirect with an error."""


http = build_opener(ProxyHandler({}), NoRedirects())


def find_token() -> str:
    """The token, or nothing."""
    if token := os.environ.get("DTASK_TOKEN"):
        return token
    name = os.environ.get("DTASK_TOKEN_FILE") or f"{STATE_HOME}/dtask/token"
    path = Path(name).expanduser()
    return path.read_text().strip() if path.exists() else ""


def call(method: str, url: str, authorization: str = "", body: object = None) -> bytes:
    """One request and the body of its answer; errors end the program."""
    headers = {"content-type": "application/json"}
    if authorization:
        headers["authorization"] = authorization
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data=data, headers=headers, method=method)
    try:
        with http.open(request, timeout=70) as answer:
            content: bytes = answer.read()
            return content
    except HTTPError as error:  # {"error": "a sentence", "code": "a_word", ..}
        if method == "DELETE" and error.code == HTTPStatus.NOT_FOUND:
            return b""  # its worker has already said that the task is over
        sys.exit(f"{method} {url}: {error.read().decode()}")
    except URLError as error:
        sys.exit(f"{url}: {error.reason}")


def run(placement: dict[str, Any], task_id: str, command: list[str]) -> int:
    """Run the command in the slot of the placement; return its exit code."""
    ticket = f"Ticket {placement['ticket']}"
    tasks = f"http://{placement['address']}/api/v1/tasks"
    fence = placement["fence"]
    body = {"task_id": task_id, "fence": fence, "command": command}
    task = json.loads(call("POST", tasks, ticket, body))
    while task["state"] != "ended":  # the answer is held for up to 60 s
        task = json.loads(call("GET", f"{tasks}/{task_id}?fence={fence}&wait_s=60", ticket))
    log = call("GET", f"{tasks}/{task_id}/log?fence={fence}&stream=stdout", ticket)
    sys.stdout.write(log.decode())
    return int(task.get("exit_code", 1))


def main(command: list[str]) -> int:
    """Place the command, run it if that is allowed, and give the slot back."""
    token = find_token()
    bearer = f"Bearer {token}" if token else ""
    task_id = str(uuid.uuid4())
    schedule = f"{SCHEDULER}/api/v1/schedule"
    runs = bool(token and command)
    # A command goes only to a worker that has shown the token: another could be anybody.
    question = {"task_id": task_id, "trusted": runs}
    placement = json.loads(call("POST", schedule, bearer, question))
    try:
        if runs:
            return run(placement, task_id, command)
        print(f"{task_id} goes to {placement['worker_id']} at {placement['address']}")
        return 0
    finally:
        call("DELETE", f"{schedule}/{task_id}?fence={placement['fence']}", bearer)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
