"""The bytes of files that messages refer to, put in at the time of a request.

History and events know files by their id; a provider wants the bytes. They are kept for a while,
because every step of a turn sends them again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, TypeAlias

import msgspec
import structlog

from steersman_chatloop.providers.base import ProviderFailed
from steersman_contracts.chats import ChatError, Message
from steersman_contracts.errors import (
    DeadlineExceeded,
    NotFound,
    SteersmanError,
    Unavailable,
)
from steersman_contracts.ids import ChatId, RunnerId
from steersman_contracts.parts import (
    FilePart,
    Part,
    ResultContent,
    TextPart,
    ToolResultPart,
)
from steersman_contracts.rpc import files as rpc
from steersman_runtime.rpc import RpcClient

log = structlog.stdlib.get_logger()

Fetch: TypeAlias = Callable[[str], Awaitable[bytes | None]]
"""Reads a file by its id; None when there is no such file (any more)."""

_AT_ONCE: Final = 1000
MAX_REQUEST_BYTES: Final = 20 * 2**20
"""Bytes of files in one request, the newest first: providers take about 30 MB of base64."""


async def with_bytes(messages: Sequence[Message], fetch: Fetch) -> tuple[Message, ...]:
    """Put in the bytes of the newest 50 files; a short text stands for each of the others.

    Messages without files are the same objects afterwards.

    Raises:
        ProviderFailed: The files cannot be read at the moment.
    """
    wanted = _newest(messages)
    if not wanted:
        return tuple(messages)
    found: dict[str, bytes] = {}
    room = MAX_REQUEST_BYTES
    for file_id in wanted:
        data = await fetch(file_id)
        if data is not None and len(data) <= room:
            found[file_id] = data
            room -= len(data)
    return tuple(_filled(message, found) for message in messages)


def _newest(messages: Sequence[Message]) -> list[str]:
    """The files that are sent, the newest first, each once."""
    ids: dict[str, None] = {}
    for message in reversed(messages):
        for part in reversed(list(_files(message.parts))):
            if part.file_id is not None and part.data is None:
                ids.setdefault(part.file_id)
    return list(ids)[: rpc.MAX_CHAT_FILES]


def _files(parts: Sequence[Part | ResultContent]) -> Iterator[FilePart]:
    for part in parts:
        if isinstance(part, FilePart):
            yield part
        elif isinstance(part, ToolResultPart):
            yield from _files(part.content)


def _filled(message: Message, found: dict[str, bytes]) -> Message:
    if not any(_is_reference(part) for part in _files(message.parts)):
        return message
    parts = tuple(_fill(part, found) for part in message.parts)
    return msgspec.structs.replace(message, parts=parts)


def _fill(part: Part, found: dict[str, bytes]) -> Part:
    match part:
        case FilePart() if _is_reference(part):
            return _fill_file(part, found)
        case ToolResultPart(content=content) if any(map(_is_reference, _files(content))):
            filled = tuple(
                _fill_file(item, found)
                if isinstance(item, FilePart) and _is_reference(item)
                else item
                for item in content
            )
            return msgspec.structs.replace(part, content=filled)
        case _:
            return part


def _is_reference(part: FilePart) -> bool:
    return part.file_id is not None and part.data is None


def _fill_file(part: FilePart, found: dict[str, bytes]) -> FilePart | TextPart:
    data = found.get(part.file_id or "")
    if data is not None:
        return msgspec.structs.replace(part, data=data)
    named = f"The file {part.name!r}" if part.name else "A file"
    return TextPart(f"[{named} ({part.media_type}) is not available any more.]")


class FileCache:
    """Files that were used last, of all chats of this process.

    Args:
        rpc: Where they are read.
        max_bytes: How much is kept; the oldest are dropped first.
    """

    def __init__(self, rpc: RpcClient, *, max_bytes: int) -> None:
        self._rpc = rpc
        self._max_bytes = max_bytes
        self._size = 0
        # By chat as well: what one chat may read says nothing of another.
        self._kept: OrderedDict[tuple[ChatId, str], bytes] = OrderedDict()

    @property
    def held(self) -> int:
        """Bytes that are kept now."""
        return self._size

    def of(self, chat_id: ChatId, runner_id: RunnerId) -> Fetch:
        """How the owner of a chat reads the files that the chat refers to, for one request."""
        checked = False

        async def fetch(file_id: str) -> bytes | None:
            nonlocal checked
            key = (chat_id, file_id)
            if key in self._kept and not checked:
                checked = True
                await self._drop_deleted(chat_id, runner_id)
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            data = await self._read(chat_id, runner_id, file_id)
            if data is not None:
                self._keep(key, data)
            return data

        return fetch

    async def _drop_deleted(self, chat_id: ChatId, runner_id: RunnerId) -> None:
        """What people have deleted is not sent any more, wherever it is kept."""
        kept = [file_id for owner, file_id in self._kept if owner == chat_id]
        for start in range(0, len(kept), _AT_ONCE):
            asked = kept[start : start + _AT_ONCE]
            request = rpc.FindForModel(chat_id, runner_id, tuple(asked))
            try:
                found = await self._rpc.call(rpc.FIND_FOR_MODEL, request)
            except (Unavailable, DeadlineExceeded) as error:
                raise _unreadable(error) from error
            for file_id in set(asked) - set(found.file_ids):
                gone = self._kept.pop((chat_id, file_id), None)
                self._size -= 0 if gone is None else len(gone)

    async def _read(self, chat_id: ChatId, runner_id: RunnerId, file_id: str) -> bytes | None:
        content = bytearray()
        index = 0
        while True:
            request = rpc.ReadForModel(chat_id, runner_id, file_id, index)
            try:
                chunk = await self._rpc.call(rpc.READ_FOR_MODEL, request)
            except NotFound:
                return None
            except (Unavailable, DeadlineExceeded) as error:
                raise _unreadable(error) from error
            content += chunk.data
            index += 1
            if len(content) >= chunk.size:
                return bytes(content)
            if not chunk.data:  # deleted in between
                return None

    def _keep(self, key: tuple[ChatId, str], data: bytes) -> None:
        if len(data) > self._max_bytes or key in self._kept:
            return
        self._kept[key] = data
        self._size += len(data)
        while self._size > self._max_bytes:
            _, dropped = self._kept.popitem(last=False)
            self._size -= len(dropped)


def _unreadable(error: SteersmanError) -> ProviderFailed:
    # As a failed attempt: it is tried again like any other, and people are told.
    log.warning("file.unreadable", error_code=error.code)
    return ProviderFailed(
        ChatError("timeout", "A file of this chat cannot be read at the moment.", retryable=True)
    )
