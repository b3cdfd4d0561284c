"""The parts of messages: one representation in the database, in RPC, over REST and SSE.

A message holds a list of parts, a tagged union on `type`. `provider_metadata` holds what a provider
needs back unchanged; `strip_internal` removes it on every path that leaves the system.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, TypeAlias

import msgspec

JsonObject: TypeAlias = dict[str, Any]
"""A JSON object. `Any` because JSON has no narrower type that msgspec can decode."""

CONTENT_VERSION: Final = 1
"""The version of the stored form of parts that this code writes. Unknown versions are an error."""

LEGACY_VERSION: Final = 0
"""The form before parts, which is only read: see `legacy`."""

MAX_TEXT: Final = 400_000
"""Characters in one text part that a client sends. Larger input belongs in a file."""

Index = Annotated[int, msgspec.Meta(ge=0, le=100_000)]


class ProviderMetadata(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a provider sent with a part, kept so that it can go back exactly as it came.

    To the same wire format, account and model family the native block goes back unchanged, so that
    the prefix of a conversation stays byte-stable. Any other target gets the neutral fields.
    """

    origin: str
    """The wire format of `native`: `anthropic`, `openai-responses`, `openai-chat`, `google`."""
    account: str = ""
    """A digest of base URL and key: encrypted blocks cannot be read by another account."""
    model: str = ""
    """The model id at the provider that produced the block."""
    native: Any = None
    """The provider's own block, as JSON, in the provider's key order."""
    response_id: str = ""
    """The response that the part is the last of, where its provider keeps it for later requests."""
    prefix: str = ""
    """A digest of the history that this response answered."""


class TextPart(msgspec.Struct, frozen=True, tag_field="type", tag="text", omit_defaults=True):
    """Text in Markdown, from a person or a model."""

    text: str
    provider_metadata: ProviderMetadata | None = None


class ReasoningPart(
    msgspec.Struct, frozen=True, tag_field="type", tag="reasoning", omit_defaults=True
):
    """What the model thought. Empty text with metadata is a redacted or encrypted block."""

    text: str
    provider_metadata: ProviderMetadata | None = None


class ToolCallPart(
    msgspec.Struct, frozen=True, tag_field="type", tag="tool-call", omit_defaults=True
):
    """The model asks for a tool. Local calls get exactly one result directly after the message."""

    call_id: str
    tool: str
    arguments: JsonObject
    provider_executed: bool = False
    """The provider runs it itself: its result stays in the same message and is never invented."""
    invalid: str | None = None
    """The text that arrived in place of a JSON object, when the arguments did not parse."""
    provider_metadata: ProviderMetadata | None = None


class JsonPart(msgspec.Struct, frozen=True, tag_field="type", tag="json", omit_defaults=True):
    """A JSON value: inside a tool result, or the value of an answer, behind its text."""

    value: Any


class FilePart(msgspec.Struct, frozen=True, tag_field="type", tag="file", omit_defaults=True):
    """A file: stored (`file_id`) or inline (`data`)."""

    media_type: Annotated[str, msgspec.Meta(max_length=127)]
    name: Annotated[str, msgspec.Meta(max_length=255)] = ""
    file_id: str | None = None
    data: bytes | None = None
    """Base64 in JSON. Never sent to a client when there is a `file_id`."""
    provider_metadata: ProviderMetadata | None = None


class SourcePart(msgspec.Struct, frozen=True, tag_field="type", tag="source", omit_defaults=True):
    """Where an answer comes from, at the place of the call or the text that cites it.

    In the result of a tool it is for people: a model reads the text of the result, and sources only
    where there is no text.
    """

    url: str
    title: str = ""
    provider_metadata: ProviderMetadata | None = None
    cited: tuple[tuple[int, int], ...] = ()
    """Which words of the answer it supports, where the provider says so: start and end (exclusive)
    in characters, counted over all text parts of the message put together."""


ResultContent: TypeAlias = TextPart | JsonPart | FilePart | SourcePart


