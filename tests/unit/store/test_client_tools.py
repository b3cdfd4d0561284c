"""Which tools of clients are taken, and what is said about the others."""

from __future__ import annotations

from typing import Any

import pytest

from steersman_contracts.chats import ClientTool
from steersman_contracts.errors import InvalidRequest
from steersman_contracts.tool_schema import MAX_SCHEMA_BYTES
from steersman_store.client_tools import check_client_tools

TREE: dict[str, Any] = {
    "type": "object",
    "properties": {"root": {"$ref": "#/$defs/node"}},
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"below": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
        }
    },
}


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        TREE,
        {"type": "object", "properties": {"a": {"pattern": "(?=a)b"}}},
        {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"},
        {
            "$schema": "https://json-schema.org/draft/2019-09/schema",
            "type": "object",
            "properties": {"pair": {"type": "array", "items": [{"type": "string"}]}},
        },
    ],
)
def test_a_json_schema_of_an_object_is_taken(schema: dict[str, Any]) -> None:
    check_client_tools((ClientTool("one", "", schema), ClientTool("two", "", schema)))


@pytest.mark.parametrize(
    ("schema", "place", "why"),
    [
        ({}, "", "not one of a JSON object"),
        ({"type": "array"}, "", "not one of a JSON object"),
        ({"type": ["object", "null"]}, "", "not one of a JSON object"),
        ({"type": "object", "properties": []}, ".properties", '[] is not of type "object"'),
        ({"type": "object", "required": "a"}, ".required", '"a" is not of type "array"'),
        (
            {"type": "object", "properties": {"a": {"type": "strin"}}},
            ".properties.a.type",
            '"strin" is not',
        ),
        (
            {"type": "object", "properties": {"a": {"anyOf": [{}, {"minimum": "1"}]}}},
            ".properties.a.anyOf[1].minimum",
            '"1" is not of type "number"',
        ),
        (
            {"type": "object", "properties": {"a": {"pattern": "("}}},
            ".properties.a.pattern",
            '"(" is not a "regex"',
        ),
        (
            {"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}},
            "",
            "'/$defs/none' does not exist",
        ),
        ({"type": "object", "not": {"$ref": "http://127.0.0.1/x"}}, "", "http://127.0.0.1/x"),
        ({"type": "object", "not": {"$ref": "file:///etc/passwd"}}, "", "file:///etc/passwd"),
        ({"$schema": "urn:mine", "type": "object"}, "", "urn:mine"),
        ({"type": "object", "properties": {"a": deep(1000)}}, "", "ecursion"),
        ({"type": "object", "description": "x" * MAX_SCHEMA_BYTES}, "", "bytes"),
    ],
)
def test_another_schema_is_refused_with_the_tool_and_the_place(
    schema: dict[str, Any], place: str, why: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_client_tools(
            (ClientTool("fine", "", {"type": "object"}), ClientTool("b", "", schema))
        )

    assert refused.value.details["field"] == f"client_tools[1].input_schema{place}"
    assert str(refused.value).startswith("the schema of 'b' cannot be used: ")
    assert why in str(refused.value)


def test_two_tools_of_one_name_are_refused() -> None:
    tool = ClientTool("ask", "", {"type": "object"})

    with pytest.raises(InvalidRequest, match="two client tools are called 'ask'") as refused:
        check_client_tools((tool, ClientTool("other", "", {"type": "object"}), tool))

    assert refused.value.details["field"] == "client_tools[2].name"
