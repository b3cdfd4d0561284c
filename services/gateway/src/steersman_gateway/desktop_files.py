"""Files to and from a desktop over REST."""

from __future__ import annotations

import secrets
from contextlib import aclosing
from typing import Annotated, Any

from litestar import Controller, Request, get, put
from litestar.di import Provide
from litestar.params import QueryParameter
from litestar.types import Receive, Scope, Send

from steersman_contracts.errors import Conflict
from steersman_contracts.rpc import desktop_files as rpc
from steersman_contracts.rpc.files import CHUNK_BYTES
from steersman_contracts.rpc.workspaces import FileEntry, Piece
from steersman_gateway.chat_desktop import ChatDesktop, DesktopOfChat, provide_desktop
from steersman_gateway.uploads import Upload
from steersman_gateway.workspaces import download_headers

FileName = Annotated[
    str, QueryParameter(description="In the folder, such as `report.pdf`.", max_length=4096)
]


class DesktopFileController(Controller):
    """What is in the folder into which the browser on the desktop downloads."""

    path = "/chats/{chat_id:str}/desktop/files"
    tags = ("Desktop",)
    dependencies = {"desktop": Provide(provide_desktop)}  # noqa: RUF012  # as Litestar reads it

    @get("/", operation_id="listDesktopFiles", summary="List the files of the desktop")
    async def list_files(self, desktop: DesktopOfChat) -> rpc.FileList:
        """The folder `Downloads` of the desktop, by name; at most 1,000 are shown."""
        return await desktop.call(rpc.LIST_FILES, rpc.ListFiles(*desktop.ids))

    @get(
        "/content",
        operation_id="downloadDesktopFile",
        summary="Download a file from the desktop",
    )
    async def download(self, desktop: DesktopOfChat, path: FileName) -> DesktopDownload:
        """The bytes of a file, at most 256 MB, always as an attachment."""
        request = rpc.ReadFile(*desktop.ids, path)
        return DesktopDownload(desktop, request, await desktop.call(rpc.READ_FILE, request))

    @put(
        "/content",
        operation_id="uploadDesktopFile",
        summary="Put a file onto the desktop",
        request_max_body_size=None,  # its own limit is above that of JSON bodies
    )
    async def upload(
        self, desktop: DesktopOfChat, path: FileName, request: Request[Any, Any, Any]
    ) -> FileEntry:
        """Make or replace a file in the folder, in one step; starts the desktop if there is none.

        The body is the file itself, or a form with a file in it. At most 10 MB.
        """
        upload_id = secrets.token_hex(16)
        buffer = bytearray()
        sent = 0
        async with aclosing(Upload(request, None).pieces()) as pieces:
            async for piece in pieces:
                buffer += piece
                while len(buffer) > CHUNK_BYTES:  # the last of them tells the size
                    data = bytes(buffer[:CHUNK_BYTES])
                    del buffer[:CHUNK_BYTES]
                    part = rpc.WriteFile(*desktop.ids, path, upload_id, sent, data)
                    await desktop.call(rpc.WRITE_FILE, part)
                    sent += len(data)
        size = sent + len(buffer)
        last = rpc.WriteFile(*desktop.ids, path, upload_id, sent, bytes(buffer), size)
        return await desktop.call(rpc.WRITE_FILE, last)


class DesktopDownload:
    """A file on its way to a client: an ASGI application for a single exchange."""

    def __init__(self, desktop: ChatDesktop, request: rpc.ReadFile, first: Piece) -> None:
        self._desktop = desktop
        self._request = request
        self._first = first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the headers, then piece after piece as fast as the client takes them."""
        wanted, piece = self._request, self._first
        headers = download_headers(wanted.path, piece.size)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        sent = 0
        while piece.data:
            sent += len(piece.data)
            await send({"type": "http.response.body", "body": piece.data, "more_body": True})
            if sent >= self._first.size:
                break
            ask = rpc.ReadFile(*self._desktop.ids, wanted.path, sent, self._first.tag)
            piece = await self._desktop.call(rpc.READ_FILE, ask)
        if sent < self._first.size:  # the length that was announced shows it
            raise Conflict("the file was changed meanwhile; read it again")
        await send({"type": "http.response.body", "body": b"", "more_body": False})
