"""`list_files`: what is in a directory."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from typing import Annotated, Final

import msgspec

from steersman_contracts.confinement import Refused, kind, open_workspace
from steersman_contracts.hooks import ToolContext, ToolResult
from steersman_contracts.parts import JsonPart, TextPart
from steersman_plugin_files.scan import Entry, walk
from steersman_plugin_files.text import Page, shown_name

ENTRIES_MAX: Final = 200_000
SECONDS: Final = 10.0

LIST_FILES: Final = (
    "List a directory of the workspace, sorted by name; directories end with '/', files have their "
    "size in bytes. With recursive, everything below it as paths relative to it (not what is in "
    ".git). Links are shown and not followed. Returns JSON with path, shown, total and "
    "total_exact, then one entry per line, at most 64 KiB."
)


class ListFiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `list_files`."""

    path: Annotated[
        str, msgspec.Meta(description="The directory, relative to the workspace; '.' is all of it.")
    ] = "."
    recursive: Annotated[bool, msgspec.Meta(description="Also list what is in directories.")] = (
        False
    )
    limit: Annotated[
        int, msgspec.Meta(ge=1, le=10_000, description="How many entries to show at most.")
    ] = 1_000


async def list_files(context: ToolContext, args: ListFiles) -> ToolResult:
    """Answer with the entries."""
    try:
        return await asyncio.to_thread(_list, context, args)
    except Refused as refused:
        return ToolResult.error(str(refused))


def _list(context: ToolContext, args: ListFiles) -> ToolResult:
    page, total, complete, room = Page(), 0, True, True
    deadline = time.monotonic() + min(SECONDS, context.timeout_s / 2)
    with open_workspace(context.workspace) as workspace:
        names = workspace.split(args.path)
        with workspace.folder(names) as folder:
            for entry in walk(folder, recursive=args.recursive):
                total += 1
                room = room and len(page) < args.limit and page.add(_line(entry))
                if total >= ENTRIES_MAX or context.cancelled or time.monotonic() > deadline:
                    complete = False
                    break
    facts = {
        "path": "/".join(names) or ".",
        "shown": len(page),
        "total": total,
        "total_exact": complete,
    }
    notes: list[str] = []
    if not total:
        notes.append("[the directory is empty]")
    if total > len(page):
        notes.append(
            f"[cut: {total - len(page)} more entries; list a directory below, or raise limit]"
        )
    if not complete:
        notes.append(f"[stopped after {total} entries; there may be more]")
    lines = [page.text()] if len(page) else []
    return ToolResult(content=(JsonPart(facts), TextPart("\n".join(lines + notes))))


def _line(entry: Entry) -> str:
    mode, path = entry.status.st_mode, shown_name(entry.path)
    if stat.S_ISDIR(mode):
        return f"{path}/"
    if stat.S_ISREG(mode):
        return f"{path} ({entry.status.st_size} bytes)"
    if not stat.S_ISLNK(mode):
        return f"{path} ({kind(mode)})"
    try:
        target = os.readlink(entry.name, dir_fd=entry.folder)
    except OSError:
        target = "?"
    return f"{path} -> {shown_name(target)} (symbolic link)"
