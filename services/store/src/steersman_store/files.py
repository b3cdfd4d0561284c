"""Files: bytes in chunks, in PostgreSQL, for their owner alone."""

from __future__ import annotations

import asyncio
import hashlib
import re
import uuid
from collections.abc import Container, Iterator
from typing import Final, get_args

import msgspec

from steersman_contracts.errors import InvalidRequest, NotFound, UnsupportedMediaType
from steersman_contracts.parts import FilePart, Part, Parts
from steersman_contracts.rpc import Nothing
from steersman_contracts.rpc import files as rpc
from steersman_contracts.rpc.chats import MAX_MESSAGE_FILES
from steersman_runtime.rpc import RpcServer
from steersman_store.content import Content
from steersman_store.database import Database

_LOOKING: Final = 4
"""Files that are looked at at the same time: one that may be JSON is in memory as a whole."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Files:
    """The handlers of the group `files`, and the reads of chatloops."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._looking = asyncio.Semaphore(_LOOKING)

    def serve(self, server: RpcServer) -> None:
        """Answer the methods."""
        server.add(rpc.BEGIN_UPLOAD, self.begin)
        server.add(rpc.APPEND_CHUNK, self.append)
        server.add(rpc.FINISH_UPLOAD, self.finish)
        server.add(rpc.GET_FILE, self.get)
        server.add(rpc.READ_CHUNK, self.read)
        server.add(rpc.DELETE_FILE, self.delete)
        server.add(rpc.LIST_FILES, self.list)
        server.add(rpc.READ_FOR_MODEL, self.read_for_model)
        server.add(rpc.FIND_FOR_MODEL, self.find_for_model)

    async def begin(self, request: rpc.BeginUpload) -> rpc.UploadBegun:
        file_id = str(uuid.uuid4())  # not to be guessed, although that would be no use
        await self._database.value(
            "SELECT begin_upload($1, $2, $3, $4)",
            request.actor.user_id,
            file_id,
            file_name(request.name),
            rpc.MAX_LOOSE_FILES,
        )
        return rpc.UploadBegun(file_id)

    async def append(self, request: rpc.AppendChunk) -> Nothing:
        if not request.data:
            raise InvalidRequest("a chunk has at least one byte", field="data")
        await self._database.value(
            "SELECT append_chunk($1, $2, $3, $4)",
            request.actor.user_id,
            request.file_id,
            request.index,
            request.data,
        )
        return Nothing()

    async def finish(self, request: rpc.FinishUpload) -> msgspec.Raw:
        owner = request.actor.user_id
        row = await self._database.row(
            "SELECT name, media_type FROM file_of($1, $2, NULL)", owner, request.file_id
        )
        assert row is not None  # a function call always has a row
        if row["media_type"] is not None:  # the same request again
            return await self.get(rpc.GetFile(request.actor, request.file_id))
        async with self._looking:
            media_type, sha256 = await self._look(request.file_id, request.size, row["name"])
        return await self._database.raw(
            "SELECT finish_upload($1, $2, $3, $4, $5)",
            owner,
            request.file_id,
            media_type,
            request.size,
            sha256,
        )

    async def _look(self, file_id: str, size: int, name: str) -> tuple[rpc.MediaType, str]:
        content, digest = Content(), hashlib.sha256()
        for index in range(-(-size // rpc.CHUNK_BYTES)):
            chunk: bytes | None = await self._chunk(file_id, index)
            if len(chunk or b"") != min(rpc.CHUNK_BYTES, size - index * rpc.CHUNK_BYTES):
                raise InvalidRequest(f"chunk {index} is missing or has another size", field="size")
            assert chunk is not None  # it has the right size
            digest.update(chunk)
            content.feed(chunk)
        if await self._chunk(file_id, -(-size // rpc.CHUNK_BYTES)) is not None:
            raise InvalidRequest("there are more chunks than the size says", field="size")
        media_type = content.media_type(name)
        if media_type is None:
            raise UnsupportedMediaType(
                "the content is none of the supported kinds; text must be UTF-8",
                supported=list(get_args(rpc.MediaType)),
            )
        return media_type, digest.hexdigest()

    async def _chunk(self, file_id: str, index: int) -> bytes | None:
        return await self._database.value(
            "SELECT data FROM file_chunks WHERE file_id = $1 AND index = $2", file_id, index
        )

    async def get(self, request: rpc.GetFile) -> msgspec.Raw:
        return await self._database.raw(
            "SELECT json_build_object('file', file_json(file_of($1, $2)))",
            request.actor.user_id,
            request.file_id,
        )

    async def read(self, request: rpc.ReadChunk) -> rpc.Chunk:
        row = await self._database.row(
            "SELECT k.data, f.size FROM file_of($1, $2) f "
            "LEFT JOIN file_chunks k ON k.file_id = f.id AND k.index = $3",
            request.actor.user_id,
            request.file_id,
            request.index,
        )
        assert row is not None  # a function call always has a row
        return rpc.Chunk(row["data"] or b"", row["size"])

    async def read_for_model(self, request: rpc.ReadForModel) -> rpc.Chunk:
        row = await self._database.row(
            "SELECT data, size FROM read_file_for_model($1, $2, $3, $4)",
            request.chat_id,
            request.runner_id,
            request.file_id,
            request.index,
        )
        assert row is not None  # a function call always has a row
        return rpc.Chunk(row["data"] or b"", row["size"])

    async def find_for_model(self, request: rpc.FindForModel) -> rpc.FoundForModel:
        rows = await self._database.rows(
            "SELECT l.file_id FROM chats c JOIN chat_files l ON l.chat_id = c.id "
            "JOIN files f ON f.id = l.file_id "
            "WHERE c.id = $1 AND c.runner_id = $2 AND l.file_id = ANY ($3::uuid[])",
            request.chat_id,
            request.runner_id,
            list(request.file_ids),
        )
        return rpc.FoundForModel(tuple(str(row["file_id"]) for row in rows))

    async def delete(self, request: rpc.DeleteFile) -> Nothing:
        await self._database.value(
            "SELECT delete_file($1, $2)", request.actor.user_id, request.file_id
        )
        return Nothing()

    async def list(self, request: rpc.ListFiles) -> msgspec.Raw:
        return await self._database.raw(
            "SELECT list_files($1, $2, $3)",
            request.actor.user_id,
            request.chat_id,
            rpc.MAX_CHAT_FILES,
        )


def file_name(name: str) -> str:
    """A name as it is kept: the last step of a path, without what would mislead a reader."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return _CONTROL.sub("\ufffd", last).strip()[:255]


def file_ids(parts: Parts) -> list[str]:
    """The stored files that a message refers to, each once.

    Raises:
        InvalidRequest: Bytes are inside of a part, an id is none, or there are too many.
    """
    found: dict[str, None] = {}
    for index, part in _file_parts(parts):
        if part.data is not None or part.file_id is None:
            raise InvalidRequest("upload the file and send its id", field=f"parts[{index}].file_id")
        if not _UUID.fullmatch(part.file_id):
            raise NotFound("no such file", file_id=part.file_id, field=f"parts[{index}].file_id")
        found[part.file_id] = None
    if len(found) > MAX_MESSAGE_FILES:
        raise InvalidRequest(f"a message has at most {MAX_MESSAGE_FILES} files", field="parts")
    return list(found)


def check_known(parts: Parts, known: Container[object]) -> None:
    """Refuse a message that refers to a file that is not there, or is somebody else's.

    Raises:
        NotFound: Names the part.
    """
    for index, part in _file_parts(parts):
        if part.file_id not in known:
            where = f"parts[{index}].file_id"
            raise NotFound("no such file", file_id=part.file_id, field=where)


def described(parts: Parts, files: dict[str, tuple[str, str]]) -> Parts:
    """The parts with name and media type as the store knows them, by file id."""

    def describe(part: Part) -> Part:
        if not isinstance(part, FilePart) or part.file_id is None:
            return part
        name, media_type = files[part.file_id]
        return FilePart(media_type, name, part.file_id)

    return tuple(describe(part) for part in parts)


def _file_parts(parts: Parts) -> Iterator[tuple[int, FilePart]]:
    return ((index, part) for index, part in enumerate(parts) if isinstance(part, FilePart))
