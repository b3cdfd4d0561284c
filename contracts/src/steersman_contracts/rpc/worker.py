"""What a chatloop does with the chats that it owns. Every write is fenced."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec

from steersman_contracts.chats import (
    AgentKind,
    ChatError,
    ClientTool,
    CompactionSource,
    Message,
    Outcome,
    ResponseId,
    Role,
    Status,
    StopReason,
    Usage,
    Visibility,
)
from steersman_contracts.ids import ChatId, ModelName, RunnerId, Slug, UserId
from steersman_contracts.model_options import Effort, ModelSettings
from steersman_contracts.parts import Parts, ToolCallPart, ToolResultPart
from steersman_contracts.policies import LevelRules, PendingApproval, RuleFacts
from steersman_contracts.rpc import Actor, Method, Nothing
from steersman_contracts.rpc.models import ProviderType
from steersman_contracts.rpc.tools import Era
from steersman_contracts.terms import Terms


class Fence(msgspec.Struct, frozen=True):
    """What a worker believes about a chat; the store refuses the write when it is no longer so."""

    chat_id: ChatId
    runner_id: RunnerId
    history_version: int
    status: Status


class Acquire(msgspec.Struct, frozen=True, omit_defaults=True):
    """Become the owner of a runnable chat that nobody owns."""

    chat_id: ChatId
    runner_id: RunnerId
    lease_s: Annotated[float, msgspec.Meta(ge=1, le=300)]
    known_revision: int = 0
    """The caller has all messages up to this revision already (0: none)."""
    begin: bool = False
    """Open an episode in the same transaction, if it is the model's turn: see `OwnedChat.begun`."""


class ModelAccess(msgspec.Struct, frozen=True, omit_defaults=True):
    """How to reach the chat's model. Holds the key: it goes to chatloop and nowhere else."""

    name: ModelName
    provider_type: ProviderType
    provider_id: str
    model_id: str
    base_url: str | None = None
    api_key: str | None = None
    account: str = ""
    """A digest of base URL and key, to tell whose encrypted blocks are whose."""
    context_limit: int | None = None
    summary_limit: int | None = None
    """What fits into the model that writes its summaries, if that is another."""
    max_output_tokens: int = 32_000
    tools: bool = True
    headers: dict[str, str] = {}
    """Sent with every request, beside what the wire format needs; may hold secrets."""
    settings: ModelSettings = ModelSettings()
    disabled: Literal["provider_disabled", "missing_key", "config"] | None = None
    """Why the model cannot be called, if it cannot."""
    region: str | None = None
    project: str | None = None
    reached: bool = True
    """Whether a call to the present address of the provider has succeeded."""


