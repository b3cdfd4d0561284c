"""Messages over REST."""

from __future__ import annotations

from typing import Annotated

from litestar import Controller, get, patch, post
from litestar.params import JSONBody, PathParameter, QueryParameter

from steersman_contracts.ids import MessageId, ModelName
from steersman_contracts.parts import Parts
from steersman_contracts.rest import (
    EditMessageBody,
    FileReferenceInput,
    InputPart,
    MessageList,
    SendMessageBody,
    TextInput,
    to_parts,
)
from steersman_contracts.rpc import chats as rpc
from steersman_gateway.auth import CurrentActor
from steersman_gateway.backend import Services
from steersman_gateway.ids import ChatInPath, known_number
from steersman_gateway.problems import invalid

_MAX_BIGINT = 2**63 - 1

Limit = Annotated[int, QueryParameter(ge=1, le=rpc.MAX_PAGE, description="Messages on a page.")]
BeforeId = Annotated[
    int | None, QueryParameter(ge=1, le=_MAX_BIGINT, description="Only messages before this one.")
]
AfterId = Annotated[
    int | None,
    QueryParameter(
        ge=0,
        le=_MAX_BIGINT,
        description="Only messages after this one; with `after_revision`, among those of that "
        "revision: where the page before ended.",
    ),
]
AfterRevision = Annotated[
    int | None,
    QueryParameter(
        ge=0,
        le=_MAX_BIGINT,
        description="What changed after this revision, in that order, deleted messages included.",
    ),
]
MessageInPath = Annotated[int, PathParameter(description="The message.")]


class MessageController(Controller):
    """Read and send messages."""

    path = "/chats/{chat_id:str}/messages"
    tags = ("Messages",)

    @get("/", operation_id="listMessages", summary="List messages")
    async def list_messages(
        self,
        chat: ChatInPath,
        actor: CurrentActor,
        backend: Services,
        limit: Limit = 50,
        before_id: BeforeId = None,
        after_id: AfterId = None,
        after_revision: AfterRevision = None,
    ) -> MessageList:
        """A page of the history, oldest first; the newest page unless a position is given."""
        for name, value in (("after_id", after_id), ("after_revision", after_revision)):
            if before_id is not None and value is not None:
                raise invalid(name, f"before_id and {name} cannot be combined")
        request = rpc.ListMessages(
            actor,
            chat,
            limit,
            before_id=None if before_id is None else MessageId(before_id),
            after_id=None if after_id is None else MessageId(after_id),
            after_revision=after_revision,
        )
        page = await backend.call(rpc.LIST_MESSAGES, request)
        return MessageList(page.messages, page.has_more)

    @post("/", operation_id="sendMessage", summary="Send a message", status_code=202)
    async def send(
        self,
        chat: ChatInPath,
        data: JSONBody[SendMessageBody],
        actor: CurrentActor,
        backend: Services,
    ) -> rpc.SendReply:
        """Start a turn, or join the queue of the one that runs; `delivery` says which."""
        request = rpc.SendMessage(
            actor,
            chat,
            parts=input_parts(data.text, data.parts, required=True),
            busy_behavior=data.busy_behavior,
            model=None if data.model is None else ModelName(data.model),
            client_key=data.client_key,
            effort=data.effort,
            response_schema=data.response_schema,
        )
        return await backend.call(rpc.SEND_MESSAGE, request)

    @patch(
        "/{message_id:int}",
        operation_id="editMessage",
        summary="Edit a message",
        status_code=202,
    )
    async def edit(
        self,
        chat: ChatInPath,
        message_id: MessageInPath,
        data: JSONBody[EditMessageBody],
        actor: CurrentActor,
        backend: Services,
    ) -> rpc.SendReply:
        """Replace one of your messages and go on from there.

        It and everything after it leave the history, and the queue is emptied.
        """
        request = rpc.EditMessage(
            actor,
            chat,
            MessageId(known_number(message_id)),
            parts=input_parts(data.text, data.parts, required=True),
            model=None if data.model is None else ModelName(data.model),
            effort=data.effort,
            response_schema=data.response_schema,
        )
        return await backend.call(rpc.EDIT_MESSAGE, request)


def input_parts(text: str | None, parts: tuple[InputPart, ...], *, required: bool) -> Parts:
    """The parts of a message from a client.

    Raises:
        InvalidRequest: Both are given, or neither although one is required, or a text is blank
            (providers refuse those).
    """
    if text is not None and parts:
        raise invalid("parts", "send either `text` or `parts`, not both")
    if text is None and not parts and required:
        raise invalid("text", "either `text` or `parts` is required")
    if text is not None and not text.strip():
        raise invalid("text", "the text is blank")
    for index, part in enumerate(parts):
        if isinstance(part, TextInput) and not part.text.strip():
            raise invalid(f"parts[{index}].text", "the text is blank")
        if isinstance(part, FileReferenceInput) and part.end_line < part.start_line:
            raise invalid(f"parts[{index}].end_line", "ends before it starts")
    return to_parts(text, parts)
