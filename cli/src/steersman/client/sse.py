"""Server-sent events out of bytes, however they are cut into chunks (WHATWG HTML §9.2)."""

from collections.abc import Iterator
from typing import NamedTuple

_MAX_LINE = 64 * 2**20
"""Bytes without a line break. The server's largest event, a snapshot, stays far below."""


class Frame(NamedTuple):
    """One dispatched event."""

    id: str
    """The newest id of the stream, also when this event has none of its own."""
    event: str
    data: bytes


class LineTooLong(ValueError):
    """What arrives is not an event stream."""


class SseParser:
    """Takes chunks of bytes and gives the events that they complete.

    Attributes:
        last_id: What to send as `Last-Event-ID` when connecting again.
        retry_s: The reconnection time that the server asked for; None if it did not.
    """

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self._next_id = last_id
        self.retry_s: float | None = None
        self._rest: list[bytes] = []
        self._rest_size = 0
        self._after_cr = False
        self._first = True
        self._reset()

    def _reset(self) -> None:
        self._event = ""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """Take in a chunk. The iterator must be used up before the next one is fed.

        Raises:
            LineTooLong: A line without end.
        """
        for line in self._lines(chunk):
            if line:
                self._field(line)
                continue
            frame = self._dispatch()
            if frame is not None:
                yield frame

    def _lines(self, chunk: bytes) -> Iterator[bytes]:
        # A chunk may end between CR and LF: the LF that follows is no line of its own.
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk[:1] == b"\n":
                chunk = chunk[1:]
        if not chunk:
            return
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            self._rest.append(line)
            text = b"".join(self._rest)
            self._rest.clear()
            self._rest_size = 0
            yield self._without_bom(text)
        if rest:
            self._rest.append(rest)
            self._rest_size += len(rest)
            if self._rest_size > _MAX_LINE:
                raise LineTooLong("a line of the event stream has no end")

    def _without_bom(self, line: bytes) -> bytes:
        if self._first:
            self._first = False
            return line.removeprefix(b"\xef\xbb\xbf")
        return line

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                self._data.append(value)
            case b"event":
                self._event = value.decode(errors="replace")
            case b"id" if b"\0" not in value:
                self._next_id = value.decode(errors="replace")
            case b"retry" if value.isdigit() and len(value) < 10:
                self.retry_s = int(value) / 1000
            case _:  # a comment has no name; unknown fields are ignored
                pass

    def _dispatch(self) -> Frame | None:
        # Only now: an event that was cut off after its id has not been seen.
        self.last_id = self._next_id
        frame = None
        if self._data:
            frame = Frame(self.last_id, self._event or "message", b"\n".join(self._data))
        self._reset()
        return frame
