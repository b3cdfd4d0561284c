"""Text on its way to a terminal: what others wrote must not steer it."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from steersman_contracts.parts import (
    FilePart,
    JsonPart,
    ResultContent,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

# Escape sequences could move the cursor, change the title or fill the clipboard. Each character
# becomes one other, so that positions in a text stay what they are.
_HARMLESS: Final = {
    **dict.fromkeys((*range(32), *range(0x7F, 0xA0)), "\N{REPLACEMENT CHARACTER}"),
    ord("\n"): "\n",
    ord("\t"): "\t",
    ord("\r"): " ",
    # These reorder what follows: a command could look like another one.
    **dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\N{REPLACEMENT CHARACTER}"),
}

_LONGEST_VALUE: Final = 60
_LONGEST_CALL: Final = 400


class Marks(NamedTuple):
    """What stands before lines."""

    prompt: str
    call: str
    result: str
    retry: str
    stopped: str
    failed: str
    waits: str
    more: str


UNICODE: Final = Marks("\u276f", "●", "⎿", "↻", "■", "✗", "⧗", "…")
ASCII: Final = Marks(">", "*", "\\_", "~", "#", "x", "o", "...")


def harmless(text: str) -> str:
    """The text without anything that a terminal would obey; as long as before."""
    return text.translate(_HARMLESS)


def shorten(text: str, longest: int, more: str = "…") -> str:
    """The text, cut where it is too long."""
    return text if len(text) <= longest else text[: max(0, longest - len(more))] + more


def call_text(part: ToolCallPart, more: str = "…") -> str:
    """The arguments of a call on one line: `path="a.txt", limit=3`."""
    if part.invalid is not None:
        text = part.invalid
    else:
        text = ", ".join(f"{key}={_value(value, more)}" for key, value in part.arguments.items())
    return harmless(shorten(" ".join(text.split()), _LONGEST_CALL, more))


def _value(value: object, more: str) -> str:
    text = msgspec.json.encode(value).decode()
    if len(text) <= _LONGEST_VALUE:
        return text
    return shorten(text, _LONGEST_VALUE, more) + ('"' if text.startswith('"') else "")


def result_text(part: ToolResultPart) -> str:
    """What a tool answered, as text."""
    return harmless("\n".join(_content(item) for item in part.content).strip("\n"))


def _content(item: ResultContent) -> str:
    match item:
        case TextPart():
            return item.text
        case JsonPart():
            return msgspec.json.encode(item.value).decode()
        case FilePart():
            return f"[{item.name or 'a file'}: {item.media_type}]"
        case SourcePart():
            return f"[source: {item.url}]"


def result_lines(part: ToolResultPart, most: int, more: str = "…") -> list[str]:
    """The first lines of a result, and how many more there are."""
    lines = [line.rstrip().expandtabs(4) for line in result_text(part).splitlines()] or ["(empty)"]
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], f"{more} {len(lines) - most + 1} more lines"]
