"""What is stored and what leaves the system."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from contract.contracts.structs import instances
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman_contracts.parts import (
    CONTENT_VERSION,
    FilePart,
    Part,
    Parts,
    ResultContent,
    TextPart,
    ToolResultPart,
    decode_parts,
    encode_parts,
    strip_internal,
)

all_parts: st.SearchStrategy[Parts] = st.lists(instances(Part), max_size=6).map(tuple)


def below(parts: Parts) -> list[Part | ResultContent]:
    """All parts, those inside of tool results included."""
    found: list[Part | ResultContent] = []
    for part in parts:
        found.append(part)
        if isinstance(part, ToolResultPart):
            found += part.content
    return found


def is_internal(part: Part | ResultContent) -> bool:
    inline = isinstance(part, FilePart) and part.data is not None and part.file_id is not None
    return getattr(part, "provider_metadata", None) is not None or inline


def public(part: Part | ResultContent) -> dict[str, Any]:
    """The fields that a client may see."""
    fields = msgspec.structs.asdict(part)
    fields.pop("provider_metadata", None)
    if isinstance(part, FilePart) and part.file_id is not None:
        fields.pop("data")
    if isinstance(part, ToolResultPart):
        fields["content"] = [public(item) for item in part.content]
    return fields


@settings(deadline=None, max_examples=50)
@given(all_parts)
def test_nothing_internal_leaves_and_nothing_else_is_lost(parts: Parts) -> None:
    stripped = strip_internal(parts)

    assert not any(is_internal(part) for part in below(stripped))
    assert [type(part) for part in stripped] == [type(part) for part in parts]
    assert [public(part) for part in stripped] == [public(part) for part in parts]
    assert b"provider_metadata" not in encode_parts(stripped) or any(
        "provider_metadata" in str(public(part)) for part in parts
    )


@settings(deadline=None, max_examples=50)
@given(all_parts)
def test_what_has_nothing_internal_is_passed_on_as_it_is(parts: Parts) -> None:
    stripped = strip_internal(parts)

    assert strip_internal(stripped) is stripped
    if not any(is_internal(part) for part in below(parts)):
        assert stripped is parts
    for before, after in zip(parts, stripped, strict=True):
        if not any(is_internal(part) for part in below((before,))):
            assert after is before


def test_bytes_without_a_file_id_stay_since_there_is_no_other_way_to_them() -> None:
    inline = FilePart("image/png", data=b"x")
    stored = FilePart("image/png", data=b"x", file_id="f")

    result = ToolResultPart("c", "t", content=(inline, stored))

    assert strip_internal((inline, stored, result)) == (
        inline,
        FilePart("image/png", file_id="f"),
        ToolResultPart("c", "t", content=(inline, FilePart("image/png", file_id="f"))),
    )


@settings(deadline=None, max_examples=50)
@given(all_parts)
def test_stored_parts_come_back(parts: Parts) -> None:
    assert decode_parts(encode_parts(parts)) == parts
    assert decode_parts(encode_parts(parts).decode(), CONTENT_VERSION) == parts


@pytest.mark.parametrize("version", [CONTENT_VERSION + 1, -1])
def test_an_unknown_content_version_is_an_error(version: int) -> None:
    with pytest.raises(ValueError, match=f"unknown content version: {version}"):
        decode_parts(b"[]", version)


@pytest.mark.parametrize("content", [b"", b"{}", b'[{"type":"of-a-newer-version"}]', b"[{}]"])
def test_what_is_no_list_of_parts_is_an_error(content: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_parts(content)


def test_the_stored_form_is_small_and_stable() -> None:
    assert encode_parts((TextPart("a"),)) == b'[{"type":"text","text":"a"}]'
