"""`search_files`: lines that match a regular expression."""

from __future__ import annotations

import asyncio
import json
import math
import os
import stat
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec

from steersman_contracts.hooks import ToolContext, ToolResult
from steersman_contracts.parts import JsonPart, TextPart
from steersman_plugin_files import scan
from steersman_plugin_files.confinement import Refused, open_workspace
from steersman_plugin_files.text import Page, shown_name

SECONDS: Final = 10.0

SEARCH_FILES: Final = (
    "Search the text files of the workspace for lines that match a regular expression (Python "
    "syntax, one line at a time). Binary files, .git and links are skipped; of each file the first "
    "10 MiB are searched; it stops after 10 seconds. Returns JSON with matches, files_searched and "
    "complete (false if there may be more), then path:line: text for each match, with paths "
    "relative to the workspace, at most 64 KiB."
)


class SearchFiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `search_files`."""

    pattern: Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            max_length=10_000,
            description=r"A regular expression, such as def \w+\(. Escape . ( ) [ ] * + ? as text.",
        ),
    ]
    path: Annotated[
        str,
        msgspec.Meta(description="The directory or file to search, relative to the workspace."),
    ] = "."
    glob: Annotated[
        Annotated[str, msgspec.Meta(max_length=1_000)] | None,
        msgspec.Meta(
            description="Only these files: *.py by name, src/**/*.{ts,tsx} by path below `path`."
        ),
    ] = None
    ignore_case: Annotated[bool, msgspec.Meta(description="Ignore the case of letters.")] = False
    limit: Annotated[
        int, msgspec.Meta(ge=1, le=2_000, description="How many matching lines to show at most.")
    ] = 200


class _Told(msgspec.Struct):
    """A line of the searching process: a match, or how far it is."""

    path: str | None = None
    line: int = 0
    text: str = ""
    files: int | None = None
    more: bool | None = None
    refused: str | None = None


_decoder = msgspec.json.Decoder(_Told)


@dataclass
class Findings:
    """What the searching process has told so far."""

    prefix: str
    page: Page = field(default_factory=Page)
    matches: int = 0
    hit_files: set[str] = field(default_factory=set[str])
    files: int = 0
    more: bool | None = None
    """Whether there are more matches; None as long as nobody has looked."""
    cut: int = 0

    def take(self, told: _Told) -> None:
        """Add what one line says."""
        if told.refused is not None:
            raise Refused(f"the search cannot be done: {told.refused}; correct pattern or glob")
        if told.path is not None:
            self.matches += 1
            self.hit_files.add(told.path)
            line = f"{shown_name(self.prefix + told.path)}:{told.line}: {told.text}"
            if self.cut or not self.page.add(line):
                self.cut += 1
        if told.files is not None:
            self.files, self.more = told.files, told.more

    def result(self, limit: int, *, stopped_after_s: float | None) -> ToolResult:
        """The answer to the call."""
        facts = {
            "matches": self.matches,
            "matching_files": len(self.hit_files),
            "files_searched": self.files,
            "complete": self.more is False and not self.cut,
        }
        notes: list[str] = []
        if not self.matches:
            notes.append("[no matches]")
        if self.cut:
            notes.append(f"[cut: {self.cut} more matches; narrow path, glob or pattern]")
        if stopped_after_s is not None:
            notes.append(
                f"[stopped after {stopped_after_s:g} s; narrow path or glob, or simplify pattern]"
            )
        elif self.more is not False:
            notes.append(
                f"[more than {limit} matches; narrow path, glob or pattern, or raise limit]"
            )
        lines = [self.page.text()] if len(self.page) else []
        return ToolResult(content=(JsonPart(facts), TextPart("\n".join(lines + notes))))


async def search_files(context: ToolContext, args: SearchFiles) -> ToolResult:
    """Answer with the matching lines."""
    try:
        start = await asyncio.to_thread(_open, context, args.path)
        # What was found in time is worth more than a call that its caller gives up.
        return await _search(start, args, seconds=min(SECONDS, context.timeout_s / 2))
    except Refused as refused:
        return ToolResult.error(str(refused))


class _Start:
    """Where a search begins: an open directory, or one file in it.

    It closes itself, because a call that is cancelled never sees what its thread has opened.
    """

    def __init__(self, folder: int, name: str | None, above: Sequence[str], owner: int) -> None:
        self.folder = os.dup(folder)
        self.owner = owner
        self.name = name
        self.prefix = "".join(f"{part}/" for part in above)

    def __del__(self) -> None:
        os.close(self.folder)


def _open(context: ToolContext, path: str) -> _Start:
    with open_workspace(context.workspace) as workspace:
        names, owner = workspace.split(path), workspace.status.st_uid
        if names:
            with workspace.place(path) as place:
                status = place.status()
                if status is not None and not stat.S_ISDIR(status.st_mode):
                    workspace.existing(place)
                    return _Start(place.directory, place.name, names[:-1], owner)
        with workspace.folder(names) as folder:
            return _Start(folder, None, names, owner)


async def _search(start: _Start, args: SearchFiles, *, seconds: float) -> ToolResult:
    request = {
        "folder": start.folder,
        "name": start.name,
        "owner": start.owner,
        "pattern": args.pattern,
        "glob": args.glob,
        "ignore_case": args.ignore_case,
        "limit": args.limit,
        "seconds": math.ceil(seconds) + 1,
    }
    # Isolated and without site packages: nothing of ours is needed, and the start is the cost.
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", scan.__file__),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        env={},
        pass_fds=(start.folder,),
        limit=1024 * 1024,
    )
    findings, timed_out = Findings(start.prefix), False
    try:
        async with asyncio.timeout(seconds):
            await _listen(process, json.dumps(request).encode(), findings)
    except TimeoutError:
        timed_out = True
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
    if not timed_out and findings.more is None:
        raise Refused("the search broke off; narrow path or glob, or use a simpler pattern")
    return findings.result(args.limit, stopped_after_s=seconds if timed_out else None)


async def _listen(process: Process, request: bytes, findings: Findings) -> None:
    if process.stdin is None or process.stdout is None:
        raise AssertionError("both are pipes")
    process.stdin.write(request)
    process.stdin.close()
    async for line in process.stdout:
        findings.take(_decoder.decode(line))
    await process.wait()
