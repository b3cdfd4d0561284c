"""The rules about tool calls, and the book of what was decided."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec

from steersman_contracts.ids import ChatId, MessageId, UserId
from steersman_contracts.policies import Decision, Level, Rule, Rules
from steersman_contracts.rpc import Actor, Method, Nothing


class GetPolicy(msgspec.Struct, frozen=True, omit_defaults=True):
    """The rules of one level: the deployment's, the actor's own, or those of a chat."""

    actor: Actor
    level: Level
    chat_id: ChatId | None = None
    """Of the level `chat`."""


class PutPolicy(msgspec.Struct, frozen=True, omit_defaults=True):
    """Replace the rules of one level. Those of the deployment are for admins alone."""

    actor: Actor
    level: Level
    rules: Rules
    chat_id: ChatId | None = None
    version: int | None = None
    """What was read; None replaces whatever is there."""


class Policy(msgspec.Struct, frozen=True):
    """The rules of one level, in the order in which they are looked at."""

    level: Level
    rules: tuple[Rule, ...]
    version: int
    """0 when nobody has written any."""


class ListAudit(msgspec.Struct, frozen=True, omit_defaults=True):
    """Entries of the book, newest first. Admins see all, others what concerns their own chats."""

    actor: Actor
    chat_id: ChatId | None = None
    before: int | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=200)] = 50


class AuditEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who did what."""

    id: int
    at: datetime
    action: str
    details: dict[str, Any]
    actor_id: UserId | None = None
    chat_id: ChatId | None = None


class AuditPage(msgspec.Struct, frozen=True):
    """Newest first."""

    entries: tuple[AuditEntry, ...]
    has_more: bool


class ListGrants(msgspec.Struct, frozen=True):
    """What the actor has allowed beyond single calls."""

    actor: Actor


class Grant(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool that is not asked about any more; rules can still refuse it."""

    tool: str
    granted_at: datetime
    chat_id: ChatId | None = None
    """In this chat and its agents; None: in all chats of whoever allowed it."""


class GrantPage(msgspec.Struct, frozen=True):
    """Newest first, at most 1,000."""

    grants: tuple[Grant, ...]
    has_more: bool


class RevokeGrant(msgspec.Struct, frozen=True, omit_defaults=True):
    """Take a grant of the actor's back; it applies from a chat's next step on."""

    actor: Actor
    tool: str
    chat_id: ChatId | None = None


class DryRun(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a draft would have done to the calls that a chat has made. Changes nothing."""

    actor: Actor
    chat_id: ChatId
    level: Level
    rules: Rules
    """In place of those that the level has."""
    needing_approval: tuple[str, ...] = ()
    """Tools that want a person to be asked, where no rule speaks of them."""


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is done with a call, and why."""

    decision: Decision
    reason: str = ""


class JudgedCall(msgspec.Struct, frozen=True):
    """A call of the history, by the rules as they are and as they would be."""

    message_id: MessageId
    call_id: str
    tool: str
    arguments: str
    """JSON, cut where it is long."""
    before: Outcome
    after: Outcome


class DryRunReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """The newest calls of a chat, oldest first.

    Conditions see what they saw at the call; but the cost is that of the steps of this chat alone,
    and the workspace is the one that it has now.
    """

    calls: tuple[JudgedCall, ...]
    changed: int
    """How many would have been decided otherwise."""
    truncated: bool = False
    """There are older calls."""
    without_tools: bool = False
    """The tools did not say which of them want a person to be asked."""


GET: Final = Method("store", "policies.get", GetPolicy, Policy, safe=True)
PUT: Final = Method("store", "policies.put", PutPolicy, Policy)
DRY_RUN: Final = Method("store", "policies.dry_run", DryRun, DryRunReport, 30.0, safe=True)
LIST_GRANTS: Final = Method("store", "policies.grants", ListGrants, GrantPage, safe=True)
REVOKE_GRANT: Final = Method("store", "policies.revoke", RevokeGrant, Nothing)
LIST_AUDIT: Final = Method("store", "policies.audit", ListAudit, AuditPage, safe=True)
