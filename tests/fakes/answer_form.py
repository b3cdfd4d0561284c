"""What OpenAI and Anthropic check of the form that an answer is to have."""

from __future__ import annotations

import re
from typing import Any

from fakes.wire import Refused

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def check_answer_form(form: dict[str, Any] | None, field: str, *, nested: str = "") -> None:
    """Check `response_format` or `text.format`; `nested` is where the first keeps its schema."""
    if form is None or form.get("type") in ("text", "json_object"):
        return
    if form.get("type") != "json_schema":
        raise Refused(f"Invalid value: {form.get('type')!r}.", field=f"{field}.type")
    inner: dict[str, Any] = form.get(nested, {}) if nested else form
    where = f"{field}.{nested}" if nested else field
    if not _NAME.fullmatch(str(inner.get("name", ""))):
        raise Refused("Missing or invalid name.", field=f"{where}.name")
    schema = inner.get("schema")
    if not isinstance(schema, dict) or schema.get("type") != "object":  # pyright: ignore[reportUnknownMemberType]  # JSON
        raise Refused(
            "Invalid schema for response_format: schema must be of type 'object'.",
            field=f"{where}.schema",
        )
    if inner.get("strict"):
        _check_strict(schema, f"{where}.schema")  # pyright: ignore[reportUnknownArgumentType]  # JSON


def _check_strict(schema: dict[str, Any], field: str) -> None:
    if schema.get("type") == "object":
        properties: dict[str, Any] = schema.get("properties", {})
        if schema.get("additionalProperties") is not False:
            raise Refused(
                "'additionalProperties' is required to be supplied and to be false.", field=field
            )
        if set(schema.get("required", ())) != set(properties):
            raise Refused("'required' must hold every key in properties.", field=field)
        for name, inner in properties.items():
            _check_strict(inner, f"{field}.properties.{name}")
    if isinstance(schema.get("items"), dict):
        _check_strict(schema["items"], f"{field}.items")


_NOT_COMPILED = (
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "multipleOf",
    "pattern",
    "maxItems",
    "minItems",
)


def check_output_format(form: dict[str, Any]) -> None:
    """Check `output_config.format` of Anthropic."""
    where = "output_config.format"
    if form.get("type") != "json_schema" or not isinstance(form.get("schema"), dict):
        raise Refused(f"{where}: a json_schema is required", field=where)
    _check_compiled(form["schema"], f"{where}.schema")


def _check_compiled(schema: dict[str, Any], field: str) -> None:
    for name in _NOT_COMPILED:
        if name in schema:
            raise Refused(f"{field}: property '{name}' is not supported", field=field)
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        raise Refused(f"{field}: 'additionalProperties' must be false", field=field)
    properties: dict[str, Any] = schema.get("properties", {})
    for name, inner in properties.items():
        _check_compiled(inner, f"{field}.properties.{name}")
    if isinstance(schema.get("items"), dict):
        _check_compiled(schema["items"], f"{field}.items")
