"""Halves of surrogate pairs in JSON: models write them as escapes, and they are no characters."""

from __future__ import annotations

import re
from typing import Final

_HALF: Final = re.compile(r"\\u[dD][89a-fA-F]")
# An escape of any kind is read as a whole, so that a backslash that is escaped begins none.
_ESCAPE: Final = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|u[dD][89a-fA-F][0-9a-fA-F]{2}"
    r"|.)",
    re.DOTALL,
)
_LENGTH: Final = len(r"\ud800")


def paired(text: str) -> str:
    """JSON text with U+FFFD in place of each half that stands alone; mostly the text itself."""
    return text if _HALF.search(text) is None else _ESCAPE.sub(_whole, text)


def _whole(escape: re.Match[str]) -> str:
    return r"\ufffd" if len(escape[0]) == _LENGTH else escape[0]
