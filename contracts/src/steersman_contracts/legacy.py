"""The form of stored messages before parts: content version 0.

Rows of people and models are lists of envelopes, `[{"type": …, "data": {…}}]`; rows of the system
are one JSON string; rows of tools are lists of results without a `type`. Which of them a row is
follows from its structure alone, and no part of ours can look like an envelope: none has an object
as its `data` (a test guards that). Whatever is not understood is an error: decoding half of a row
would lose the other half without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias, TypeGuard, TypeVar

import msgspec

from steersman_contracts.parts import (
    FilePart,
    JsonPart,
    Part,
    Parts,
    ProviderMetadata,
    ReasoningPart,
    ResultContent,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

T = TypeVar("T")

ORIGIN: Final = "legacy"
"""The origin of provider metadata of such rows: kept, and never sent to a provider again."""


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class _Text(_Strict, frozen=True, forbid_unknown_fields=True):
    text: str
    provider_metadata: Any = None


class _File(_Strict, frozen=True, forbid_unknown_fields=True):
    media_type: str
    data: bytes
    filename: str = ""
    provider_metadata: Any = None


class _Call(_Strict, frozen=True, forbid_unknown_fields=True):
    tool_call_id: str
    tool_name: str
    input: str
    provider_executed: bool = False
    provider_metadata: Any = None


class _Output(_Strict, frozen=True, forbid_unknown_fields=True):
    type: Literal["text", "error", "media"]
    data: dict[str, Any]


class _Result(_Strict, frozen=True, forbid_unknown_fields=True):
    tool_call_id: str
    output: _Output
    tool_name: str = ""
    provider_executed: bool = False
    provider_metadata: Any = None


class _Source(_Strict, frozen=True, forbid_unknown_fields=True):
    url: str
    title: str = ""
    id: str = ""
    source_type: str = "url"
    provider_metadata: Any = None


class _ToolRow(_Strict, frozen=True, forbid_unknown_fields=True):
    tool_call_id: str
    tool_name: str
    result: Any
    is_error: bool = False
    provider_executed: bool = False
    provider_metadata: Any = None


class _Media(_Strict, frozen=True, forbid_unknown_fields=True):
    data: bytes
    media_type: str
    text: str = ""


class _Said(_Strict, frozen=True, forbid_unknown_fields=True):
    text: str


class _Failed(_Strict, frozen=True, forbid_unknown_fields=True):
    error: str


JsonMap: TypeAlias = dict[str, Any]


def is_envelope(value: object) -> TypeGuard[JsonMap]:
    """Whether a JSON value has the structure of an envelope."""
    if not isinstance(value, dict):
        return False
    item: JsonMap = value  # pyright: ignore[reportUnknownVariableType]  # any JSON
    return isinstance(item.get("type"), str) and isinstance(item.get("data"), dict)


def decode_legacy(content: bytes | str) -> Parts:
    """Decode a row of content version 0.

    Raises:
        msgspec.DecodeError: It is not JSON, or not such a row as a whole; `$[1].data` says where.
    """
    value: Any = msgspec.json.decode(content)
    if isinstance(value, str):
        return (TextPart(value),)
    if not isinstance(value, list):
        raise msgspec.ValidationError("Expected a list or a string")
    items: list[Any] = value  # pyright: ignore[reportUnknownVariableType]  # any JSON
    if all(is_envelope(item) for item in items):
        return tuple(_from_envelope(index, item) for index, item in enumerate(items))
    if all(isinstance(item, dict) and "type" not in item for item in items):
        return tuple(_from_tool_row(index, item) for index, item in enumerate(items))
    raise msgspec.ValidationError("Neither a list of envelopes nor a list of tool results")


def _from_envelope(index: int, item: JsonMap) -> Part:
    unknown = item.keys() - {"type", "data"}
    if unknown:
        raise _wrong(f"unknown field `{sorted(unknown)[0]}`", index)
    decode = _KINDS.get(item["type"])
    if decode is None:
        raise _wrong(f"unknown type {item['type']!r}", index)
    return decode(item["data"], f"$[{index}].data")


def _wrong(what: str, index: int) -> msgspec.ValidationError:
    return msgspec.ValidationError(f"{what[0].upper()}{what[1:]} - at `$[{index}]`")


def _read(value: Any, kind: type[T], where: str) -> T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        inner = path.removesuffix("`")
        raise msgspec.ValidationError(f"{text} - at `{where}{inner}`") from error


def _kept(metadata: Any) -> ProviderMetadata | None:
    return None if metadata is None else ProviderMetadata(ORIGIN, native=metadata)


def _text(data: JsonMap, where: str) -> Part:
    found = _read(data, _Text, where)
    return TextPart(found.text, _kept(found.provider_metadata))


def _reasoning(data: JsonMap, where: str) -> Part:
    found = _read(data, _Text, where)
    return ReasoningPart(found.text, _kept(found.provider_metadata))


def _file(data: JsonMap, where: str) -> Part:
    found = _read(data, _File, where)
    metadata = _kept(found.provider_metadata)
    return FilePart(found.media_type, found.filename, None, found.data, metadata)


def _source(data: JsonMap, where: str) -> Part:
    found = _read(data, _Source, where)
    if found.source_type != "url":
        raise msgspec.ValidationError(f"Unknown source type {found.source_type!r} - at `{where}`")
    return SourcePart(found.url, found.title, _kept(found.provider_metadata))


def _call(data: JsonMap, where: str) -> Part:
    found = _read(data, _Call, where)
    arguments: Any = None
    try:
        arguments = msgspec.json.decode(found.input or "{}")
    except msgspec.DecodeError:
        arguments = None
    valid = isinstance(arguments, dict)
    return ToolCallPart(
        found.tool_call_id,
        found.tool_name,
        arguments if valid else {},  # pyright: ignore[reportUnknownArgumentType]  # any JSON object
        found.provider_executed,
        None if valid else found.input,
        _kept(found.provider_metadata),
    )


def _result(data: JsonMap, where: str) -> Part:
    found = _read(data, _Result, where)
    return ToolResultPart(
        found.tool_call_id,
        found.tool_name,
        _output(found.output, f"{where}.output.data"),
        is_error=found.output.type == "error",
        provider_executed=found.provider_executed,
        provider_metadata=_kept(found.provider_metadata),
    )


def _output(output: _Output, where: str) -> tuple[ResultContent, ...]:
    match output.type:
        case "text":
            return (TextPart(_read(output.data, _Said, where).text),)
        case "error":
            return (TextPart(_read(output.data, _Failed, where).error),)
        case "media":
            media = _read(output.data, _Media, where)
            said = (TextPart(media.text),) if media.text else ()
            return (*said, FilePart(media.media_type, data=media.data))


def _from_tool_row(index: int, item: Any) -> Part:
    found = _read(item, _ToolRow, f"$[{index}]")
    text = isinstance(found.result, str)
    return ToolResultPart(
        found.tool_call_id,
        found.tool_name,
        (TextPart(found.result) if text else JsonPart(found.result),),
        is_error=found.is_error,
        provider_executed=found.provider_executed,
        provider_metadata=_kept(found.provider_metadata),
    )


_KINDS: Final[dict[str, Callable[[JsonMap, str], Part]]] = {
    "text": _text,
    "reasoning": _reasoning,
    "file": _file,
    "source": _source,
    "tool-call": _call,
    "tool-result": _result,
}
