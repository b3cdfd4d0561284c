"""Final answers of a wanted form: how they are found, and to whom the form is sent."""

from __future__ import annotations

from typing import Any

import pytest

from steersman_chatloop.answers import check
from steersman_chatloop.providers import answer_form
from steersman_contracts.parts import JsonPart, ReasoningPart, TextPart

TIDE: dict[str, Any] = {
    "type": "object",
    "properties": {"height": {"type": "integer"}},
    "required": ["height"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "text",
    [
        '{"height": 3}',
        '  {"height": 3}\n',
        'Here it is:\n```json\n{"height": 3}\n```\nGood luck.',
        'The answer is {"height": 3}.',
    ],
)
def test_an_answer_is_found_among_words(text: str) -> None:
    parts = (ReasoningPart("hm"), TextPart(text))

    assert check(parts, TIDE) == ((*parts, JsonPart({"height": 3})), ())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("three", "it is not JSON"),
        ("", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ('{"height": "3"}', '"3" is not of type "integer" at $[\'height\']'),
        ("3", '3 is not of type "object" at $'),
    ],
)
def test_what_is_wrong_with_an_answer_is_said(text: str, problem: str) -> None:
    parts = (TextPart(text),)

    assert check(parts, TIDE) == (parts, (problem,))


def test_a_provider_gets_only_a_schema_that_it_takes() -> None:
    loose = {"type": "object", "properties": {"height": {"type": "integer", "minimum": 0}}}

    assert answer_form.for_anthropic(TIDE) == {"type": "json_schema", "schema": TIDE}
    assert answer_form.for_anthropic(loose) is None
    assert answer_form.for_anthropic(TIDE | {"properties": {"minimum": {"type": "null"}}})
    assert answer_form.for_responses(TIDE)["strict"] is True
    assert answer_form.for_responses(loose)["strict"] is False
    assert answer_form.for_chat_completions(loose)["json_schema"]["schema"] == loose
    assert answer_form.for_google(loose)["responseJsonSchema"] == loose
