from __future__ import annotations

import mcp_types as types

from steersman_contracts.hooks import ToolContext, ToolResult
from steersman_contracts.parts import JsonObject
from steersman_plugin_mcp.config import HttpServer
from steersman_plugin_mcp.listing import offered

LOOKS = types.ToolAnnotations(read_only_hint=True)


async def _call(raw: str, context: ToolContext, arguments: JsonObject) -> ToolResult:
    del context, arguments
    return ToolResult(raw)


def test_an_administrator_says_what_changes_nothing_and_the_server_does_not() -> None:
    listed = [
        types.Tool(name=name, input_schema={"type": "object"}, annotations=LOOKS)
        for name in ("get_page", "drop_page")
    ]
    believed = HttpServer(slug="s", url="https://mcp.example/", read_only=("get_*",))
    silent = HttpServer(slug="s", url="https://mcp.example/")

    assert {tool.name: tool.read_only for tool in offered(believed, listed, _call)[0]} == {
        "s__get_page": True,
        "s__drop_page": False,
    }
    assert not any(tool.read_only for tool in offered(silent, listed, _call)[0])
