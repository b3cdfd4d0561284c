"""Rows of content version 0 are read as a whole or not at all, and are never mistaken for parts."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from contract.contracts.structs import instances
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman_contracts.legacy import is_envelope
from steersman_contracts.parts import (
    FilePart,
    JsonPart,
    Part,
    ProviderMetadata,
    ReasoningPart,
    ResultContent,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    decode_parts,
    encode_parts,
)


def decode(value: Any) -> Any:
    return decode_parts(msgspec.json.encode(value), 0)


def envelope(kind: str, **data: Any) -> dict[str, Any]:
    return {"type": kind, "data": data}


def test_every_kind_of_row_is_read() -> None:
    signed = {"anthropic": {"signature": "s"}}

    assert decode("You are kind.") == (TextPart("You are kind."),)
    assert decode([]) == ()
    assert decode(
        [
            envelope("text", text="a\u0000b \U0001f30a"),
            envelope("reasoning", text="hm", provider_metadata=signed),
            envelope("file", media_type="image/png", data="AAEC", filename="sea.png"),
            envelope("source", source_type="url", id="1", url="http://sea", title="Sea"),
            envelope("tool-call", tool_call_id="c1", tool_name="look", input='{"at": 1}'),
            envelope("tool-call", tool_call_id="c2", tool_name="look", input="{broken"),
            envelope("tool-call", tool_call_id="c3", tool_name="look", input="[1]"),
            envelope(
                "tool-result",
                tool_call_id="s1",
                tool_name="search",
                provider_executed=True,
                output={"type": "text", "data": {"text": "found"}},
            ),
            envelope(
                "tool-result", tool_call_id="s2", output={"type": "error", "data": {"error": "no"}}
            ),
            envelope(
                "tool-result",
                tool_call_id="s3",
                output={"type": "media", "data": {"data": "AA==", "media_type": "image/png"}},
            ),
        ]
    ) == (
        TextPart("a\u0000b \U0001f30a"),
        ReasoningPart("hm", ProviderMetadata("legacy", native=signed)),
        FilePart("image/png", "sea.png", data=b"\0\1\2"),
        SourcePart("http://sea", "Sea"),
        ToolCallPart("c1", "look", {"at": 1}),
        ToolCallPart("c2", "look", {}, invalid="{broken"),
        ToolCallPart("c3", "look", {}, invalid="[1]"),
        ToolResultPart("s1", "search", (TextPart("found"),), provider_executed=True),
        ToolResultPart("s2", "", (TextPart("no"),), is_error=True),
        ToolResultPart("s3", "", (FilePart("image/png", data=b"\0"),)),
    )
    assert decode(
        [
            {"tool_call_id": "c1", "tool_name": "look", "result": {"sea": [1]}},
            {"tool_call_id": "c2", "tool_name": "look", "result": "no", "is_error": True},
        ]
    ) == (
        ToolResultPart("c1", "look", (JsonPart({"sea": [1]}),)),
        ToolResultPart("c2", "look", (TextPart("no"),), is_error=True),
    )


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (5, "list or a string"),
        ({"type": "text", "data": {"text": "a"}}, "list or a string"),
        ([envelope("text", text="a"), "b"], "Neither"),
        ([envelope("text", text="a"), {"tool_call_id": "c"}], "Neither"),
        ([{"type": "text", "text": "a part"}], "Neither"),
        ([{"type": "text", "data": "base64"}], "Neither"),
        ([envelope("text", text="a"), envelope("video", url="x")], r"'video' - at `\$\[1\]`"),
        ([envelope("text", text="a", mood="glad")], r"`mood` - at `\$\[0\].data`"),
        ([envelope("text", text=5)], r"\$\[0\].data.text"),
        ([{**envelope("text", text="a"), "id": 1}], r"`id` - at `\$\[0\]`"),
        ([envelope("source", source_type="document", url="x")], "'document'"),
        (
            [envelope("tool-result", tool_call_id="s", output={"type": "text", "data": {"t": 1}})],
            r"\$\[0\].data.output.data",
        ),
        ([{"tool_call_id": "c", "tool_name": "t"}], "result"),
        ([{"tool_call_id": "c", "tool_name": "t", "result": 1, "cost": 2}], "cost"),
    ],
)
def test_what_is_not_understood_as_a_whole_is_an_error(value: Any, where: str) -> None:
    with pytest.raises(msgspec.DecodeError, match=where):
        decode(value)


@pytest.mark.parametrize("content", [b"", b"[", b'"\xff"', b'"\\ud800"'])
def test_what_is_no_json_is_an_error(content: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeError)):
        decode_parts(content, 0)


@settings(deadline=None, max_examples=100)
@given(instances(Part) | instances(ResultContent))
def test_no_part_of_ours_looks_like_an_envelope(part: Any) -> None:
    assert not is_envelope(msgspec.json.decode(msgspec.json.encode(part)))


@pytest.mark.parametrize("union", [Part, ResultContent])
def test_no_part_of_ours_can_ever_have_an_object_as_its_data(union: Any) -> None:
    info = msgspec.inspect.type_info(union)
    assert isinstance(info, msgspec.inspect.UnionType)
    for choice in info.types:
        assert isinstance(choice, msgspec.inspect.StructType)
        for field in choice.fields:
            if field.encode_name != "data":
                continue
            kinds = field.type.types if isinstance(field.type, msgspec.inspect.UnionType) else ()
            assert {type(kind) for kind in kinds or (field.type,)} <= {
                msgspec.inspect.BytesType,
                msgspec.inspect.StrType,
                msgspec.inspect.NoneType,
            }, f"{choice.cls.__name__}.data could hold an object"


@settings(deadline=None, max_examples=50)
@given(st.lists(instances(Part), min_size=1, max_size=4))
def test_parts_are_never_read_as_legacy_rows(parts: list[Any]) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_parts(encode_parts(parts), 0)


def test_legacy_rows_are_never_read_as_parts() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_parts(msgspec.json.encode([envelope("text", text="a")]))
