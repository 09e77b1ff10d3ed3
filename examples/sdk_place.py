"""The SDK: hold a slot, hold several, run a command.

DTASK_SCHEDULER=http://127.0.0.1:8080 python examples/sdk_place.py
"""

import sys

from dtask import Client, DtaskError, Placement


def main() -> None:
    """Place, place many, run."""
    with Client() as client:
        # A slot on the best worker. What runs in it, and how it gets there, is your business.
        placement = client.place("report-7", preferred_tags=["gpu"], timeout=10)
        print(f"{placement.task_id} goes to {placement.worker_id} at {placement.address}")
        client.release(placement)

        # Many at once: one entry for each, a placement or the reason why there is none.
        entries = client.place_many(
            [{"task_id": "tile-0"}, {"task_id": "tile-1", "required_tags": "no-such-tag"}]
        )
        for entry in entries:
            if isinstance(entry, Placement):
                print(f"{entry.task_id} goes to {entry.worker_id}")
                client.release(entry)
            else:
                print(f"no place: {entry}")

        # A command, run by the worker itself, whichever has a slot within ten seconds.
        outcome = client.run_on(["sh", "-c", "echo hello from process $$"], timeout=10)
        print(f"{outcome.worker_id} wrote {outcome.stdout.decode().strip()!r}")


if __name__ == "__main__":
    try:
        main()
    except DtaskError as error:
        sys.exit(f"dtask: {error}")
