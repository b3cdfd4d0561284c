"""Keys by name, in the words of xdotool: from `ctrl+shift+t` to keysyms."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from steersman_contracts.errors import InvalidRequest

SHIFT: Final = 0xFFE1
CAPS_LOCK: Final = 0xFFE5
RETURN: Final = 0xFF0D
TAB: Final = 0xFF09

MODIFIERS: Final = {
    "shift": SHIFT,
    "ctrl": 0xFFE3,
    "alt": 0xFFE9,
    "super": 0xFFEB,
    "shift_l": SHIFT,
    "shift_r": 0xFFE2,
    "control_l": 0xFFE3,
    "control_r": 0xFFE4,
    "alt_l": 0xFFE9,
    "alt_r": 0xFFEA,
    "meta_l": 0xFFE7,
    "meta_r": 0xFFE8,
    "super_l": 0xFFEB,
    "super_r": 0xFFEC,
    "control": 0xFFE3,
    "option": 0xFFE9,
    "cmd": 0xFFEB,
    "command": 0xFFEB,
    "meta": 0xFFEB,
    "win": 0xFFEB,
    "windows": 0xFFEB,
}

_NAMED: Final = {
    "backspace": 0xFF08,
    "tab": TAB,
    "linefeed": 0xFF0A,
    "clear": 0xFF0B,
    "return": RETURN,
    "enter": RETURN,
    "pause": 0xFF13,
    "scroll_lock": 0xFF14,
    "sys_req": 0xFF15,
    "escape": 0xFF1B,
    "esc": 0xFF1B,
    "delete": 0xFFFF,
    "del": 0xFFFF,
    "home": 0xFF50,
    "left": 0xFF51,
    "up": 0xFF52,
    "right": 0xFF53,
    "down": 0xFF54,
    "arrowleft": 0xFF51,
    "arrowup": 0xFF52,
    "arrowright": 0xFF53,
    "arrowdown": 0xFF54,
    "page_up": 0xFF55,
    "pageup": 0xFF55,
    "prior": 0xFF55,
    "page_down": 0xFF56,
    "pagedown": 0xFF56,
    "next": 0xFF56,
    "end": 0xFF57,
    "begin": 0xFF58,
    "select": 0xFF60,
    "print": 0xFF61,
    "printscreen": 0xFF61,
    "execute": 0xFF62,
    "insert": 0xFF63,
    "ins": 0xFF63,
    "undo": 0xFF65,
    "redo": 0xFF66,
    "menu": 0xFF67,
    "find": 0xFF68,
    "cancel": 0xFF69,
    "help": 0xFF6A,
    "break": 0xFF6B,
    "num_lock": 0xFF7F,
    "caps_lock": CAPS_LOCK,
    "capslock": CAPS_LOCK,
    "iso_left_tab": 0xFE20,
    "space": 0x20,
    "spacebar": 0x20,
    "exclam": 0x21,
    "quotedbl": 0x22,
    "numbersign": 0x23,
    "dollar": 0x24,
    "percent": 0x25,
    "ampersand": 0x26,
    "apostrophe": 0x27,
    "parenleft": 0x28,
    "parenright": 0x29,
    "asterisk": 0x2A,
    "plus": 0x2B,
    "comma": 0x2C,
    "minus": 0x2D,
    "period": 0x2E,
    "slash": 0x2F,
    "colon": 0x3A,
    "semicolon": 0x3B,
    "less": 0x3C,
    "equal": 0x3D,
    "greater": 0x3E,
    "question": 0x3F,
    "at": 0x40,
    "bracketleft": 0x5B,
    "backslash": 0x5C,
    "bracketright": 0x5D,
    "asciicircum": 0x5E,
    "underscore": 0x5F,
    "grave": 0x60,
    "braceleft": 0x7B,
    "bar": 0x7C,
    "braceright": 0x7D,
    "asciitilde": 0x7E,
    "kp_space": 0xFF80,
    "kp_tab": 0xFF89,
    "kp_enter": 0xFF8D,
    "kp_home": 0xFF95,
    "kp_left": 0xFF96,
    "kp_up": 0xFF97,
    "kp_right": 0xFF98,
    "kp_down": 0xFF99,
    "kp_page_up": 0xFF9A,
    "kp_page_down": 0xFF9B,
    "kp_end": 0xFF9C,
    "kp_begin": 0xFF9D,
    "kp_insert": 0xFF9E,
    "kp_delete": 0xFF9F,
    "kp_equal": 0xFFBD,
    "kp_multiply": 0xFFAA,
    "kp_add": 0xFFAB,
    "kp_separator": 0xFFAC,
    "kp_subtract": 0xFFAD,
    "kp_decimal": 0xFFAE,
    "kp_divide": 0xFFAF,
    "xf86back": 0x1008FF26,
    "xf86forward": 0x1008FF27,
    "xf86stop": 0x1008FF28,
    "xf86refresh": 0x1008FF29,
    "xf86reload": 0x1008FF73,
    "xf86homepage": 0x1008FF18,
    "xf86search": 0x1008FF1B,
    "xf86copy": 0x1008FF57,
    "xf86cut": 0x1008FF58,
    "xf86paste": 0x1008FF6D,
    "xf86audiomute": 0x1008FF12,
    "xf86audioraisevolume": 0x1008FF13,
    "xf86audiolowervolume": 0x1008FF11,
}
NAMES: Final = (
    _NAMED
    | {f"f{number}": 0xFFBD + number for number in range(1, 25)}
    | {f"kp_{number}": 0xFFB0 + number for number in range(10)}
)

_BY_KEYSYM: Final = {keysym: name for name, keysym in reversed(NAMES.items())}

# What Shift makes of the keys of a US keyboard, which is the one that the desktop has.
_PLAIN: Final = "`1234567890-=[]\\;',./"
_SHIFTED: Final = '~!@#$%^&*()_+{}|:"<>?'
_WITH_SHIFT: Final = frozenset(_SHIFTED)
_TO_SHIFTED: Final = (
    dict(zip(map(ord, _PLAIN), map(ord, _SHIFTED), strict=True))
    | {ord(letter): ord(letter.upper()) for letter in "abcdefghijklmnopqrstuvwxyz"}
    | {TAB: 0xFE20}
)


@dataclass(frozen=True, slots=True)
class Combination:
    """Keys that go down in this order and up in the reverse."""

    keysyms: tuple[int, ...]


def combinations(text: str) -> tuple[Combination, ...]:
    """Read `ctrl+shift+t`, or several of the kind with spaces between.

    Raises:
        InvalidRequest: Not a key; the message names it, and the nearest one that is.
    """
    if text == " ":
        return (Combination((0x20,)),)
    words = text.split()
    if not words:
        raise InvalidRequest("text names no key", field="text", value=text)
    return tuple(_combination(word) for word in words)


def _combination(text: str) -> Combination:
    # `+` separates, and is a key itself: alone, or after another `+`.
    names = [*text[:-2].split("+"), "plus"] if text.endswith("++") else text.split("+")
    if text == "+":
        names = ["plus"]
    *before, last = names
    keysyms: list[int] = []
    for name in before:
        modifier = MODIFIERS.get(name.lower())
        if modifier is None:
            raise InvalidRequest(
                f"text: {name!r} in {text!r} is no modifier; before the last + there may be "
                "ctrl, shift, alt, super",
                field="text",
                value=text,
            )
        if modifier not in keysyms:
            keysyms.append(modifier)
    final = keysym(last, text, combined=bool(before))
    if SHIFT in keysyms:
        final = _TO_SHIFTED.get(final, final)
    elif needs_shift(final):
        # Without it the server would press Caps Lock, and leave it on.
        keysyms.append(SHIFT)
    if final not in keysyms:
        keysyms.append(final)
    return Combination(tuple(keysyms))


def keysym(name: str, text: str = "", *, combined: bool = False) -> int:
    """The keysym of a key by its name, or of a single character.

    Args:
        name: The key.
        text: The whole that it stands in, for the message.
        combined: Letters after modifiers are keys, not capitals: `ctrl+L` is `ctrl+l`.

    Raises:
        InvalidRequest: There is no such key.
    """
    if len(name) == 1:
        if _is_control(name):
            raise InvalidRequest(f"text: {name!r} is no key", field="text", value=text or name)
        return character_keysym(name.lower() if combined and name.isascii() else name)
    low = name.lower()
    found = MODIFIERS.get(low) or NAMES.get(low)
    if found is not None:
        return found
    near = difflib.get_close_matches(low, [*MODIFIERS, *NAMES], n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise InvalidRequest(
        f"text: there is no key {name!r:.60}{hint}", field="text", value=text or name
    )


def name_of(keysym: int) -> str | None:
    """The name of a key, or the character on it; None for keys that have no name here."""
    if 0x20 < keysym < 0x7F:
        return {"+": "plus"}.get(chr(keysym), chr(keysym))
    if (found := _BY_KEYSYM.get(keysym)) is not None:
        return found
    return chr(keysym & 0xFFFFFF) if 0x1000000 < keysym <= 0x110FFFF else None


def character_keysym(character: str) -> int:
    """The keysym of one character: itself in Latin-1, otherwise its code point and a flag."""
    if character == "\n":
        return RETURN
    if character == "\t":
        return TAB
    code = ord(character)
    return code if code < 0x100 else 0x1000000 | code


def needs_shift(keysym: int) -> bool:
    """Whether a US keyboard has this on the upper half of a key."""
    return 0x20 < keysym < 0x7F and (chr(keysym).isupper() or chr(keysym) in _WITH_SHIFT)


def on_keyboard(character: str) -> bool:
    """Whether a US keyboard can type it."""
    return character in "\n\t" or " " <= character <= "~"


def typeable(text: str) -> str:
    """The text with line breaks as one character each.

    Raises:
        InvalidRequest: A character cannot be typed; the message names it.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    for index, character in enumerate(text):
        if character in "\n\t":
            continue
        if _is_control(character):
            raise InvalidRequest(
                f"text: character {index} is U+{ord(character):04X}, which cannot be typed",
                field="text",
                value=f"U+{ord(character):04X}",
            )
    return text


def _is_control(character: str) -> bool:
    code = ord(character)
    category = unicodedata.category(character)
    return category in {"Cc", "Cs"} or (code & 0xFFFE) == 0xFFFE or 0xFDD0 <= code <= 0xFDEF


def batches(text: str, slots: int) -> Iterable[str]:
    """Cut text so that each piece has at most `slots` different characters off the keyboard."""
    start = 0
    seen: set[str] = set()
    for index, character in enumerate(text):
        if on_keyboard(character) or character in seen:
            continue
        if len(seen) == slots:
            yield text[start:index]
            start = index
            seen = set[str]()
        seen.add(character)
    if start < len(text):
        yield text[start:]
