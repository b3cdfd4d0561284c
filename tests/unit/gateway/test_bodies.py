"""Bodies are what they say, or are refused with the field."""

from __future__ import annotations

import pytest

from steersman_contracts.errors import InvalidRequest
from steersman_contracts.parts import FileReferencePart, TextPart
from steersman_contracts.rest import (
    FileReferenceInput,
    InputPart,
    SendMessageBody,
    TextInput,
    ToolResultsBody,
)
from steersman_gateway.bodies import decode
from steersman_gateway.messages import input_parts

LINES = FileReferenceInput("a.py", 1, 2, "x")


def test_an_escaped_backslash_before_u0000_is_no_nul() -> None:
    assert decode(b'{"text": "\\\\u0000"}', SendMessageBody).text == "\\u0000"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"text": "a", "client_key": "\\u0000"}', "client_key"),
        (b'{"text": ' + b"[" * 100_000, "text"),
        (b'"' + b"\\u0000" + b'"', "body"),
        (b"{\xff}", "body"),
    ],
)
def test_what_cannot_be_stored_or_read_is_refused(body: bytes, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(body, SendMessageBody)

    assert caught.value.details["field"] in {field, "body"}


@pytest.mark.parametrize(
    ("text", "parts", "required", "field"),
    [
        (None, (), True, "text"),
        ("a", (LINES,), False, "parts"),
        ("\u2003", (), False, "text"),
        (None, (TextInput("a"), TextInput(" ")), True, "parts[1].text"),
        (None, (FileReferenceInput("a.py", 2, 1, "x"),), True, "parts[0].end_line"),
    ],
)
def test_a_message_has_exactly_one_kind_of_content(
    text: str | None, parts: tuple[InputPart, ...], required: bool, field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        input_parts(text, parts, required=required)

    assert caught.value.details == {"field": field}


def test_a_nul_in_what_somebody_said_is_shown() -> None:
    body = b'{"parts": [{"type": "text", "text": "a\\u0000b"}], "text": "\\u0000", "model": "a/b"}'
    results = b'{"results": [{"call_id": "c", "json": {"\\u0000": ["\\u0000", 1]}}]}'

    message = decode(body, SendMessageBody)

    assert (message.text, message.parts) == ("\ufffd", (TextInput("a\ufffdb"),))
    assert decode(results, ToolResultsBody).results[0].json == {"\ufffd": ["\ufffd", 1]}


def test_text_and_parts_become_parts() -> None:
    assert input_parts("a", (), required=True) == (TextPart("a"),)
    assert input_parts(None, (LINES,), required=True) == (FileReferencePart("a.py", 1, 2, "x"),)
    assert input_parts(None, (), required=False) == ()
