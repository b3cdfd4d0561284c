"""The names of keys, and what programs call them that have nothing to do with us."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Final

from steersman_desktop.keys import MODIFIERS, NAMES

KEY_NAMES: Final = (*MODIFIERS, *NAMES)
ARROWS: Final = {name: f"Arrow{name.capitalize()}" for name in ("left", "right", "up", "down")}

IN_A_PAGE: Final[dict[str, str]] = {
    "ctrl": "Control",
    "control": "Control",
    "control_l": "Control",
    "control_r": "Control",
    "alt": "Alt",
    "option": "Alt",
    "alt_l": "Alt",
    "alt_r": "Alt",
    "super": "Meta",
    "super_l": "Meta",
    "super_r": "Meta",
    "cmd": "Meta",
    "command": "Meta",
    "meta": "Meta",
    "win": "Meta",
    "windows": "Meta",
    "backspace": "Backspace",
    "tab": "Tab",
    "return": "Enter",
    "enter": "Enter",
    "linefeed": "Enter",
    "pause": "Pause",
    "scroll_lock": "ScrollLock",
    "escape": "Escape",
    "esc": "Escape",
    "delete": "Delete",
    "del": "Delete",
    "home": "Home",
    **ARROWS,
    **{f"arrow{name}": key for name, key in ARROWS.items()},
    "page_up": "PageUp",
    "pageup": "PageUp",
    "prior": "PageUp",
    "page_down": "PageDown",
    "pagedown": "PageDown",
    "next": "PageDown",
    "end": "End",
    "begin": "Clear",
    "print": "PrintScreen",
    "printscreen": "PrintScreen",
    "insert": "Insert",
    "ins": "Insert",
    "undo": "Undo",
    "redo": "Redo",
    "menu": "ContextMenu",
    "find": "Find",
    "cancel": "Cancel",
    "help": "Help",
    "num_lock": "NumLock",
    "caps_lock": "CapsLock",
    "capslock": "CapsLock",
    "iso_left_tab": "Tab",
    "kp_tab": "Tab",
    "kp_enter": "Enter",
    "kp_home": "Home",
    **{f"kp_{name}": key for name, key in ARROWS.items()},
    "kp_page_up": "PageUp",
    "kp_page_down": "PageDown",
    "kp_end": "End",
    "kp_begin": "Clear",
    "kp_insert": "Insert",
    "kp_delete": "Delete",
    "xf86back": "BrowserBack",
    "xf86forward": "BrowserForward",
    "xf86reload": "BrowserRefresh",
    "xf86homepage": "BrowserHome",
    "xf86search": "BrowserSearch",
    "xf86copy": "Copy",
    "xf86cut": "Cut",
    "xf86paste": "Paste",
    "xf86audiomute": "AudioVolumeMute",
    "xf86audioraisevolume": "AudioVolumeUp",
    "xf86audiolowervolume": "AudioVolumeDown",
    **{f"f{number}": f"F{number}" for number in (*range(1, 11), 12)},
}
"""What a page in Chromium hears of a key, as `KeyboardEvent.key`."""

IN_A_TEXT: Final[dict[str, str]] = {
    "space": " ",
    "spacebar": " ",
    "exclam": "!",
    "quotedbl": '"',
    "numbersign": "#",
    "dollar": "$",
    "percent": "%",
    "ampersand": "&",
    "apostrophe": "'",
    "parenleft": "(",
    "parenright": ")",
    "asterisk": "*",
    "plus": "+",
    "comma": ",",
    "minus": "-",
    "period": ".",
    "slash": "/",
    "colon": ":",
    "semicolon": ";",
    "less": "<",
    "equal": "=",
    "greater": ">",
    "question": "?",
    "at": "@",
    "bracketleft": "[",
    "backslash": "\\",
    "bracketright": "]",
    "asciicircum": "^",
    "underscore": "_",
    "grave": "`",
    "braceleft": "{",
    "bar": "|",
    "braceright": "}",
    "asciitilde": "~",
    "kp_space": " ",
    "kp_equal": "=",
    "kp_multiply": "*",
    "kp_add": "+",
    "kp_separator": ",",
    "kp_subtract": "-",
    "kp_decimal": ".",
    "kp_divide": "/",
    **{f"kp_{digit}": str(digit) for digit in range(10)},
}
"""What a key writes."""

UNHEARD: Final = frozenset(
    {
        # The page of the tests does not tell of Shift, which is pressed for every capital.
        *("shift", "shift_l", "shift_r"),
        # Chromium takes these for itself,
        *("f11", "xf86stop"),
        # reads these as Alt with Shift,
        *("meta_l", "meta_r"),
        # and gives pages no key that keyboards of today have not.
        *("clear", "sys_req", "select", "execute", "break", "xf86refresh"),
        *(f"f{number}" for number in range(13, 25)),
    }
)
"""What no page hears of; other programs do."""

ALIASES: Final[dict[str, str]] = {
    "shift": "Shift_L",
    "ctrl": "Control_L",
    "control": "Control_L",
    "alt": "Alt_L",
    "option": "Alt_L",
    "super": "Super_L",
    "cmd": "Super_L",
    "command": "Super_L",
    "meta": "Super_L",
    "win": "Super_L",
    "windows": "Super_L",
    "enter": "Return",
    "esc": "Escape",
    "del": "Delete",
    "ins": "Insert",
    **{f"arrow{name}": name.capitalize() for name in ARROWS},
    "page_up": "Prior",
    "pageup": "Prior",
    "page_down": "Next",
    "pagedown": "Next",
    "printscreen": "Print",
    "capslock": "Caps_Lock",
    "spacebar": "space",
    "kp_page_up": "KP_Prior",
    "kp_page_down": "KP_Next",
    # Of these the keyboard has no key, or one only by Num Lock: one that does the same is pressed.
    **{f"kp_{digit}": str(digit) for digit in range(10)},
    "begin": "KP_Begin",
    "kp_space": "space",
    "kp_tab": "Tab",
    "kp_separator": "comma",
}
"""Names that X has another one for; the others are X's own, in small letters."""


def pieces(names: Iterable[str]) -> list[str]:
    """Names in order, as many at a time as one action may press."""
    return textwrap.wrap(" ".join(names), 1000, break_long_words=False, break_on_hyphens=False)
