"""Calls about workspaces, their templates and their files."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from steersman.client.exchange import Exchange
from steersman_contracts.ids import ChatId
from steersman_contracts.rest_workspaces import (
    ChatWorkspaceBody,
    CreateWorkspaceBody,
    Workspaces,
)
from steersman_contracts.rpc.workspaces import FileEntry, Folder
from steersman_contracts.workspace_diff import WorkspaceDiff
from steersman_contracts.workspaces import Template, TemplatePage, Workspace


class WorkspaceCalls:
    """Part of `Client`."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def list_templates(self, query: str = "", *, page: int = 1) -> TemplatePage:
        """What workspaces can be made of; ten on a page, the best match first."""
        return await self._exchange.get(
            "/workspace-templates", TemplatePage, q=query or None, page=page
        )

    async def get_template(self, template_id: str) -> Template:
        """A template, with the parameters that it takes."""
        return await self._exchange.get(
            f"/workspace-templates/{quote(template_id, safe='')}", Template
        )

    async def list_workspaces(self) -> tuple[Workspace, ...]:
        """All workspaces of yours, the newest first."""
        return (await self._exchange.get("/workspaces", Workspaces)).workspaces

    async def get_workspace(self, workspace_id: str) -> Workspace:
        """One workspace."""
        return await self._exchange.get(f"/workspaces/{workspace_id}", Workspace)

    async def create_workspace(self, body: CreateWorkspaceBody) -> Workspace:
        """Begin to make a workspace; it can be used once it is `running`."""
        return await self._exchange.call("POST", "/workspaces", Workspace, body)

    async def start_workspace(self, workspace_id: str) -> Workspace:
        """Let tools act in it again."""
        path = f"/workspaces/{workspace_id}/start"
        return await self._exchange.call("POST", path, Workspace, repeatable=True)

    async def stop_workspace(self, workspace_id: str) -> Workspace:
        """End every process in it; its files stay."""
        path = f"/workspaces/{workspace_id}/stop"
        return await self._exchange.call("POST", path, Workspace, repeatable=True)

    async def delete_workspace(self, workspace_id: str) -> None:
        """Remove it with all its files."""
        await self._exchange.delete(f"/workspaces/{workspace_id}")

    async def use_workspace(self, chat_id: ChatId, workspace_id: str | None) -> None:
        """Let a chat and its descendants use a workspace, or none."""
        await self._exchange.put(f"/chats/{chat_id}/workspace", ChatWorkspaceBody(workspace_id))

    async def workspace_diff(self, workspace_id: str) -> WorkspaceDiff:
        """What is not committed in its repositories."""
        return await self._exchange.get(f"/workspaces/{workspace_id}/diff", WorkspaceDiff)

    async def browse_workspace(self, workspace_id: str, path: str = ".") -> Folder:
        """What is in one of its directories."""
        query = urlencode({"path": path})
        return await self._exchange.get(f"/workspaces/{workspace_id}/files?{query}", Folder)

    async def download_workspace_file(self, workspace_id: str, path: str) -> bytes:
        """The bytes of one of its files."""
        return await self._exchange.read(_content(workspace_id, path))

    async def upload_workspace_file(
        self, workspace_id: str, path: str, content: bytes
    ) -> FileEntry:
        """Make or replace one of its files, with the directories above it."""
        return await self._exchange.upload(
            _content(workspace_id, path), FileEntry, content, method="PUT"
        )


def _content(workspace_id: str, path: str) -> str:
    return f"/workspaces/{workspace_id}/files/content?{urlencode({'path': path})}"
