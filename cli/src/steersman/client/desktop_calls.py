"""Calls about a chat's virtual desktop."""

from __future__ import annotations

from steersman.client.exchange import Exchange
from steersman_contracts.ids import ChatId
from steersman_contracts.rest_desktop import (
    DesktopActionBody,
    DesktopActionResult,
    DesktopTicketBody,
    StartDesktopBody,
    TakeControlBody,
)
from steersman_contracts.rpc.desktop import Desktop, DesktopTicket, ViewMode


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