class OwnedChat(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the owner needs to know of a chat, besides its messages."""

    chat_id: ChatId
    owner_id: UserId
    status: Status
    snapshot_version: int
    history_version: int
    generation_attempt: int
    model: ModelAccess
    system_prompt: str = ""
    client_tools: tuple[ClientTool, ...] = ()
    steps: int = 0
    """Model steps committed in the present turn."""
    results: tuple[ToolResultPart, ...] = ()
    """Results of calls of the last step that are not in the history yet."""
    approved: tuple[str, ...] = ()
    """Ids of calls of the last step that a person has allowed."""
    policies: tuple[LevelRules, ...] = ()
    grants: tuple[str, ...] = ()
    """Tools that need not be asked about again."""
    facts: RuleFacts = RuleFacts()
    """What the rules look at; told where there are any, in the deployment."""
    terms: Terms = Terms()
    compaction_requested: bool = False
    """A person wants a summary before anything else happens."""
    attempt_started_at: datetime | None = None
    effort: Effort | None = None
    """What the chat asks for in place of the model's own setting."""
    begun: bool = False
    """The transition has opened the episode `generation_attempt` for the caller."""
    has_own_tools: bool = False
    """It may use tools that are not there for every chat: ask for its catalog."""
    no_workspace: bool = False
    """It has no workspace, and there is no other chat from which it could have one."""
    parent_id: ChatId | None = None
    """Whose agent it is; None for a chat of a person."""
    agent_kind: AgentKind | None = None
    may_spawn: bool = False
    """Whether it may have agents of its own."""
    calls_era: Era | None = None
    """When the calls of the last step were stored, if one of them may have begun since."""


class WorkContext(msgspec.Struct, frozen=True, omit_defaults=True):
    """An owned chat and the messages that changed since the revision that the worker knew."""

    chat: OwnedChat
    messages: tuple[Message, ...]
    """Ordered by revision, then id; deleted ones are tombstones."""
    complete: bool = True
    """False: more were changed than fit; ask `load_history` for the rest."""


class LoadHistory(msgspec.Struct, frozen=True):
    """The next page of changed messages of a chat that the caller owns."""

    chat_id: ChatId
    runner_id: RunnerId
    after: tuple[int, int]
    """Revision and id of the last message seen."""


class HistoryPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Ordered by revision, then id."""

    messages: tuple[Message, ...]
    complete: bool = True


class BeginAttempt(msgspec.Struct, frozen=True):
    """Open a new episode."""

    fence: Fence


class AttemptBegun(msgspec.Struct, frozen=True):
    """Deltas of this episode may be published from here on."""

    attempt: int
    snapshot_version: int


class RecordRetry(msgspec.Struct, frozen=True):
    """The attempt failed for a passing reason, and the owner will try again."""

    fence: Fence
    attempt: int
    delay_ms: Annotated[int, msgspec.Meta(ge=0)]
    error: ChatError


class NewMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message to append to the history."""

    role: Role
    parts: Parts
    visibility: Visibility = Visibility.BOTH
    model: ModelName | None = None
    usage: Usage | None = None
    stop: StopReason | None = None
    response_id: ResponseId | None = None


class CommitStep(msgspec.Struct, frozen=True):
    """Append what a step produced: the assistant message, or the results of its tools."""

    fence: Fence
    messages: Annotated[tuple[NewMessage, ...], msgspec.Meta(min_length=1, max_length=50)]
    begin: bool = False
    """The model is called next: open its episode in the same transaction."""


class BeginCompaction(msgspec.Struct, frozen=True):
    """A summary is being written; its deltas are an episode of their own."""

    fence: Fence
    source: CompactionSource


class CommitCompaction(msgspec.Struct, frozen=True, omit_defaults=True):
    """Put a summary before the model in place of what was before it.

    The first message is the boundary; what follows it are messages that are still to be answered,
    and what people see of it.
    """

    fence: Fence
    boundary: Literal["summary", "summary-at-rest"]
    messages: Annotated[tuple[NewMessage, ...], msgspec.Meta(min_length=1, max_length=200)]
    begin: bool = False
    """The model is called next: open its episode in the same transaction."""


class FailCompaction(msgspec.Struct, frozen=True):
    """No summary could be written; nothing changes but that nobody waits for it."""

    fence: Fence
    error: ChatError


class FinishTurn(msgspec.Struct, frozen=True, omit_defaults=True):
    """The model is done. Appends its last messages; the next queued message starts its turn."""

    fence: Fence
    messages: tuple[NewMessage, ...] = ()
    outcome: Outcome = "completed"
    begin: bool = False
    """If a queued message is promoted, open the episode that answers it."""


class FinishInterruption(msgspec.Struct, frozen=True, omit_defaults=True):
    """The interrupted work has stopped. Appends what it produced; then as `FinishTurn`."""

    fence: Fence
    messages: tuple[NewMessage, ...] = ()


class FinishError(msgspec.Struct, frozen=True, omit_defaults=True):
    """The turn ends with an error. Nothing queued is promoted."""

    fence: Fence
    error: ChatError
    messages: tuple[NewMessage, ...] = ()


class AgentWait(msgspec.Struct, frozen=True, omit_defaults=True):
    """A call that is answered by agents of the chat, or when its time is up."""

    call_id: str
    agent_ids: Annotated[tuple[ChatId, ...], msgspec.Meta(min_length=1, max_length=100)]
    timeout_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)]
    any_of: bool = False
    """One that is done is enough."""


class EnterRequiresAction(msgspec.Struct, frozen=True, omit_defaults=True):
    """Wait for results of client-side tools. The chat is nobody's until they are there."""

    fence: Fence
    calls: tuple[ToolCallPart, ...]
    """All local calls of the last step, in order."""
    results: tuple[ToolResultPart, ...] = ()
    """Those that were run on the server; the others are pending."""
    approvals: tuple[PendingApproval, ...] = ()
    """Calls that a person decides about; the other pending ones are the client's to run."""
    expires_s: Annotated[float, msgspec.Meta(gt=0)] = 300.0
    waits: tuple[AgentWait, ...] = ()
    """Calls that wait for agents; they put the end of the action off until they are over."""


