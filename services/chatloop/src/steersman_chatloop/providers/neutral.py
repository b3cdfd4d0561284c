"""The neutral fields of parts as plain text and base64, for every wire format alike."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, assert_never

import msgspec

from steersman_contracts.parts import (
    ContextFilePart,
    FilePart,
    FileReferencePart,
    JsonPart,
    Part,
    SkillPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
NO_OUTPUT: Final = "(no output)"
CONTINUE: Final = "Continue."
"""Said by the user where a request would otherwise end with the model's own words."""


class Image(NamedTuple):
    """An image as every provider takes it."""

    media_type: str
    data: str
    """Base64."""

    @property
    def url(self) -> str:
        """The image as a data URL."""
        return f"data:{self.media_type};base64,{self.data}"


def image(part: Part | JsonPart) -> Image | None:
    """The part as an inline image, if it is one."""
    if isinstance(part, FilePart) and part.data and part.media_type in IMAGES:
        return Image(part.media_type, base64.b64encode(part.data).decode())
    return None


def input_text(part: Part) -> str | None:
    """What a part of a user or system message says in words; None for parts that say nothing."""
    match part:
        case TextPart():
            return part.text if part.text.strip() else None
        case FileReferencePart():
            return quote(part)
        case ContextFilePart():
            note = " (truncated)" if part.truncated else ""
            return f"Instructions from {part.path}{note}:\n\n{part.content}"
        case SkillPart():
            return f"A skill is available: {part.name}. {part.description}"
        case FilePart():
            return placeholder(part)
        case _:
            return None


def input_texts(parts: Iterable[Part]) -> str:
    """A whole message in words, for the roles that take nothing else."""
    return "\n\n".join(text for part in parts if (text := input_text(part)))


def quote(part: FileReferencePart) -> str:
    """Lines of a file, with the label that says which."""
    lines = (
        f"line {part.start_line}"
        if part.end_line <= part.start_line
        else f"lines {part.start_line} to {part.end_line}"
    )
    fence = "```"
    while fence in part.content:
        fence += "`"
    return f"{part.file_name}, {lines}:\n{fence}\n{part.content}\n{fence}"


def placeholder(part: FilePart) -> str:
    """Words for a file that the model cannot see."""
    return f"[file {part.name!r}, {part.media_type}]" if part.name else f"[file, {part.media_type}]"


def result_text(part: ToolResultPart, *, skip_images: bool = True) -> str:
    """The whole result in words. Images that travel beside the text are left out of it."""
    return "\n".join(_content_texts(part, skip_images=skip_images))


def _content_texts(part: ToolResultPart, *, skip_images: bool) -> Iterator[str]:
    for item in part.content:
        match item:
            case TextPart():
                yield item.text
            case JsonPart():
                yield msgspec.json.encode(item.value).decode()
            case FilePart():
                if not skip_images or image(item) is None:
                    yield placeholder(item)
            case _:
                assert_never(item)


def images(part: ToolResultPart) -> list[Image]:
    """The images of a result."""
    return [found for item in part.content if (found := image(item)) is not None]


def provider_call_text(part: ToolCallPart) -> str:
    """A call that another provider ran itself, as history in words."""
    arguments = msgspec.json.encode(part.arguments).decode()
    return f"[{part.tool} was called with {arguments}]"


def provider_result_text(part: ToolResultPart) -> str:
    """What such a call gave."""
    word = "failed" if part.is_error else "returned"
    return f"[{part.tool} {word}: {result_text(part, skip_images=False) or 'nothing'}]"


def flatten(part: Part) -> str | None:
    """A part of a foreign assistant message as text, where text is all that can be kept of it."""
    match part:
        case TextPart():
            return part.text or None
        case ToolCallPart(provider_executed=True):
            return provider_call_text(part)
        case ToolResultPart(provider_executed=True):
            return provider_result_text(part)
        case FilePart():
            return placeholder(part)
        case SourcePart():
            return None
        case _:
            return None


def joined(parts: Iterable[Part]) -> str:
    """The text of consecutive parts: text runs on, everything else stands in its own paragraph."""
    out: list[str] = []
    inline = True
    for part in parts:
        text = flatten(part)
        if text is None:
            continue
        is_text = isinstance(part, TextPart)
        if out and not (inline and is_text):
            out.append("\n\n")
        out.append(text)
        inline = is_text
    return "".join(out)
