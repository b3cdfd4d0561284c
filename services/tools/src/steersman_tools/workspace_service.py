"""Answers what people ask about their workspaces; the store says whose they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from steersman_contracts.rpc import Nothing
from steersman_contracts.rpc import workspaces as rpc
from steersman_contracts.rpc.workspace_book import WorkspaceList
from steersman_contracts.workspace_diff import WorkspaceDiff
from steersman_contracts.workspaces import Template, TemplatePage, Workspace, WorkspaceId
from steersman_runtime.rpc import RpcServer
from steersman_tools import workspace_files as files
from steersman_tools.changes import Changes
from steersman_tools.desks import Desks

T = TypeVar("T")

_AboutFiles = rpc.BrowseFiles | rpc.ReadPiece | rpc.WritePiece | rpc.FinishWrite | rpc.AbortWrite


class WorkspaceService:
    """The handlers of the group `workspaces`."""

    def __init__(self, desks: Desks, changes: Changes) -> None:
        self.desks = desks
        self._changes = changes

    def serve(self, server: RpcServer) -> None:
        """Answer the methods of this group."""
        server.add(rpc.LIST_TEMPLATES, self.list_templates)
        server.add(rpc.READ_TEMPLATE, self.read_template)
        server.add(rpc.LIST, self.list_workspaces)
        server.add(rpc.GET, self.get)
        server.add(rpc.CREATE, self.create)
        server.add(rpc.START, self.start)
        server.add(rpc.STOP, self.stop)
        server.add(rpc.DELETE, self.delete)
        server.add(rpc.USE, self.use)
        server.add(rpc.BROWSE, self.browse)
        server.add(rpc.READ, self.read)
        server.add(rpc.WRITE, self.write)
        server.add(rpc.FINISH_WRITE, self.finish_write)
        server.add(rpc.ABORT_WRITE, self.abort_write)
        server.add(rpc.DIFF, self.diff)

    async def list_templates(self, request: rpc.ListTemplates) -> TemplatePage:
        return await self.desks.templates(request.query, request.page)

    async def read_template(self, request: rpc.ReadTemplate) -> Template:
        return await self.desks.template(request.template_id)

    async def list_workspaces(self, request: rpc.ListWorkspaces) -> WorkspaceList:
        return WorkspaceList(await self.desks.list_workspaces(request.actor))

    async def get(self, request: rpc.OneWorkspace) -> Workspace:
        return await self.desks.get(request.actor, request.workspace_id)

    async def create(self, request: rpc.CreateWorkspace) -> rpc.Begun:
        claimed = await self.desks.begin(
            request.template_id,
            request.name,
            request.parameters,
            chat_id=request.chat_id,
            actor=request.actor,
        )
        return rpc.Begun(claimed.outcome, claimed.workspace)

    async def start(self, request: rpc.OneWorkspace) -> Workspace:
        return await self.desks.start(request.workspace_id, request.actor)

    async def stop(self, request: rpc.OneWorkspace) -> Workspace:
        return await self.desks.stop(request.workspace_id, request.actor)

    async def delete(self, request: rpc.OneWorkspace) -> Nothing:
        await self.desks.delete(request.workspace_id, request.actor)
        return Nothing()

    async def use(self, request: rpc.UseWorkspace) -> Nothing:
        await self.desks.attach(request.actor, request.chat_id, request.workspace_id)
        return Nothing()

    async def browse(self, request: rpc.BrowseFiles) -> rpc.Folder:
        return await self._at(request, lambda root: files.browse(root, request.path))

    async def read(self, request: rpc.ReadPiece) -> rpc.Piece:
        return await self._at(
            request, lambda root: files.read(root, request.path, request.offset, request.tag)
        )

    async def write(self, request: rpc.WritePiece) -> Nothing:
        def work(root: Path) -> None:
            files.write(root, request.path, request.upload_id, request.offset, request.data)

        await self._at(request, work)
        return Nothing()

    async def finish_write(self, request: rpc.FinishWrite) -> rpc.FileEntry:
        return await self._at(
            request,
            lambda root: files.finish(root, request.path, request.upload_id, request.size),
        )

    async def abort_write(self, request: rpc.AbortWrite) -> Nothing:
        await self._at(request, lambda root: files.abort(root, request.path, request.upload_id))
        return Nothing()

    async def diff(self, request: rpc.OneWorkspace) -> WorkspaceDiff:
        path = await self.desks.files_of(request.actor, request.workspace_id)
        return await self._changes.read(WorkspaceId(request.workspace_id), path)

    async def _at(self, request: _AboutFiles, work: Callable[[Path], T]) -> T:
        path = await self.desks.files_of(request.actor, request.workspace_id)
        return await asyncio.to_thread(work, path)
