"""Chats from elsewhere: checked, their files stored, and written in one transaction."""

from __future__ import annotations

import hashlib
import uuid

import asyncpg
import msgspec
from asyncpg.pool import PoolConnectionProxy

from steersman_contracts import subjects
from steersman_contracts.chats import Role
from steersman_contracts.errors import Conflict, InvalidRequest
from steersman_contracts.imports import ImportedMessage, NotAHistory, whole
from steersman_contracts.parts import (
    FilePart,
    Part,
    Parts,
    ResultContent,
    ToolResultPart,
    encode_parts,
    strip_internal,
)
from steersman_contracts.rpc import Nothing
from steersman_contracts.rpc import files as files_rpc
from steersman_contracts.rpc import imports as rpc
from steersman_runtime.rpc import RpcServer
from steersman_store.announce import Announcer
from steersman_store.chats import new_chat_id, title_of
from steersman_store.content import Content
from steersman_store.database import Database
from steersman_store.files import file_name


class NewFile(msgspec.Struct, frozen=True):
    """A file that was inside of a message."""

    id: str
    name: str
    media_type: str
    data: bytes


def take_files(
    messages: tuple[ImportedMessage, ...],
) -> tuple[tuple[ImportedMessage, ...], list[NewFile]]:
    """Put references in the place of bytes.

    Raises:
        InvalidRequest: Names the message: its file refers to nothing, or cannot be stored.
    """
    found: list[NewFile] = []

    def take(item: FilePart, index: int) -> FilePart:
        where = f"messages[{index}].content"
        if item.data is None:
            raise InvalidRequest("a file without its bytes", field=where)
        content = Content()
        content.feed(item.data)
        media_type = content.media_type(item.name)
        if media_type is None or len(item.data) > files_rpc.MAX_FILE_BYTES:
            raise InvalidRequest("a file of a kind or size that is not supported", field=where)
        file = NewFile(str(uuid.uuid4()), file_name(item.name), media_type, item.data)
        found.append(file)
        return FilePart(media_type, file.name, file.id, None, item.provider_metadata)

    def take_content(item: ResultContent, index: int) -> ResultContent:
        return take(item, index) if isinstance(item, FilePart) else item

    def take_part(part: Part, index: int) -> Part:
        match part:
            case FilePart():
                return take(part, index)
            case ToolResultPart(content=content):
                taken = tuple(take_content(item, index) for item in content)
                return msgspec.structs.replace(part, content=taken)
            case _:
                return part

    taken = tuple(
        msgspec.structs.replace(
            message, parts=tuple(take_part(part, index) for part in message.parts)
        )
        for index, message in enumerate(messages)
    )
    return taken, found


class Imports:
    """The handler of imports."""

    def __init__(self, database: Database, announcer: Announcer) -> None:
        self._database = database
        self._announcer = announcer

    def serve(self, server: RpcServer) -> None:
        """Answer the method."""
        server.add(rpc.IMPORT_CHAT, self.import_chat)
        server.add(rpc.STAGE_IMPORT, self.stage_import)

    async def stage_import(self, request: rpc.StageImport) -> Nothing:
        await self._database.value(
            "SELECT stage_import($1, $2, $3, $4, $5, $6)",
            request.actor.user_id,
            request.client_key,
            request.first,
            len(request.messages),
            msgspec.json.encode(request.messages),
            rpc.MAX_STAGED_BYTES,
        )
        return Nothing()

    async def _staged(self, request: rpc.ImportChat) -> tuple[ImportedMessage, ...]:
        """What was brought before; nothing if the chat has been made of it already."""
        if not request.staged:
            return ()
        rows = await self._database.rows(
            "SELECT first, count, messages FROM import_chunks "
            "WHERE user_id = $1 AND client_key = $2 ORDER BY first",
            request.actor.user_id,
            request.client_key,
        )
        found: list[ImportedMessage] = []
        for row in rows:
            if row["first"] == len(found) and len(found) < request.staged:
                found += _decode_staged(row["messages"])
        if len(found) == request.staged:
            return tuple(found)
        if await self._database.value(
            "SELECT true FROM chats WHERE owner_id = $1 AND client_key = $2",
            request.actor.user_id,
            request.client_key,
        ):
            return ()
        raise Conflict(
            f"{len(found)} of {request.staged} messages were brought before: bring the others",
            field="staged",
            first=len(found),
        )

    async def import_chat(self, request: rpc.ImportChat) -> msgspec.Raw:
        brought = await self._staged(request)
        if len(brought) + len(request.messages) > rpc.MAX_MESSAGES:
            raise InvalidRequest(
                f"a chat has at most {rpc.MAX_MESSAGES} messages", field="messages"
            )
        taken, files = take_files((*brought, *request.messages))
        try:
            messages = whole(taken)
        except NotAHistory as error:
            raise InvalidRequest(str(error), field=f"messages[{error.index}]") from error
        chat_id = new_chat_id()
        first = next((message.parts for message in messages if message.role is Role.USER), ())
        columns = [_columns(message.parts) for message in messages]
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(
                "SELECT reply, created FROM import_chat($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, "
                "$11, $12, $13, $14)",
                request.actor.user_id,
                chat_id,
                subjects.partition(chat_id),
                request.title or title_of(first),
                # Old chats are not sent to a model just to be named.
                "person" if request.title else "generated",
                request.system_prompt,
                request.model,
                request.client_key,
                request.created_at,
                [message.role.value for message in messages],
                [content for content, _ in columns],
                [public for _, public in columns],
                [message.model for message in messages],
                [message.created_at for message in messages],
            )
            assert row is not None  # a function call always has a row
            if row["created"]:
                for file in files:
                    await _store(connection, request.actor.user_id, file)
                await connection.execute(
                    "SELECT attach_files($1, $2)", chat_id, [file.id for file in files]
                )
            if request.client_key is not None:
                await connection.execute(
                    "DELETE FROM import_chunks WHERE user_id = $1 AND client_key = $2",
                    request.actor.user_id,
                    request.client_key,
                )
        self._announcer.changed(chat_id)
        return msgspec.Raw(row["reply"].encode())


_decode_staged = msgspec.json.Decoder(tuple[ImportedMessage, ...]).decode


def _columns(parts: Parts) -> tuple[str, str | None]:
    public = strip_internal(parts)
    return (
        encode_parts(parts).decode(),
        None if public is parts else encode_parts(public).decode(),
    )


async def _store(
    connection: PoolConnectionProxy[asyncpg.Record], owner: str, file: NewFile
) -> None:
    await connection.execute(
        "INSERT INTO files (id, owner_id, name, media_type, size, sha256) "
        "VALUES ($1, $2, $3, $4, $5, $6)",
        file.id,
        owner,
        file.name,
        file.media_type,
        len(file.data),
        hashlib.sha256(file.data).hexdigest(),
    )
    size = files_rpc.CHUNK_BYTES
    for index, start in enumerate(range(0, len(file.data), size)):
        await connection.execute(
            "INSERT INTO file_chunks (file_id, index, data) VALUES ($1, $2, $3)",
            file.id,
            index,
            file.data[start : start + size],
        )
