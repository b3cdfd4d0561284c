from __future__ import annotations

import pytest

from steersman_contracts.hooks import ToolResult
from steersman_contracts.ids import is_chat_id
from steersman_contracts.parts import JsonPart, TextPart


@pytest.mark.parametrize(
    ("result", "parts"),
    [
        (ToolResult(), ()),
        (ToolResult("a"), (TextPart("a"),)),
        (ToolResult(content=(JsonPart(1),)), (JsonPart(1),)),
        (ToolResult("a", content=(JsonPart(1),)), (TextPart("a"), JsonPart(1))),
        (ToolResult.json({"a": None}), (JsonPart({"a": None}),)),
        (ToolResult.error("no"), (TextPart("no"),)),
    ],
)
def test_the_text_of_a_result_comes_first(result: ToolResult, parts: tuple[object, ...]) -> None:
    assert result.parts() == parts
    assert result.is_error is (result.text == "no")


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ("0190a0a0-0000-7000-8000-000000000001", True),
        ("0190A0A0-0000-7000-8000-000000000001", False),
        ("0190a0a0-0000-7000-8000-000000000001\n", False),
        ("0190a0a0000070008000000000000001", False),
        ("{0190a0a0-0000-7000-8000-000000000001}", False),
        ("../190a0a0-0000-7000-8000-000000000001", False),
        ("", False),
    ],
)
def test_a_chat_id_is_a_lower_case_uuid_and_nothing_around_it(value: str, good: bool) -> None:
    assert is_chat_id(value) is good
