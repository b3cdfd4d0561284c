"""Files between the workspace of a chat and its desktop, which may be on different machines."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

import msgspec

from steersman_contracts.confinement import Refused, open_workspace, refusal
from steersman_contracts.errors import SteersmanError
from steersman_contracts.hooks import Tool, ToolContext, ToolResult
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc.caller import Caller, HasCaller
from steersman_contracts.rpc.desktop_files import (
    LIST_FILES,
    READ_FILE,
    WRITE_FILE,
    ListFiles,
    ReadFile,
    WriteFile,
)
from steersman_contracts.rpc.files import CHUNK_BYTES, MAX_FILE_BYTES

_LIMIT: Final = f"{MAX_FILE_BYTES >> 20} MB"
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

TO_DESKTOP: Final = (
    "Copy a file of the workspace onto the desktop, into the folder Downloads of its home, where "
    f"programs there can open it. At most {_LIMIT}. Starts the desktop if there is none. Returns "
    "JSON: path (on the desktop), size."
)
FROM_DESKTOP: Final = (
    "Copy a file from the folder Downloads of the desktop into the workspace: what its browser has "
    f"downloaded, or a program has saved there. At most {_LIMIT}. Without `path` it copies nothing "
    "and returns JSON: files (name, kind, size). With it: path (in the workspace), size."
)


class CopyToDesktop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `copy_to_desktop`."""

    path: Annotated[
        str, msgspec.Meta(description="The file, relative to the workspace, such as data/in.csv.")
    ]


class CopyFromDesktop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `copy_from_desktop`."""

    path: Annotated[
        str, msgspec.Meta(description="The file in Downloads; empty lists what is there.")
    ] = ""
    to: Annotated[
        str,
        msgspec.Meta(
            description="Where in the workspace; empty is under the same name at its top."
        ),
    ] = ""


async def copy_to_desktop(context: ToolContext, args: CopyToDesktop) -> ToolResult:
    """Read the file, and hand it over piece by piece."""
    return await _said(context, lambda rpc: _to_desktop(rpc, context, args))


async def copy_from_desktop(context: ToolContext, args: CopyFromDesktop) -> ToolResult:
    """Fetch the file piece by piece, and put it in place in one step."""
    return await _said(context, lambda rpc: _from_desktop(rpc, context, args))


async def _said(
    context: ToolContext, copy: Callable[[Caller], Awaitable[ToolResult]]
) -> ToolResult:
    rpc = context.rpc if isinstance(context, HasCaller) else None
    if rpc is None:
        return ToolResult.error("this tool host has no way to the desktop service")
    try:
        return await copy(rpc)
    except (Refused, SteersmanError) as error:
        return ToolResult.error(str(error))


async def _to_desktop(rpc: Caller, context: ToolContext, args: CopyToDesktop) -> ToolResult:
    data = await asyncio.to_thread(_load, context, args.path)
    name = args.path.rstrip("/").rpartition("/")[2]
    chat_id, upload_id = ChatId(context.chat_id), secrets.token_hex(16)
    for offset in range(0, max(1, len(data)), CHUNK_BYTES):
        piece = data[offset : offset + CHUNK_BYTES]
        size = len(data) if offset + CHUNK_BYTES >= len(data) else None
        part = WriteFile(None, chat_id, name, upload_id, offset, piece, size)
        await rpc.call(WRITE_FILE, part)
    return ToolResult.json({"path": f"~/Downloads/{name}", "size": len(data)})


async def _from_desktop(rpc: Caller, context: ToolContext, args: CopyFromDesktop) -> ToolResult:
    chat_id = ChatId(context.chat_id)
    if not args.path:
        found = await rpc.call(LIST_FILES, ListFiles(None, chat_id))
        files = [{"name": f.name, "kind": f.kind, "size": f.size} for f in found.files]
        return ToolResult.json({"files": files, "total": found.total})
    data = bytearray()
    piece = await rpc.call(READ_FILE, ReadFile(None, chat_id, args.path))
    if piece.size > MAX_FILE_BYTES:
        raise Refused(f"{args.path!r} has {piece.size} bytes; at most {_LIMIT} are copied")
    tag = piece.tag
    while piece.data:
        data += piece.data
        if len(data) >= piece.size:
            break
        piece = await rpc.call(READ_FILE, ReadFile(None, chat_id, args.path, len(data), tag))
    to = args.to or args.path.rstrip("/").rpartition("/")[2]
    shown = await asyncio.to_thread(_store, context, to, bytes(data))
    return ToolResult.json({"path": shown, "size": len(data)})


def _load(context: ToolContext, path: str) -> bytes:
    with (
        open_workspace(context.workspace) as workspace,
        workspace.place(path) as place,
        workspace.reading(place) as (file, status),
    ):
        data = b"" if status.st_size > MAX_FILE_BYTES else file.read(MAX_FILE_BYTES + 1)
        if max(status.st_size, len(data)) > MAX_FILE_BYTES:
            raise Refused(f"{place.shown!r} is larger than the {_LIMIT} that are copied")
        return data


def _store(context: ToolContext, path: str, data: bytes) -> str:
    """Write the file beside its place and put it there. What fails leaves nothing."""
    part = f".steersman-{secrets.token_hex(8)}.tmp"
    with (
        open_workspace(context.workspace) as workspace,
        workspace.changing(),
        workspace.place(path, create_parents=True) as place,
    ):
        before = workspace.existing(place)
        if before is not None and not before.st_mode & 0o222:
            raise Refused(f"{place.shown!r} is write-protected; choose another name with `to`")
        try:
            opened = os.open(part, _NEW, 0o666, dir_fd=place.directory)
            try:
                with os.fdopen(opened, "wb") as file:
                    workspace.hand_over(opened)
                    file.write(data)
                os.rename(part, place.name, src_dir_fd=place.directory, dst_dir_fd=place.directory)
            except BaseException:
                os.unlink(part, dir_fd=place.directory)
                raise
        except OSError as error:
            raise refusal(error, place.shown) from error
        return place.shown


FILE_TOOLS: Final[tuple[Tool[Any], ...]] = (
    Tool(
        "copy_to_desktop",
        TO_DESKTOP,
        CopyToDesktop,
        copy_to_desktop,
        idempotent=True,
        needs_workspace=True,
    ),
    Tool(
        "copy_from_desktop",
        FROM_DESKTOP,
        CopyFromDesktop,
        copy_from_desktop,
        idempotent=True,
        needs_workspace=True,
    ),
)
