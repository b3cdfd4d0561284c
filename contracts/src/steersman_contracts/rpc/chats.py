"""What people do with chats. Every request carries the actor."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from steersman_contracts.chats import (
    Chat,
    ChatSnapshot,
    ClientTool,
    Message,
    QueuedMessage,
    Status,
)
from steersman_contracts.ids import ChatId, MessageId, ModelName, QueuedId
from steersman_contracts.model_options import Effort
from steersman_contracts.parts import JsonObject, Parts, ResultContent
from steersman_contracts.policies import Scope
from steersman_contracts.rpc import Actor, Method, Nothing
from steersman_contracts.rpc.mcp import Chosen
from steersman_contracts.terms import TurnLimits

BusyBehavior: TypeAlias = Literal["queue", "interrupt"]
Delivery: TypeAlias = Literal["started", "queued"]

MAX_QUEUED: Final = 20
"""Messages in the queue of one chat."""
MAX_PAGE: Final = 200
MAX_LABELS: Final = 50
MAX_LABEL_BYTES: Final = 256
MAX_CLIENT_TOOLS: Final = 250
"""Client-side tools of one chat."""
MAX_MESSAGE_FILES: Final = 20
"""Files in one message."""

Limit = Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGE)]
ClientKey = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


class CreateChat(msgspec.Struct, frozen=True, omit_defaults=True):
    """Start a chat, with a first message or without."""

    actor: Actor
    model: ModelName | None = None
    """None takes the deployment's default."""
    title: str = ""
    system_prompt: str = ""
    parts: Parts = ()
    """The first user message; empty for none."""
    client_key: ClientKey | None = None
    """The same key again returns the chat that it made: makes a repeated request harmless."""
    client_tools: Annotated[tuple[ClientTool, ...], msgspec.Meta(max_length=MAX_CLIENT_TOOLS)] = ()
    effort: Effort | None = None
    """How hard the model thinks; None: as its own setting, which also limits this."""
    mcp_server_ids: Chosen | None = None
    """None is those that are on by default."""
    plan_mode: bool = False
    limits: TurnLimits | None = None
    response_schema: JsonObject | None = None


class GetChat(msgspec.Struct, frozen=True):
    """Read one chat."""

    actor: Actor
    chat_id: ChatId


class ListChats(msgspec.Struct, frozen=True, omit_defaults=True):
    """The actor's chats, most recently changed first."""

    actor: Actor
    limit: Limit = 50
    before: tuple[datetime, ChatId] | None = None
    """The position after which to go on: `updated_at` and id of the last chat seen."""
    archived: bool | None = False
    status: Status | None = None
    labels: dict[str, str] = {}
    """Only chats that have all of these."""
    words: Annotated[str, msgspec.Meta(min_length=1, max_length=500)] | None = None
    """Only chats whose title or messages hold these; quotes and a minus work as on the web."""
    pinned: bool | None = None
    parent_id: ChatId | None = None
    """The agents of this chat; None: chats that are nobody's agents."""


class UpdateChat(msgspec.Struct, frozen=True, omit_defaults=True):
    """Change what is set. The model takes effect with the next step."""

    actor: Actor
    chat_id: ChatId
    title: str | None = None
    model: ModelName | None = None
    system_prompt: str | None = None
    effort: Effort | msgspec.UnsetType | None = msgspec.UNSET
    """None goes back to the model's own setting."""
    mcp_server_ids: Chosen | UnsetType | None = UNSET
    """None goes back to those that are on by default; at the next turn."""
    plan_mode: bool | None = None
    response_schema: JsonObject | None = None
    """Empty takes it away."""


class DeleteChat(msgspec.Struct, frozen=True):
    """Remove a chat, its messages, its queue and its events, for good."""

    actor: Actor
    chat_id: ChatId


class ListMessages(msgspec.Struct, frozen=True, omit_defaults=True):
    """A page of messages, oldest first.

    At most one of the three positions may be set, but `after_id` together with `after_revision`:
    messages that changed in one transition share a revision, and a page may end among them.
    """

    actor: Actor
    chat_id: ChatId
    limit: Limit = 50
    before_id: MessageId | None = None
    after_id: MessageId | None = None
    after_revision: int | None = None
    """Everything that changed after this revision, ordered by it, deleted messages included."""


class SendMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Start a turn or join the queue; the store decides which."""

    actor: Actor
    chat_id: ChatId
    parts: Parts
    busy_behavior: BusyBehavior = "queue"
    model: ModelName | None = None
    """Changes the chat's model from this message on."""
    client_key: ClientKey | None = None
    """The same key again changes nothing and returns the first reply."""
    effort: Effort | None = None
    """Changes the chat's effort from this message on."""
    response_schema: JsonObject | None = None
    """JSON Schema of the answer of this message's turn, in place of the chat's; empty is none."""


class Interrupt(msgspec.Struct, frozen=True):
    """End the running turn early. On an idle chat: nothing happens."""

    actor: Actor
    chat_id: ChatId


class EditMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Replace a user message, and start a turn from the replacement.

    The message and everything after it leave the history, and the queue is emptied.
    """

    actor: Actor
    chat_id: ChatId
    message_id: MessageId
    parts: Parts
    model: ModelName | None = None
    effort: Effort | None = None
    response_schema: JsonObject | None = None


class EditQueued(msgspec.Struct, frozen=True):
    """Replace what a queued message says; it keeps its place."""

    actor: Actor
    chat_id: ChatId
    queued_id: QueuedId
    parts: Parts
    response_schema: JsonObject | UnsetType | None = UNSET
    """Left out, it stays as it is; None is the chat's, empty is none."""


class DeleteQueued(msgspec.Struct, frozen=True):
    """Take a message out of the queue."""

    actor: Actor
    chat_id: ChatId
    queued_id: QueuedId


class PromoteQueued(msgspec.Struct, frozen=True):
    """Let a queued message go first, now: a running turn is interrupted for it."""

    actor: Actor
    chat_id: ChatId
    queued_id: QueuedId


class ReorderQueue(msgspec.Struct, frozen=True):
    """Put the queue into this order; every queued message must be named exactly once."""

    actor: Actor
    chat_id: ChatId
    queued_ids: Annotated[tuple[QueuedId, ...], msgspec.Meta(max_length=MAX_QUEUED)]


class ToolOutcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a client-side tool answered."""

    call_id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    content: tuple[ResultContent, ...]
    is_error: bool = False


class SubmitToolResults(msgspec.Struct, frozen=True):
    """Answer all pending calls of client-side tools; the turn goes on."""

    actor: Actor
    chat_id: ChatId
    results: Annotated[tuple[ToolOutcome, ...], msgspec.Meta(min_length=1, max_length=100)]


class ResolveApproval(msgspec.Struct, frozen=True, omit_defaults=True):
    """Allow or refuse a call that waits for a decision."""

    actor: Actor
    chat_id: ChatId
    call_id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    approved: bool
    scope: Scope = "once"
    reason: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    """Told to the model when the call is refused."""


class ArchiveChat(msgspec.Struct, frozen=True):
    """Put a chat away (or bring it back): it can be read, and nothing else."""

    actor: Actor
    chat_id: ChatId
    archived: bool = True


class MarkRead(msgspec.Struct, frozen=True, omit_defaults=True):
    """Move the last-read cursor forward; None means everything. It never goes back."""

    actor: Actor
    chat_id: ChatId
    message_id: MessageId | None = None


class PinChat(msgspec.Struct, frozen=True, omit_defaults=True):
    """Pin a chat at a position; the others make room. None takes the pin away."""

    actor: Actor
    chat_id: ChatId
    position: Annotated[int, msgspec.Meta(ge=1, le=100_000)] | None = None


class LabelChat(msgspec.Struct, frozen=True):
    """Replace all labels of a chat."""

    actor: Actor
    chat_id: ChatId
    labels: dict[str, str]


class ForkChat(msgspec.Struct, frozen=True, omit_defaults=True):
    """Make a new chat that shares the history up to a message."""

    actor: Actor
    chat_id: ChatId
    message_id: MessageId
    title: str = ""
    """Empty keeps the title of the source."""


class RequestCompaction(msgspec.Struct, frozen=True):
    """Summarise older history for the model: at once, or before the next step of a running turn."""

    actor: Actor
    chat_id: ChatId


class UndoCompaction(msgspec.Struct, frozen=True):
    """Take the last summary back; refused when anything has followed it."""

    actor: Actor
    chat_id: ChatId


class ClearContext(msgspec.Struct, frozen=True):
    """From here on the model sees nothing of what was said before; people still do."""

    actor: Actor
    chat_id: ChatId


class Snapshot(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything that a client needs to begin watching, from one moment."""

    actor: Actor
    chat_id: ChatId
    limit: Limit = 100


