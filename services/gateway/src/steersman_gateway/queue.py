"""The queue over REST: messages that wait for their own turn."""

from __future__ import annotations

from typing import Annotated

from litestar import Controller, delete, patch, post, put
from litestar.params import JSONBody, PathParameter

from steersman_contracts.chats import Chat
from steersman_contracts.ids import QueuedId
from steersman_contracts.rest import EditQueuedBody, ReorderQueueBody
from steersman_contracts.rpc import chats as rpc
from steersman_gateway.auth import CurrentActor
from steersman_gateway.backend import Services
from steersman_gateway.ids import ChatInPath, known_number
from steersman_gateway.messages import input_parts

QueuedInPath = Annotated[int, PathParameter(description="The queued message.")]


class QueueController(Controller):
    """Change what waits."""

    path = "/chats/{chat_id:str}/queue"
    tags = ("Queue",)

    @put("/", operation_id="reorderQueue", summary="Reorder the queue")
    async def reorder(
        self,
        chat: ChatInPath,
        data: JSONBody[ReorderQueueBody],
        actor: CurrentActor,
        backend: Services,
    ) -> Chat:
        """Put the queue into this order; every queued message is named exactly once."""
        request = rpc.ReorderQueue(actor, chat, data.queued_ids)
        return (await backend.call(rpc.REORDER_QUEUE, request)).chat

    @patch("/{queued_id:int}", operation_id="editQueued", summary="Edit a queued message")
    async def edit(
        self,
        chat: ChatInPath,
        queued_id: QueuedInPath,
        data: JSONBody[EditQueuedBody],
        actor: CurrentActor,
        backend: Services,
    ) -> Chat:
        """Replace what a queued message says; it keeps its place."""
        parts = input_parts(data.text, data.parts, required=True)
        queued = QueuedId(known_number(queued_id))
        request = rpc.EditQueued(actor, chat, queued, parts, data.response_schema)
        return (await backend.call(rpc.EDIT_QUEUED, request)).chat

    @delete(
        "/{queued_id:int}",
        operation_id="deleteQueued",
        summary="Delete a queued message",
        status_code=200,
    )
    async def remove(
        self, chat: ChatInPath, queued_id: QueuedInPath, actor: CurrentActor, backend: Services
    ) -> Chat:
        """Take a message out of the queue."""
        request = rpc.DeleteQueued(actor, chat, QueuedId(known_number(queued_id)))
        return (await backend.call(rpc.DELETE_QUEUED, request)).chat

    @post(
        "/{queued_id:int}/promote",
        operation_id="promoteQueued",
        summary="Promote a queued message",
        status_code=202,
    )
    async def promote(
        self, chat: ChatInPath, queued_id: QueuedInPath, actor: CurrentActor, backend: Services
    ) -> Chat:
        """Let a queued message go first, now: a running turn is interrupted for it."""
        request = rpc.PromoteQueued(actor, chat, QueuedId(known_number(queued_id)))
        return (await backend.call(rpc.PROMOTE_QUEUED, request)).chat
