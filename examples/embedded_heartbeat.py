"""Your own service as a worker: it heartbeats, and says which tasks it holds.

    DTASK_SCHEDULER=http://127.0.0.1:8080 python examples/embedded_heartbeat.py

The service here makes text louder, behind TCP. A client asks the scheduler for a worker
with the tag `upper`, connects to its address, and sends a line: TASK_ID FENCE TEXT.
"""

import asyncio
import sys
from asyncio import StreamReader, StreamWriter

from dtask import DtaskError, Heartbeat

MAX_TASKS = 2


async def main() -> None:
    """Serve until Ctrl-C."""

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        task_id, fence, text = (await reader.readline()).decode().split(maxsplit=2)
        if beat.current_tasks < MAX_TASKS:
            with beat.task(task_id, fence=int(fence)):  # its slot is taken, and known by name
                await asyncio.sleep(0.1)  # hard work
                writer.write(text.upper().encode())
        else:
            beat.end(task_id, fence=int(fence))  # the worker has the last word
            writer.write(b"full\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with (
        server,
        Heartbeat(
            worker_id=f"upper-{port}", address=f"{host}:{port}", tags=["upper"], max_tasks=MAX_TASKS
        ) as beat,
    ):
        await beat.wait_answered()
        print(f"{beat.worker_id} listens on {host}:{port}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
    except DtaskError as error:
        sys.exit(f"dtask: {error}")
