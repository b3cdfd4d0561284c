"""Calls about rules for tool calls, decisions about them, and the audit."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote, urlencode

from steersman.client.exchange import Exchange
from steersman_contracts.chats import Chat
from steersman_contracts.ids import ChatId
from steersman_contracts.policies import Level, Scope
from steersman_contracts.rest import (
    ApprovalBody,
    AuditList,
    DryRunBody,
    GrantList,
    PolicyBody,
    RuleInput,
)
from steersman_contracts.rpc.policies import DryRunReport, Policy


class RuleCalls:
    """Part of `Client`."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def resolve_approval(
        self,
        chat_id: ChatId,
        call_id: str,
        *,
        approved: bool,
        scope: Scope = "once",
        reason: str = "",
    ) -> Chat:
        """Allow or refuse a tool call that a chat waits for."""
        path = f"/chats/{chat_id}/approvals/{quote(call_id, safe='')}"
        return await self._exchange.call("POST", path, Chat, ApprovalBody(approved, scope, reason))

    async def get_policy(self, level: Level, chat_id: ChatId | None = None) -> Policy:
        """The rules of the deployment, your own, or those of a chat."""
        return await self._exchange.get(_path(level, chat_id), Policy)

    async def put_policy(
        self,
        level: Level,
        rules: Sequence[RuleInput],
        *,
        chat_id: ChatId | None = None,
        version: int | None = None,
    ) -> Policy:
        """Replace the rules of one level; with `version`, only if nobody else was faster."""
        body = PolicyBody(tuple(rules), version)
        return await self._exchange.call("PUT", _path(level, chat_id), Policy, body)

    async def dry_run_policy(
        self, chat_id: ChatId, level: Level, rules: Sequence[RuleInput]
    ) -> DryRunReport:
        """What a draft of rules would have done to the calls of a chat. Changes nothing."""
        path = f"/chats/{chat_id}/policy/dry-run"
        body = DryRunBody(tuple(rules), level)
        return await self._exchange.call("POST", path, DryRunReport, body, repeatable=True)

    async def list_grants(self) -> GrantList:
        """What you have allowed beyond single calls, newest first."""
        return await self._exchange.get("/grants", GrantList)

    async def revoke_grant(self, tool: str, chat_id: ChatId | None = None) -> None:
        """Have a tool asked about again: in one chat, or wherever it was allowed always."""
        query = {"tool": tool} | ({} if chat_id is None else {"chat_id": chat_id})
        await self._exchange.delete(f"/grants?{urlencode(query)}")

    async def list_audit(self, *, before: int | None = None, limit: int = 50) -> AuditList:
        """Who decided what, newest first."""
        return await self._exchange.get("/audit", AuditList, before=before, limit=limit)


def _path(level: Level, chat_id: ChatId | None) -> str:
    return f"/chats/{chat_id}/policy" if level == "chat" else f"/policies/{level}"
