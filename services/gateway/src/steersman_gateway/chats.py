"""Chats over REST."""

from __future__ import annotations

from typing import Annotated, Literal

from litestar import Controller, Response, delete, get, patch, post
from litestar.params import JSONBody, PathParameter, QueryParameter

from steersman_contracts.chats import Chat, Status
from steersman_contracts.ids import ChatId, ModelName, is_chat_id
from steersman_contracts.parts import JsonPart, TextPart
from steersman_contracts.rest import (
    ApprovalBody,
    ChatList,
    CreateChatBody,
    ToolResultInput,
    ToolResultsBody,
    UpdateChatBody,
)
from steersman_contracts.rpc import chats as rpc
from steersman_gateway.auth import CurrentActor
from steersman_gateway.backend import Services
from steersman_gateway.cursors import decode_cursor, encode_cursor
from steersman_gateway.ids import ChatInPath
from steersman_gateway.messages import input_parts
from steersman_gateway.problems import invalid

Limit = Annotated[int, QueryParameter(ge=1, le=rpc.MAX_PAGE, description="Chats on a page.")]
Cursor = Annotated[str | None, QueryParameter(description="`next_cursor` of the page before.")]
Archived = Annotated[
    Literal["false", "true", "any"], QueryParameter(description="Chats that are archived, or not.")
]
OfStatus = Annotated[Status | None, QueryParameter(description="Only chats in this status.")]
Labels = Annotated[
    list[str] | None,
    QueryParameter(description="Only chats with this label, as `key=value`; may be repeated."),
]
Words = Annotated[
    str | None,
    QueryParameter(
        name="q",
        min_length=1,
        max_length=500,
        description="Only chats whose title or messages hold these words. "
        "Quotes and a minus work as on the web.",
    ),
]
Pinned = Annotated[bool | None, QueryParameter(description="Only chats that are pinned, or not.")]
Parent = Annotated[
    str | None,
    QueryParameter(description="The agents of this chat. Without it: chats that are no agents."),
]
CallInPath = Annotated[str, PathParameter(description="The tool call.", max_length=200)]
_ARCHIVED: dict[str, bool | None] = {"false": False, "true": True, "any": None}


