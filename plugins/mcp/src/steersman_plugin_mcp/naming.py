"""Names and texts of strangers, made fit for models and people."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Final

NAME_MAX: Final = 64
SEPARATOR: Final = "__"
_FORBIDDEN: Final = re.compile(r"[^a-zA-Z0-9_-]")
# Letters and marks by category, but nobody sees them: variation selectors and fillers.
_INVISIBLE: Final = frozenset(
    (
        *range(0xFE00, 0xFE10),
        *range(0xE0100, 0xE01F0),
        *range(0x180B, 0x1810),
        *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0),
    )
)


def tool_names(slug: str, raw_names: Iterable[str]) -> Mapping[str, str]:
    """The name of each tool in the deployment, by its name at the server.

    It is `slug__name`, with `_` for every character that models cannot write and at most 64
    characters. Where two become the same, one that needed no change keeps it and the others are
    numbered in the order of their raw names; so the same list always gets the same names.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    whole = f"{slug}{SEPARATOR}"
    ordered = sorted(set(raw_names), key=lambda raw: (f"{whole}{raw}" != _fit(whole, raw), raw))
    for raw in ordered:
        name, number = _fit(whole, raw), 1
        while name in taken:
            number += 1
            name = _fit(whole, raw, f"_{number}")
        taken.add(name)
        names[raw] = name
    return names


def _fit(prefix: str, raw: str, suffix: str = "") -> str:
    return (prefix + _FORBIDDEN.sub("_", raw))[: NAME_MAX - len(suffix)] + suffix


def clean(text: str, max_chars: int) -> str:
    """Take out what a person would not see, which is where orders to models are hidden."""
    # Cut first as well: nobody gets to make us walk through megabytes.
    shown = "".join(c for c in text[: max_chars * 2] if _is_shown(c)).strip()
    return shown if len(shown) <= max_chars else shown[: max_chars - 1].rstrip() + "…"


def _is_shown(char: str) -> bool:
    if char in "\n\t":
        return True
    return unicodedata.category(char)[0] != "C" and ord(char) not in _INVISIBLE


def line(text: str, max_chars: int) -> str:
    """The same, in one line."""
    return " ".join(clean(text, max_chars).split())
