from __future__ import annotations

import mcp_types as types

from steersman_contracts.hooks import ToolResult
from steersman_contracts.parts import FilePart, JsonPart, ResultContent, TextPart
from steersman_plugin_mcp.results import MAX_FILES, MAX_TEXT, to_result


def parts(*content: types.ContentBlock, structured: object = None) -> tuple[ResultContent, ...]:
    return to_result(
        types.CallToolResult(content=list(content), structured_content=structured)
    ).content


def text(value: str) -> types.TextContent:
    return types.TextContent(text=value)


def test_structured_content_is_not_told_twice() -> None:
    assert parts(text('{"x": 1}'), structured={"x": 1}) == (JsonPart({"x": 1}),)
    assert parts(text("plain"), structured={"result": "plain"}) == (TextPart("plain"),)
    assert parts(text("a"), text("b"), structured={"result": ["a", "b"]}) == (
        JsonPart({"result": ["a", "b"]}),
    )
    assert parts(text("other"), structured={"x": 1}) == (TextPart("other"), JsonPart({"x": 1}))


def test_an_error_stays_an_error() -> None:
    result = types.CallToolResult(content=[text("no")], is_error=True)

    assert to_result(result) == ToolResult(content=(TextPart("no"),), is_error=True)


def test_text_over_the_limit_is_cut() -> None:
    first, second = parts(text("x" * MAX_TEXT), text("more"))

    assert first == TextPart("x" * MAX_TEXT)
    assert second == TextPart("[… 4 characters left out …]")


def test_files_that_are_too_large_or_broken_become_a_sentence() -> None:
    large = "A" * (MAX_FILES // 3 * 4 + 8)
    assert parts(types.ImageContent(data=large, mime_type="image/png")) == (
        TextPart("[… a file of type image/png, too large to show, left out …]"),
    )
    assert parts(types.ImageContent(data="???", mime_type="image/png")) == (
        TextPart("[… a file of type image/png, which is not valid base64, left out …]"),
    )


def test_a_media_type_that_is_none_is_replaced() -> None:
    assert parts(types.AudioContent(data="QUI=", mime_type="a\r\nb")) == (
        FilePart("application/octet-stream", data=b"AB"),
    )


def test_many_parts_are_cut() -> None:
    found = parts(*(text(str(number)) for number in range(150)))

    assert len(found) == 101
    assert found[-1] == TextPart("[… 50 more parts left out …]")
