"""Desktops over REST: start, stop, look, act, and who has control."""

from __future__ import annotations

import secrets

from litestar import Controller, Response, delete, get, patch, post, put
from litestar.di import Provide
from litestar.params import JSONBody

from steersman_contracts.computer_use import to_action
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
from steersman_contracts.rpc import desktop as rpc
from steersman_contracts.rpc import desktop_servers as servers
from steersman_gateway.chat_desktop import DesktopOfChat, provide_desktop


class DesktopController(Controller):
    """The virtual desktop of a chat."""

    path = "/chats/{chat_id:str}/desktop"
    tags = ("Desktop",)
    dependencies = {"desktop": Provide(provide_desktop)}  # noqa: RUF012  # as Litestar reads it

    @get("/", operation_id="getDesktop", summary="Get the desktop")
    async def read(self, desktop: DesktopOfChat) -> rpc.Desktop:
        """State, size and control of the chat's desktop; `absent` if it has none."""
        return await desktop.call(rpc.GET_DESKTOP, rpc.GetDesktop(*desktop.ids))

    @put("/", operation_id="startDesktop", summary="Start the desktop")
    async def start(self, desktop: DesktopOfChat, data: JSONBody[StartDesktopBody]) -> rpc.Desktop:
        """Have a desktop, and answer when it can be used. One that runs stays as it is."""
        request = rpc.StartDesktop(*desktop.ids, data.width, data.height)
        return await desktop.change(rpc.START_DESKTOP, request)

    @delete("/", operation_id="stopDesktop", summary="Stop the desktop")
    async def stop(self, desktop: DesktopOfChat) -> None:
        """End the desktop and everything on it. None at all is fine."""
        await desktop.call(rpc.STOP_DESKTOP, rpc.StopDesktop(*desktop.ids))

    @patch("/", operation_id="resizeDesktop", summary="Resize the desktop")
    async def resize(
        self, desktop: DesktopOfChat, data: JSONBody[ResizeDesktopBody]
    ) -> rpc.Desktop:
        """Give a desktop that runs another size. Its windows stay. For who has control."""
        request = rpc.ResizeDesktop(*desktop.ids, data.width, data.height)
        return await desktop.change(rpc.RESIZE_DESKTOP, request)

    @get("/clipboard", operation_id="getDesktopClipboard", summary="Get the clipboard")
    async def clipboard(self, desktop: DesktopOfChat) -> rpc.Clipboard:
        """The text that was last copied on the desktop; empty if none was."""
        return await desktop.call(rpc.GET_CLIPBOARD, rpc.GetClipboard(*desktop.ids))

    @put(
        "/clipboard",
        operation_id="putDesktopClipboard",
        summary="Set the clipboard",
        status_code=204,
    )
    async def copy(self, desktop: DesktopOfChat, data: JSONBody[ClipboardBody]) -> None:
        """Put text into the clipboard of the desktop. For who has control."""
        await desktop.change(rpc.PUT_CLIPBOARD, rpc.PutClipboard(*desktop.ids, data.text))

    @get(
        "/screenshot",
        operation_id="getDesktopScreenshot",
        summary="Get a screenshot",
        media_type="image/png",
    )
    async def screenshot(self, desktop: DesktopOfChat) -> Response[bytes]:
        """The screen now, as PNG; JPEG when that would be very large."""
        picture = await desktop.call(rpc.GET_SCREENSHOT, rpc.GetScreenshot(*desktop.ids))
        return Response(picture.data, media_type=picture.media_type)

    @post(
        "/actions",
        operation_id="actOnDesktop",
        summary="Do something on the desktop",
        status_code=200,
    )
    async def act(
        self, desktop: DesktopOfChat, data: JSONBody[DesktopActionBody]
    ) -> DesktopActionResult:
        """One action of a person who has control, in the words of the `computer` tool."""
        actor, chat = desktop.ids
        request = rpc.PerformAction(
            chat, secrets.token_hex(16), to_action(data), actor, last_digest="-"
        )
        reply = await desktop.change(rpc.PERFORM_ACTION, request)
        return DesktopActionResult(reply.text, reply.is_error)

    @post(
        "/control",
        operation_id="takeDesktopControl",
        summary="Take control",
        status_code=200,
    )
    async def take(self, desktop: DesktopOfChat, data: JSONBody[TakeControlBody]) -> rpc.Desktop:
        """Take the input, at once: what the agent is doing ends. `private` hides the screen too."""
        request = rpc.TakeControl(*desktop.ids, private=data.private)
        return await desktop.change(rpc.TAKE_CONTROL, request)

    @delete(
        "/control",
        operation_id="returnDesktopControl",
        summary="Give control back",
        status_code=200,
    )
    async def give_back(self, desktop: DesktopOfChat) -> rpc.Desktop:
        """Give the input back to the agent, who must look before it acts."""
        return await desktop.call(rpc.RETURN_CONTROL, rpc.ReturnControl(*desktop.ids))

    @post(
        "/ticket",
        operation_id="makeDesktopTicket",
        summary="Get a ticket for the live view",
        status_code=200,
    )
    async def ticket(
        self, desktop: DesktopOfChat, data: JSONBody[DesktopTicketBody]
    ) -> rpc.DesktopTicket:
        """Open `/api/v1/chats/{chat_id}/desktop?ticket=…` as a WebSocket (subprotocol `binary`).

        The ticket is good once and for half a minute. What is carried is RFB 3.8.
        """
        return await desktop.change(rpc.MAKE_TICKET, rpc.MakeTicket(*desktop.ids, data.mode))

    @get("/server", operation_id="getDesktopServer", summary="Get the VNC server")
    async def server(self, desktop: DesktopOfChat) -> servers.DesktopServer:
        """The VNC server that serves as the chat's desktop; no address: one of our own does."""
        return await desktop.call(servers.GET_SERVER, servers.OneServer(*desktop.ids))

    @put("/server", operation_id="putDesktopServer", summary="Use a VNC server")
    async def use_server(
        self, desktop: DesktopOfChat, data: JSONBody[DesktopServerBody]
    ) -> servers.DesktopServer:
        """Let a VNC server be the chat's desktop, from its next start on.

        Only what the administrator has allowed is taken. The password is kept encrypted.
        """
        await desktop.change(servers.CHECK_SERVER, servers.CheckServer(*desktop.ids, data.address))
        request = servers.PutServer(*desktop.ids, data.address, data.password)
        return await desktop.change(servers.PUT_SERVER, request)

    @delete("/server", operation_id="deleteDesktopServer", summary="Use no VNC server")
    async def forget_server(self, desktop: DesktopOfChat) -> None:
        """Have a desktop of our own again, from its next start on. Forgets the password."""
        await desktop.change(servers.DELETE_SERVER, servers.OneServer(*desktop.ids))
