"""Client-side tools are checked when a chat is created, so that no turn fails because of them."""

from __future__ import annotations

from collections.abc import Sequence

from steersman_contracts.chats import ClientTool
from steersman_contracts.errors import InvalidRequest


def check_client_tools(tools: Sequence[ClientTool]) -> None:
    """Refuse what no provider would take.

    Raises:
        InvalidRequest: Two tools share a name, or a schema is not one of an object.
    """
    names: set[str] = set()
    for number, tool in enumerate(tools):
        if tool.name in names:
            raise InvalidRequest(
                f"two client tools are called {tool.name!r}", field=f"client_tools[{number}].name"
            )
        names.add(tool.name)
        problem = _schema_problem(tool)
        if problem is not None:
            raise InvalidRequest(
                f"the schema of {tool.name!r} {problem}",
                field=f"client_tools[{number}].input_schema",
            )


def _schema_problem(tool: ClientTool) -> str | None:
    schema = tool.input_schema
    if schema.get("type") != "object":
        return "must have the type 'object'"
    if not isinstance(schema.get("properties", {}), dict):
        return "must have an object of properties"
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):  # pyright: ignore[reportUnknownVariableType]  # JSON
        return "must name its required properties in a list of strings"
    return None