class ChatReply(msgspec.Struct, frozen=True):
    """The chat after the change."""

    chat: Chat


class ChatPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Chats, and where to go on (None at the end)."""

    chats: tuple[Chat, ...]
    next: tuple[datetime, ChatId] | None = None


class MessagePage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Messages, oldest first."""

    messages: tuple[Message, ...]
    has_more: bool = False
    """There are more in the direction that was asked for."""


class SendReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the message went."""

    delivery: Delivery
    chat: Chat
    message: Message | None = None
    """Set when it started a turn."""
    queued: QueuedMessage | None = None
    """Set when it joined the queue."""


class SnapshotReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """A snapshot without preview: the preview comes from the event log."""

    snapshot: ChatSnapshot
    attempt_started_at: datetime | None = None
    """When the present episode began, by the store's clock; None when none is running."""


CREATE: Final = Method("store", "chats.create", CreateChat, SendReply)
GET: Final = Method("store", "chats.get", GetChat, ChatReply, safe=True)
LIST: Final = Method("store", "chats.list", ListChats, ChatPage, safe=True)
UPDATE: Final = Method("store", "chats.update", UpdateChat, ChatReply)
DELETE: Final = Method("store", "chats.delete", DeleteChat, Nothing)
LIST_MESSAGES: Final = Method("store", "chats.list_messages", ListMessages, MessagePage, safe=True)
SEND_MESSAGE: Final = Method("store", "chats.send_message", SendMessage, SendReply)
EDIT_MESSAGE: Final = Method("store", "chats.edit_message", EditMessage, SendReply)
EDIT_QUEUED: Final = Method("store", "chats.edit_queued", EditQueued, ChatReply, safe=True)
DELETE_QUEUED: Final = Method("store", "chats.delete_queued", DeleteQueued, ChatReply)
PROMOTE_QUEUED: Final = Method("store", "chats.promote_queued", PromoteQueued, ChatReply)
REORDER_QUEUE: Final = Method("store", "chats.reorder_queue", ReorderQueue, ChatReply, safe=True)
SUBMIT_TOOL_RESULTS: Final = Method(
    "store", "chats.submit_tool_results", SubmitToolResults, ChatReply
)
RESOLVE_APPROVAL: Final = Method("store", "chats.resolve_approval", ResolveApproval, ChatReply)
ARCHIVE: Final = Method("store", "chats.archive", ArchiveChat, ChatReply, safe=True)
MARK_READ: Final = Method("store", "chats.mark_read", MarkRead, ChatReply, safe=True)
PIN: Final = Method("store", "chats.pin", PinChat, ChatReply, safe=True)
LABEL: Final = Method("store", "chats.label", LabelChat, ChatReply, safe=True)
FORK: Final = Method("store", "chats.fork", ForkChat, ChatReply)
REQUEST_COMPACTION: Final = Method(
    "store", "chats.request_compaction", RequestCompaction, ChatReply
)
UNDO_COMPACTION: Final = Method("store", "chats.undo_compaction", UndoCompaction, ChatReply)
CLEAR_CONTEXT: Final = Method("store", "chats.clear_context", ClearContext, ChatReply)
INTERRUPT: Final = Method("store", "chats.interrupt", Interrupt, ChatReply, safe=True)
SNAPSHOT: Final = Method("store", "chats.snapshot", Snapshot, SnapshotReply, safe=True)
