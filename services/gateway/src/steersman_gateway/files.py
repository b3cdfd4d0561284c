"""Files over REST: up, down, and which a chat has."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, NamedTuple, get_args
from urllib.parse import quote

from litestar import Controller, Request, Response, delete, get, post
from litestar.params import PathParameter, QueryParameter
from litestar.types import Receive, Scope, Send

from steersman_contracts.errors import NotFound
from steersman_contracts.ids import is_chat_id
from steersman_contracts.rest import Files
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc import files as rpc
from steersman_gateway.auth import CurrentActor
from steersman_gateway.backend import Backend, Services
from steersman_gateway.ids import ChatInPath
from steersman_gateway.uploads import Upload, store_upload

FileIdText = Annotated[str, PathParameter(description="The file: a lower-case UUID.")]
NameText = Annotated[
    str | None,
    QueryParameter(max_length=1024, description="What it is called; otherwise the form says."),
]

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_SAFE: Final = (
    (b"x-content-type-options", b"nosniff"),
    # Even when a browser is brought to show it, it is nobody's page and runs nothing.
    (b"content-security-policy", b"sandbox; default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"private, no-cache"),
    (b"accept-ranges", b"bytes"),
)


class FileController(Controller):
    """Upload and download."""

    path = "/files"
    tags = ("Files",)

    @post(
        "/",
        operation_id="uploadFile",
        summary="Upload a file",
        request_max_body_size=None,  # its own limit is above that of JSON bodies
    )
    async def upload(
        self,
        request: Request[Any, Any, Any],
        actor: CurrentActor,
        backend: Services,
        name: NameText = None,
    ) -> Response[rpc.StoredFile]:
        """Store a file, to be referred to in messages. One that none refers to is gone in a day.

        The body is the file itself, whatever its media type, or a form with a file in it. What it
        is follows from its content: PNG, JPEG, GIF, WebP, PDF, JSON or UTF-8 text. At most 10 MB.
        """
        file = await store_upload(backend, actor, Upload(request, name))
        return Response(file, headers={"Location": f"/api/v1/files/{file.id}"})

    @get("/{file_id:str}", operation_id="downloadFile", summary="Download a file")
    async def download(
        self,
        file_id: FileIdText,
        request: Request[Any, Any, Any],
        actor: CurrentActor,
        backend: Services,
    ) -> Download:
        """The bytes of a file of yours. Understands `Range` (one range) and `If-None-Match`."""
        file = await _find(backend, actor, file_id)
        return Download(backend, actor, file, _answer(file, request.headers))

    @delete("/{file_id:str}", operation_id="deleteFile", summary="Delete a file")
    async def remove(self, file_id: FileIdText, actor: CurrentActor, backend: Services) -> None:
        """Remove a file for good. Messages that refer to it keep its name."""
        await backend.call(rpc.DELETE_FILE, rpc.DeleteFile(actor, known_file_id(file_id)))


class ChatFileController(Controller):
    """The files of a chat."""

    path = "/chats/{chat_id:str}/files"
    tags = ("Files",)

    @get("/", operation_id="listFiles", summary="List a chat's files")
    async def list_files(self, chat: ChatInPath, actor: CurrentActor, backend: Services) -> Files:
        """The 50 newest files that messages of the chat refer to; the model sees no others."""
        return Files((await backend.call(rpc.LIST_FILES, rpc.ListFiles(actor, chat))).files)


def known_file_id(text: str) -> str:
    """Check the shape of a file id.

    Raises:
        NotFound: It has not the shape of one.
    """
    if not is_chat_id(text):  # both are UUIDs
        raise NotFound("there is no such file")
    return text


async def _find(backend: Backend, actor: Actor, file_id: str) -> rpc.StoredFile:
    request = rpc.GetFile(actor, known_file_id(file_id))
    return (await backend.call(rpc.GET_FILE, request)).file


class Answer(NamedTuple):
    """What is sent of a file: the bytes from `start` up to and without `end`."""

    status: int
    start: int
    end: int


def _answer(file: rpc.StoredFile, headers: Any) -> Answer:
    tag = _etag(file)
    known = headers.get("if-none-match", "")
    if known == "*" or tag in (one.strip().removeprefix("W/") for one in known.split(",")):
        return Answer(304, 0, 0)
    part = None
    if headers.get("if-range", tag) == tag:
        part = byte_range(headers.get("range", ""), file.size)
    return Answer(200, 0, file.size) if part is None else Answer(206, *part)


def byte_range(text: str, size: int) -> tuple[int, int] | None:
    """The first byte and the one after the last; None for what we may ignore (RFC 9110, 14.2).

    That is several ranges, other units, and ranges that hold no byte of the file.
    """
    match = _RANGE.fullmatch(text.strip())
    if match is None or match[0] == "bytes=-":
        return None
    if not match[1]:
        start, end = max(0, size - int(match[2])), size
    else:
        start = int(match[1])
        if match[2] and int(match[2]) < start:
            return None
        end = min(size, int(match[2]) + 1 if match[2] else size)
    return (start, end) if start < end else None


def _etag(file: rpc.StoredFile) -> str:
    return f'"{file.sha256}"'


def content_disposition(name: str) -> str:
    """The header for a file to be saved, never shown (RFC 6266)."""
    plain = re.sub(r"[^ !#-\[\]-~]", "_", name) or "file"
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name or 'file', safe='')}"


class Download:
    """A file on its way to a client: an ASGI application for a single exchange."""

    def __init__(
        self, backend: Backend, actor: Actor, file: rpc.StoredFile, answer: Answer
    ) -> None:
        self._backend = backend
        self._actor = actor
        self._file = file
        self._what = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the headers, then chunk after chunk as fast as the client takes them."""
        status, start, end = self._what
        first = await self._chunk(start // rpc.CHUNK_BYTES) if start < end else b""
        await send({"type": "http.response.start", "status": status, "headers": self._headers()})
        at = start
        while at < end:
            index, offset = divmod(at, rpc.CHUNK_BYTES)
            chunk = first if at == start else await self._chunk(index)
            data = chunk[offset : offset + end - at]
            if not data:  # deleted meanwhile: the length that was announced shows it
                raise NotFound("the file was deleted")
            at += len(data)
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _chunk(self, index: int) -> bytes:
        request = rpc.ReadChunk(self._actor, self._file.id, index)
        return (await self._backend.call(rpc.READ_CHUNK, request)).data

    def _headers(self) -> list[tuple[bytes, bytes]]:
        status, start, end = self._what
        file = self._file
        text = file.media_type.startswith("text/")
        headers = [*_SAFE, (b"etag", _etag(file).encode())]
        if status == 304:
            return headers
        kind = f"{file.media_type}; charset=utf-8" if text else file.media_type
        headers += [
            (b"content-type", kind.encode()),
            (b"content-length", str(end - start).encode()),
            (b"content-disposition", content_disposition(file.name).encode()),
        ]
        if status == 206:
            headers.append((b"content-range", f"bytes {start}-{end - 1}/{file.size}".encode()))
        return headers


def describe_upload(operation: dict[str, Any]) -> None:
    """The body in the OpenAPI document: Litestar sees only that the handler reads it."""
    binary = {"type": "string", "format": "binary"}
    form = {"type": "object", "properties": {"file": binary}, "required": ["file"]}
    operation["requestBody"] = {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": binary},
            "multipart/form-data": {"schema": form},
        },
    }


def describe_download(operation: dict[str, Any]) -> None:
    """The replies in the OpenAPI document."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    content = dict.fromkeys(get_args(rpc.MediaType), binary)
    operation["responses"] = {
        "200": {"description": "The whole file.", "content": content},
        "206": {"description": "The range that was asked for.", "content": content},
        "304": {"description": "It is the one that you have."},
        **{
            status: response
            for status, response in operation["responses"].items()
            if status >= "400"
        },
    }
