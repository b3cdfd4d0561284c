"""JSON Schemas that people give for answers: which are taken, and what is wrong with an answer.

Whoever writes the schema decides how long its check takes, on a loop that other chats share. So
references may neither leave the schema nor go in circles, patterns are matched in linear time, and
what is left, written out in full, is bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, cast

import jsonschema_rs
import msgspec

MAX_BYTES: Final = 64 * 1024
MAX_NODES: Final = 2_000
"""Schemas in the schema, references written out."""
_MAX_DEPTH: Final = 32
_MAX_PROBLEMS: Final = 10
_FORBIDDEN: Final = frozenset(
    {"$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$anchor", "$id"}
)
_MAPS: Final = frozenset({"properties", "patternProperties", "dependentSchemas"})
"""Their members have names of their own, which are no keywords."""


class BadSchema(ValueError):
    """The schema cannot be used; the text says why."""


def check_schema(schema: Mapping[str, Any]) -> None:
    """Refuse a schema that cannot be used.

    Raises:
        BadSchema: It is too large, refers to itself or elsewhere, or is no JSON Schema 2020-12.
    """
    if len(msgspec.json.encode(schema)) > MAX_BYTES:
        raise BadSchema(f"it has more than {MAX_BYTES} bytes")
    if schema.get("type") != "object":
        raise BadSchema("its type must be 'object': not all providers know others")
    _Written(schema).count(schema, (), 0)
    try:
        _validator(msgspec.json.encode(schema))
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        raise BadSchema(str(error).partition("\n")[0][:300]) from error


def problems(schema: Mapping[str, Any], value: object) -> list[str]:
    """What is wrong with a value, in sentences; empty when it is as the schema wants it."""
    found: list[str] = []
    for error in _validator(msgspec.json.encode(schema)).iter_errors(cast("Any", value)):
        where = "".join(f"[{step!r}]" for step in error.instance_path)
        found.append(f"{error.message[:300]} at ${where}")
        if len(found) >= _MAX_PROBLEMS:
            break
    return found


@lru_cache(maxsize=64)
def _validator(schema: bytes) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(
        msgspec.json.decode(schema), offline=True, pattern_options=jsonschema_rs.RegexOptions()
    )


class _Written:
    """Counts the nodes of a schema with its references written out."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._nodes = 0

    def count(self, node: object, through: tuple[str, ...], depth: int) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise BadSchema(f"it has more than {MAX_NODES} parts, references written out")
        if depth > _MAX_DEPTH:
            raise BadSchema(f"it is nested more than {_MAX_DEPTH} deep")
        if isinstance(node, list):
            for item in cast("list[object]", node):
                self.count(item, through, depth + 1)
        if not isinstance(node, dict):
            return
        fields = cast("dict[str, object]", node)
        if found := _FORBIDDEN & fields.keys():
            raise BadSchema(f"{min(found)} cannot be used")
        for name, value in fields.items():
            if name == "$ref":
                self._follow(value, through, depth)
            elif name in _MAPS and isinstance(value, dict):
                for member in cast("dict[str, object]", value).values():
                    self.count(member, through, depth + 1)
            elif name not in ("$defs", "definitions", "enum", "const", "default", "examples"):
                self.count(value, through, depth + 1)

    def _follow(self, reference: object, through: tuple[str, ...], depth: int) -> None:
        if not isinstance(reference, str) or not reference.startswith("#/"):
            raise BadSchema(f"it refers to {reference!r:.100}; only '#/…' can be used")
        if reference in through:
            raise BadSchema(f"{reference!r:.100} refers to itself")
        target: Any = self._root
        for step in reference[2:].split("/"):
            name = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(target, dict) or name not in target:
                raise BadSchema(f"there is no {reference!r:.100}")
            target = cast("dict[str, Any]", target)[name]
        self.count(target, (*through, reference), depth + 1)
