"""What a model reads of a tool's result."""

from __future__ import annotations

import pytest

from steersman_chatloop.providers.neutral import result_text
from steersman_contracts.parts import JsonPart, ResultContent, SourcePart, TextPart, ToolResultPart

SOURCE = SourcePart("https://a.example/1", "A")
BARE = SourcePart("https://b.example/2")


@pytest.mark.parametrize(
    ("content", "read"),
    [
        ((TextPart("found"), SOURCE), "found"),
        ((SOURCE, JsonPart({"n": 1})), '{"n":1}'),
        ((SOURCE, BARE), "A: https://a.example/1\nhttps://b.example/2"),
        ((), ""),
    ],
)
def test_sources_are_read_only_where_there_is_no_text(
    content: tuple[ResultContent, ...], read: str
) -> None:
    assert result_text(ToolResultPart("c", "t", content)) == read