class ToolResultPart(
    msgspec.Struct, frozen=True, tag_field="type", tag="tool-result", omit_defaults=True
):
    """What a tool answered, in the order of the calls."""

    call_id: str
    tool: str
    content: tuple[ResultContent, ...] = ()
    is_error: bool = False
    provider_executed: bool = False
    duration_ms: int | None = None
    provider_metadata: ProviderMetadata | None = None
    ends_turn: bool = False
    """The turn ends with this result: the model does not get another word."""


class FileReferencePart(
    msgspec.Struct, frozen=True, tag_field="type", tag="file-reference", omit_defaults=True
):
    """Lines of a file that a person points at, with their text at that moment."""

    file_name: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
    start_line: Annotated[int, msgspec.Meta(ge=1)]
    end_line: Annotated[int, msgspec.Meta(ge=1)]
    content: Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]


class ContextFilePart(
    msgspec.Struct, frozen=True, tag_field="type", tag="context-file", omit_defaults=True
):
    """An instruction file of the workspace that was put before the model."""

    path: str
    content: str
    truncated: bool = False


class SkillPart(msgspec.Struct, frozen=True, tag_field="type", tag="skill", omit_defaults=True):
    """A skill that the model can read: its name and what it is for."""

    name: str
    description: str


Part: TypeAlias = (
    TextPart
    | ReasoningPart
    | ToolCallPart
    | ToolResultPart
    | SourcePart
    | FilePart
    | FileReferencePart
    | ContextFilePart
    | SkillPart
    | JsonPart
)
Parts: TypeAlias = tuple[Part, ...]

_decoder = msgspec.json.Decoder(Parts)
_encoder = msgspec.json.Encoder()


def decode_parts(content: bytes | str, version: int = CONTENT_VERSION) -> Parts:
    """Decode the stored form of a message's parts.

    Raises:
        msgspec.DecodeError: `content` is not such a form.
        ValueError: `version` is one that this code does not know.
    """
    if version == LEGACY_VERSION:
        # Here and not above: the older form is described in terms of this one.
        from steersman_contracts.legacy import decode_legacy

        return decode_legacy(content)
    if version != CONTENT_VERSION:
        raise ValueError(f"unknown content version: {version!r}")
    return _decoder.decode(content)


def encode_parts(parts: Sequence[Part]) -> bytes:
    """Encode parts into their stored form, content version 1."""
    return _encoder.encode(parts)


def strip_internal(parts: Parts) -> Parts:
    """Remove what must not leave the system: provider blocks, and bytes that have a file id.

    Parts without either are the same objects afterwards, and so is the tuple if none had any.
    """
    stripped = tuple(_strip(part) for part in parts)
    return parts if all(a is b for a, b in zip(stripped, parts, strict=True)) else stripped


def _strip(part: Part) -> Part:
    match part:
        case FileReferencePart() | ContextFilePart() | SkillPart() | JsonPart():
            return part
        case ToolResultPart(content=content):
            clean = tuple(_strip_content(item) for item in content)
            same = all(a is b for a, b in zip(clean, content, strict=True))
            if same and part.provider_metadata is None:
                return part
            return msgspec.structs.replace(part, content=clean, provider_metadata=None)
        case FilePart():
            return _strip_file(part)
        case _:
            if part.provider_metadata is None:
                return part
            return msgspec.structs.replace(part, provider_metadata=None)


def _strip_content(item: ResultContent) -> ResultContent:
    match item:
        case TextPart(provider_metadata=ProviderMetadata()):
            return msgspec.structs.replace(item, provider_metadata=None)
        case SourcePart(provider_metadata=ProviderMetadata()):
            return msgspec.structs.replace(item, provider_metadata=None)
        case FilePart():
            return _strip_file(item)
        case _:
            return item


def _strip_file(part: FilePart) -> FilePart:
    inline = part.data is not None and part.file_id is not None
    if part.provider_metadata is None and not inline:
        return part
    data = None if inline else part.data
    return msgspec.structs.replace(part, data=data, provider_metadata=None)
