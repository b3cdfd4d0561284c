"""Files on their way to and from a desktop: in the folder into which its browser downloads."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import Actor, Method
from steersman_contracts.rpc.files import CHUNK_BYTES, MAX_FILE_BYTES
from steersman_contracts.rpc.workspaces import FileEntry, Path, Piece, UploadId

MAX_ENTRIES: Final = 1_000
"""That are listed."""


class ListFiles(msgspec.Struct, frozen=True):
    """What is in the folder; directories in it are not looked into."""

    actor: Actor | None
    """The person who asks; None is the agent, here and below."""
    chat_id: ChatId


class FileList(msgspec.Struct, frozen=True, omit_defaults=True):
    """By name."""

    files: tuple[FileEntry, ...]
    total: int
    """More than are shown, when there are very many."""


class ReadFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """Some bytes of a file."""

    actor: Actor | None
    chat_id: ChatId
    path: Path
    """Relative to the folder."""
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0
    tag: str = ""
    """Of the first piece: the rest has to be of the same content."""


class WriteFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """Some bytes of a file that is being put there; nobody sees it under its name before its end.

    Starts the desktop if there is none.
    """

    actor: Actor | None
    chat_id: ChatId
    path: Path
    upload_id: UploadId
    offset: Annotated[int, msgspec.Meta(ge=0, le=MAX_FILE_BYTES)]
    data: Annotated[bytes, msgspec.Meta(max_length=CHUNK_BYTES)]
    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_FILE_BYTES)] | None = None
    """With the last bytes: how many it are; then it is put in its place, whole."""


LIST_FILES: Final = Method("desktop", "files.list", ListFiles, FileList, safe=True)
READ_FILE: Final = Method("desktop", "files.read", ReadFile, Piece, safe=True)
WRITE_FILE: Final = Method("desktop", "files.write", WriteFile, FileEntry, 45.0, safe=True)
