"""The neutral fields of parts as plain text and base64, for every wire format alike."""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable, Iterator
from typing import Final, NamedTuple, assert_never

import msgspec

from steersman_contracts.parts import (
    MAX_TEXT,
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
PDF: Final = "application/pdf"
MEDIA: Final = IMAGES | {PDF}
_TEXTS: Final = frozenset(
    {
        "application/json",
        "application/jsonl",
        "application/x-ndjson",
        "application/xml",
        "application/yaml",
        "application/x-yaml",
        "application/toml",
        "application/csv",
        "application/javascript",
        "application/sql",
    }
)
NO_OUTPUT: Final = "(no output)"
CONTINUE: Final = "Continue."
"""Said by the user where a request would otherwise end with the model's own words."""


class Media(NamedTuple):
    """A file in base64, as every provider takes it."""

    media_type: str
    data: str
    """Base64."""
    name: str

    @property
    def url(self) -> str:
        """The file as a data URL."""
        return f"data:{self.media_type};base64,{self.data}"

    @property
    def is_image(self) -> bool:
        return self.media_type in IMAGES


def media(part: Part | JsonPart, kinds: Collection[str] = MEDIA) -> Media | None:
    """The part as an inline file, if it is one of these kinds and its bytes are there."""
    if isinstance(part, FilePart) and part.data and part.media_type in kinds:
        name = part.name or ("document.pdf" if part.media_type == PDF else "")
        return Media(part.media_type, base64.b64encode(part.data).decode(), name)
    return None


def text_of(part: FilePart) -> str | None:
    """What stands in a file of text; None for files of other kinds and empty ones."""
    kind = part.media_type.partition(";")[0].strip().lower()
    if not part.data or not (
        kind.startswith("text/") or kind in _TEXTS or kind.endswith(("+json", "+xml"))
    ):
        return None
    text = part.data.decode("utf-8-sig", "replace")
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]}\n[{len(text) - MAX_TEXT} more characters]"
    return text if text.strip() else None


def fenced(text: str) -> str:
    """A text between fences that do not occur in it."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text}\n{fence}"


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
            return file_text(part)
        case _:
            return None


def file_text(part: FilePart) -> str:
    """A file in words: what stands in it, if that is text."""
    text = text_of(part)
    return placeholder(part) if text is None else f"{part.name or 'A file'}:\n{fenced(text)}"


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
    return f"{part.file_name}, {lines}:\n{fenced(part.content)}"


def placeholder(part: FilePart) -> str:
    """Words for a file that the model cannot see."""
    return f"[file {part.name!r}, {part.media_type}]" if part.name else f"[file, {part.media_type}]"


def result_text(part: ToolResultPart, *, beside: Collection[str] = MEDIA) -> str:
    """The whole result in words. Files of the kinds `beside` travel beside the text, not in it."""
    return "\n".join(_content_texts(part, beside=beside))


def _content_texts(part: ToolResultPart, *, beside: Collection[str]) -> Iterator[str]:
    in_words = any(isinstance(item, TextPart | JsonPart) for item in part.content)
    for item in part.content:
        match item:
            case SourcePart():
                if not in_words:
                    yield f"{item.title}: {item.url}" if item.title else item.url
            case TextPart():
                yield item.text
            case JsonPart():
                yield msgspec.json.encode(item.value).decode()
            case FilePart():
                if media(item, beside) is None:
                    yield file_text(item)
            case _:
                assert_never(item)


def result_media(part: ToolResultPart, kinds: Collection[str] = MEDIA) -> list[Media]:
    """The files of a result that travel beside its text."""
    return [found for item in part.content if (found := media(item, kinds)) is not None]


def provider_call_text(part: ToolCallPart) -> str:
    """A call that another provider ran itself, as history in words."""
    arguments = msgspec.json.encode(part.arguments).decode()
    return f"[{part.tool} was called with {arguments}]"


def provider_result_text(part: ToolResultPart) -> str:
    """What such a call gave."""
    word = "failed" if part.is_error else "returned"
    return f"[{part.tool} {word}: {result_text(part, beside=()) or 'nothing'}]"


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
