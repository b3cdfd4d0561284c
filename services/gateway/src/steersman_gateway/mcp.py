"""MCP servers over REST: your own, and those that administrators add for everybody."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, delete, get, patch, post
from litestar.datastructures import State
from litestar.params import JSONBody, PathParameter

from steersman_contracts.errors import NotFound
from steersman_contracts.ids import is_chat_id
from steersman_contracts.rest import (
    ChangeMcpServerBody,
    ChatTools,
    CreateMcpServerBody,
    FinishMcpLoginBody,
    McpLoginBegun,
    McpServers,
)
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc import mcp as rpc
from steersman_contracts.rpc.chats import GET, GetChat
from steersman_contracts.rpc.identity import Identity
from steersman_contracts.rpc.tools import ASK_PLUGIN, LIST_TOOLS, AskPlugin, ListTools
from steersman_gateway.auth import CurrentActor
from steersman_gateway.backend import Backend, Services
from steersman_gateway.ids import ChatInPath
from steersman_gateway.settings import Settings

LOGIN_PATH = "/mcp-login"
"""Where a person comes back after a sign-in at a server: see `mcp_login.py`."""

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

    @post(
        "/{server_id:str}/login",
        operation_id="beginMcpLogin",
        summary="Sign in at an MCP server",
        status_code=200,
    )
    async def login(
        self,
        server_id: ServerInPath,
        request: Request[Identity, Any, State],
        actor: CurrentActor,
        backend: Services,
    ) -> McpLoginBegun:
        """Begin an OAuth sign-in for yourself; the address is for your browser."""
        question = {
            "server_id": _known(server_id),
            "redirect_uri": f"{_here(request)}{LOGIN_PATH}",
        }
        answer = await backend.call(ASK_PLUGIN, AskPlugin(actor, "mcp", "begin_login", question))
        return msgspec.convert(answer.body, McpLoginBegun)

    @delete(
        "/{server_id:str}/login",
        operation_id="endMcpLogin",
        summary="Sign out of an MCP server",
    )
    async def logout(self, server_id: ServerInPath, actor: CurrentActor, backend: Services) -> None:
        """Forget what the server has given you. Done also when there is nothing."""
        await backend.call(rpc.SIGN_OUT, rpc.SignOut(actor, _known(server_id)))

    @post(
        "/finish-login",
        operation_id="finishMcpLogin",
        summary="Finish a sign-in at an MCP server",
        status_code=200,
    )
    async def finish(
        self, data: JSONBody[FinishMcpLoginBody], actor: CurrentActor, backend: Services
    ) -> rpc.McpServer:
        """For programs whose person came back in a browser that is not signed in here."""
        return await finish_login(backend, actor, data.state, data.code, data.iss)


async def finish_login(
    backend: Backend, actor: Actor, state: str, code: str, issuer: str | None
) -> rpc.McpServer:
    """Finish the sign-in that this person has begun; nobody else's."""
    answer = {"state": state, "code": code, "issuer": issuer}
    done = await backend.call(ASK_PLUGIN, AskPlugin(actor, "mcp", "finish_login", answer))
    return await backend.call(rpc.GET_MCP_SERVER, rpc.GetMcpServer(actor, done.body["server_id"]))


@get(
    "/chats/{chat_id:str}/tools",
    operation_id="listChatTools",
    summary="List the tools of a chat",
    tags=["Tools"],
)
async def chat_tools(chat: ChatInPath, actor: CurrentActor, backend: Services) -> ChatTools:
    """What models may call there now, and what is missing; servers are waited for."""
    await backend.call(GET, GetChat(actor, chat))
    catalog = await backend.call(LIST_TOOLS, ListTools(chat))
    return ChatTools(catalog.tools, catalog.warnings)


def _here(request: Request[Identity, Any, State]) -> str:
    settings: Settings = request.app.state.runtime.settings
    return settings.public_url or f"{request.url.scheme}://{request.url.netloc}"


def _fields(body: msgspec.Struct, kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {name: getattr(body, name) for name in kind.__struct_fields__}


def _known(server_id: str) -> str:
    if not is_chat_id(server_id):  # the shape of any id
        raise NotFound("there is no such MCP server")
    return server_id
