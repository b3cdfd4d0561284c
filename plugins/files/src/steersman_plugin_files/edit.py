"""`edit_files`: several replacements in several files, all or nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from steersman_contracts.confinement import Place, Refused, Workspace, open_workspace
from steersman_contracts.hooks import ToolContext, ToolResult
from steersman_contracts.parts import JsonObject, JsonPart, TextPart
from steersman_plugin_files.changing import change, still_wanted
from steersman_plugin_files.diff import hunks
from steersman_plugin_files.edits import Draft, EditRefused, apply_edit
from steersman_plugin_files.text import NotText, Page, Text, clip_line, decode, shown_name
from steersman_plugin_files.write import WRITE_MAX, Change, changeable, staged

EDIT_FILES: Final = (
    "Replace text in existing files of the workspace. Either all edits of all files are applied or "
    "none. `search` must be an exact copy of text in the file, white space included (without the "
    "line numbers of read_file), and must occur exactly once, unless replace_all is set; take in "
    "lines around it to make it unique. The edits of a file are applied in order, each to the "
    "result of those before. Line endings and a byte order mark are kept. Returns JSON with path, "
    "replacements and size (bytes) per file, then unified diffs, at most 64 KiB. An error names "
    "the file, the edit and what was found, and ends with 'no edits applied'."
)
DIFF_LINE_MAX: Final = 500
NOTHING_DONE: Final = "no edits applied"


class Edit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One replacement."""

    search: Annotated[
        str,
        msgspec.Meta(description="The exact text to replace; not empty, unique in the file."),
    ]
    replace: Annotated[str, msgspec.Meta(description="What comes in its place; '' deletes it.")]
    replace_all: Annotated[
        bool, msgspec.Meta(description="Replace every occurrence instead of exactly one.")
    ] = False


class FileEdits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The replacements in one file."""

    path: Annotated[
        str, msgspec.Meta(description="An existing text file, relative to the workspace.")
    ]
    edits: Annotated[
        list[Edit], msgspec.Meta(min_length=1, max_length=100, description="Applied in order.")
    ]


class EditFiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `edit_files`."""

    files: Annotated[
        list[FileEdits],
        msgspec.Meta(min_length=1, max_length=50, description="Each file once, at most 5 MiB."),
    ]


async def edit_files(context: ToolContext, args: EditFiles) -> ToolResult:
    """Apply all edits, or none."""
    try:
        return await change(_edit, context, args)
    except Refused as refused:
        return ToolResult.error(f"{refused}; {NOTHING_DONE}")
    except HalfDone as half:
        return ToolResult.error(str(half))


class HalfDone(Exception):
    """Some files have changed and could not be put back. The message names them."""


@dataclass(frozen=True, slots=True)
class Edited:
    """A file with all of its edits, not yet on disk."""

    place: Place
    before: os.stat_result
    original: Text
    draft: Draft
    replacements: int

    def data(self) -> bytes:
        """The bytes that the file is to have."""
        return self.original.with_body(self.draft.text).encode()


def _edit(context: ToolContext, args: EditFiles) -> ToolResult:
    with (
        open_workspace(context.workspace) as workspace,
        workspace.changing(),
        ExitStack() as stack,
    ):
        edited: list[Edited] = []
        for request in args.files:
            place = stack.enter_context(workspace.place(request.path))
            edited.append(_edited(context, workspace, place, request.edits))
            _check_new(edited)
        changes = [
            stack.enter_context(staged(workspace, file.place, file.data(), file.before))
            for file in edited
        ]
        still_wanted(context)
        publish_all(workspace, edited, changes)
        return _report(edited)


def _edited(
    context: ToolContext, workspace: Workspace, place: Place, edits: Sequence[Edit]
) -> Edited:
    changeable(workspace, place)
    with workspace.reading(place) as (file, before):
        data = file.read(WRITE_MAX + 1)
    if len(data) > WRITE_MAX:
        raise Refused(
            f"{place.shown!r} has {before.st_size} bytes; at most {WRITE_MAX} can be edited; "
            "use sed or a script with execute"
        )
    try:
        original = decode(data)
    except NotText as problem:
        raise Refused(
            f"{place.shown!r} is {problem}; use execute to change it, or iconv to convert it first"
        ) from problem
    draft, replacements = Draft.of(original.body), 0
    for number, edit in enumerate(edits, start=1):
        still_wanted(context)
        try:
            draft, count = apply_edit(
                draft,
                edit.search,
                edit.replace,
                replace_all=edit.replace_all,
                max_size=WRITE_MAX,
            )
        except EditRefused as refused:
            raise Refused(f"{place.shown!r}, edit {number} of {len(edits)}: {refused}") from refused
        replacements += count
    return Edited(place, before, original, draft, replacements)


def _check_new(edited: Sequence[Edited]) -> None:
    last = edited[-1]
    for other in edited[:-1]:
        if os.path.samestat(other.before, last.before):
            raise Refused(
                f"{last.place.shown!r} is the same file as {other.place.shown!r}; "
                "put all edits of a file into one list"
            )


def publish_all(workspace: Workspace, edited: Sequence[Edited], changes: Sequence[Change]) -> None:
    """Put every new content in place; if one cannot be, put the earlier ones back.

    Raises:
        Refused: Nothing has changed.
        HalfDone: Something has, and could not be put back.
    """
    for file in edited:
        now = workspace.existing(file.place)
        if now is None or _version(now) != _version(file.before):
            raise Refused(
                f"{file.place.shown!r} was changed by something else meanwhile; read it again"
            )
    for index, prepared in enumerate(changes):
        try:
            prepared.publish()
        except Refused as refused:
            _put_back(workspace, edited[:index], refused)
            raise


def _version(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _put_back(workspace: Workspace, edited: Sequence[Edited], cause: Refused) -> None:
    stuck: list[str] = []
    for file in edited:
        try:
            with staged(workspace, file.place, file.original.encode(), file.before) as change:
                change.publish()
        except Refused:
            stuck.append(file.place.shown)
    if stuck:
        raise HalfDone(f"{cause}; but {stuck} had been edited already, and are still") from cause


def _report(edited: Sequence[Edited]) -> ToolResult:
    facts: list[JsonObject] = [
        {"path": file.place.shown, "replacements": file.replacements, "size": len(file.data())}
        for file in edited
    ]
    return ToolResult(content=(JsonPart({"files": facts}), TextPart(_diffs(edited))))


def _diffs(edited: Sequence[Edited]) -> str:
    page, missing = Page(), 0
    for file in edited:
        lines = [f"--- a/{shown_name(file.place.shown)}", f"+++ b/{shown_name(file.place.shown)}"]
        for hunk in hunks(file.original.body, file.draft):
            lines += hunk
        for line in lines:
            if missing or not page.add(clip_line(line, DIFF_LINE_MAX)):
                missing += 1
    cut = f"\n[cut: {missing} more lines of diff; all edits are applied]" if missing else ""
    return page.text() + cut
