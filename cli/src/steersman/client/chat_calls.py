"""Calls about chats: their messages, their queue, their turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from steersman.client.exchange import Exchange
from steersman_contracts.chats import Chat, Message, Status
from steersman_contracts.ids import ChatId, MessageId, QueuedId
from steersman_contracts.questions import Answer
from steersman_contracts.rest import (
    ChatList,
    CreateChatBody,
    EditMessageBody,
    EditQueuedBody,
    ImportChatBody,
    MessageList,
    ReorderQueueBody,
    SendMessageBody,
    StageImportBody,
    ToolResultInput,
    ToolResultsBody,
    UpdateChatBody,
)
from steersman_contracts.rest_prompts import AnswerInput, AnswersBody, LimitsBody, PlanDecisionBody
from steersman_contracts.rpc.chats import SendReply
from steersman_contracts.rpc.imports import ImportReply


class ChatCalls:
    """Part of `Client`."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def create_chat(self, body: CreateChatBody) -> SendReply:
        """Create a chat; with text its first turn starts. A `client_key` makes it repeatable."""
        return await self._exchange.call(
            "POST", "/chats", SendReply, body, repeatable=body.client_key is not None
        )

    async def import_chat(self, body: ImportChatBody) -> ImportReply:
        """Make a chat from the messages of another system. A `client_key` makes it repeatable."""
        return await self._exchange.call(
            "POST", "/chats/import", ImportReply, body, repeatable=body.client_key is not None
        )

    async def stage_import(self, body: StageImportBody) -> None:
        """Bring some messages of a chat that is too large for one request."""
        await self._exchange.put("/chats/import/messages", body)

    async def list_chats(
        self,
        *,
        limit: int = 50,
        cursor: str | None = None,
        archived: Literal["false", "true", "any"] = "false",
        status: Status | None = None,
        labels: Mapping[str, str] | None = None,
        words: str | None = None,
        pinned: bool | None = None,
        parent_id: ChatId | None = None,
    ) -> ChatList:
        """A page of chats, the most recently changed first.

        Args:
            limit: Chats on the page, 1 to 200.
            cursor: `next_cursor` of the page before.
            archived: Whether chats that are put away are of interest.
            status: Only chats in this status.
            labels: Only chats that have all of these.
            words: Only chats whose title or messages hold these; quotes and a minus work as on
                the web.
            pinned: Only chats that are pinned, or not.
            parent_id: The agents of this chat; without it, chats that are no agents.
        """
        return await self._exchange.get(
            "/chats",
            ChatList,
            limit=limit,
            cursor=cursor,
            archived=archived,
            status=None if status is None else status.value,
            label=[f"{key}={value}" for key, value in (labels or {}).items()] or None,
            q=words,
            pinned=None if pinned is None else str(pinned).lower(),
            parent_id=parent_id,
        )

    async def get_chat(self, chat_id: ChatId) -> Chat:
        """One chat, without its messages."""
        return await self._exchange.get(f"/chats/{chat_id}", Chat)

    async def update_chat(self, chat_id: ChatId, body: UpdateChatBody) -> Chat:
        """Change title, model, effort or system prompt."""
        return await self._exchange.call("PATCH", f"/chats/{chat_id}", Chat, body, repeatable=True)

    async def delete_chat(self, chat_id: ChatId) -> None:
        """Remove a chat for good."""
        await self._exchange.delete(f"/chats/{chat_id}")

    async def interrupt(self, chat_id: ChatId) -> Chat:
        """End the running turn early; what it produced stays."""
        return await self._exchange.call(
            "POST", f"/chats/{chat_id}/interrupt", Chat, repeatable=True
        )

    async def list_messages(
        self,
        chat_id: ChatId,
        *,
        limit: int = 50,
        before_id: int | None = None,
        after_id: int | None = None,
        after_revision: int | None = None,
    ) -> MessageList:
        """A page of the history, oldest first; the newest one unless a position is given.

        Args:
            chat_id: The chat.
            limit: Messages on the page, 1 to 200.
            before_id: Only messages before this one.
            after_id: Only messages after this one.
            after_revision: What changed after this revision, ordered by it, deleted messages as
                tombstones. While `has_more`, ask again with the `revision` of the last message,
                and its id as `after_id`: messages that changed together share a revision.
        """
        return await self._exchange.get(
            f"/chats/{chat_id}/messages",
            MessageList,
            limit=limit,
            before_id=before_id,
            after_id=after_id,
            after_revision=after_revision,
        )

    async def get_message(self, chat_id: ChatId, message_id: MessageId) -> Message | None:
        """One message in full; events leave out parts that are too large for the log."""
        page = await self.list_messages(chat_id, limit=1, after_id=message_id - 1)
        return next((found for found in page.messages if found.id == message_id), None)

    async def send_message(self, chat_id: ChatId, body: SendMessageBody) -> SendReply:
        """Start a turn or join the queue. A `client_key` makes it repeatable."""
        path = f"/chats/{chat_id}/messages"
        return await self._exchange.call(
            "POST", path, SendReply, body, repeatable=body.client_key is not None
        )

    async def edit_message(
        self, chat_id: ChatId, message_id: int, body: EditMessageBody
    ) -> SendReply:
        """Replace a user message and go on from there: what follows leaves the history."""
        path = f"/chats/{chat_id}/messages/{message_id}"
        return await self._exchange.call("PATCH", path, SendReply, body)

    # -- the queue -------------------------------------------------------------------------------

    async def reorder_queue(self, chat_id: ChatId, queued_ids: tuple[QueuedId, ...]) -> Chat:
        """Put the queue into this order; every queued message is named exactly once."""
        body = ReorderQueueBody(queued_ids)
        return await self._change("PUT", chat_id, "queue", body, repeatable=True)

    async def edit_queued(self, chat_id: ChatId, queued_id: int, body: EditQueuedBody) -> Chat:
        """Replace what a queued message says; it keeps its place."""
        return await self._change("PATCH", chat_id, f"queue/{queued_id}", body, repeatable=True)

    async def delete_queued(self, chat_id: ChatId, queued_id: int) -> Chat:
        """Take a message out of the queue."""
        return await self._change("DELETE", chat_id, f"queue/{queued_id}")

    async def promote_queued(self, chat_id: ChatId, queued_id: int) -> Chat:
        """Let a queued message go first, now: a running turn is interrupted for it."""
        return await self._change("POST", chat_id, f"queue/{queued_id}/promote")

    # -- what happens to a chat ------------------------------------------------------------------

    async def submit_tool_results(
        self, chat_id: ChatId, results: tuple[ToolResultInput, ...]
    ) -> Chat:
        """Answer all calls of client-side tools that the chat waits for; the turn goes on."""
        return await self._change("POST", chat_id, "tool-results", ToolResultsBody(results))

    async def answer(
        self, chat_id: ChatId, answers: tuple[Answer, ...], call_id: str | None = None
    ) -> Chat:
        """Answer what the model asks; `call_id` may be left out when only one call does."""
        said = tuple(AnswerInput(answer.selected, answer.text) for answer in answers)
        return await self._change("POST", chat_id, "answers", AnswersBody(said, call_id))

    async def approve_plan(self, chat_id: ChatId, comment: str = "") -> Chat:
        """Leave plan mode, and have the model carry out its plan."""
        return await self._change("POST", chat_id, "plan/approve", PlanDecisionBody(comment))

    async def reject_plan(self, chat_id: ChatId, comment: str = "") -> Chat:
        """Send the plan back; with a comment the model changes it at once."""
        return await self._change("POST", chat_id, "plan/reject", PlanDecisionBody(comment))

    async def put_limits(self, chat_id: ChatId, limits: LimitsBody) -> Chat:
        """Replace the limits of the chat's turns; one that waits at a limit goes on."""
        return await self._change("PUT", chat_id, "limits", limits, repeatable=True)

    async def archive(self, chat_id: ChatId) -> Chat:
        """Put a resting chat away: it can be read and brought back, and nothing else."""
        return await self._change("POST", chat_id, "archive", repeatable=True)

    async def unarchive(self, chat_id: ChatId) -> Chat:
        """Bring an archived chat back."""
        return await self._change("POST", chat_id, "unarchive", repeatable=True)

    async def clear_context(self, chat_id: ChatId) -> Chat:
        """From here on the model sees nothing of what was said before; people still do."""
        return await self._change("POST", chat_id, "clear-context")

    async def compact(self, chat_id: ChatId) -> Chat:
        """Have older history summarised for the model; people still see all of it."""
        return await self._change("POST", chat_id, "compact")

    async def undo_compaction(self, chat_id: ChatId) -> Chat:
        """Take the last summary back; only while nothing has followed it."""
        return await self._change("POST", chat_id, "compact/undo")

    async def regenerate_title(self, chat_id: ChatId) -> Chat:
        """Ask a model for a title; the chat has it a little later."""
        return await self._change("POST", chat_id, "title/regenerate")

    async def _change(
        self,
        method: str,
        chat_id: ChatId,
        what: str,
        body: msgspec.Struct | None = None,
        *,
        repeatable: bool = False,
    ) -> Chat:
        path = f"/chats/{chat_id}/{what}"
        return await self._exchange.call(method, path, Chat, body, repeatable=repeatable)
