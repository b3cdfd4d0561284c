"""Workspaces over REST: made, started, stopped, removed; their files, and what changed in them."""

from __future__ import annotations

import secrets
from contextlib import aclosing, suppress
from typing import Annotated, Any, Final

from litestar import Controller, Request, Response, delete, get, post, put
from litestar.params import JSONBody, PathParameter, QueryParameter
from litestar.types import Receive, Scope, Send

from steersman_contracts.errors import Conflict, NotFound, SteersmanError
from steersman_contracts.ids import ChatId, is_chat_id
from steersman_contracts.rest_workspaces import (
    ChatWorkspaceBody,
    CreateWorkspaceBody,
    Workspaces,
)
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc import workspaces as rpc
from steersman_contracts.rpc.files import CHUNK_BYTES
from steersman_contracts.workspace_diff import WorkspaceDiff
from steersman_contracts.workspaces import Template, TemplatePage, Workspace
from steersman_gateway.auth import CurrentActor
from steersman_gateway.backend import Backend, Services
from steersman_gateway.files import content_disposition
from steersman_gateway.ids import ChatInPath
from steersman_gateway.uploads import Upload

WorkspaceIdText = Annotated[str, PathParameter(description="The workspace: a lower-case UUID.")]
TemplateIdText = Annotated[str, PathParameter(description="The template, such as `default`.")]
Query = Annotated[str, QueryParameter(description="Words that it has to have.", max_length=200)]
Page = Annotated[int, QueryParameter(description="From 1; each has ten.", ge=1, le=1000)]
PathText = Annotated[
    str,
    QueryParameter(
        description="Relative to the workspace, such as `src/main.py`.", max_length=4096
    ),
]

