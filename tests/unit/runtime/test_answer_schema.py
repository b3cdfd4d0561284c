"""Which schemas of people are taken, and what is said about an answer that does not fit."""

from __future__ import annotations

from typing import Any

import pytest

from steersman_runtime.answer_schema import MAX_BYTES, BadSchema, check_schema, problems

TIDE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "port": {"type": "string", "pattern": "^[A-Z]"},
        "times": {"type": "array", "items": {"$ref": "#/$defs/time"}},
    },
    "required": ["port"],
    "additionalProperties": False,
    "$defs": {"time": {"type": "integer"}},
}


def test_what_is_wrong_is_said_with_its_place() -> None:
    check_schema(TIDE)

    assert problems(TIDE, {"port": "Brest", "times": [1, 2]}) == []
    assert problems(TIDE, {"port": "Brest", "times": [1, "x"]}) == [
        '"x" is not of type "integer" at $[\'times\'][1]'
    ]
    assert len(problems(TIDE, {"port": "brest", "more": 1})) == 2


def nested(levels: int) -> dict[str, Any]:
    """Small, and enormous once its references are written out."""
    pairs = {
        f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]}
        for n in range(levels)
    }
    defs = pairs | {f"d{levels}": {"type": "integer"}}
    return {"type": "object", "properties": {"default": {"$ref": "#/$defs/d0"}}, "$defs": defs}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "array"},
        {"type": "nothing"},
        {"type": "object", "properties": 3},
        {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1/x"}}},
        {"type": "object", "properties": {"a": {"$ref": "file:///etc/passwd"}}},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}},
        {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/a"}},
            "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}},
        },
        {"type": "object", "properties": {"a": {"$dynamicRef": "#x"}}},
        {"type": "object", "properties": {"a": {"pattern": "(?=a)b"}}},
        {"type": "object", "description": "x" * MAX_BYTES},
        nested(20),
    ],
)
def test_a_schema_that_is_wrong_or_dangerous_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(BadSchema):
        check_schema(schema)
