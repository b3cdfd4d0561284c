"""Workspaces, for people: the tools service answers, and the store knows whose they are."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from steersman_contracts.ids import ChatId, Uuid
from steersman_contracts.rpc import Actor, Method, Nothing
from steersman_contracts.rpc.files import CHUNK_BYTES, MAX_FILE_BYTES
from steersman_contracts.rpc.workspace_book import WorkspaceList
from steersman_contracts.workspace_diff import WorkspaceDiff
from steersman_contracts.workspaces import Template, TemplatePage, Value, Workspace

MAX_ENTRIES: Final = 2_000
"""Of one directory that are shown."""
MAX_DOWNLOAD_BYTES: Final = 256 * 2**20

Path = Annotated[str, msgspec.Meta(max_length=4096)]
UploadId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}$(?!\n)")]
EntryKind: TypeAlias = Literal["file", "directory", "link", "other"]


class ListTemplates(msgspec.Struct, frozen=True):
    """Templates, ranked by how well they match, then by use."""

    actor: Actor
    query: Annotated[str, msgspec.Meta(max_length=200)] = ""
    page: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1


class ReadTemplate(msgspec.Struct, frozen=True):
    """One template, with its parameters."""

    actor: Actor
    template_id: Annotated[str, msgspec.Meta(max_length=100)]


class ListWorkspaces(msgspec.Struct, frozen=True):
    """The actor's, the newest first."""

    actor: Actor


class OneWorkspace(msgspec.Struct, frozen=True):
    """A workspace of the actor's."""

    actor: Actor
    workspace_id: Uuid


class CreateWorkspace(msgspec.Struct, frozen=True, omit_defaults=True):
    """Begin to make a workspace. With a chat that has one already, that one is the answer."""

    actor: Actor
    template_id: Annotated[str, msgspec.Meta(max_length=100)]
    name: Annotated[str, msgspec.Meta(max_length=100)] = ""
    parameters: dict[str, Value] = {}
    chat_id: ChatId | None = None


class Begun(msgspec.Struct, frozen=True):
    """The workspace, which is perhaps still being made."""

    outcome: Literal["new", "in_progress", "already_exists"]
    workspace: Workspace


class UseWorkspace(msgspec.Struct, frozen=True, omit_defaults=True):
    """Let a chat use a workspace of its owner's, or none."""

    actor: Actor
    chat_id: ChatId
    workspace_id: Uuid | None = None


class BrowseFiles(msgspec.Struct, frozen=True):
    """What is in one directory of a workspace."""

    actor: Actor
    workspace_id: Uuid
    path: Path = "."


class FileEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One name in a directory."""

    name: str
    kind: EntryKind
    size: int | None = None
    """Bytes, of a file."""
    modified_at: datetime | None = None


class Folder(msgspec.Struct, frozen=True, omit_defaults=True):
    """A directory, by name."""

    path: str
    entries: tuple[FileEntry, ...]
    total: int
    """More than are shown, when it has very many."""


class ReadPiece(msgspec.Struct, frozen=True, omit_defaults=True):
    """Some bytes of a file of a workspace."""

    actor: Actor
    workspace_id: Uuid
    path: Path
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0
    tag: str = ""
    """Of the first piece: the rest has to be of the same content."""


class Piece(msgspec.Struct, frozen=True):
    """At most `CHUNK_BYTES` bytes."""

    data: bytes
    size: Annotated[int, msgspec.Meta(ge=0)]
    """Of the whole file."""
    tag: str
    """Changes with the file."""


class WritePiece(msgspec.Struct, frozen=True):
    """Some bytes of a file that is being uploaded; nobody sees it before its end."""

    actor: Actor
    workspace_id: Uuid
    path: Path
    upload_id: UploadId
    offset: Annotated[int, msgspec.Meta(ge=0, le=MAX_FILE_BYTES)]
    data: Annotated[bytes, msgspec.Meta(max_length=CHUNK_BYTES)]


class FinishWrite(msgspec.Struct, frozen=True):
    """All bytes are there: put the file in its place, whole."""

    actor: Actor
    workspace_id: Uuid
    path: Path
    upload_id: UploadId
    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_FILE_BYTES)]


class AbortWrite(msgspec.Struct, frozen=True):
    """Forget what was uploaded."""

    actor: Actor
    workspace_id: Uuid
    path: Path
    upload_id: UploadId


LIST_TEMPLATES: Final = Method(
    "tools", "workspaces.templates", ListTemplates, TemplatePage, safe=True
)
READ_TEMPLATE: Final = Method("tools", "workspaces.template", ReadTemplate, Template, safe=True)
LIST: Final = Method("tools", "workspaces.list", ListWorkspaces, WorkspaceList, safe=True)
GET: Final = Method("tools", "workspaces.get", OneWorkspace, Workspace, safe=True)
CREATE: Final = Method("tools", "workspaces.create", CreateWorkspace, Begun)
START: Final = Method("tools", "workspaces.start", OneWorkspace, Workspace, safe=True)
STOP: Final = Method("tools", "workspaces.stop", OneWorkspace, Workspace, 30.0, safe=True)
DELETE: Final = Method("tools", "workspaces.delete", OneWorkspace, Nothing)
USE: Final = Method("tools", "workspaces.use", UseWorkspace, Nothing, safe=True)
BROWSE: Final = Method("tools", "workspaces.browse", BrowseFiles, Folder, safe=True)
READ: Final = Method("tools", "workspaces.read", ReadPiece, Piece, safe=True)
WRITE: Final = Method("tools", "workspaces.write", WritePiece, Nothing, safe=True)
FINISH_WRITE: Final = Method("tools", "workspaces.finish_write", FinishWrite, FileEntry)
ABORT_WRITE: Final = Method("tools", "workspaces.abort_write", AbortWrite, Nothing, safe=True)
DIFF: Final = Method("tools", "workspaces.diff", OneWorkspace, WorkspaceDiff, 60.0, safe=True)
