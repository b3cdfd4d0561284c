"""The JSON Schema of a tool's arguments, in the form that every provider takes, and its check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeGuard

import msgspec

from steersman_contracts.parts import JsonObject

MAX_SCHEMA_BYTES: Final = 64 << 10
_MAX_DEPTH: Final = 32


class BadSchema(ValueError):
    """No schema that models understand can be made of the type."""


def input_schema(arguments: type[msgspec.Struct]) -> JsonObject:
    """Derive the schema: one object without references, titles and undeclared properties.

    Raises:
        BadSchema: `arguments` is not a Struct, refers to itself, or holds what JSON cannot.
    """
    if not (isinstance(arguments, type) and issubclass(arguments, msgspec.Struct)):  # pyright: ignore[reportUnnecessaryIsInstance]  # plugins are not type-checked here
        raise BadSchema(f"the arguments must be a msgspec Struct, not {arguments!r}")
    try:
        derived = msgspec.json.schema(arguments)
    except (TypeError, ValueError, NameError, RecursionError) as error:
        raise BadSchema(f"no schema can be derived from {arguments.__name__}: {error}") from error
    schema = _inline(derived, derived.get("$defs", {}), depth=0)
    if schema.get("type") != "object":
        raise BadSchema(f"{arguments.__name__} is not a JSON object")
    if (size := len(msgspec.json.encode(schema))) > MAX_SCHEMA_BYTES:
        raise BadSchema(f"the schema has {size} bytes, more than {MAX_SCHEMA_BYTES}")
    return schema


def declared_schema(schema: Any) -> JsonObject:
    """Check a schema that somebody else wrote; it stays as it is.

    Raises:
        BadSchema: It is not one of an object, is too large, or cannot be encoded.
    """
    if not _is_object(schema) or schema.get("type") != "object":
        raise BadSchema("the input schema is not one of a JSON object")
    try:
        size = len(msgspec.json.encode(schema))
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise BadSchema(f"the input schema is no JSON: {error}") from error
    if size > MAX_SCHEMA_BYTES:
        raise BadSchema(f"the schema has {size} bytes, more than {MAX_SCHEMA_BYTES}")
    return schema


def _is_object(value: Any) -> TypeGuard[JsonObject]:
    return isinstance(value, dict)


def _is_array(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _inline(schema: Any, definitions: Mapping[str, Any], depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise BadSchema("the arguments refer to themselves, or are nested too deeply")
    if not isinstance(schema, dict):
        return schema  # `items: false`
    node: dict[str, Any] = {**schema}
    if (reference := node.pop("$ref", None)) is not None:
        # What stands beside a reference, such as a description, is closer to the field.
        node = {**definitions[reference.rsplit("/", 1)[1]], **node}
    for dropped in ("$defs", "title", "discriminator"):
        node.pop(dropped, None)
    return _close(_inline_children(node, definitions, depth))


def _inline_children(node: JsonObject, definitions: Mapping[str, Any], depth: int) -> JsonObject:
    below = depth + 1
    if "properties" in node:
        properties: dict[str, Any] = node["properties"]
        node["properties"] = {
            name: _inline(value, definitions, below) for name, value in properties.items()
        }
    for keyword in ("items", "additionalProperties", "propertyNames"):
        if keyword in node:
            node[keyword] = _inline(node[keyword], definitions, below)
    if "prefixItems" in node:
        node["prefixItems"] = [_inline(value, definitions, below) for value in node["prefixItems"]]
    if "anyOf" in node:
        node["anyOf"] = list(_flat(_inline(value, definitions, below) for value in node["anyOf"]))
    return node


def _flat(choices: Iterator[JsonObject]) -> Iterator[JsonObject]:
    for choice in choices:
        if choice.keys() == {"anyOf"}:
            yield from choice["anyOf"]
        else:
            yield choice


def _close(node: JsonObject) -> JsonObject:
    if node.get("type") == "object" and "properties" in node:
        node.setdefault("required", [])
        node.setdefault("additionalProperties", False)
    return node


def unknown_fields(schema: Any, value: Any, path: str = "") -> list[str]:
    """The paths in `value` that the schema does not declare; the rest is msgspec's to check."""
    if not _is_object(schema):
        return []
    if "anyOf" in schema:
        choices = [choice for choice in schema["anyOf"] if _is(choice, value)]
        found = [unknown_fields(choice, value, path) for choice in choices]
        return min(found, key=len) if found else []
    if _is_object(value):
        return [
            unknown
            for name, member in value.items()
            for unknown in _unknown_member(schema, name, member, f"{path}.{name}" if path else name)
        ]
    if _is_array(value):
        return [
            unknown
            for index, item in enumerate(value)
            for unknown in unknown_fields(schema.get("items"), item, f"{path}[{index}]")
        ]
    return []


def _unknown_member(schema: JsonObject, name: str, member: Any, path: str) -> list[str]:
    declared: JsonObject = schema.get("properties", {})
    if name in declared:
        return unknown_fields(declared[name], member, path)
    rest = schema.get("additionalProperties", True)
    return [path] if rest is False else unknown_fields(rest, member, path)


def _is(choice: JsonObject, value: Any) -> bool:
    """Whether `value` can be this member of a union; members are told apart by kind and by tag."""
    if not _is_object(value):
        return choice.get("type") in (None, "array") or not _is_array(value)
    declared: JsonObject = choice.get("properties", {})
    return choice.get("type") in (None, "object") and all(
        value[name] in member["enum"]
        for name, member in declared.items()
        if "enum" in member and name in value
    )
