"""The events of a chat: one ordered log per chat, read by everybody who watches.

The event's name travels in the header `ce-type` (SSE: the field `event`), the JSON body is one of
the structs below and is what SSE sends. Durable events carry `snapshot_version`; a reader that has
already seen that version ignores them. Deltas carry their episode (`history_version`, `attempt`)
and `seq`; a delta of an older episode than the reader's is ignored.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Final, Literal, TypeAlias

import msgspec

from steersman_contracts.chats import (
    Chat,
    ChatError,
    ChatSnapshot,
    CompactionSource,
    ErrorKind,
    Message,
    Outcome,
    PendingAction,
    QueuedMessage,
    ResponseId,
    Status,
    Usage,
)
from steersman_contracts.deltas import Delta
from steersman_contracts.ids import ChatId, MessageId, ModelName
from steersman_contracts.rpc.desktop import DesktopControl
from steersman_contracts.workspace_diff import RepositorySummary

EventName: TypeAlias = Literal[
    "chat.created",
    "chat.updated",
    "chat.archived",
    "chat.unarchived",
    "chat.deleted",
    "chat.status",
    "message.created",
    "message.updated",
    "history.reset",
    "queue.updated",
    "attempt.started",
    "part.delta",
    "preview.reset",
    "tool.progress",
    "retry.scheduled",
    "chat.error",
    "action.required",
    "compaction.started",
    "compaction.finished",
    "usage.recorded",
    "desktop.control_changed",
    "workspace.diff",
    "stream.sync",
    "stream.gap",
]


class Event(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Base of every event body."""

    name: ClassVar[EventName]
    chat_id: ChatId


class DurableEvent(Event, frozen=True, omit_defaults=True, kw_only=True):
    """A change that is stored: written to the outbox in the transaction that made it."""

    snapshot_version: int
    parent_id: ChatId | None = None
    """Whose agent the chat is; None for a chat of a person."""


class ChatCreated(DurableEvent, frozen=True, kw_only=True):
    """A chat exists."""

    name = "chat.created"
    chat: Chat


class ChatUpdated(DurableEvent, frozen=True, kw_only=True):
    """Title, model, prompt or another field that a person sets has changed."""

    name = "chat.updated"
    chat: Chat


class ChatArchived(DurableEvent, frozen=True, omit_defaults=True, kw_only=True):
    """The chat refuses everything but reading and `unarchive` from here on; it lost its pin."""

    name = "chat.archived"
    updated_at: datetime | None = None


class ChatUnarchived(DurableEvent, frozen=True, omit_defaults=True, kw_only=True):
    """The chat is usable again."""

    name = "chat.unarchived"
    updated_at: datetime | None = None


class ChatDeleted(DurableEvent, frozen=True, kw_only=True):
    """The chat is gone; nothing follows."""

    name = "chat.deleted"


class ChatStatusChanged(DurableEvent, frozen=True, omit_defaults=True, kw_only=True):
    """The status after a transition; sent when it changed or a turn ended."""

    name = "chat.status"
    status: Status
    history_version: int
    outcome: Outcome | None = None
    """Set when a turn has just ended, also when the next one began at once."""
    updated_at: datetime | None = None
    """When the chat changed last: lists are ordered by it."""
    has_unread: bool | None = None
    """Whether there is an answer that the owner has not read; set when a turn has just ended."""


class MessageCreated(DurableEvent, frozen=True, kw_only=True):
    """A message joined the history. It replaces the preview of every older history version."""

    name = "message.created"
    history_version: int
    message: Message


class MessageUpdated(DurableEvent, frozen=True, kw_only=True):
    """A message of the history changed. Reserved: none ever does, and this is not sent."""

    name = "message.updated"
    history_version: int
    message: Message


class HistoryReset(DurableEvent, frozen=True, kw_only=True):
    """This message and everything after it is no longer part of the history."""

    name = "history.reset"
    history_version: int
    from_message_id: MessageId


class QueueUpdated(DurableEvent, frozen=True, kw_only=True):
    """The whole queue, as it is now."""

    name = "queue.updated"
    queue_version: int
    queue: tuple[QueuedMessage, ...]


class AttemptStarted(DurableEvent, frozen=True, kw_only=True):
    """A new episode: deltas of (`history_version`, `attempt`) follow, with `seq` from 1."""

    name = "attempt.started"
    history_version: int
    attempt: int
    model: ModelName


class PartDelta(Event, frozen=True, kw_only=True):
    """What a model streamed since the last event of the same episode."""

    name = "part.delta"
    history_version: int
    attempt: int
    seq: int
    deltas: tuple[Delta, ...]
    response_id: ResponseId | None = None
    """What the provider calls the answer: in the first event of the episode that knows it, so that
    the message has it as well if nobody is left who streams."""


