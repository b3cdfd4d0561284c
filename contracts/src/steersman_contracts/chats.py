"""Chats and their messages, as every service and every client sees them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, TypeAlias

import msgspec

from steersman_contracts.ids import (
    TOOL_NAME_PATTERN,
    ChatId,
    MessageId,
    ModelName,
    QueuedId,
    UserId,
    Uuid,
)
from steersman_contracts.model_options import Effort
from steersman_contracts.parts import CONTENT_VERSION, JsonObject, Parts, ToolCallPart
from steersman_contracts.policies import PendingApproval
from steersman_contracts.terms import LimitReached, Plan, TurnLimits


class Status(StrEnum):
    """Where a chat stands. `archived` is a flag of its own, and the queue is empty or not."""

    WAITING = "waiting"
    """Idle: a person's turn."""
    RUNNING = "running"
    INTERRUPTING = "interrupting"
    """An interrupt was asked for; the owner is saving what was produced."""
    REQUIRES_ACTION = "requires_action"
    """Client-side tools or approvals are pending."""
    ERROR = "error"
    """The turn ended with `last_error`; the next message starts a new one."""


class Transition(StrEnum):
    """Everything that can happen to a chat. What is not in the table of the store is refused."""

    CREATE = "create"
    UPDATE = "update"
    SEND_MESSAGE = "send_message"
    EDIT_MESSAGE = "edit_message"
    DELETE_QUEUED = "delete_queued"
    PROMOTE_QUEUED = "promote_queued"
    EDIT_QUEUED = "edit_queued"
    REORDER_QUEUE = "reorder_queue"
    INTERRUPT = "interrupt"
    SUBMIT_TOOL_RESULTS = "submit_tool_results"
    RESOLVE_APPROVAL = "resolve_approval"
    RESOLVE_WAIT = "resolve_wait"
    REQUEST_COMPACTION = "request_compaction"
    UNDO_COMPACTION = "undo_compaction"
    CLEAR_CONTEXT = "clear_context"
    ARCHIVE = "archive"
    UNARCHIVE = "unarchive"
    DELETE = "delete"
    ACQUIRE = "acquire"
    ABANDON = "abandon"
    BEGIN_ATTEMPT = "begin_attempt"
    RECORD_RETRY = "record_retry"
    COMMIT_STEP = "commit_step"
    BEGIN_COMPACTION = "begin_compaction"
    COMMIT_COMPACTION = "commit_compaction"
    FAIL_COMPACTION = "fail_compaction"
    ENTER_REQUIRES_ACTION = "enter_requires_action"
    RESUME = "resume"
    FINISH_TURN = "finish_turn"
    FINISH_INTERRUPTION = "finish_interruption"
    FINISH_ERROR = "finish_error"
    CANCEL_REQUIRES_ACTION = "cancel_requires_action"


class Role(StrEnum):
    """Who speaks. Results of local tools have the role `tool`."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class Visibility(StrEnum):
    """Who sees a message: the person, the model, or both."""

    USER = "user"
    MODEL = "model"
    BOTH = "both"


ErrorKind: TypeAlias = Literal[
    "overloaded",
    "rate_limit",
    "usage_limit",
    "auth",
    "config",
    "context_overflow",
    "timeout",
    "content_filter",
    "provider_disabled",
    "missing_key",
    "generic",
]

StopReason: TypeAlias = Literal[
    "end",
    "tool-calls",
    "max-tokens",
    "stop-sequence",
    "pause",
    "refusal",
    "content-filter",
    "context-window",
    "interrupted",
    "unknown",
]

Outcome: TypeAlias = Literal[
    "completed", "interrupted", "error", "step_limit", "action_expired", "loop"
]
"""How the last turn ended. An interrupted turn never looks like a completed one."""

Boundary: TypeAlias = Literal["clear", "summary", "summary-at-rest"]
"""What a message is to the model beside its text: older history than the newest one is not sent.

`clear` marks a place and is not sent itself. A `summary` is sent in place of what was before it;
the model goes on after it, unless it was written `at-rest`, when there was nothing to answer.
"""

CompactionSource: TypeAlias = Literal["automatic", "manual"]
AgentKind: TypeAlias = Literal["general", "explore", "computer_use"]
"""What an agent is for: everything its parent may do, looking around only, or using a desktop."""
TitleSource: TypeAlias = Literal["auto", "generated", "person"]
"""Where a title comes from: the first words, a model, or a person; it is only ever replaced by one
that is further on in this list, unless a person asks for another."""


ResponseId: TypeAlias = Annotated[str, msgspec.Meta(max_length=200)]


class ChatError(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a turn ended in the status `error`. `kind` is a contract, `message` is for people."""

    kind: ErrorKind
    message: Annotated[str, msgspec.Meta(max_length=1000)]
    detail: Annotated[str, msgspec.Meta(max_length=500)] = ""
    provider: str = ""
    status_code: int | None = None
    retryable: bool = False


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens of one step. Cached tokens are part of the input, reasoning is part of the output."""

    input_tokens: int = 0
    """The whole prompt, cached or not."""
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message of the history. Never changed or removed but by a transition."""

    id: MessageId
    role: Role
    parts: Parts
    revision: int
    """The snapshot version at which the message last changed."""
    created_at: datetime
    visibility: Visibility = Visibility.BOTH
    model: ModelName | None = None
    usage: Usage | None = None
    stop: StopReason | None = None
    content_version: Literal[1] = CONTENT_VERSION
    """Readers refuse a version that they do not know: half of a message would look whole."""
    boundary: Boundary | None = None
    cost: int | None = None
    """Micro-units of the currency that the step cost; None where that is not known."""
    response_id: ResponseId | None = None
    """What the provider calls this answer, for questions to its support."""
    truncated: bool = False
    """The parts were too large for the event log and are left out; read the message over REST."""
    deleted: bool = False
    """A tombstone, seen only by readers that ask for changes after a revision."""


class QueuedMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A user message that was accepted while a turn ran, and waits for its own."""

    id: QueuedId
    parts: Parts
    created_at: datetime


class ClientTool(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool that a client runs: calls of it pause the chat until the results are submitted."""

    name: Annotated[str, msgspec.Meta(pattern=TOOL_NAME_PATTERN)]
    description: Annotated[str, msgspec.Meta(max_length=10_000)]
    input_schema: JsonObject
    """JSON Schema of an object."""


class PendingWait(msgspec.Struct, frozen=True, omit_defaults=True):
    """A call that waits for agents of the chat; nobody but they and the clock can answer it."""

    call_id: str
    agent_ids: tuple[ChatId, ...]
    deadline: datetime
    """After this moment the call is answered with how far they are."""


class PendingAction(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a chat in the status `requires_action` waits for."""

    calls: tuple[ToolCallPart, ...]
    """Calls of client-side tools that have no result yet."""
    expires_at: datetime
    """After this moment the calls are answered with errors and the turn ends."""
    approvals: tuple[PendingApproval, ...] = ()
    """Calls that wait for a person to allow or refuse them."""
    waits: tuple[PendingWait, ...] = ()
    """Calls that wait for agents."""

    @property
    def needs_client(self) -> bool:
        """Whether it waits for a client or a person, and not for agents alone."""
        return bool(self.calls or self.approvals or self.limit)

    limit: LimitReached | None = None
    """The turn, or agents that it waits for, do not go on because of this: raise the limit, or end
    the turn."""


class Chat(msgspec.Struct, frozen=True, omit_defaults=True):
    """The durable conversation, without its messages."""

    id: ChatId
    owner_id: UserId
    title: str
    model: ModelName
    status: Status
    created_at: datetime
    updated_at: datetime
    snapshot_version: int
    """Grows by one with every transaction that changes the chat; orders everything."""
    history_version: int
    """The snapshot version at which the message history last changed."""
    queue_version: int = 0
    generation_attempt: int = 0
    """Model attempts since the history last changed."""
    archived: bool = False
    queue_size: int = 0
    system_prompt: str = ""
    last_error: ChatError | None = None
    last_outcome: Outcome | None = None
    action: PendingAction | None = None
    labels: dict[str, str] = {}
    pin_position: int | None = None
    has_unread: bool = False
    """There is an answer that the owner has not read."""
    title_source: TitleSource = "auto"
    effort: Effort | None = None
    """How hard its model thinks, but never more than that model may; None: the model's own."""
    cost_micros: int = 0
    """What its steps have cost together, in micro-units of the currency; also edited-away ones."""
    cost_unknown_steps: int = 0
    """Steps, and attempts of which nothing was stored, whose cost is not known: it is missing in
    the sum."""
    workspace_id: str | None = None
    """Where its tools act, and those of its descendants; without one, in a directory of its own."""
    mcp_server_ids: tuple[Uuid, ...] | None = None
    """The MCP servers that it has chosen; null is those that are on by default."""
    parent_id: ChatId | None = None
    """The chat that has spawned it as an agent; None for a chat of a person."""
    root_id: ChatId | None = None
    """The chat at the top of the tree; None if that is this one."""
    agent_kind: AgentKind | None = None
    detached: bool = False
    """An agent that goes on when its parent is interrupted, archived or deleted."""
    tree_cost_micros: int = 0
    """What it and all agents below it have cost together; of a root, deleted ones included."""
    plan_mode: bool = False
    """Only tools that change nothing, until a plan is approved."""
    plan: Plan | None = None
    """The newest plan that was proposed."""
    limits: TurnLimits | None = None
    response_schema: JsonObject | None = None
    """JSON Schema of the final answer of each turn."""


class Preview(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an episode has streamed so far: thrown away once its step is committed."""

    history_version: int
    attempt: int
    seq: int
    """The last delta event that is contained in `parts`."""
    parts: Parts
    indexes: tuple[int, ...] = ()
    """The index of each part in the episode, which later deltas name: parts that are still empty
    are left out, so the numbers may have holes. Empty means 0, 1, 2 …"""
    response_id: ResponseId | None = None
    """What the provider calls this answer, if it has said so by now."""


class PendingRetry(msgspec.Struct, frozen=True, omit_defaults=True):
    """The last attempt failed for a passing reason; the next one starts at `retrying_at`."""

    attempt: int
    """The attempt that failed."""
    delay_ms: int
    retrying_at: datetime
    kind: ErrorKind
    message: str


class ChatSnapshot(msgspec.Struct, frozen=True, omit_defaults=True):
    """A chat as a client needs it to begin watching."""

    chat: Chat
    messages: tuple[Message, ...]
    """The newest messages, oldest first."""
    has_more: bool = False
    """There are older messages than these; ask for them with `before_id`."""
    queue: tuple[QueuedMessage, ...] = ()
    preview: Preview | None = None
    retry: PendingRetry | None = None
    """Set while a running turn waits for its next attempt."""
