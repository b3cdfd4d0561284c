"""Old screenshots in a prompt: the newest stay, the rest become a line each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from steersman_contracts.chats import Message
from steersman_contracts.computer_use import TOOL
from steersman_contracts.parts import FilePart, Part, ResultContent, TextPart, ToolResultPart

KEEP: Final = 3
BATCH: Final = 10
LEFT_OUT: Final = "[An older screenshot was left out.]"
DEFAULT_SIZE: Final = (1280, 800)
"""Of the screen of a model that has not seen it yet."""
_NAMED: Final = re.compile(r"screen-([1-9][0-9]{1,4})x([1-9][0-9]{1,4})-")


def screenshot_name(width: int, height: int, digest: str, media_type: str) -> str:
    """The name of the file of a screenshot, which tells its size also without its bytes."""
    return f"screen-{width}x{height}-{digest[:8]}.{media_type.partition('/')[2]}"


def screen_size(messages: Sequence[Message], *, tool: str = TOOL) -> tuple[int, int]:
    """The size of the newest screenshot in a history: the pixels in which its model points."""
    for message in reversed(messages):
        for part in reversed(message.parts):
            if not isinstance(part, ToolResultPart) or part.tool != tool:
                continue
            for item in reversed(part.content):
                if isinstance(item, FilePart) and (found := _NAMED.match(item.name)):
                    return int(found[1]), int(found[2])
    return DEFAULT_SIZE


def without_old_screenshots(
    messages: Sequence[Message], *, keep: int = KEEP, batch: int = BATCH, tool: str = TOOL
) -> list[Message]:
    """Leave out all but the newest screenshots of the computer tool.

    What was left out stays so while the conversation grows, and it is left out in batches: between
    two batches the prefix of the prompt is the same, which is what caches of providers live on.

    Args:
        messages: The history, oldest first; is not changed.
        keep: Screenshots that stay at least.
        batch: So many are left out at a time; up to `keep + batch - 1` are in the prompt.
        tool: Whose results are looked at.
    """
    total = sum(_pictures(part, tool) for message in messages for part in message.parts)
    drop = max(0, total - keep) // batch * batch
    result: list[Message] = []
    for message in messages:
        if drop <= 0:
            result.append(message)
            continue
        parts: list[Part] = []
        for part in message.parts:
            count = _pictures(part, tool)
            parts.append(_without(part, drop) if count and drop > 0 else part)
            drop -= count
        same = all(a is b for a, b in zip(parts, message.parts, strict=True))
        result.append(message if same else msgspec.structs.replace(message, parts=tuple(parts)))
    return result


def _is_picture(item: ResultContent) -> bool:
    return isinstance(item, FilePart) and item.media_type.startswith("image/")


def _pictures(part: Part, tool: str) -> int:
    if not isinstance(part, ToolResultPart) or part.tool != tool:
        return 0
    return sum(map(_is_picture, part.content))


def _without(part: Part, drop: int) -> Part:
    assert isinstance(part, ToolResultPart)  # it has pictures
    content: list[ResultContent] = []
    for item in part.content:
        if _is_picture(item) and drop > 0:
            drop -= 1
            content.append(TextPart(LEFT_OUT))
        else:
            content.append(item)
    return msgspec.structs.replace(part, content=tuple(content))