class PreviewReset(Event, frozen=True, kw_only=True):
    """What the episode has streamed so far is dropped. Reserved: another episode says so today."""

    name = "preview.reset"
    history_version: int
    attempt: int


class ToolProgress(Event, frozen=True, omit_defaults=True, kw_only=True):
    """A running tool reports; text is for people and may be skipped without loss."""

    name = "tool.progress"
    history_version: int
    call_id: str
    tool: str
    seq: int
    text: str


class RetryScheduled(DurableEvent, frozen=True, kw_only=True):
    """The attempt failed for a passing reason; the next one starts at `retrying_at`."""

    name = "retry.scheduled"
    history_version: int
    attempt: int
    """The attempt that failed."""
    delay_ms: int
    retrying_at: datetime
    kind: ErrorKind
    message: str


class ChatErrored(DurableEvent, frozen=True, kw_only=True):
    """The turn ended with an error; the chat waits for a person."""

    name = "chat.error"
    error: ChatError


class ActionRequired(DurableEvent, frozen=True, kw_only=True):
    """Client-side tools or approvals are pending."""

    name = "action.required"
    action: PendingAction


class CompactionStarted(DurableEvent, frozen=True, kw_only=True):
    """Older history is being summarised for the model.

    The summary is streamed as deltas of the episode (`history_version`, `attempt`), and is no part
    of the history that people see.
    """

    name = "compaction.started"
    source: CompactionSource
    history_version: int
    attempt: int


class CompactionFinished(DurableEvent, frozen=True, omit_defaults=True, kw_only=True):
    """The summary is in place, or could not be made and nothing has changed."""

    name = "compaction.finished"
    succeeded: bool
    error: ChatError | None = None
    """Why not."""


class UsageRecorded(DurableEvent, frozen=True, omit_defaults=True, kw_only=True):
    """Tokens that a step used."""

    name = "usage.recorded"
    message_id: MessageId
    model: ModelName
    usage: Usage
    cost: int | None = None
    """As of `Message`."""


class DesktopControlChanged(Event, frozen=True, omit_defaults=True, kw_only=True):
    """Another one holds the input of the chat's desktop: a person, or again the agent."""

    name = "desktop.control_changed"
    control: DesktopControl


class WorkspaceDiffChanged(Event, frozen=True, omit_defaults=True, kw_only=True):
    """Something was changed in the repositories of the chat's workspace.

    `GET /workspaces/{id}/diff` has the changes themselves.
    """

    name = "workspace.diff"
    workspace_id: str
    digest: str
    """Of all changes; the same as that of the diff."""
    repositories: tuple[RepositorySummary, ...]


class StreamSync(Event, frozen=True, omit_defaults=True, kw_only=True):
    """First on every SSE stream, and again after a gap. Never in the log.

    With a snapshot, everything before is replaced by it. Without one, the stream goes on after the
    reader's cursor.
    """

    name = "stream.sync"
    epoch: str
    position: int
    """The log sequence that the reader has after this event."""
    head: int
    """The newest sequence of the chat when the stream was attached."""
    snapshot: ChatSnapshot | None = None


class StreamGap(Event, frozen=True, kw_only=True):
    """The reader's cursor cannot be resumed; a `stream.sync` with a snapshot follows."""

    name = "stream.gap"
    reason: Literal["epoch", "expired", "ahead"]
    requested: str


CHAT_EVENTS: Final[tuple[type[Event], ...]] = (
    ChatCreated,
    ChatUpdated,
    ChatArchived,
    ChatUnarchived,
    ChatDeleted,
    ChatStatusChanged,
    MessageCreated,
    MessageUpdated,
    HistoryReset,
    QueueUpdated,
    AttemptStarted,
    PartDelta,
    PreviewReset,
    ToolProgress,
    RetryScheduled,
    ChatErrored,
    ActionRequired,
    CompactionStarted,
    CompactionFinished,
    UsageRecorded,
    DesktopControlChanged,
    WorkspaceDiffChanged,
    StreamSync,
    StreamGap,
)
EVENTS: Final[dict[str, type[Event]]] = {event.name: event for event in CHAT_EVENTS}

RESERVED: Final[frozenset[str]] = frozenset({MessageUpdated.name, PreviewReset.name})
"""Names and rules that readers know, and nobody sends (`docs/decisions/`)."""

EVENT_HEADER: Final = "ce-type"
"""The NATS header that holds the event's name (CloudEvents 1.0, binary mode)."""
