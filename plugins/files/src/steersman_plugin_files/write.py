"""`write_file`, and the way in which every change reaches the disk: whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from steersman_contracts.confinement import Place, Refused, Workspace, open_workspace, refusal
from steersman_contracts.hooks import ToolContext, ToolResult
from steersman_plugin_files.changing import change, still_wanted
from steersman_plugin_files.text import lines_of

WRITE_MAX: Final = 5 * 1024 * 1024

WRITE_FILE: Final = (
    "Write a text file of the workspace: make it, with the directories above it, or replace all of "
    "its content (the permissions stay). The content is stored in UTF-8 exactly as given, at most "
    "5 MiB; end it with a newline. To change part of a file use edit_files. Returns JSON: path, "
    "created, size (bytes), total_lines."
)

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class WriteFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `write_file`."""

    path: Annotated[
        str, msgspec.Meta(description="The file, relative to the workspace, such as src/main.py.")
    ]
    content: Annotated[str, msgspec.Meta(description="The whole new content of the file.")]


async def write_file(context: ToolContext, args: WriteFile) -> ToolResult:
    """Make or replace the file."""
    try:
        return await change(_write, context, args)
    except Refused as refused:
        return ToolResult.error(str(refused))


def _write(context: ToolContext, args: WriteFile) -> ToolResult:
    data = _content(args)
    with (
        open_workspace(context.workspace) as workspace,
        workspace.changing(),
        _wanted_place(context, workspace, args.path) as place,
        staged(workspace, place, data, changeable(workspace, place)) as prepared,
    ):
        still_wanted(context)
        prepared.publish()
        return ToolResult.json(
            {
                "path": place.shown,
                "created": prepared.before is None,
                "size": len(data),
                "total_lines": len(lines_of(args.content)),
            }
        )


@contextmanager
def _wanted_place(context: ToolContext, workspace: Workspace, path: str) -> Generator[Place]:
    still_wanted(context)  # others may have changed the workspace for a while
    with workspace.place(path, create_parents=True) as place:
        yield place


def _content(args: WriteFile) -> bytes:
    if args.path.endswith("/"):
        raise Refused(f"{args.path!r} ends with '/'; name a file")
    try:
        data = args.content.encode()
    except UnicodeEncodeError as error:
        raise Refused("the content is not valid Unicode; remove lone surrogates") from error
    if len(data) > WRITE_MAX:
        raise Refused(
            f"the content for {args.path!r} has {len(data)} bytes; at most {WRITE_MAX} can be "
            "written; write it in parts with execute"
        )
    return data


def changeable(workspace: Workspace, place: Place) -> os.stat_result | None:
    """Look at what is about to be replaced; None if there is nothing.

    Raises:
        Refused: It is not a regular file, or it is write-protected.
    """
    status = workspace.existing(place)
    # A rename would not ask the permissions of the file that it replaces, and root is never asked.
    if status is not None and not status.st_mode & 0o222:
        raise Refused(
            f"{place.shown!r} is write-protected (mode {stat.S_IMODE(status.st_mode):04o}); "
            "if it is meant to be changed, chmod u+w it with execute"
        )
    return status


@dataclass(slots=True)
class Change:
    """A new content that lies ready beside its file, on the same file system."""

    place: Place
    temporary: str
    before: os.stat_result | None
    """The file that it replaces."""

    def publish(self) -> None:
        """Put it in place, in one step.

        Raises:
            Refused: The system does not allow it. Nothing has changed.
        """
        try:
            os.rename(
                self.temporary,
                self.place.name,
                src_dir_fd=self.place.directory,
                dst_dir_fd=self.place.directory,
            )
        except OSError as error:
            raise refusal(error, self.place.shown) from error


@contextmanager
def staged(
    workspace: Workspace, place: Place, data: bytes, before: os.stat_result | None
) -> Generator[Change]:
    """Write a new content beside the file. What is not published is gone afterwards."""
    temporary = f".steersman-{secrets.token_hex(8)}.tmp"
    mode = 0o666 if before is None else stat.S_IMODE(before.st_mode) & 0o777
    try:
        opened = os.open(temporary, _NEW, mode, dir_fd=place.directory)
    except OSError as error:
        raise refusal(error, place.shown) from error
    try:
        try:
            with os.fdopen(opened, "wb") as file:
                workspace.hand_over(opened)
                if before is not None:
                    os.fchmod(opened, mode)  # the umask took bits away that the file has
                file.write(data)
        except OSError as error:
            raise refusal(error, place.shown) from error
        yield Change(place, temporary, before)
    finally:
        with suppress(OSError):  # it has been published
            os.unlink(temporary, dir_fd=place.directory)
