"""What a person does in a live view, in the words that the agent uses. Plain functions of bytes.

Keys and motions come in one by one; an action is what they add up to: text that was typed, a
click, a drag, turns of the wheel. It is told when the next one begins, or when it has been quiet.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from steersman_contracts.desktop import (
    MAX_CLICKS,
    MAX_TYPED,
    Action,
    Button,
    Click,
    Direction,
    Drag,
    Modifier,
    Point,
    PressKeys,
    Scroll,
    TypeText,
)
from steersman_desktop.keys import MODIFIERS, name_of

QUIET_S: Final = 1.0
"""After so long without input an action is over."""
AGAIN_S: Final = 0.4
"""Clicks at one place that follow each other faster are one double or triple click."""
_NEAR: Final = 4
"""Native pixels that a pointer may move while a button is down, and it is still a click."""
_BUTTONS: Final[dict[int, Button]] = {1: "left", 2: "middle", 4: "right"}
_WHEEL: Final[dict[int, Direction]] = {8: "up", 16: "down", 32: "left", 64: "right"}
_SIDES: Final[dict[Modifier, tuple[str, ...]]] = {
    "shift": ("shift_l", "shift_r"),
    "ctrl": ("control_l", "control_r"),
    "alt": ("alt_l", "alt_r", "meta_l", "meta_r"),
    "super": ("super_l", "super_r"),
}
_HELD: Final[dict[int, Modifier]] = {
    MODIFIERS[name]: short for short, names in _SIDES.items() for name in names
}


class Done(NamedTuple):
    """An action and when it began."""

    at_s: float
    action: Action


class Gestures:
    """Folds the input of one person."""

    def __init__(self, declared: Callable[[Point], Point]) -> None:
        """Begin; `declared` makes native pixels those that actions are written in."""
        self._declared = declared
        self._held: list[Modifier] = []
        self._open: Done | None = None
        self._last_s = 0.0
        self._mask = 0
        self._pressed: tuple[Button, Point, float] | None = None

    def feed(self, messages: Iterable[bytes], now_s: float) -> list[Done]:
        """Take whole RFB messages of input that passed; give the actions that are over."""
        over: list[Done] = []
        for message in messages:
            made = None
            if message[0] == 4:
                made = self._key(message[1] != 0, int.from_bytes(message[4:8], "big"))
            elif message[0] == 255:
                down, keysym = struct.unpack(">xxHI", message[:8])
                made = self._key(down != 0, keysym)
            elif message[0] == 5:
                x, y = struct.unpack(">HH", message[2:6])
                made = self._pointer(message[1] & 0x7F, (x, y), now_s)
            if made is not None:
                over += self._add(made, now_s)
        return over

    def quiet(self, now_s: float) -> list[Done]:
        """What is over because nothing has followed for a while."""
        return self.end() if now_s - self._last_s >= QUIET_S else []

    def end(self) -> list[Done]:
        """What is over because there will be no more."""
        done, self._open = self._open, None
        return [] if done is None else [done]

    def _key(self, down: bool, keysym: int) -> Action | None:  # noqa: FBT001, RUF100
        modifier = _HELD.get(keysym)
        if modifier is not None:
            if down and modifier not in self._held:
                self._held.append(modifier)
            elif not down and modifier in self._held:
                self._held.remove(modifier)
            return None
        if not down:
            return None
        strong = [name for name in self._held if name != "shift"]
        character = _character(keysym)
        if character and not strong:
            return TypeText(character)
        name = name_of(keysym)
        return None if name is None else PressKeys("+".join((*self._held, name)))

    def _pointer(self, mask: int, at: Point, now_s: float) -> Action | None:
        went_down, came_up = mask & ~self._mask, self._mask & ~mask
        self._mask = mask
        for bit, direction in _WHEEL.items():
            if went_down & bit:
                return Scroll(direction, 1, self._declared(at), tuple(self._held))
        for bit, button in _BUTTONS.items():
            if went_down & bit:
                self._pressed = button, at, now_s
            if came_up & bit and self._pressed is not None and self._pressed[0] == button:
                start, self._pressed = self._pressed[1], None
                if button != "left" or _near(start, at):
                    return Click(button, 1, self._declared(start), tuple(self._held))
                ends = self._declared(start), self._declared(at)
                return Drag(ends, tuple(self._held))
        return None

    def _add(self, action: Action, now_s: float) -> list[Done]:
        joined = None
        if self._open is not None:
            quick = now_s - self._last_s <= AGAIN_S
            joined = _joined(self._open.action, action, quick=quick)
        self._last_s = now_s
        if joined is not None and self._open is not None:
            self._open = Done(self._open.at_s, joined)
            return []
        over = self.end()
        self._open = Done(now_s, action)
        return over


def _joined(first: Action, second: Action, *, quick: bool) -> Action | None:
    """Both as one action, if they are one."""
    match first, second:
        case TypeText(text=text), TypeText(text=more) if len(text) < MAX_TYPED:
            return TypeText(text + more)
        case Scroll(), Scroll() if (first.direction, first.modifiers) == (
            second.direction,
            second.modifiers,
        ) and first.amount < MAX_CLICKS:
            return Scroll(first.direction, first.amount + 1, first.coordinate, first.modifiers)
        case Click(button="left", count=1 | 2), Click(button="left") if (
            quick
            and first.coordinate is not None
            and second.coordinate is not None
            and _near(first.coordinate, second.coordinate)
        ):
            return Click("left", first.count + 1, first.coordinate, first.modifiers)
        case _:
            return None


def _near(a: Point, b: Point) -> bool:
    return abs(a[0] - b[0]) <= _NEAR and abs(a[1] - b[1]) <= _NEAR


def _character(keysym: int) -> str:
    """What a key types; nothing for keys that type nothing."""
    if keysym == 0xFF0D:
        return "\n"
    if keysym == 0xFF09:
        return "\t"
    if 0x20 <= keysym <= 0x7E or 0xA0 <= keysym <= 0xFF:
        return chr(keysym)
    if 0x1000100 <= keysym <= 0x110FFFF:
        return chr(keysym & 0xFFFFFF)
    return ""
