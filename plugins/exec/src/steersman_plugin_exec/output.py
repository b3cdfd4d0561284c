"""Output of a process, kept within a bound: its beginning and its end."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import Final

from steersman_plugin_exec.log import OutputLog

OUTPUT_MAX: Final = 64 * 1024
_MARKER_ROOM: Final = 64
# A NUL has no place in JSON that PostgreSQL stores.
_SHOWN: Final = {0: "\ufffd", **{0xDC00 + byte: "\ufffd" for byte in range(0x80, 0x100)}}


@dataclass(frozen=True, slots=True)
class Output:
    """What there is to read of an output."""

    text: str
    """At most `cap` bytes of UTF-8; what is no UTF-8 is U+FFFD, one for each byte."""
    dropped: int
    """Bytes of the original that are not in `text`."""


class Ring:
    """Keeps the first two thirds and the last third of `cap` bytes, whatever is added.

    Args:
        cap: Bytes; at least 128.
    """

    def __init__(self, cap: int = OUTPUT_MAX) -> None:
        if cap < 2 * _MARKER_ROOM:
            raise ValueError(f"a ring needs at least {2 * _MARKER_ROOM} bytes: {cap!r}")
        self.cap = cap
        self.total = 0
        self._head = bytearray()
        self._tail = bytearray()
        self._head_max = cap * 2 // 3
        self._tail_max = cap - self._head_max

    def add(self, data: bytes) -> None:
        """Take more output."""
        self.total += len(data)
        room = self._head_max - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data[-self._tail_max :]
        if len(self._tail) > 2 * self._tail_max:  # so that most calls move nothing
            del self._tail[: -self._tail_max]

    def skip(self, size: int) -> None:
        """Count output that is not looked at; `cap` bytes have to come before and after it."""
        self.total += size

    def whole(self) -> bytes:
        """Everything, as long as nothing had to be dropped."""
        return bytes(self._head) + bytes(self._tail)

    def tail(self) -> bytes:
        """What is kept of the end, once something was dropped."""
        return bytes(self._tail[-self._tail_max :])

    def last_line(self, limit: int = 200) -> str:
        """The last line that says something, at most `limit` characters of its end."""
        recent = bytes(self._head[-4 * limit :] + self._tail[-4 * limit :])[-4 * limit :]
        lines = recent.decode(errors="replace").translate(_SHOWN).splitlines()
        return next((line.strip()[-limit:] for line in reversed(lines) if line.strip()), "")

    def output(self) -> Output:
        """What was kept, with a marker that says how many bytes are missing in between."""
        tail = self.tail()
        if self.total <= self.cap:
            whole = bytes(self._head) + tail
            text = _shown(whole.decode(errors="surrogateescape"))
            if len(text.encode()) <= self.cap:
                return Output(text, 0)
            head, tail = whole, whole
        else:
            head = bytes(self._head)
        head_room = (self.cap - _MARKER_ROOM) * 2 // 3
        first, first_size = _beginning(head, head_room)
        last, last_size = _end(tail, self.cap - _MARKER_ROOM - head_room)
        dropped = self.total - first_size - last_size
        return Output(f"{first}\n[… {dropped} bytes of output dropped …]\n{last}", dropped)


def _shown(text: str) -> str:
    return text.translate(_SHOWN)


def _beginning(data: bytes, room: int) -> tuple[str, int]:
    # Each byte that is no UTF-8 becomes one surrogate: a text can be cut, and still be measured in
    # bytes of the original, of which U+FFFD takes three.
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    text = decoder.decode(data[:room])  # a character that is cut at the end stays out
    shown = _shown(text)
    kept = len(shown.encode()[:room].decode(errors="ignore"))
    return shown[:kept], len(text[:kept].encode(errors="surrogateescape"))


def _end(data: bytes, room: int) -> tuple[str, int]:
    data = data[-room:]
    skipped = 0
    while skipped < min(3, len(data)) and data[skipped] & 0xC0 == 0x80:
        skipped += 1  # the rest of a character that is cut at the beginning
    text = data[skipped:].decode(errors="surrogateescape")
    shown = _shown(text)
    start = len(shown) - len(shown.encode()[-room:].decode(errors="ignore"))
    return shown[start:], len(text[start:].encode(errors="surrogateescape"))


class Capture:
    """The output of a process: a ring for its result, and a log for all of it.

    The log is made when the ring has to drop something; until then the ring has everything.

    Args:
        log: None keeps the ring alone.
    """

    def __init__(self, log: OutputLog | None = None, cap: int = OUTPUT_MAX) -> None:
        self.ring = Ring(cap)
        self.log = log

    @property
    def total(self) -> int:
        """Bytes of all output."""
        return self.ring.total

    @property
    def log_path(self) -> str | None:
        """Where the log lies in the workspace; None if there is none."""
        return self.log.path if self.log is not None and self.log.exists else None

    def add(self, data: bytes) -> None:
        """Take more output."""
        ring, log = self.ring, self.log
        if log is not None and ring.total + len(data) > ring.cap:
            if ring.total <= ring.cap:
                log.begin()
                log.add(ring.whole())
            log.add(data)
        ring.add(data)

    def output(self, offset: int = 0) -> Output:
        """What there is to read from the byte `offset` on."""
        offset = min(offset, self.total)
        if offset <= 0:
            return self.ring.output()
        part = Ring(self.ring.cap)
        self._fill(part, offset)
        shown, missing = part.output(), self.total - offset - part.total
        if not missing:
            return shown
        said = f"[… {missing} bytes are kept nowhere …]\n"
        return Output(said + shown.text, shown.dropped + missing)

    def _fill(self, part: Ring, offset: int) -> None:
        ring, log = self.ring, self.log
        if ring.total <= ring.cap:
            part.add(ring.whole()[offset:])
            return
        tail = ring.tail()
        if log is not None and offset < log.size:
            head = log.read(offset, part.cap) or b""
            part.add(head)
            offset += len(head)
            # Of what comes then only the end will be shown, and that is read instead of all.
            skipped = max(0, log.size - part.cap - offset) if len(head) == part.cap else 0
            part.skip(skipped)
            rest = log.read(offset + skipped, part.cap) or b"" if head else b""
            part.add(rest)
            offset += skipped + len(rest)
        # What the log does not have, because it is full or gone, the ring may have.
        part.add(tail[max(0, offset - (ring.total - len(tail))) :])

    def last_line(self) -> str:
        """The last line that says something."""
        return self.ring.last_line()

    def close(self) -> None:
        """Nothing more will come."""
        if self.log is not None:
            self.log.close()
