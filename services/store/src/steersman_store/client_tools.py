"""Client-side tools are checked when a chat is created, so that no turn fails because of them."""

from __future__ import annotations

from collections.abc import Sequence

from steersman_contracts.chats import ClientTool
from steersman_contracts.errors import InvalidRequest
from steersman_contracts.parts import JsonObject
from steersman_contracts.tool_schema import BadSchema, declared_schema
from steersman_runtime.json_schema import NotASchema, check_json_schema


def check_client_tools(tools: Sequence[ClientTool]) -> None:
    """Refuse what no provider would take.

    Raises:
        InvalidRequest: Two tools share a name, or a schema is no JSON Schema of an object. The
            message names the tool, `field` the place in the request.
    """
    names: set[str] = set()
    for number, tool in enumerate(tools):
        if tool.name in names:
            raise InvalidRequest(
                f"two client tools are called {tool.name!r}", field=f"client_tools[{number}].name"
            )
        names.add(tool.name)
        try:
            _check_schema(tool.input_schema)
        except NotASchema as error:
            raise InvalidRequest(
                f"the schema of {tool.name!r} cannot be used: {error}",
                field=f"client_tools[{number}].input_schema{_path(error.place)}",
            ) from error


def _check_schema(schema: JsonObject) -> None:
    try:
        declared_schema(schema)
    except BadSchema as error:
        raise NotASchema(str(error)) from error
    check_json_schema(schema)


def _path(place: Sequence[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
