"""The stand-in for curl does what the examples need of it."""

import subprocess
import sys
from pathlib import Path

import servers
from docs import answers, curl
from docs.pages import Block

REFUSAL = """HTTP/1.1 503 Service Unavailable
content-type: application/json
retry-after: 5

{"error": "No worker can take the task: none is known. Ask again in 5 s.", "code": "no_worker",
 "reasons": {}, "retry_after_s": 5.0}
"""


def test_it_sends_a_request_and_prints_the_answer() -> None:
    with servers.running_scheduler() as scheduler:
        address = scheduler.url.removeprefix("http://")
        json = "content-type: application/json"
        words = ["-i", "-X", "POST", "-H", json, "-d", '{"task_id":"task-001"}']
        ended = subprocess.run(
            [sys.executable, Path(curl.__file__), *words, f"{address}/api/v1/schedule"],
            capture_output=True,
            text=True,
            timeout=servers.PATIENCE_S,
            check=True,
        )
    answers.check(Block("here", 1, "http", REFUSAL), ended.stdout)
