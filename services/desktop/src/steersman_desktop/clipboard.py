"""The extended clipboard of RFB: text of all scripts, where the plain one has Latin-1 alone.

Both sides first say what they can do. Who has something new notifies, the other requests, and gets
it compressed. Plain functions of bytes.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final, NamedTuple

ENCODING: Final = -1063131698
MAX_TEXT: Final = 256 << 10
"""Bytes of UTF-8 that are given and taken."""
TEXT: Final = 1
CAPS: Final = 1 << 24
REQUEST: Final = 1 << 25
PEEK: Final = 1 << 26
NOTIFY: Final = 1 << 27
PROVIDE: Final = 1 << 28
ACTIONS: Final = CAPS | REQUEST | PEEK | NOTIFY | PROVIDE


class Heard(NamedTuple):
    """A message of the server."""

    flags: int
    text: str | None
    """What was provided."""


def our_caps() -> bytes:
    """That we take and give text."""
    return message(TEXT | CAPS | REQUEST | PEEK | NOTIFY | PROVIDE, struct.pack(">I", MAX_TEXT))


def provide(text: str) -> bytes:
    """Text, as an answer to a request."""
    data = text.replace("\r\n", "\n").replace("\n", "\r\n").encode() + b"\0"
    return message(TEXT | PROVIDE, zlib.compress(struct.pack(">I", len(data)) + data))


def message(flags: int, body: bytes = b"") -> bytes:
    """A cut text of the extended kind, which a negative length tells from plain ones."""
    return struct.pack(">BxxxiI", 6, -(4 + len(body)), flags) + body


def heard(body: bytes) -> Heard:
    """Read what follows the length.

    Raises:
        ValueError: It is damaged, or longer than we take.
    """
    (flags,) = struct.unpack(">I", body[:4])
    # Capabilities name every kind of message that their sender knows.
    if flags & CAPS or not flags & PROVIDE or not flags & TEXT:
        return Heard(flags, None)
    unpacker = zlib.decompressobj()
    try:
        # One byte more than we take tells that there is more; a bomb is never unpacked.
        data = unpacker.decompress(body[4:], MAX_TEXT + 5)
    except zlib.error as error:
        raise ValueError("a clipboard that cannot be unpacked") from error
    if len(data) < 4:
        raise ValueError("a clipboard without a length")
    (length,) = struct.unpack(">I", data[:4])
    if length > MAX_TEXT:
        return Heard(flags, None)
    text = data[4 : 4 + length].rstrip(b"\0").decode(errors="replace")
    return Heard(flags, text.replace("\r\n", "\n"))
