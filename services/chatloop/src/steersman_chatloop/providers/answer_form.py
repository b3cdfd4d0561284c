"""The provider-native ways to ask for an answer of a certain form.

They help and are not relied on: what comes back is checked all the same. So a schema that a
provider would refuse is not sent to it, and the model has it from its prompt alone.
"""

from __future__ import annotations

from typing import Any, Final, cast

from steersman_chatloop.providers import tuning
from steersman_contracts.parts import JsonObject

NAME: Final = "answer"

# What Anthropic compiles into a grammar; it refuses a schema with anything else in it.
_KNOWN_TO_ANTHROPIC: Final = frozenset(
    {
        "$defs",
        "$ref",
        "additionalProperties",
        "anyOf",
        "const",
        "description",
        "enum",
        "items",
        "properties",
        "required",
        "title",
        "type",
    }
)


def for_anthropic(schema: JsonObject) -> JsonObject | None:
    """`output_config.format`; None for a schema that would be refused."""
    return {"type": "json_schema", "schema": schema} if _is_plain(schema) else None


def for_chat_completions(schema: JsonObject) -> JsonObject:
    """`response_format`."""
    return {
        "type": "json_schema",
        "json_schema": {"name": NAME, "schema": schema, "strict": tuning.is_strict(schema)},
    }


def for_responses(schema: JsonObject) -> JsonObject:
    """`text.format`."""
    return {
        "type": "json_schema",
        "name": NAME,
        "schema": schema,
        "strict": tuning.is_strict(schema),
    }


def for_google(schema: JsonObject) -> JsonObject:
    """Fields of `generationConfig`; not together with functions, which older models refuse."""
    return {"responseMimeType": "application/json", "responseJsonSchema": schema}


def _is_plain(schema: object) -> bool:
    if isinstance(schema, list):
        return all(_is_plain(item) for item in cast("list[object]", schema))
    if not isinstance(schema, dict):
        return True
    node = cast("dict[str, Any]", schema)
    if not node.keys() <= _KNOWN_TO_ANTHROPIC:
        return False
    if node.get("type") == "object" and node.get("additionalProperties") is not False:
        return False
    maps = [node.get(name, {}) for name in ("properties", "$defs")]
    below = [value for found in maps for value in found.values()]
    return all(_is_plain(value) for value in (*below, node.get("items"), node.get("anyOf", [])))
