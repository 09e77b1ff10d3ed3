"""A relay between a worker and its scheduler that can take away the channel and nothing else."""

import contextlib
import socket
import threading

#: What a channel's handshake begins with.
HANDSHAKE = b"GET /api/v1/channel"


class ChannelRelay:
    """Listens at `url`. Heartbeats always pass."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        #: Channels that are open, and whether there may be any.
        self._channels: set[socket.socket] = set()
        self._cut = False
        #: Handshakes that were turned away.
        self.refused = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break the channels, and let no new one come about."""
        with self._lock:
            self._cut = True
            channels, self._channels = self._channels, set()
        for channel in channels:
            _shut(channel)

    def mend(self) -> None:
        with self._lock:
            self._cut = False

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with contextlib.suppress(OSError):
            first = near.recv(65_536)
            if not first or not self._may_pass(near, first):
                _shut(near)
                return
            far = socket.create_connection(("127.0.0.1", self._port))
            far.sendall(first)
            threading.Thread(target=_pass_on, args=(far, near), daemon=True).start()
            _pass_on(near, far)

    def _may_pass(self, near: socket.socket, first: bytes) -> bool:
        if not first.startswith(HANDSHAKE):
            return True
        with self._lock:
            if self._cut:
                self.refused += 1
                return False
            self._channels.add(near)
            return True


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    _shut(source)
    _shut(target)


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
