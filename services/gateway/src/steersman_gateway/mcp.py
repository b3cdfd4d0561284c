"""MCP servers over REST: your own, and those that administrators add for everybody."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Controller, delete, get, patch, post
from litestar.params import JSONBody, PathParameter

from steersman_contracts.errors import NotFound
from steersman_contracts.ids import is_chat_id
from steersman_contracts.rest import ChangeMcpServerBody, CreateMcpServerBody, McpServers
from steersman_contracts.rpc import mcp as rpc
from steersman_gateway.auth import CurrentActor
from steersman_gateway.backend import Services

ServerInPath = Annotated[str, PathParameter(description="The server: a lower-case UUID.")]


class McpController(Controller):
    """Servers that speak the Model Context Protocol, whose tools chats can use."""

    path = "/mcp-servers"
    tags = ("Tools",)

    @get("/", operation_id="listMcpServers", summary="List MCP servers")
    async def list_servers(self, actor: CurrentActor, backend: Services) -> McpServers:
        """Those of the deployment and your own, without secrets; `problem` says what is wrong."""
        reply = await backend.call(rpc.LIST_MCP_SERVERS, rpc.ListMcpServers(actor))
        return McpServers(reply.servers)

    @post("/", operation_id="createMcpServer", summary="Add an MCP server")
    async def create(
        self, data: JSONBody[CreateMcpServerBody], actor: CurrentActor, backend: Services
    ) -> rpc.McpServer:
        """Add a server for yourself; admins can add one for everybody, and processes."""
        settings = rpc.McpSettings(**_fields(data, rpc.McpSettings))
        request = rpc.CreateMcpServer(actor, settings, data.shared)
        return await backend.call(rpc.CREATE_MCP_SERVER, request)

    @patch("/{server_id:str}", operation_id="updateMcpServer", summary="Change an MCP server")
    async def change(
        self,
        server_id: ServerInPath,
        data: JSONBody[ChangeMcpServerBody],
        actor: CurrentActor,
        backend: Services,
    ) -> rpc.McpServer:
        """Change what is named and leave the rest. Another host needs its secrets anew."""
        changes = rpc.McpChanges(**_fields(data, rpc.McpChanges))
        request = rpc.ChangeMcpServer(actor, _known(server_id), changes, data.version)
        return await backend.call(rpc.CHANGE_MCP_SERVER, request)

    @delete("/{server_id:str}", operation_id="deleteMcpServer", summary="Remove an MCP server")
    async def remove(self, server_id: ServerInPath, actor: CurrentActor, backend: Services) -> None:
        """Its tools are gone from the next turn on; calls that run are finished."""
        await backend.call(rpc.DELETE_MCP_SERVER, rpc.DeleteMcpServer(actor, _known(server_id)))


def _fields(body: msgspec.Struct, kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {name: getattr(body, name) for name in kind.__struct_fields__}


def _known(server_id: str) -> str:
    if not is_chat_id(server_id):  # the shape of any id
        raise NotFound("there is no such MCP server")
    return server_id
