"""Server-sent events, as the standard of HTML has them: bytes in, messages out. No I/O."""

from typing import Final, NamedTuple

from dtask.client.acts import Foreign

#: Longest line or message that is taken in unless told otherwise; more is no event of dtask's.
BYTES_MAX: Final = 1024 * 1024


class Message(NamedTuple):
    """One event of a stream."""

    #: Where to go on after it; empty if the stream has not said any.
    id: str
    #: What kind it is; empty if it does not say.
    kind: str
    data: str


class Parser:
    """Cuts a stream into its messages, whatever pieces it arrives in."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        #: Where to go on after all that was fed; empty if the stream has not said any.
        self.last_id = ""
        self._bytes_max = bytes_max
        #: A line that is not complete, in the pieces it came in: a long one has many.
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._id = ""
        self._kind = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[Message]:
        """The messages that are complete with this piece. Raises Foreign if one is too long."""
        # A CR at the very end may be the first half of a CR LF.
        after_cr = bool(self._parts) and self._parts[-1].endswith(b"\r")
        self._keep(piece)
        found = []
        if after_cr or b"\n" in piece or b"\r" in piece:
            found = self._cut(b"".join(self._parts))
        if self._parts_bytes + self._size > self._bytes_max:
            raise Foreign(f"An event is longer than {self._bytes_max} bytes.", code="malformed")
        return found

    def _cut(self, text: bytes) -> list[Message]:
        """The messages that end in this text; what comes after its last line is kept."""
        held = b"\r" if text.endswith(b"\r") else b""
        text = text[: len(text) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = text.split(b"\n")
        self._parts, self._parts_bytes = [], 0
        self._keep(rest + held)
        found = []
        for line in lines:
            if line:
                self._take(line.decode("utf-8", "replace"))
            else:
                self.last_id = self._id  # not before: the rest of the event may never come
                if self._data or self._kind:
                    found.append(Message(self._id, self._kind, "\n".join(self._data)))
                self._kind, self._data, self._size = "", [], 0
        return found

    def _keep(self, piece: bytes) -> None:
        if piece:
            self._parts.append(piece)
            self._parts_bytes += len(piece)

    def _take(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._size += len(value)
        elif name == "event":
            self._kind = value
        elif name == "id" and "\0" not in value:
            self._id = value
