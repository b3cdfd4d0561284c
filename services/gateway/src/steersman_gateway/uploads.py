"""The bytes of an upload, from a request to the store: never more than one chunk is here."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import Any, Final, NoReturn

from litestar import Request
from litestar.exceptions import InternalServerException
from multipart import MultipartError, MultipartSegment, PushMultipartParser

from steersman_contracts.errors import InvalidRequest, PayloadTooLarge, SteersmanError
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc import files as rpc
from steersman_gateway.backend import Backend
from steersman_gateway.problems import invalid

_FORM_ROOM: Final = 64 * 1024
"""Bytes of a form beside the file."""
_MULTIPART: Final = "multipart/form-data"
_NAME_LENGTH: Final = 255


class Upload:
    """A file that arrives: as the whole body, or as the first file of a form.

    Iterate over it once; `name` is known from the first bytes on.
    """

    def __init__(self, request: Request[Any, Any, Any], name: str | None) -> None:
        self._request = request
        self._given = name
        self._sent = ""

    @property
    def name(self) -> str:
        """What the client calls it, shortened in the middle: the end tells kinds of text apart."""
        name = self._sent if self._given is None else self._given
        if len(name) <= _NAME_LENGTH:
            return name
        return name[: _NAME_LENGTH - 21] + "…" + name[-20:]

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The bytes, as they arrive.

        Raises:
            PayloadTooLarge: There are more than a file may have.
            InvalidRequest: The form cannot be read or has no file, or the connection ended early.
        """
        media_type, options = self._request.content_type
        form = media_type.lower() == _MULTIPART
        limit = rpc.MAX_FILE_BYTES + (_FORM_ROOM if form else 0)
        body = _bounded(self._request, limit)
        async with aclosing(self._of_form(body, options) if form else body) as pieces:
            size = 0
            async for piece in pieces:
                size += len(piece)
                if size > rpc.MAX_FILE_BYTES:
                    _too_large()
                yield piece

    async def _of_form(
        self, body: AsyncIterator[bytes], options: dict[str, str]
    ) -> AsyncGenerator[bytes]:
        segment: MultipartSegment | None = None
        found: MultipartSegment | None = None
        try:
            with PushMultipartParser(options.get("boundary", ""), max_segment_count=16) as parser:
                async for data in body:
                    for event in parser.parse(data) if data else ():
                        if isinstance(event, MultipartSegment):
                            segment = event
                            if found is None and event.filename is not None:
                                found, self._sent = event, event.filename
                        elif event and segment is found is not None:
                            yield bytes(event)
        except MultipartError as error:
            raise InvalidRequest(f"the form cannot be read: {error}", field="body") from error
        if found is None:
            raise invalid("body", "the form has no file")


async def _bounded(request: Request[Any, Any, Any], limit: int) -> AsyncGenerator[bytes]:
    announced = request.content_length
    if announced is not None and announced > limit:
        _too_large()
    size = 0
    try:
        async for piece in request.stream():
            size += len(piece)
            if size > limit:
                _too_large()
            yield piece
    except InternalServerException as error:
        raise InvalidRequest("the connection ended before the body did") from error


def _too_large() -> NoReturn:
    limit = rpc.MAX_FILE_BYTES
    raise PayloadTooLarge(
        f"a file has at most {limit // 2**20} MB ({limit} bytes)", limit=limit, field="body"
    )


async def store_upload(backend: Backend, actor: Actor, upload: Upload) -> rpc.StoredFile:
    """Pass an upload on to the store, chunk by chunk.

    Raises:
        UnsupportedMediaType: The content is nothing that can be stored.
    """
    buffer = bytearray()
    file_id: str | None = None
    index = 0
    size = 0

    async def flush() -> None:
        nonlocal file_id, index
        if file_id is None:
            begun = await backend.call(rpc.BEGIN_UPLOAD, rpc.BeginUpload(actor, upload.name))
            file_id = begun.file_id
        if buffer:
            chunk = bytes(buffer[: rpc.CHUNK_BYTES])
            del buffer[: rpc.CHUNK_BYTES]
            await backend.call(rpc.APPEND_CHUNK, rpc.AppendChunk(actor, file_id, index, chunk))
            index += 1

    try:
        async with aclosing(upload.pieces()) as pieces:
            async for piece in pieces:
                size += len(piece)
                buffer += piece
                while len(buffer) >= rpc.CHUNK_BYTES:
                    await flush()
        while buffer or file_id is None:
            await flush()
        request = rpc.FinishUpload(actor, file_id, size)
        return (await backend.call(rpc.FINISH_UPLOAD, request)).file
    except BaseException:
        if file_id is not None:  # otherwise it would count as waiting until it expires
            with suppress(SteersmanError):
                await backend.call(rpc.DELETE_FILE, rpc.DeleteFile(actor, file_id))
        raise
