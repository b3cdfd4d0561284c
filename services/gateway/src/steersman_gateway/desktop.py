"""Desktops over REST: start, stop, look, act, and who has control."""

from __future__ import annotations

import secrets

from litestar import Controller, Response, delete, get, patch, post, put
from litestar.params import JSONBody

from steersman_contracts.chats import Transition
from steersman_contracts.computer_use import to_action
from steersman_contracts.errors import TransitionRefused
from steersman_contracts.ids import ChatId
from steersman_contracts.rest_desktop import (
    ClipboardBody,
    DesktopActionBody,
    DesktopActionResult,
    DesktopTicketBody,
    ResizeDesktopBody,
    StartDesktopBody,
    TakeControlBody,
)
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc import desktop as rpc
from steersman_contracts.rpc.chats import GET, GetChat
from steersman_gateway.auth import CurrentActor
from steersman_gateway.backend import Backend, Services
from steersman_gateway.ids import ChatInPath


class DesktopController(Controller):
    """The virtual desktop of a chat."""

    path = "/chats/{chat_id:str}/desktop"
    tags = ("Desktop",)

    @get("/", operation_id="getDesktop", summary="Get the desktop")
    async def read(self, chat: ChatInPath, actor: CurrentActor, backend: Services) -> rpc.Desktop:
        """State, size and control of the chat's desktop; `absent` if it has none."""
        await _check(backend, actor, chat)
        return await backend.call(rpc.GET_DESKTOP, rpc.GetDesktop(actor, chat))

    @put("/", operation_id="startDesktop", summary="Start the desktop")
    async def start(
        self,
        chat: ChatInPath,
        data: JSONBody[StartDesktopBody],
        actor: CurrentActor,
        backend: Services,
    ) -> rpc.Desktop:
        """Have a desktop, and answer when it can be used. One that runs stays as it is."""
        await check_changeable(backend, actor, chat)
        request = rpc.StartDesktop(actor, chat, data.width, data.height)
        return await backend.call(rpc.START_DESKTOP, request)

    @delete("/", operation_id="stopDesktop", summary="Stop the desktop")
    async def stop(self, chat: ChatInPath, actor: CurrentActor, backend: Services) -> None:
        """End the desktop and everything on it. None at all is fine."""
        await _check(backend, actor, chat)
        await backend.call(rpc.STOP_DESKTOP, rpc.StopDesktop(actor, chat))

    @patch("/", operation_id="resizeDesktop", summary="Resize the desktop")
    async def resize(
        self,
        chat: ChatInPath,
        data: JSONBody[ResizeDesktopBody],
        actor: CurrentActor,
        backend: Services,
    ) -> rpc.Desktop:
        """Give a desktop that runs another size. Its windows stay."""
        await check_changeable(backend, actor, chat)
        request = rpc.ResizeDesktop(actor, chat, data.width, data.height)
        return await backend.call(rpc.RESIZE_DESKTOP, request)

    @get("/clipboard", operation_id="getDesktopClipboard", summary="Get the clipboard")
    async def clipboard(
        self, chat: ChatInPath, actor: CurrentActor, backend: Services
    ) -> rpc.Clipboard:
        """The text that was last copied on the desktop; empty if none was."""
        await _check(backend, actor, chat)
        return await backend.call(rpc.GET_CLIPBOARD, rpc.GetClipboard(actor, chat))

    @put(
        "/clipboard",
        operation_id="putDesktopClipboard",
        summary="Set the clipboard",
        status_code=204,
    )
    async def copy(
        self,
        chat: ChatInPath,
        data: JSONBody[ClipboardBody],
        actor: CurrentActor,
        backend: Services,
    ) -> None:
        """Put text into the clipboard of the desktop. For who has control."""
        await check_changeable(backend, actor, chat)
        await backend.call(rpc.PUT_CLIPBOARD, rpc.PutClipboard(actor, chat, data.text))

    @get(
        "/screenshot",
        operation_id="getDesktopScreenshot",
        summary="Get a screenshot",
        media_type="image/png",
    )
    async def screenshot(
        self, chat: ChatInPath, actor: CurrentActor, backend: Services
    ) -> Response[bytes]:
        """The screen now, as PNG; JPEG when that would be very large."""
        await _check(backend, actor, chat)
        picture = await backend.call(rpc.GET_SCREENSHOT, rpc.GetScreenshot(actor, chat))
        return Response(picture.data, media_type=picture.media_type)

    @post(
        "/actions",
        operation_id="actOnDesktop",
        summary="Do something on the desktop",
        status_code=200,
    )
    async def act(
        self,
        chat: ChatInPath,
        data: JSONBody[DesktopActionBody],
        actor: CurrentActor,
        backend: Services,
    ) -> DesktopActionResult:
        """One action of a person who has control, in the words of the `computer` tool."""
        await check_changeable(backend, actor, chat)
        request = rpc.PerformAction(
            chat, secrets.token_hex(16), to_action(data), actor, last_digest="-"
        )
        reply = await backend.call(rpc.PERFORM_ACTION, request)
        return DesktopActionResult(reply.text, reply.is_error)

    @post(
        "/control",
        operation_id="takeDesktopControl",
        summary="Take control",
        status_code=200,
    )
    async def take(
        self,
        chat: ChatInPath,
        data: JSONBody[TakeControlBody],
        actor: CurrentActor,
        backend: Services,
    ) -> rpc.Desktop:
        """Take the input, at once: what the agent is doing ends. `private` hides the screen too."""
        await check_changeable(backend, actor, chat)
        request = rpc.TakeControl(actor, chat, private=data.private)
        return await backend.call(rpc.TAKE_CONTROL, request)

    @delete(
        "/control",
        operation_id="returnDesktopControl",
        summary="Give control back",
        status_code=200,
    )
    async def give_back(
        self, chat: ChatInPath, actor: CurrentActor, backend: Services
    ) -> rpc.Desktop:
        """Give the input back to the agent, who must look before it acts."""
        await _check(backend, actor, chat)
        return await backend.call(rpc.RETURN_CONTROL, rpc.ReturnControl(actor, chat))

    @post(
        "/ticket",
        operation_id="makeDesktopTicket",
        summary="Get a ticket for the live view",
        status_code=200,
    )
    async def ticket(
        self,
        chat: ChatInPath,
        data: JSONBody[DesktopTicketBody],
        actor: CurrentActor,
        backend: Services,
    ) -> rpc.DesktopTicket:
        """Open `/api/v1/chats/{chat_id}/desktop?ticket=…` as a WebSocket (subprotocol `binary`).

        The ticket is good once and for half a minute. What is carried is RFB 3.8.
        """
        await check_changeable(backend, actor, chat)
        return await backend.call(rpc.MAKE_TICKET, rpc.MakeTicket(actor, chat, data.mode))


async def _check(backend: Backend, actor: Actor, chat: ChatId) -> None:
    """The store knows whose chat it is; the desktop service does not."""
    await backend.call(GET, GetChat(actor, chat))


async def check_changeable(backend: Backend, actor: Actor, chat: ChatId) -> None:
    """And whether it is put away: its desktop is not started or used then.

    Raises:
        TransitionRefused: The chat is archived.
    """
    found = (await backend.call(GET, GetChat(actor, chat))).chat
    if found.archived:
        transition = Transition.UPDATE.value
        raise TransitionRefused(
            f"{transition!r} is not allowed while the chat is {found.status.value!r} and archived",
            status=found.status.value,
            transition=transition,
            archived=True,
        )
