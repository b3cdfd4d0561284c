"""Finding chats again: what was read, pins, labels; and forks."""

from __future__ import annotations

from litestar import Controller, Response, delete, post, put
from litestar.params import JSONBody

from steersman_contracts.chats import Chat
from steersman_contracts.ids import MessageId
from steersman_contracts.rest import ForkBody, LabelsBody, MarkReadBody, PinBody
from steersman_contracts.rpc import chats as rpc
from steersman_contracts.rpc import titles
from steersman_gateway.auth import CurrentActor
from steersman_gateway.backend import Services
from steersman_gateway.ids import ChatInPath, known_number


class LibraryController(Controller):
    """Mark, pin, label and fork chats."""

    path = "/chats/{chat_id:str}"
    tags = ("Chats",)

    @post("/read", operation_id="markRead", summary="Mark as read", status_code=200)
    async def mark_read(
        self,
        chat: ChatInPath,
        data: JSONBody[MarkReadBody],
        actor: CurrentActor,
        backend: Services,
    ) -> Chat:
        """Move your last-read cursor forward; it never goes back."""
        last = None if data.message_id is None else MessageId(known_number(data.message_id))
        return (await backend.call(rpc.MARK_READ, rpc.MarkRead(actor, chat, last))).chat

    @put("/pin", operation_id="pinChat", summary="Pin")
    async def pin(
        self, chat: ChatInPath, data: JSONBody[PinBody], actor: CurrentActor, backend: Services
    ) -> Chat:
        """Pin a chat, or move its pin; the others make room."""
        return (await backend.call(rpc.PIN, rpc.PinChat(actor, chat, data.position))).chat

    @delete("/pin", operation_id="unpinChat", summary="Take the pin away", status_code=200)
    async def unpin(self, chat: ChatInPath, actor: CurrentActor, backend: Services) -> Chat:
        """Take the pin away; the others close the gap."""
        return (await backend.call(rpc.PIN, rpc.PinChat(actor, chat))).chat

    @put("/labels", operation_id="labelChat", summary="Label")
    async def label(
        self, chat: ChatInPath, data: JSONBody[LabelsBody], actor: CurrentActor, backend: Services
    ) -> Chat:
        """Replace the labels of a chat: at most 50, keys like paths, values up to 256 bytes."""
        return (await backend.call(rpc.LABEL, rpc.LabelChat(actor, chat, data.labels))).chat

    @post(
        "/title/regenerate",
        operation_id="regenerateTitle",
        summary="Find another title",
        status_code=202,
    )
    async def regenerate_title(
        self, chat: ChatInPath, actor: CurrentActor, backend: Services
    ) -> Chat:
        """Have a model name the chat from its first message, also in place of your own title.

        The title arrives as `chat.updated`; when none is found, the present one stays.
        """
        request = titles.RegenerateTitle(actor, chat)
        return (await backend.call(titles.REGENERATE_TITLE, request)).chat

    @post("/fork", operation_id="forkChat", summary="Fork")
    async def fork(
        self, chat: ChatInPath, data: JSONBody[ForkBody], actor: CurrentActor, backend: Services
    ) -> Response[Chat]:
        """Make a new chat that shares the history up to a message, and the results of its calls.

        It works under the same terms and rules and in the same workspace; approvals that were given
        for the chat are not taken along.
        """
        last = MessageId(known_number(data.message_id))
        reply = await backend.call(rpc.FORK, rpc.ForkChat(actor, chat, last, data.title))
        return Response(reply.chat, headers={"Location": f"/api/v1/chats/{reply.chat.id}"})
