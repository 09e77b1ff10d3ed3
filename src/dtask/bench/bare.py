"""The limit: an ASGI function that answers constants, on the same uvicorn with the same settings.

Whatever HTTP itself costs, it costs both, so the ratio of the two is what dtask adds. Run it as
`python -m dtask.bench.bare`; it prints `listening on URL` as the scheduler does.
"""

import socket
import sys
from typing import Any, Final

#: Answers of the size that a scheduler gives.
PLACED: Final = (
    b'{"worker_id":"worker-00421","address":"10.0.0.21:9000","fence":1876543210123456,'
    b'"expires_at":1790000030.123}'
)
RELEASED: Final = b'{"status":"released","worker_id":"worker-00421","fence":1876543210123456}'
REFUSED: Final = (
    b'{"error":"No worker can take task \'t-000123-0\' now: 500 full.","code":"no_worker",'
    b'"reasons":{"full":500},"retry_after_s":1.0,"task_id":"t-000123-0"}'
)

_JSON: Final = (b"content-type", b"application/json")


def _messages(status: int, body: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    length = (b"content-length", str(len(body)).encode())
    return (
        {"type": "http.response.start", "status": status, "headers": [_JSON, length]},
        {"type": "http.response.body", "body": body},
    )


_ANSWERS: Final = {
    ("POST", False): _messages(200, PLACED),
    ("DELETE", False): _messages(200, RELEASED),
    ("POST", True): _messages(503, REFUSED),
}


async def app(scope: dict[str, Any], _receive: Any, send: Any) -> None:  # noqa: ANN401 (ASGI)
    """Answer at once, without a look at the body."""
    refuse = scope["path"].startswith("/refuse")
    start, body = _ANSWERS[scope["method"], refuse]
    await send(start)
    await send(body)


def main() -> None:
    """Serve on a free port of loopback until stopped."""
    import uvicorn  # noqa: PLC0415 (the load side imports this module for its constants)

    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, http="httptools", loop="uvloop", lifespan="off", log_config=None, access_log=False
    )
    sys.stdout.write(f"listening on http://127.0.0.1:{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    uvicorn.Server(config).run([listener])


if __name__ == "__main__":
    main()
