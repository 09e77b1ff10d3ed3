"""Server-sent events, as the standard of HTML has them: bytes in, messages out. No I/O."""

from typing import Final, NamedTuple

from dtask.client.acts import Foreign

#: Longest line or message that is taken in; more is no event of dtask's.
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

    def __init__(self) -> None:
        #: Where to go on after all that was fed; empty if the stream has not said any.
        self.last_id = ""
        self._rest = b""
        self._id = ""
        self._kind = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[Message]:
        """The messages that are complete with this piece. Raises Foreign if one is too long."""
        text = self._rest + piece
        # A CR at the very end may be the first half of a CR LF.
        held = b"\r" if text.endswith(b"\r") else b""
        text = text[: len(text) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = text.split(b"\n")
        self._rest = rest + held
        found = []
        for line in lines:
            if line:
                self._take(line.decode("utf-8", "replace"))
            else:
                self.last_id = self._id  # not before: the rest of the event may never come
                if self._data or self._kind:
                    found.append(Message(self._id, self._kind, "\n".join(self._data)))
                self._kind, self._data, self._size = "", [], 0
        if len(self._rest) + self._size > BYTES_MAX:
            raise Foreign(f"An event is longer than {BYTES_MAX} bytes.", code="malformed")
        return found

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
