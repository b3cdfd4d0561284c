"""`read_file`: numbered lines of a text, or an image."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import msgspec

from steersman_contracts.confinement import Place, Refused, open_workspace
from steersman_contracts.hooks import ToolContext, ToolResult
from steersman_contracts.parts import FilePart, JsonPart, TextPart
from steersman_plugin_files.text import (
    NotText,
    Page,
    Text,
    clip_line,
    decode,
    line_endings,
    lines_of,
    shown_name,
)

SCAN_MAX: Final = 10 * 1024 * 1024
# More would not fit through NATS with the rest of a step (4 MiB, in base64).
IMAGE_MAX: Final = 2 * 1024 * 1024
LINE_MAX: Final = 2_000

READ_FILE: Final = (
    "Read a file of the workspace. A text file comes back as numbered lines, after a JSON object "
    "with total_lines, size (bytes), first_line, last_line and next_offset (null when the file is "
    "read to its end). At most 64 KiB of text per call and 2,000 characters per line: go on with "
    "offset = next_offset. A PNG, JPEG, GIF or WebP image up to 2 MiB comes back as an image. Of "
    "any other binary file only the size is told. Only the first 10 MiB of a file are read."
)


class ReadFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `read_file`."""

    path: Annotated[
        str, msgspec.Meta(description="The file, relative to the workspace, such as src/main.py.")
    ]
    offset: Annotated[
        int, msgspec.Meta(ge=1, description="The first line to read; 1 is first.")
    ] = 1
    limit: Annotated[
        int, msgspec.Meta(ge=1, le=100_000, description="How many lines to read at most.")
    ] = 2_000


async def read_file(context: ToolContext, args: ReadFile) -> ToolResult:
    """Answer with the lines that were asked for."""
    try:
        return await asyncio.to_thread(_read, context, args)
    except Refused as refused:
        return ToolResult.error(str(refused))


def _read(context: ToolContext, args: ReadFile) -> ToolResult:
    with (
        open_workspace(context.workspace) as workspace,
        workspace.place(args.path) as place,
        workspace.reading(place) as (file, status),
    ):
        data = file.read(SCAN_MAX)
        media_type = image_type(data)
        if media_type is not None:
            return _image(place, media_type, data)
        size = max(status.st_size, len(data))
    try:
        text = decode(data, whole=size <= SCAN_MAX)
    except NotText as problem:
        said = (
            f"{place.shown!r} is {problem}: its {size} bytes are not shown. Use execute to look "
            "into it, with file, xxd, strings or iconv."
        )
        facts = {"path": place.shown, "size": size, "binary": True}
        return ToolResult(content=(JsonPart(facts), TextPart(said)))
    return page(place.shown, text, size, args)


def image_type(data: bytes) -> str | None:
    """The media type of an image that models can see, by content; None for anything else."""
    if b"\0" not in data:  # a text that only begins like one
        return None
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def _image(place: Place, media_type: str, data: bytes) -> ToolResult:
    if len(data) > IMAGE_MAX:
        raise Refused(
            f"{place.shown!r} is an image of more than {IMAGE_MAX} bytes, too large to be looked "
            "at; use execute to make a smaller copy"
        )
    facts = {"path": place.shown, "size": len(data), "media_type": media_type}
    file = FilePart(media_type, name=shown_name(place.name)[:255], data=data)
    return ToolResult(content=(JsonPart(facts), file))


def page(shown: str, text: Text, size: int, args: ReadFile) -> ToolResult:
    """Number the lines that were asked for, as many as fit.

    Raises:
        Refused: The file has no such line.
    """
    lines = lines_of(text.body)
    complete = size <= SCAN_MAX
    _check_offset(shown, args.offset, len(lines), complete=complete)
    out = Page()
    for number, line in enumerate(lines[args.offset - 1 :][: args.limit], start=args.offset):
        bare = line.removesuffix("\n").removesuffix("\r")
        if not out.add(f"{number:6}\t{clip_line(bare, LINE_MAX)}"):
            break
    last = args.offset - 1 + len(out)
    more = last < len(lines)
    facts = {
        "path": shown,
        "size": size,
        "total_lines": len(lines),
        "total_lines_exact": complete,
        "first_line": args.offset if len(out) else None,
        "last_line": last if len(out) else None,
        "next_offset": last + 1 if more else None,
        "encoding": f"{text.encoding} with BOM" if text.mark else text.encoding,
        "line_endings": line_endings(text.body),
        "final_newline": text.body.endswith("\n"),
    }
    notes: list[str] = []
    if not lines:
        notes.append("[the file is empty]")
    if more:
        notes.append(f"[{len(lines) - last} more lines; go on with offset={last + 1}]")
    if not complete:
        notes.append(
            f"[only the first {SCAN_MAX} of {size} bytes were read; use execute for the rest]"
        )
    shown_text = "\n".join([*([out.text()] if len(out) else []), *notes])
    return ToolResult(content=(JsonPart(facts), TextPart(shown_text)))


def _check_offset(shown: str, offset: int, total: int, *, complete: bool) -> None:
    if offset <= max(total, 1):
        return
    known = (
        f"it has {total} lines" if complete else f"its first {SCAN_MAX} bytes have {total} lines"
    )
    raise Refused(f"offset {offset} is past the end of {shown!r}: {known}; use a smaller offset")
