"""Calls about MCP servers."""

from __future__ import annotations

from steersman.client.exchange import Exchange
from steersman_contracts.ids import ChatId
from steersman_contracts.rest import (
    ChangeMcpServerBody,
    ChatTools,
    CreateMcpServerBody,
    FinishMcpLoginBody,
    McpLoginBegun,
    McpServers,
)
from steersman_contracts.rpc.mcp import McpServer


class McpCalls:
    """Part of `Client`."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def list_mcp_servers(self) -> tuple[McpServer, ...]:
        """Those of the deployment and your own, by slug."""
        return (await self._exchange.get("/mcp-servers", McpServers)).servers

    async def create_mcp_server(self, server: CreateMcpServerBody) -> McpServer:
        """Add one for yourself, or for everybody."""
        return await self._exchange.call("POST", "/mcp-servers", McpServer, server)

    async def change_mcp_server(self, server_id: str, changes: ChangeMcpServerBody) -> McpServer:
        """Change what is named."""
        return await self._exchange.call("PATCH", f"/mcp-servers/{server_id}", McpServer, changes)

    async def delete_mcp_server(self, server_id: str) -> None:
        """Remove one."""
        await self._exchange.delete(f"/mcp-servers/{server_id}")

    async def begin_mcp_login(self, server_id: str) -> str:
        """Begin to sign in there; where the browser has to go."""
        path = f"/mcp-servers/{server_id}/login"
        return (await self._exchange.call("POST", path, McpLoginBegun)).url

    async def finish_mcp_login(self, body: FinishMcpLoginBody) -> McpServer:
        """Finish it with what the address of the last page holds."""
        return await self._exchange.call("POST", "/mcp-servers/finish-login", McpServer, body)

    async def end_mcp_login(self, server_id: str) -> None:
        """Sign out there."""
        await self._exchange.delete(f"/mcp-servers/{server_id}/login")

    async def list_chat_tools(self, chat_id: ChatId) -> ChatTools:
        """What models may call in a chat, and what is missing."""
        return await self._exchange.get(f"/chats/{chat_id}/tools", ChatTools)