class ChatController(Controller):
    """Create, find, change and remove chats; interrupt their turns."""

    path = "/chats"
    tags = ("Chats",)

    @post("/", operation_id="createChat", summary="Create a chat")
    async def create(
        self, data: JSONBody[CreateChatBody], actor: CurrentActor, backend: Services
    ) -> Response[rpc.SendReply]:
        """Create a chat. With `text` or `parts` its first turn starts at once."""
        request = rpc.CreateChat(
            actor=actor,
            model=None if data.model is None else ModelName(data.model),
            title=data.title,
            system_prompt=data.system_prompt,
            parts=input_parts(data.text, data.parts, required=False),
            client_key=data.client_key,
            client_tools=data.client_tools,
            effort=data.effort,
            mcp_server_ids=data.mcp_server_ids,
            plan_mode=data.plan_mode,
            limits=data.limits,
            response_schema=data.response_schema,
        )
        reply = await backend.call(rpc.CREATE, request)
        return Response(reply, headers={"Location": f"/api/v1/chats/{reply.chat.id}"})

    @get("/", operation_id="listChats", summary="List chats")
    async def list_chats(
        self,
        actor: CurrentActor,
        backend: Services,
        limit: Limit = 50,
        cursor: Cursor = None,
        archived: Archived = "false",
        status: OfStatus = None,
        label: Labels = None,
        words: Words = None,
        pinned: Pinned = None,
        parent_id: Parent = None,
    ) -> ChatList:
        """Your chats, the most recently changed first."""
        if parent_id is not None and not is_chat_id(parent_id):
            raise invalid("parent_id", f"{parent_id!r} is not the id of a chat")
        before = None if cursor is None else decode_cursor(cursor)
        request = rpc.ListChats(
            actor,
            limit,
            before,
            _ARCHIVED[archived],
            status=status,
            labels=dict(_label(text) for text in label or ()),
            words=words,
            pinned=pinned,
            parent_id=None if parent_id is None else ChatId(parent_id),
        )
        page = await backend.call(rpc.LIST, request)
        return ChatList(page.chats, None if page.next is None else encode_cursor(page.next))

    @get("/{chat_id:str}", operation_id="getChat", summary="Get a chat")
    async def get_chat(self, chat: ChatInPath, actor: CurrentActor, backend: Services) -> Chat:
        """One chat, without its messages."""
        return (await backend.call(rpc.GET, rpc.GetChat(actor, chat))).chat

    @patch("/{chat_id:str}", operation_id="updateChat", summary="Change a chat")
    async def update(
        self,
        chat: ChatInPath,
        data: JSONBody[UpdateChatBody],
        actor: CurrentActor,
        backend: Services,
    ) -> Chat:
        """Change what is named. A running step keeps the model and the tools that it has."""
        request = rpc.UpdateChat(
            actor,
            chat,
            title=data.title,
            model=None if data.model is None else ModelName(data.model),
            system_prompt=data.system_prompt,
            effort=data.effort,
            mcp_server_ids=data.mcp_server_ids,
            plan_mode=data.plan_mode,
            response_schema=data.response_schema,
        )
        return (await backend.call(rpc.UPDATE, request)).chat

    @delete("/{chat_id:str}", operation_id="deleteChat", summary="Delete a chat")
    async def remove(self, chat: ChatInPath, actor: CurrentActor, backend: Services) -> None:
        """Remove a chat, its messages and its events, for good. A running turn ends."""
        await backend.call(rpc.DELETE, rpc.DeleteChat(actor, chat))

    @post(
        "/{chat_id:str}/interrupt",
        operation_id="interruptChat",
        summary="Interrupt the turn",
        status_code=202,
    )
    async def interrupt(self, chat: ChatInPath, actor: CurrentActor, backend: Services) -> Chat:
        """End the running turn early; what it produced stays. An idle chat is left as it is."""
        return (await backend.call(rpc.INTERRUPT, rpc.Interrupt(actor, chat))).chat

    @post(
        "/{chat_id:str}/tool-results",
        operation_id="submitToolResults",
        summary="Answer client-side tools",
        status_code=202,
    )
    async def submit_tool_results(
        self,
        chat: ChatInPath,
        data: JSONBody[ToolResultsBody],
        actor: CurrentActor,
        backend: Services,
    ) -> Chat:
        """Give the results of all calls that the chat waits for; the turn goes on.

        In any order: they are stored in that of the calls. Others than these, or not all of them,
        are refused with the lists `missing` and `unknown`.
        """
        results = tuple(_outcome(index, result) for index, result in enumerate(data.results))
        request = rpc.SubmitToolResults(actor, chat, results)
        return (await backend.call(rpc.SUBMIT_TOOL_RESULTS, request)).chat

    @post(
        "/{chat_id:str}/approvals/{call_id:str}",
        operation_id="resolveApproval",
        summary="Allow or refuse a tool call",
        status_code=202,
    )
    async def resolve_approval(
        self,
        chat: ChatInPath,
        call_id: CallInPath,
        data: JSONBody[ApprovalBody],
        actor: CurrentActor,
        backend: Services,
    ) -> Chat:
        """Decide about a call that the chat waits for: see `action.approvals`."""
        request = rpc.ResolveApproval(actor, chat, call_id, data.approved, data.scope, data.reason)
        return (await backend.call(rpc.RESOLVE_APPROVAL, request)).chat

    @post("/{chat_id:str}/archive", operation_id="archiveChat", summary="Archive", status_code=200)
    async def archive(self, chat: ChatInPath, actor: CurrentActor, backend: Services) -> Chat:
        """Put a resting chat away: it can be read and brought back, and nothing else."""
        return (await backend.call(rpc.ARCHIVE, rpc.ArchiveChat(actor, chat))).chat

    @post(
        "/{chat_id:str}/unarchive",
        operation_id="unarchiveChat",
        summary="Bring back",
        status_code=200,
    )
    async def unarchive(self, chat: ChatInPath, actor: CurrentActor, backend: Services) -> Chat:
        """Bring an archived chat back."""
        request = rpc.ArchiveChat(actor, chat, archived=False)
        return (await backend.call(rpc.ARCHIVE, request)).chat

    @post(
        "/{chat_id:str}/clear-context",
        operation_id="clearContext",
        summary="Clear the context",
        status_code=200,
    )
    async def clear_context(self, chat: ChatInPath, actor: CurrentActor, backend: Services) -> Chat:
        """From here on the model sees nothing of what was said before; people still do."""
        return (await backend.call(rpc.CLEAR_CONTEXT, rpc.ClearContext(actor, chat))).chat

    @post(
        "/{chat_id:str}/compact",
        operation_id="compactChat",
        summary="Summarise older history",
        status_code=202,
    )
    async def compact(self, chat: ChatInPath, actor: CurrentActor, backend: Services) -> Chat:
        """The model writes a summary and sees that instead of what was before; people see all.

        An idle chat does it at once, a running one before its next step. `compaction.started` and
        `compaction.finished` tell how it goes.
        """
        return (await backend.call(rpc.REQUEST_COMPACTION, rpc.RequestCompaction(actor, chat))).chat

    @post(
        "/{chat_id:str}/compact/undo",
        operation_id="undoCompaction",
        summary="Take the last summary back",
        status_code=200,
    )
    async def undo_compaction(
        self, chat: ChatInPath, actor: CurrentActor, backend: Services
    ) -> Chat:
        """The model sees again what the summary replaced; only while nothing has followed it."""
        return (await backend.call(rpc.UNDO_COMPACTION, rpc.UndoCompaction(actor, chat))).chat


def _label(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator:
        raise invalid("label", f"{text!r} is not of the form key=value")
    return key, value


def _outcome(index: int, result: ToolResultInput) -> rpc.ToolOutcome:
    if result.text is not None and result.json is not None:
        raise invalid(f"results[{index}].json", "send either `text` or `json`, not both")
    content = JsonPart(result.json) if result.text is None else TextPart(result.text)
    return rpc.ToolOutcome(result.call_id, (content,), result.is_error)
