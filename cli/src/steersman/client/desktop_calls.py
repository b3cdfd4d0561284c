"""Calls about a chat's virtual desktop."""

from __future__ import annotations

from urllib.parse import urlencode

from steersman.client.exchange import Exchange
from steersman_contracts.ids import ChatId
from steersman_contracts.rest_desktop import (
    ClipboardBody,
    DesktopActionBody,
    DesktopActionResult,
    DesktopServerBody,
    DesktopTicketBody,
    ResizeDesktopBody,
    StartDesktopBody,
    TakeControlBody,
)
from steersman_contracts.rpc.desktop import Clipboard, Desktop, DesktopTicket, ViewMode
from steersman_contracts.rpc.desktop_files import FileList
from steersman_contracts.rpc.desktop_recordings import (
    Recording,
    RecordingFormat,
    Recordings,
    Timeline,
)
from steersman_contracts.rpc.desktop_servers import DesktopServer
from steersman_contracts.rpc.workspaces import FileEntry


class DesktopCalls:
    """Part of `Client`."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def get_desktop(self, chat_id: ChatId) -> Desktop:
        """The chat's virtual desktop."""
        return await self._exchange.get(f"/chats/{chat_id}/desktop", Desktop)

    async def start_desktop(
        self, chat_id: ChatId, *, width: int | None = None, height: int | None = None
    ) -> Desktop:
        """Start the desktop; one that runs already is left as it is."""
        body = StartDesktopBody(width, height)
        path = f"/chats/{chat_id}/desktop"
        return await self._exchange.call("PUT", path, Desktop, body, repeatable=True)

    async def resize_desktop(self, chat_id: ChatId, width: int, height: int) -> Desktop:
        """Give a desktop that runs another size; for who has control of it."""
        body = ResizeDesktopBody(width, height)
        path = f"/chats/{chat_id}/desktop"
        return await self._exchange.call("PATCH", path, Desktop, body, repeatable=True)

    async def desktop_clipboard(self, chat_id: ChatId) -> str:
        """The text that was last copied on the desktop."""
        return (await self._exchange.get(f"/chats/{chat_id}/desktop/clipboard", Clipboard)).text

    async def put_desktop_clipboard(self, chat_id: ChatId, text: str) -> None:
        """Put text into the clipboard of the desktop; for who has control of it."""
        await self._exchange.put(f"/chats/{chat_id}/desktop/clipboard", ClipboardBody(text))

    async def stop_desktop(self, chat_id: ChatId) -> None:
        """End the desktop and everything in it."""
        await self._exchange.delete(f"/chats/{chat_id}/desktop")

    async def desktop_screenshot(self, chat_id: ChatId) -> bytes:
        """What is on the screen, as PNG."""
        return await self._exchange.read(f"/chats/{chat_id}/desktop/screenshot")

    async def act_on_desktop(
        self, chat_id: ChatId, action: DesktopActionBody
    ) -> DesktopActionResult:
        """Do something on the desktop; for who has control of it."""
        path = f"/chats/{chat_id}/desktop/actions"
        return await self._exchange.call("POST", path, DesktopActionResult, action)

    async def take_desktop_control(self, chat_id: ChatId, *, private: bool = False) -> Desktop:
        """Take the input from whoever has it; `private` also hides the screen from the model."""
        path = f"/chats/{chat_id}/desktop/control"
        return await self._exchange.call("POST", path, Desktop, TakeControlBody(private))

    async def return_desktop_control(self, chat_id: ChatId) -> Desktop:
        """Give the input back to the model."""
        path = f"/chats/{chat_id}/desktop/control"
        return await self._exchange.call("DELETE", path, Desktop, repeatable=True)

    async def make_desktop_ticket(self, chat_id: ChatId, mode: ViewMode = "view") -> DesktopTicket:
        """A ticket for one live view of the desktop; see `docs/desktop.md`."""
        path = f"/chats/{chat_id}/desktop/ticket"
        return await self._exchange.call("POST", path, DesktopTicket, DesktopTicketBody(mode))

    async def desktop_server(self, chat_id: ChatId) -> DesktopServer:
        """The VNC server that serves as the chat's desktop; without an address: none."""
        return await self._exchange.get(f"/chats/{chat_id}/desktop/server", DesktopServer)

    async def put_desktop_server(
        self, chat_id: ChatId, address: str, password: str | None = None
    ) -> DesktopServer:
        """Let a VNC server (`host:port`) be the chat's desktop, from its next start on."""
        body = DesktopServerBody(address, password)
        path = f"/chats/{chat_id}/desktop/server"
        return await self._exchange.call("PUT", path, DesktopServer, body, repeatable=True)

    async def delete_desktop_server(self, chat_id: ChatId) -> None:
        """Have a desktop of the deployment's own again."""
        await self._exchange.delete(f"/chats/{chat_id}/desktop/server")

    async def desktop_files(self, chat_id: ChatId) -> FileList:
        """What is in the folder into which the browser on the desktop downloads."""
        return await self._exchange.get(f"/chats/{chat_id}/desktop/files", FileList)

    async def read_desktop_file(self, chat_id: ChatId, path: str) -> bytes:
        """A file of that folder."""
        return await self._exchange.read(_content(chat_id, path))

    async def put_desktop_file(self, chat_id: ChatId, path: str, content: bytes) -> FileEntry:
        """Make or replace a file in that folder."""
        return await self._exchange.upload(
            _content(chat_id, path), FileEntry, content, method="PUT"
        )

    async def start_recording(self, chat_id: ChatId) -> Recording:
        """Record the desktop; a recording that runs goes on."""
        path = f"/chats/{chat_id}/desktop/recordings"
        return await self._exchange.call("POST", path, Recording, repeatable=True)

    async def recordings(self, chat_id: ChatId) -> tuple[Recording, ...]:
        """The recordings of the chat's desktop, newest first."""
        found = await self._exchange.get(f"/chats/{chat_id}/desktop/recordings", Recordings)
        return found.recordings

    async def get_recording(self, chat_id: ChatId, recording_id: str, skip: int = 0) -> Timeline:
        """A recording and its marks after the first `skip`."""
        path = f"/chats/{chat_id}/desktop/recordings/{recording_id}"
        return await self._exchange.get(path, Timeline, skip=skip)

    async def recorded_frame(self, chat_id: ChatId, recording_id: str, number: int) -> bytes:
        """A picture of a recording, as JPEG."""
        path = f"/chats/{chat_id}/desktop/recordings/{recording_id}/frames/{number}"
        return await self._exchange.read(path)

    async def stop_recording(self, chat_id: ChatId, recording_id: str) -> Recording:
        """End a recording."""
        path = f"/chats/{chat_id}/desktop/recordings/{recording_id}/stop"
        return await self._exchange.call("POST", path, Recording, repeatable=True)

    async def delete_recording(self, chat_id: ChatId, recording_id: str) -> None:
        """Remove a recording for good."""
        await self._exchange.delete(f"/chats/{chat_id}/desktop/recordings/{recording_id}")

    async def download_recording(
        self, chat_id: ChatId, recording_id: str, form: RecordingFormat | None = None
    ) -> bytes:
        """A recording that has ended: a video, or its pictures and marks as a zip file."""
        path = f"/chats/{chat_id}/desktop/recordings/{recording_id}/download"
        return await self._exchange.read(path if form is None else f"{path}?format={form}")


def _content(chat_id: ChatId, path: str) -> str:
    return f"/chats/{chat_id}/desktop/files/content?{urlencode({'path': path})}"
