"""The head of a `SKILL.md`: as much of YAML as a name and a description need.

A whole YAML parser on text from anywhere is a risk (aliases that explode, types that surprise), and
all that is wanted are two strings.
"""

from __future__ import annotations

import re
from typing import Final

from steersman_contracts.terms import SKILL_NAME_PATTERN, SkillSummary

_FENCE: Final = "---"
_KEY: Final = re.compile(r"([A-Za-z][A-Za-z0-9_-]*):(?:\s+(.*))?$")
_NAME: Final = re.compile(SKILL_NAME_PATTERN)
_MAX_LINES: Final = 200
_MAX_DESCRIPTION: Final = 1024


def skill_summary(text: str, folder: str) -> SkillSummary | None:
    """What a skill says of itself; None when it is not a usable one.

    Args:
        text: Its `SKILL.md`.
        folder: The name of its directory, which is the skill's name: another one in the file
            would be found in the list and not when it is read.
    """
    fields = front_matter(text)
    description = " ".join(fields.get("description", "").split())[:_MAX_DESCRIPTION].strip()
    if not description or not _NAME.fullmatch(folder):
        return None
    return SkillSummary(folder, description)


def front_matter(text: str) -> dict[str, str]:
    """The top-level strings between the first two lines of dashes; empty without them."""
    lines = text.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].rstrip() != _FENCE:
        return {}
    fields: dict[str, str] = {}
    at = 1
    while at < min(len(lines), _MAX_LINES):
        line = lines[at].rstrip()
        at += 1
        if line == _FENCE:
            return fields
        found = _KEY.fullmatch(line)
        if found is None:
            continue
        more: list[str] = []
        while at < len(lines) and (not lines[at].strip() or lines[at][0] in " \t"):
            more.append(lines[at].strip())
            at += 1
        fields.setdefault(found[1], _scalar((found[2] or "").strip(), more))
    return {}  # it never ends: this is no front matter


def _scalar(first: str, more: list[str]) -> str:
    if re.fullmatch(r"[>|][+-]?\d?", first):
        return ("\n" if first[0] == "|" else " ").join(more).strip()
    value = " ".join([first, *more]).strip()
    if len(value) >= 2 and value[0] == value[-1] == "'":
        return value[1:-1].replace("''", "'")
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return value[1:-1].replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\")
    return value.partition(" #")[0].rstrip()


def without_front_matter(text: str) -> str:
    """The text below it."""
    if not front_matter(text):
        return text
    _, _, rest = text.removeprefix("\ufeff").partition("\n")
    _, _, body = f"\n{rest}".partition(f"\n{_FENCE}")
    return body.partition("\n")[2].lstrip("\n")
