"""Files of people: bytes travel in chunks of one size, and PostgreSQL keeps them.

An upload is `begin`, then `append` for each chunk in any order, then `finish`, which looks at the
content and says what it is. Until then nobody can read it or send it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from steersman_contracts.ids import ChatId, RunnerId, Uuid
from steersman_contracts.rpc import Actor, Method, Nothing

MAX_FILE_BYTES: Final = 10 * 2**20
"""Bytes of one file."""
CHUNK_BYTES: Final = 384 * 2**10
"""Bytes of every chunk but the last. In base64 half of a NATS message of 1 MB."""
MAX_CHUNKS: Final = -(-MAX_FILE_BYTES // CHUNK_BYTES)
MAX_CHAT_FILES: Final = 50
"""The newest files of a chat: no others are listed, and no others reach the model."""
MAX_LOOSE_FILES: Final = 200
"""Files of one person that no chat uses yet."""

MediaType: TypeAlias = Literal[
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
    "application/pdf",
    "application/json",
    "text/plain",
    "text/markdown",
    "text/csv",
]
"""What can be stored. Found in the content; a name only tells kinds of text apart."""

FileName = Annotated[str, msgspec.Meta(max_length=255)]
ChunkIndex = Annotated[int, msgspec.Meta(ge=0, le=MAX_CHUNKS - 1)]


class StoredFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file, without its bytes."""

    id: str
    name: str
    media_type: MediaType
    size: int
    """Bytes."""
    sha256: str
    """Hex."""
    created_at: datetime
    expires_at: datetime | None = None
    """When it is removed unless a message refers to it by then; absent once one does."""


class BeginUpload(msgspec.Struct, frozen=True):
    """Make room for a file."""

    actor: Actor
    name: FileName


class UploadBegun(msgspec.Struct, frozen=True):
    """Where the chunks go."""

    file_id: str


class AppendChunk(msgspec.Struct, frozen=True):
    """One chunk; the same one again replaces it."""

    actor: Actor
    file_id: Uuid
    index: ChunkIndex
    data: Annotated[bytes, msgspec.Meta(max_length=CHUNK_BYTES)]


class FinishUpload(msgspec.Struct, frozen=True):
    """All chunks are there: look at them, and keep the file."""

    actor: Actor
    file_id: Uuid
    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_FILE_BYTES)]


class GetFile(msgspec.Struct, frozen=True):
    """One file of the actor's."""

    actor: Actor
    file_id: Uuid


class ReadChunk(msgspec.Struct, frozen=True):
    """One chunk of a file of the actor's."""

    actor: Actor
    file_id: Uuid
    index: ChunkIndex


class DeleteFile(msgspec.Struct, frozen=True):
    """Remove a file for good; messages keep its name."""

    actor: Actor
    file_id: Uuid


class ListFiles(msgspec.Struct, frozen=True):
    """The newest files of a chat."""

    actor: Actor
    chat_id: ChatId


class ReadForModel(msgspec.Struct, frozen=True):
    """One chunk of a file that a chat of the caller's refers to."""

    chat_id: ChatId
    runner_id: RunnerId
    file_id: Uuid
    index: ChunkIndex


class FindForModel(msgspec.Struct, frozen=True):
    """Ask which of these files a chat of the caller's still refers to, and still are."""

    chat_id: ChatId
    runner_id: RunnerId
    file_ids: Annotated[tuple[Uuid, ...], msgspec.Meta(max_length=1000)]


class FoundForModel(msgspec.Struct, frozen=True):
    """Those of them that are there."""

    file_ids: tuple[Uuid, ...]


class FileReply(msgspec.Struct, frozen=True):
    """A file."""

    file: StoredFile


class FilePage(msgspec.Struct, frozen=True):
    """Files, the newest first."""

    files: tuple[StoredFile, ...]


class Chunk(msgspec.Struct, frozen=True):
    """Bytes of a file, from chunk `index` on."""

    data: bytes
    size: int
    """Bytes of the whole file."""


BEGIN_UPLOAD: Final = Method("store", "files.begin", BeginUpload, UploadBegun)
APPEND_CHUNK: Final = Method("store", "files.append", AppendChunk, Nothing, safe=True)
FINISH_UPLOAD: Final = Method(
    "store", "files.finish", FinishUpload, FileReply, deadline_s=30.0, safe=True
)
GET_FILE: Final = Method("store", "files.get", GetFile, FileReply, safe=True)
READ_CHUNK: Final = Method("store", "files.read", ReadChunk, Chunk, safe=True)
DELETE_FILE: Final = Method("store", "files.delete", DeleteFile, Nothing)
LIST_FILES: Final = Method("store", "files.list", ListFiles, FilePage, safe=True)
READ_FOR_MODEL: Final = Method("store", "worker.read_file", ReadForModel, Chunk, safe=True)
FIND_FOR_MODEL: Final = Method("store", "worker.find_files", FindForModel, FoundForModel, safe=True)
