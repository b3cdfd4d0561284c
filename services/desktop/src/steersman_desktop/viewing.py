"""What a viewer sends, taken apart: input passes only while the viewer has control.

The page may do as it likes; this is where view-only is enforced. What passes does so unchanged.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from steersman_desktop import clipboard

MAX_CLIPBOARD: Final = 256 << 10
"""Bytes of clipboard text; a longer one is refused."""

_SET_ENCODINGS: Final = 2
_KEY: Final = 4
_POINTER: Final = 5
_CUT_TEXT: Final = 6
_SET_SIZE: Final = 251
_QEMU: Final = 255
_INPUT: Final = frozenset({_KEY, _POINTER, _CUT_TEXT, 250, _QEMU})
_EXTENDED_BUTTONS: Final = -316
_QEMU_KEYS: Final = -258
"""Keys as places on a keyboard, which the desktop would read by its own layout: a `z` of a German
keyboard would be a `y`. Viewers that are not offered it send what is on the key."""
_LENGTHS: Final = {0: 20, 3: 10, _KEY: 8, 150: 10, 250: 4, _QEMU: 12}
_VERSIONS: Final = (b"RFB 003.003\n", b"RFB 003.007\n", b"RFB 003.008\n")


class NotRfb(ValueError):
    """The viewer sent what the protocol does not know; the connection cannot go on."""


class ViewerStream:
    """The bytes of one viewer, from its first on."""

    def __init__(self, may_control: Callable[[], bool], *, greeted: bool = False) -> None:
        """Begin.

        Args:
            may_control: Asked for each message.
            greeted: Version and security were agreed on by somebody else.
        """
        self._may_control = may_control
        self._rest = bytearray()
        self._needed = 0
        """Bytes that there must be before it is worth a look; long messages come in many pieces."""
        self._read = self._shared if greeted else self._version
        self._extended_buttons = False
        self._instead: bytes | None = None
        self._down: set[tuple[int, int]] = set()
        self._pointer: tuple[int, int] | None = None
        self.inputs = 0
        """Counts what passed and was input."""
        self.dropped = 0
        self.keysyms: set[int] = set()
        """Of keys that went down in what was fed last."""
        self.on_input: Callable[[bytes], None] = lambda _: None
        """Told every message of input that passes."""

    def feed(self, data: bytes) -> bytes:
        """Take bytes, cut anywhere; give those that the server may have.

        Raises:
            NotRfb: They are nothing that a viewer sends.
        """
        self.keysyms.clear()
        self._rest += data
        if len(self._rest) < self._needed:
            return b""
        data = bytes(self._rest)
        passed: list[bytes] = []
        at = 0
        self._needed = 0
        while at < len(data):
            length, passes = self._read(data, at)
            if not length or at + length > len(data):
                self._needed = length
                break
            if passes:
                passed.append(data[at : at + length] if self._instead is None else self._instead)
            self._instead = None
            at += length
        del self._rest[:at]
        return b"".join(passed)

    @property
    def entered(self) -> bool:
        """Whether the viewer has said who it is, and may be shown the screen."""
        return self._read == self._message

    @property
    def holds(self) -> bool:
        """Whether the viewer holds a key or a button."""
        return bool(self._down) or self._pointer is not None

    def releases(self) -> bytes:
        """What lets go of every key and button that the viewer holds."""
        messages = [
            struct.pack(">BBxxI", _KEY, 0, keysym)
            if not code
            else struct.pack(">BBHII", _QEMU, 0, 0, keysym, code)
            for keysym, code in sorted(self._down)
        ]
        self._down.clear()
        if self._pointer is not None:
            messages.append(struct.pack(">BBHH", _POINTER, 0, *self._pointer))
            self._pointer = None
        return b"".join(messages)

    # Each gives the length of what stands there, 0 if that cannot be told yet, and whether it
    # passes. It is called again with more bytes if there were not enough; so it must not act
    # before it has seen the whole.

    def _version(self, data: bytes, at: int) -> tuple[int, bool]:
        if len(data) - at >= 12:
            version = data[at : at + 12]
            if version not in _VERSIONS:
                raise NotRfb("not a version of RFB")
            self._read = self._shared if version == _VERSIONS[0] else self._security
        return 12, True

    def _security(self, data: bytes, at: int) -> tuple[int, bool]:
        if data[at] != 1:
            raise NotRfb("a security type that was not offered")
        self._read = self._shared
        return 1, True

    def _shared(self, data: bytes, at: int) -> tuple[int, bool]:
        self._read = self._message
        return 1, True

    def _message(self, data: bytes, at: int) -> tuple[int, bool]:
        kind = data[at]
        length = self._length(data, at, kind)
        if not length or at + length > len(data):
            return length, False
        if kind == _SET_ENCODINGS:
            self._encodings(data[at : at + length])
        if kind == _SET_SIZE:
            return length, False  # the size is the desktop's, not the viewer's
        if kind not in _INPUT or (kind == _QEMU and data[at + 1] != 0):
            return length, True
        if kind == _CUT_TEXT and _asks(data[at : at + length]):
            return length, True  # what was copied on the desktop is seen by every viewer
        passes = self._may_control()
        if passes:
            self.inputs += 1
            self.on_input(data[at : at + length])
            self._track(kind, data[at : at + length])
        else:
            self.dropped += 1
        return length, passes

    def _length(self, data: bytes, at: int, kind: int) -> int:
        fixed = _LENGTHS.get(kind)
        left = len(data) - at
        if fixed is not None:
            return fixed
        if kind == _POINTER:
            if left < 2:
                return 0
            return 7 if self._extended_buttons and data[at + 1] & 0x80 else 6
        if kind == _SET_ENCODINGS:
            return 4 + 4 * int.from_bytes(data[at + 2 : at + 4], "big") if left >= 4 else 0
        if kind == _CUT_TEXT:
            if left < 8:
                return 0
            size = abs(int.from_bytes(data[at + 4 : at + 8], "big", signed=True))
            if size > MAX_CLIPBOARD:
                raise NotRfb(f"a clipboard of {size} bytes; at most {MAX_CLIPBOARD} are taken")
            return 8 + size
        if kind == 248:
            return 9 + data[at + 8] if left >= 9 else 0
        if kind == _SET_SIZE:
            return 8 + 16 * data[at + 6] if left >= 8 else 0
        raise NotRfb(f"a message of the unknown type {kind}")

    def _encodings(self, message: bytes) -> None:
        count = (len(message) - 4) // 4
        wanted = struct.unpack(f">{count}i", message[4:])
        self._extended_buttons = _EXTENDED_BUTTONS in wanted
        if _QEMU_KEYS in wanted:
            kept = [encoding for encoding in wanted if encoding != _QEMU_KEYS]
            self._instead = struct.pack(f">BxH{len(kept)}i", _SET_ENCODINGS, len(kept), *kept)

    def _track(self, kind: int, message: bytes) -> None:
        if kind == _KEY:
            self._press(message[1] != 0, int.from_bytes(message[4:8], "big"), 0)
        elif kind == _QEMU:
            down, keysym, code = struct.unpack(">xxHII", message)
            self._press(down != 0, keysym, code)
        elif kind == _POINTER:
            x, y = struct.unpack(">HH", message[2:6])
            held = message[1] & 0x7F or (len(message) == 7 and message[6])
            self._pointer = (x, y) if held else None

    def _press(self, down: bool, keysym: int, code: int) -> None:  # noqa: FBT001, RUF100
        if down:
            self.keysyms.add(keysym)
            self._down.add((keysym, code))
        else:
            self._down.discard((keysym, code))


def _asks(message: bytes) -> bool:
    """Whether an extended clipboard message only wants to know what the desktop has."""
    if len(message) != 12 or message[4] < 0x80:
        return False
    flags = int.from_bytes(message[8:], "big")
    return flags & clipboard.ACTIONS in {clipboard.REQUEST, clipboard.PEEK}
