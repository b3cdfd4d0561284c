"""`glob`: files by the pattern of their names."""

from __future__ import annotations

import asyncio
import heapq
import re
import stat
import time
from typing import Annotated, Final

import msgspec

from steersman_contracts.confinement import Refused, open_workspace
from steersman_contracts.hooks import ToolContext, ToolResult
from steersman_contracts.parts import JsonPart, TextPart
from steersman_plugin_files.path_pattern import PathPattern
from steersman_plugin_files.scan import walk
from steersman_plugin_files.text import Page, shown_name

ENTRIES_MAX: Final = 200_000
SECONDS: Final = 10.0

GLOB: Final = (
    "Find files of the workspace whose path fits a pattern, the newest first. Without a slash the "
    "pattern is about the name, at any depth: *.py. With one it is about the path below `path`: "
    "src/**/*.{ts,tsx}. Links are not followed, and what is in .git is left out. Returns JSON with "
    "matches, shown and complete (false if there may be more), then one path per line, relative "
    "to the workspace, at most 64 KiB."
)


class Glob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `glob`."""

    pattern: Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            max_length=1_000,
            description="* and ? within a name, ** for any directories, [ab], {a,b}.",
        ),
    ]
    path: Annotated[
        str, msgspec.Meta(description="The directory to look in, relative to the workspace.")
    ] = "."
    limit: Annotated[
        int, msgspec.Meta(ge=1, le=10_000, description="How many paths to show at most.")
    ] = 1_000


async def glob(context: ToolContext, args: Glob) -> ToolResult:
    """Answer with the paths."""
    try:
        return await asyncio.to_thread(_glob, context, args)
    except Refused as refused:
        return ToolResult.error(str(refused))


def _glob(context: ToolContext, args: Glob) -> ToolResult:
    try:
        wanted = PathPattern(args.pattern)
    except (ValueError, re.error) as error:
        raise Refused(f"the pattern cannot be used: {error}") from error
    found: list[tuple[int, str]] = []
    seen, complete = 0, True
    deadline = time.monotonic() + min(SECONDS, context.timeout_s / 2)
    with open_workspace(context.workspace) as workspace:
        names = workspace.split(args.path)
        prefix = "".join(f"{name}/" for name in names)
        with workspace.folder(names) as folder:
            for entry in walk(folder, recursive=True):
                seen += 1
                if not stat.S_ISDIR(entry.status.st_mode) and wanted.fits(entry.path):
                    found.append((entry.status.st_mtime_ns, prefix + entry.path))
                if seen >= ENTRIES_MAX or context.cancelled or time.monotonic() > deadline:
                    complete = False
                    break
    page = Page()
    # The newest first; of the same time by name.
    for _, path in heapq.nsmallest(args.limit, found, key=lambda one: (-one[0], one[1])):
        if not page.add(shown_name(path)):
            break
    facts = {
        "matches": len(found),
        "shown": len(page),
        "complete": complete and len(page) == len(found),
    }
    notes: list[str] = []
    if not found:
        notes.append("[no matches]")
    if len(found) > len(page):
        notes.append(
            f"[cut: {len(found) - len(page)} more; narrow path or pattern, or raise limit]"
        )
    if not complete:
        notes.append(f"[stopped after {seen} entries; there may be more]")
    lines = [page.text()] if len(page) else []
    return ToolResult(content=(JsonPart(facts), TextPart("\n".join(lines + notes))))
