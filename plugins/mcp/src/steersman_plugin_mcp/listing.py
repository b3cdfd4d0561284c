"""From what a server lists to what the deployment offers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias, TypeGuard

import mcp_types as types
import msgspec

from steersman_contracts.hooks import Tool, ToolContext, ToolResult
from steersman_contracts.parts import JsonObject
from steersman_plugin_mcp.config import Server
from steersman_plugin_mcp.naming import clean, line, tool_names

MAX_TOOLS: Final = 200
"""Tools of one server."""
MAX_DESCRIPTION: Final = 4_000
MAX_SCHEMA_BYTES: Final = 32 << 10
_MAX_RAW_NAME: Final = 256
_MAX_DEPTH: Final = 24
_MAX_WARNINGS: Final = 5
_GRACE_S: Final = 5.0
_SHOWN: Final = ("title", "description", "$comment")

Call: TypeAlias = Callable[[str, ToolContext, JsonObject], Any]
"""Calls a tool by its raw name: the awaitable of a `ToolResult`."""


def offered(
    server: Server, listed: Iterable[types.Tool], call: Call
) -> tuple[tuple[Tool[Any], ...], tuple[str, ...]]:
    """The tools that can be offered, by name, and a line about those that cannot.

    Args:
        server: Whose tools they are.
        listed: What it said.
        call: Runs a call.
    """
    kept: dict[str, tuple[types.Tool, JsonObject]] = {}
    wrong: list[str] = []
    for tool in listed:
        if not server.offers(tool.name):
            continue
        try:
            schema = _checked(tool)
        except ValueError as error:
            wrong.append(f"its tool {line(tool.name, 64)!r} is not used: {error}")
            continue
        kept.setdefault(tool.name, (tool, schema))
    names = tool_names(server.slug, kept)
    chosen = sorted(kept, key=lambda raw: names[raw])
    if len(chosen) > MAX_TOOLS:
        wrong.append(f"only {MAX_TOOLS} of its {len(chosen)} tools are used")
    if len(wrong) > _MAX_WARNINGS:
        wrong[_MAX_WARNINGS:] = [f"and {len(wrong) - _MAX_WARNINGS} more like these"]
    tools = tuple(_tool(server, names[raw], *kept[raw], call) for raw in chosen[:MAX_TOOLS])
    return tools, tuple(wrong)


def _tool(
    server: Server, name: str, listed: types.Tool, schema: JsonObject, call: Call
) -> Tool[Any]:
    raw = listed.name

    async def run(context: ToolContext, arguments: JsonObject) -> ToolResult:
        return await call(raw, context, arguments)

    description = clean(listed.description or listed.title or "", MAX_DESCRIPTION)
    return Tool(
        name,
        description or f"The tool {line(raw, 64)!r} of the MCP server {server.slug!r}.",
        dict,
        run,
        # Above the deadline that we keep ourselves: ours says more when it passes.
        timeout_s=server.call_timeout_s + _GRACE_S,
        # Such tools run in plan mode and for agents that explore. The server's hint is not enough.
        read_only=server.changes_nothing(raw),
        needs_approval=server.needs_approval,
        input_schema=schema,
    )


def _checked(tool: types.Tool) -> JsonObject:
    """Its schema, made fit; ValueError says what is wrong with the tool."""
    if not 0 < len(tool.name) <= _MAX_RAW_NAME:
        raise ValueError(f"its name has {len(tool.name)} characters")
    if tool.input_schema.get("type") != "object":
        raise ValueError("its input schema is not one of a JSON object")
    schema = _shown(tool.input_schema, 0)
    schema.pop("$schema", None)  # every provider assumes a dialect of its own
    try:
        size = len(msgspec.json.encode(schema))
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError("its input schema cannot be sent on") from error
    if size > MAX_SCHEMA_BYTES:
        raise ValueError(f"its input schema has {size} bytes, more than {MAX_SCHEMA_BYTES}")
    return schema


def _is_object(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)


def _is_array(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _shown(value: Any, depth: int) -> Any:
    """A copy in which texts for the model hold nothing invisible."""
    if depth > _MAX_DEPTH:
        raise ValueError("its input schema is nested too deeply")
    if _is_object(value):
        return {
            key: clean(member, MAX_DESCRIPTION)
            if key in _SHOWN and isinstance(member, str)
            else _shown(member, depth + 1)
            for key, member in value.items()
        }
    if _is_array(value):
        return [_shown(item, depth + 1) for item in value]
    return value