class Committed(msgspec.Struct, frozen=True, omit_defaults=True):
    """The chat after the transition."""

    chat: OwnedChat
    messages: tuple[Message, ...]
    """What was appended, and after it a promoted message, if there is one."""
    released: bool = False
    """The caller no longer owns the chat: it rests."""


class Abandon(msgspec.Struct, frozen=True):
    """Give a chat back unfinished; another worker takes it over at once."""

    chat_id: ChatId
    runner_id: RunnerId


class Renew(msgspec.Struct, frozen=True):
    """Renew all leases of a runner in one call."""

    runner_id: RunnerId
    chat_ids: Annotated[tuple[ChatId, ...], msgspec.Meta(max_length=1000)]
    lease_s: Annotated[float, msgspec.Meta(ge=1, le=300)]


class HeldLease(msgspec.Struct, frozen=True):
    """A lease that is still the caller's, with what the caller may have missed."""

    chat_id: ChatId
    status: Status
    history_version: int


class Renewed(msgspec.Struct, frozen=True):
    """Leases that are still held. Every other chat is lost: write nothing more to it."""

    held: tuple[HeldLease, ...]


class Control(msgspec.Struct, frozen=True):
    """Told to the owner of a chat, without a reply: look at the chat again."""

    chat_id: ChatId
    status: Status
    history_version: int
    lost: bool = False
    """It is no longer the runner's: deleted, or started anew from an edited message."""


class GetModelAccess(msgspec.Struct, frozen=True):
    """How to reach another model than the chat's own, for one who owns the chat."""

    chat_id: ChatId
    runner_id: RunnerId
    model: ModelName


class GetProviderAccess(msgspec.Struct, frozen=True):
    """How to reach a provider, to ask for its models; for an admin."""

    actor: Actor
    provider_id: Slug


class Access(msgspec.Struct, frozen=True):
    """The answer to both; of a provider, without a name and a model id."""

    model: ModelAccess


class ListProviderTypes(msgspec.Struct, frozen=True):
    """Ask which types of providers there are that can be called."""


class ProviderTypes(msgspec.Struct, frozen=True):
    """Those with a model that is enabled, and with a key where one is needed; ordered."""

    types: tuple[str, ...]
    """A newer store may know one that the caller does not."""


ACQUIRE: Final = Method("store", "worker.acquire", Acquire, WorkContext)
LOAD_HISTORY: Final = Method("store", "worker.load_history", LoadHistory, HistoryPage, safe=True)
BEGIN_ATTEMPT: Final = Method("store", "worker.begin_attempt", BeginAttempt, AttemptBegun)
RECORD_RETRY: Final = Method("store", "worker.record_retry", RecordRetry, Nothing)
COMMIT_STEP: Final = Method("store", "worker.commit_step", CommitStep, Committed)
ENTER_REQUIRES_ACTION: Final = Method(
    "store", "worker.enter_requires_action", EnterRequiresAction, Committed
)
BEGIN_COMPACTION: Final = Method("store", "worker.begin_compaction", BeginCompaction, AttemptBegun)
COMMIT_COMPACTION: Final = Method("store", "worker.commit_compaction", CommitCompaction, Committed)
FAIL_COMPACTION: Final = Method("store", "worker.fail_compaction", FailCompaction, Committed)
FINISH_TURN: Final = Method("store", "worker.finish_turn", FinishTurn, Committed)
FINISH_INTERRUPTION: Final = Method(
    "store", "worker.finish_interruption", FinishInterruption, Committed
)
FINISH_ERROR: Final = Method("store", "worker.finish_error", FinishError, Committed)
ABANDON: Final = Method("store", "worker.abandon", Abandon, Nothing, safe=True)
RENEW: Final = Method("store", "worker.renew", Renew, Renewed, safe=True)
MODEL_ACCESS: Final = Method("store", "worker.model_access", GetModelAccess, Access, safe=True)
PROVIDER_TYPES: Final = Method(
    "store", "worker.provider_types", ListProviderTypes, ProviderTypes, safe=True
)
PROVIDER_ACCESS: Final = Method(
    "store", "worker.provider_access", GetProviderAccess, Access, safe=True
)