_SAFE: Final = (
    (b"x-content-type-options", b"nosniff"),
    # Even when a browser is brought to show it, it is nobody's page and runs nothing.
    (b"content-security-policy", b"sandbox; default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"private, no-store"),
)


class TemplateController(Controller):
    """What workspaces are made of."""

    path = "/workspace-templates"
    tags = ("Workspaces",)

    @get("/", operation_id="listTemplates", summary="List templates")
    async def list_templates(
        self, actor: CurrentActor, backend: Services, q: Query = "", page: Page = 1
    ) -> TemplatePage:
        """Ten on a page; the best match first, of equals the most used."""
        request = rpc.ListTemplates(actor, q, page)
        return await backend.call(rpc.LIST_TEMPLATES, request)

    @get("/{template_id:str}", operation_id="getTemplate", summary="Get a template")
    async def read(
        self, template_id: TemplateIdText, actor: CurrentActor, backend: Services
    ) -> Template:
        """What it is for, and the parameters that it takes."""
        if len(template_id) > 100:
            raise NotFound("there is no such template")
        return await backend.call(rpc.READ_TEMPLATE, rpc.ReadTemplate(actor, template_id))


class WorkspaceController(Controller):
    """Workspaces of yours."""

    path = "/workspaces"
    tags = ("Workspaces",)

    @get("/", operation_id="listWorkspaces", summary="List workspaces")
    async def list_workspaces(self, actor: CurrentActor, backend: Services) -> Workspaces:
        """All of yours, the newest first."""
        found = await backend.call(rpc.LIST, rpc.ListWorkspaces(actor))
        return Workspaces(found.workspaces)

    @post("/", operation_id="createWorkspace", summary="Make a workspace")
    async def create(
        self, data: JSONBody[CreateWorkspaceBody], actor: CurrentActor, backend: Services
    ) -> Response[Workspace]:
        """Begin to make it; it can be used once its state is `running`.

        For a chat that has a living workspace, that one is the answer, with status 200.
        """
        chat_id = None if data.chat_id is None else ChatId(data.chat_id)
        request = rpc.CreateWorkspace(actor, data.template_id, data.name, data.parameters, chat_id)
        begun = await backend.call(rpc.CREATE, request)
        return Response(
            begun.workspace,
            status_code=201 if begun.outcome == "new" else 200,
            headers={"Location": f"/api/v1/workspaces/{begun.workspace.id}"},
        )

    @get("/{workspace_id:str}", operation_id="getWorkspace", summary="Get a workspace")
    async def read(
        self, workspace_id: WorkspaceIdText, actor: CurrentActor, backend: Services
    ) -> Workspace:
        """Its state, and why it has failed if it has."""
        return await backend.call(rpc.GET, _one(actor, workspace_id))

    @delete("/{workspace_id:str}", operation_id="deleteWorkspace", summary="Delete a workspace")
    async def remove(
        self, workspace_id: WorkspaceIdText, actor: CurrentActor, backend: Services
    ) -> None:
        """Remove it with all its files. Chats that used it have plain directories again."""
        await backend.call(rpc.DELETE, _one(actor, workspace_id))

    @post(
        "/{workspace_id:str}/start",
        operation_id="startWorkspace",
        summary="Start a workspace",
        status_code=200,
    )
    async def start(
        self, workspace_id: WorkspaceIdText, actor: CurrentActor, backend: Services
    ) -> Workspace:
        """Let tools act in it again. One that runs stays as it is."""
        return await backend.call(rpc.START, _one(actor, workspace_id))

    @post(
        "/{workspace_id:str}/stop",
        operation_id="stopWorkspace",
        summary="Stop a workspace",
        status_code=200,
    )
    async def stop(
        self, workspace_id: WorkspaceIdText, actor: CurrentActor, backend: Services
    ) -> Workspace:
        """End every process in it; its files stay."""
        return await backend.call(rpc.STOP, _one(actor, workspace_id))

    @get("/{workspace_id:str}/diff", operation_id="getWorkspaceDiff", summary="What has changed")
    async def diff(
        self, workspace_id: WorkspaceIdText, actor: CurrentActor, backend: Services
    ) -> WorkspaceDiff:
        """Of each repository in it what is not committed: its state and a unified diff.

        Bounded: at most 20 repositories, 256 KiB of diff for each and 512 KiB together.
        """
        return await backend.call(rpc.DIFF, _one(actor, workspace_id))

    @get("/{workspace_id:str}/files", operation_id="browseWorkspace", summary="List a directory")
    async def browse(
        self,
        workspace_id: WorkspaceIdText,
        actor: CurrentActor,
        backend: Services,
        path: PathText = ".",
    ) -> rpc.Folder:
        """Files, directories and links, by name. Links are shown and never followed."""
        one = _one(actor, workspace_id)
        return await backend.call(rpc.BROWSE, rpc.BrowseFiles(actor, one.workspace_id, path))

    @get(
        "/{workspace_id:str}/files/content",
        operation_id="downloadWorkspaceFile",
        summary="Download a file of a workspace",
    )
    async def download(
        self, workspace_id: WorkspaceIdText, path: PathText, actor: CurrentActor, backend: Services
    ) -> WorkspaceDownload:
        """The bytes of a file, at most 256 MB, always as an attachment."""
        one = _one(actor, workspace_id)
        request = rpc.ReadPiece(actor, one.workspace_id, path)
        return WorkspaceDownload(backend, request, await backend.call(rpc.READ, request))

    @put(
        "/{workspace_id:str}/files/content",
        operation_id="uploadWorkspaceFile",
        summary="Put a file into a workspace",
        request_max_body_size=None,  # its own limit is above that of JSON bodies
    )
    async def upload(
        self,
        workspace_id: WorkspaceIdText,
        path: PathText,
        request: Request[Any, Any, Any],
        actor: CurrentActor,
        backend: Services,
    ) -> rpc.FileEntry:
        """Make a file, with the directories above it, or replace it in one step.

        The body is the file itself, or a form with a file in it. At most 10 MB.
        """
        one = _one(actor, workspace_id)
        return await _store(backend, actor, one.workspace_id, path, Upload(request, None))


class ChatWorkspaceController(Controller):
    """The workspace of a chat."""

    path = "/chats/{chat_id:str}/workspace"
    tags = ("Workspaces",)

    @put("/", operation_id="setChatWorkspace", summary="Choose a chat's workspace", status_code=204)
    async def choose(
        self,
        chat: ChatInPath,
        data: JSONBody[ChatWorkspaceBody],
        actor: CurrentActor,
        backend: Services,
    ) -> None:
        """Let the chat and its descendants use a workspace of yours, or none."""
        await backend.call(rpc.USE, rpc.UseWorkspace(actor, chat, data.workspace_id))


def _one(actor: Actor, workspace_id: str) -> rpc.OneWorkspace:
    if not is_chat_id(workspace_id):  # both are UUIDs
        raise NotFound("there is no such workspace")
    return rpc.OneWorkspace(actor, workspace_id)


async def _store(
    backend: Backend, actor: Actor, workspace_id: str, path: str, upload: Upload
) -> rpc.FileEntry:
    """Pass an upload on, piece by piece: never more than one of them is here."""
    upload_id = secrets.token_hex(16)
    buffer = bytearray()
    size = 0

    async def flush() -> None:
        nonlocal size
        data = bytes(buffer[:CHUNK_BYTES])
        del buffer[:CHUNK_BYTES]
        request = rpc.WritePiece(actor, workspace_id, path, upload_id, size, data)
        await backend.call(rpc.WRITE, request)
        size += len(data)

    try:
        async with aclosing(upload.pieces()) as pieces:
            async for piece in pieces:
                buffer += piece
                while len(buffer) >= CHUNK_BYTES:
                    await flush()
        if buffer or not size:
            await flush()
        request = rpc.FinishWrite(actor, workspace_id, path, upload_id, size)
        return await backend.call(rpc.FINISH_WRITE, request)
    except BaseException:
        with suppress(SteersmanError):
            request = rpc.AbortWrite(actor, workspace_id, path, upload_id)
            await backend.call(rpc.ABORT_WRITE, request)
        raise


class WorkspaceDownload:
    """A file on its way to a client: an ASGI application for a single exchange."""

    def __init__(self, backend: Backend, request: rpc.ReadPiece, first: rpc.Piece) -> None:
        self._backend = backend
        self._request = request
        self._first = first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the headers, then piece after piece as fast as the client takes them."""
        headers = download_headers(self._request.path, self._first.size)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        sent = 0
        piece = self._first
        while piece.data:
            sent += len(piece.data)
            await send({"type": "http.response.body", "body": piece.data, "more_body": True})
            if sent >= piece.size:
                break
            ask = rpc.ReadPiece(
                self._request.actor,
                self._request.workspace_id,
                self._request.path,
                sent,
                self._first.tag,
            )
            piece = await self._backend.call(rpc.READ, ask)
        if sent < self._first.size:  # the length that was announced shows it
            raise Conflict("the file was changed meanwhile; read it again")
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def download_headers(path: str, size: int) -> list[tuple[bytes, bytes]]:
    """The headers of a file that somebody else has written: never shown, always saved."""
    name = path.rstrip("/").rpartition("/")[2]
    return [
        *_SAFE,
        (b"content-type", b"application/octet-stream"),
        (b"content-length", str(size).encode()),
        (b"content-disposition", content_disposition(name).encode()),
    ]


def describe_workspace_download(operation: dict[str, Any]) -> None:
    """The reply in the OpenAPI document."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    operation["responses"]["200"] = {
        "description": "The whole file.",
        "content": {"application/octet-stream": binary},
    }
