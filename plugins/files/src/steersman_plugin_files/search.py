"""`search_files`: lines that match a regular expression."""

from __future__ import annotations

import asyncio
import codecs
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec

from steersman_contracts.confinement import Place, Refused, Workspace, open_workspace
from steersman_contracts.hooks import ToolContext, ToolResult
from steersman_contracts.parts import JsonPart, TextPart
from steersman_contracts.sandbox import sandbox_of
from steersman_plugin_files.ripgrep import Data, Ripgrep, Told
from steersman_plugin_files.text import Page, shown_name

SECONDS: Final = 10.0
FILE_MAX: Final = 10 << 20
LINE_MAX: Final = 400

SEARCH_FILES: Final = (
    "Search the text files of the workspace for lines that match a regular expression (ripgrep: "
    "Rust syntax, one line at a time). Hidden files, binary files, links, files over 10 MiB and "
    "what .gitignore names are left out; with hidden only binary and large files, links and .git. "
    "It stops after 10 seconds. Returns JSON with matches, matching_files, files_searched and "
    "complete (false if there may be more), then path:line: text for each match, and "
    "path-line- text for lines of context, with paths relative to the workspace, at most 64 KiB."
)


class SearchFiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `search_files`."""

    pattern: Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            max_length=10_000,
            description=r"A regular expression, such as def \w+\(, or with literal plain text.",
        ),
    ]
    path: Annotated[
        str,
        msgspec.Meta(description="The directory or file to search, relative to the workspace."),
    ] = "."
    glob: Annotated[
        Annotated[str, msgspec.Meta(max_length=1_000)] | None,
        msgspec.Meta(
            description="Only these files: *.py by name, src/**/*.{ts,tsx} by path; !*.md: not."
        ),
    ] = None
    ignore_case: Annotated[bool, msgspec.Meta(description="Ignore the case of letters.")] = False
    literal: Annotated[
        bool, msgspec.Meta(description="The pattern is plain text, not a regular expression.")
    ] = False
    hidden: Annotated[
        bool, msgspec.Meta(description="Search hidden files, and what .gitignore names, as well.")
    ] = False
    context: Annotated[
        int, msgspec.Meta(ge=0, le=20, description="Lines to show before and after each match.")
    ] = 0
    limit: Annotated[
        int, msgspec.Meta(ge=1, le=2_000, description="How many matching lines to show at most.")
    ] = 200


class Witness:
    """Confirms that a line is in a file of the workspace.

    Ripgrep opens files by their paths, and a directory may become a link while it runs. What it
    tells is shown only if it is there for somebody who follows none.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._path: bytes | None = None
        self._content = b""

    def saw(self, data: Data) -> bool:
        """Whether the line is where it is said to be."""
        if data.path is None or data.lines is None:
            return False
        path = data.path.raw()
        if path != self._path:
            self._path, self._content = path, self._read(os.fsdecode(path))
        line = data.lines.raw()
        return self._content[data.absolute_offset :][: len(line)] == line

    def _read(self, path: str) -> bytes:
        try:
            names = [name for name in path.split("/") if name not in ("", ".")]
            with (
                self._workspace.folder(names[:-1]) as folder,
                self._workspace.reading(Place(folder, names[-1], path)) as (file, _),
            ):
                content = file.read(FILE_MAX)
        except (Refused, OSError, ValueError):
            return b""
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return content.decode("utf-16", errors="replace").encode(errors="replace")
        return content.removeprefix(codecs.BOM_UTF8)


@dataclass
class Findings:
    """What ripgrep has told so far."""

    limit: int
    witness: Witness
    page: Page = field(default_factory=Page)
    matches: int = 0
    hit_files: set[str] = field(default_factory=set[str])
    files: int | None = None
    more: bool | None = None
    """Whether there are more matches; None as long as nobody has looked."""
    cut: int = 0

    def take(self, told: Told) -> bool:
        """Add what a line says; True if that is enough."""
        if told.type in ("match", "context") and not self.witness.saw(told.data):
            return False
        match told.type:
            case "match" if self.matches >= self.limit:
                self.more = True
            case "match":
                self.matches += 1
                self._add(told.data, ":")
            case "context" if self.matches < self.limit:
                self._add(told.data, "-")
            case "summary":
                self.files = told.data.stats.searches if told.data.stats else None
                self.more = False
            case _:
                pass
        return self.more is True

    def _add(self, data: Data, mark: str) -> None:
        if data.path is None or data.lines is None:
            return
        path = data.path.show().removeprefix("./")
        if mark == ":":
            self.hit_files.add(path)
        start = data.submatches[0].start if data.submatches else 0
        text = _shown(data.lines.show(), start)
        line = f"{shown_name(path)}{mark}{data.line_number or 0}{mark} {text}"
        if self.cut or not self.page.add(line):
            self.cut += mark == ":"

    def result(self, *, stopped_after_s: float | None) -> ToolResult:
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
                f"[more than {self.limit} matches; narrow path, glob or pattern, or raise limit]"
            )
        lines = [self.page.text()] if len(self.page) else []
        return ToolResult(content=(JsonPart(facts), TextPart("\n".join(lines + notes))))


def _shown(line: str, start: int) -> str:
    """The line without its end, cut around the match at the byte `start`."""
    bare = line.removesuffix("\n").removesuffix("\r").replace("\0", "\ufffd")
    before = len(line.encode()[:start].decode(errors="ignore"))
    first = max(0, min(before - LINE_MAX // 4, len(bare) - LINE_MAX))
    shown = bare[first : first + LINE_MAX]
    rest = len(bare) - first - len(shown)
    head = f"[{first} characters] …" if first else ""
    return head + shown + (f"… [{rest} characters]" if rest else "")


async def search_files(context: ToolContext, args: SearchFiles) -> ToolResult:
    """Answer with the matching lines."""
    try:
        arguments = await asyncio.to_thread(_arguments, context, args)
        search = Ripgrep(context.workspace, arguments, sandbox_of(context))
        # What was found in time is worth more than a call that its caller gives up.
        seconds = min(SECONDS, context.timeout_s / 2)
        with open_workspace(context.workspace) as workspace:
            findings = Findings(args.limit, Witness(workspace))
            timed_out = await search.run(findings.take, within_s=seconds)
    except Refused as refused:
        return ToolResult.error(str(refused))
    if not timed_out and findings.more is None:
        return ToolResult.error("the search broke off; narrow path or glob")
    return findings.result(stopped_after_s=seconds if timed_out else None)


def _arguments(context: ToolContext, args: SearchFiles) -> Sequence[str]:
    try:
        for value in (args.pattern, args.glob or ""):
            value.encode()
            if "\0" in value:
                raise Refused("the search cannot be done: NUL characters are not allowed")
    except UnicodeEncodeError as error:
        raise Refused("the search cannot be done: lone surrogates are not allowed") from error
    with open_workspace(context.workspace) as workspace:
        names = workspace.split(args.path)
        if names:
            with workspace.place(args.path) as place:
                status = place.status()
                if status is None or not stat.S_ISDIR(status.st_mode):
                    with workspace.reading(place):  # says what is wrong with it
                        pass
        in_repository = any(_has_repository(workspace, names))
    return tuple(_options(args, names, in_repository=in_repository))


def _has_repository(workspace: Workspace, names: Sequence[str]) -> Iterator[bool]:
    for end in range(len(names) + 1):
        try:
            with workspace.folder(names[:end]) as folder:
                os.stat(".git", dir_fd=folder, follow_symlinks=False)
                yield True
        except (OSError, Refused):
            yield False


def _options(args: SearchFiles, names: Sequence[str], *, in_repository: bool) -> Iterator[str]:
    yield from ("--no-config", "--no-messages", "--no-follow", "--sort=path")
    yield from (f"--max-filesize={FILE_MAX}", "--no-ignore-global", "--threads=1")
    if not in_repository:
        # What lies above the workspace has no say in what is searched. In a repository ripgrep
        # looks no further up than to its top.
        yield "--no-ignore-parent"
    if args.hidden:
        yield from ("--hidden", "--no-ignore", "--glob=!.git")
    if args.glob is not None:
        yield f"--glob={args.glob}"
    if args.ignore_case:
        yield "--ignore-case"
    if args.literal:
        yield "--fixed-strings"
    if args.context:
        yield f"--context={args.context}"
    yield from (f"--regexp={args.pattern}", "--", "./" + "/".join(names))
