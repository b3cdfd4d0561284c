"""Rules about tool calls, and the audit: what people write, checked before it is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import asyncpg
import msgspec

from steersman_contracts.errors import Forbidden, InvalidRequest
from steersman_contracts.ids import ChatId, UserId
from steersman_contracts.parts import Part
from steersman_contracts.policies import LevelRules, Rule, RuleFacts
from steersman_contracts.rpc import Nothing
from steersman_contracts.rpc import policies as rpc
from steersman_runtime.conditions import Conditions
from steersman_runtime.rpc import RpcServer
from steersman_store.database import Database, json_text
from steersman_store.dry_runs import MOST_MESSAGES, Said, Trial, with_draft

_MOST_GRANTS: Final = 1_000
_DRY_RUN_S: Final = 20.0
"""Less than anybody waits for the answer."""

_decode_levels = msgspec.json.Decoder(tuple[LevelRules, ...]).decode
_decode_parts = msgspec.json.Decoder(tuple[Part, ...]).decode
_decode_rules = msgspec.json.Decoder(tuple[Rule, ...]).decode


class Policies:
    """The handlers of the group `policies`."""

    def __init__(self, database: Database, conditions: Conditions) -> None:
        self._database = database
        self._conditions = conditions

    def serve(self, server: RpcServer) -> None:
        """Answer the methods of this group."""
        server.add(rpc.GET, self.get)
        server.add(rpc.PUT, self.put)
        server.add(rpc.DRY_RUN, self.dry_run)
        server.add(rpc.LIST_GRANTS, self.list_grants)
        server.add(rpc.REVOKE_GRANT, self.revoke_grant)
        server.add(rpc.LIST_AUDIT, self.list_audit)

    async def get(self, request: rpc.GetPolicy) -> rpc.Policy:
        subject = _subject(request)
        if request.level == "chat":
            await self._database.value(
                "SELECT (read_chat($1, $2)).id", subject, request.actor.user_id
            )
        row = await self._database.row(
            "SELECT rules::text, version FROM policies "
            "WHERE level = $1 AND subject IS NOT DISTINCT FROM $2",
            request.level,
            subject,
        )
        if row is None:
            return rpc.Policy(request.level, (), 0)
        return rpc.Policy(request.level, _decode_rules(row["rules"]), row["version"])

    async def put(self, request: rpc.PutPolicy) -> rpc.Policy:
        if request.level == "system" and request.actor.role != "admin":
            raise Forbidden("the rules of the deployment are for admins")
        await self._check(request.rules)
        version: int = await self._database.value(
            "SELECT put_policy($1, $2, $3, $4, $5)",
            request.actor.user_id,
            request.level,
            _subject(request),
            json_text(request.rules),
            request.version,
        )
        return rpc.Policy(request.level, request.rules, version)

    async def _check(self, rules: Sequence[Rule]) -> None:
        """Refuse a rule that could never be evaluated.

        Raises:
            InvalidRequest: A condition is not a CEL expression; the message says which and why.
        """
        written = [(number, rule.when) for number, rule in enumerate(rules) if rule.when]
        problems = await self._conditions.problems([when for _, when in written])
        for (number, _), problem in zip(written, problems, strict=True):
            if problem is not None:
                field = f"rules[{number}].when"
                raise InvalidRequest(f"{field} is not a CEL expression: {problem}", field=field)

    async def dry_run(self, request: rpc.DryRun) -> rpc.DryRunReport:
        await self._check(request.rules)
        row = await self._database.row(
            "SELECT policies_of(c)::text AS levels, grants_of(c)::text AS grants, "
            "rule_facts(c)::text AS facts, "
            "(SELECT rules::text FROM policies WHERE level = 'chat' AND subject = c.id) AS own "
            "FROM read_chat($1, $2) c",
            request.chat_id,
            request.actor.user_id,
        )
        assert row is not None  # otherwise the chat is refused
        rows = await self._database.rows(
            "SELECT id, role, content::text, coalesce(cost, 0) AS cost FROM messages "
            "WHERE chat_id = $1 AND deleted_at IS NULL AND role IN ('user', 'assistant') "
            "AND visibility <> 'model' "
            "ORDER BY id DESC LIMIT $2",
            request.chat_id,
            MOST_MESSAGES,
        )
        present = _decode_levels(row["levels"])
        own = None if row["own"] is None else _decode_rules(row["own"])
        draft = with_draft(present, request.level, request.rules, own=own)

        def look() -> Trial:
            return Trial(
                [
                    Said(one["id"], one["role"], _decode_parts(one["content"]), one["cost"])
                    for one in reversed(rows)
                ],
                chat_id=request.chat_id,
                workspace=msgspec.json.decode(row["facts"], type=RuleFacts).workspace,
                present=present,
                draft=draft,
                needing_approval=frozenset(request.needing_approval),
                granted=frozenset(msgspec.json.decode(row["grants"], type=list[str])),
            )

        # Up to 200 calls by up to 600 rules: not while everybody else waits.
        trial = await asyncio.to_thread(look)
        holding = await self._conditions.holding(trial.questions, within_s=_DRY_RUN_S)
        return await asyncio.to_thread(trial.report, holding)

    async def list_grants(self, request: rpc.ListGrants) -> rpc.GrantPage:
        rows = await self._database.rows(
            "SELECT tool, granted_at, chat_id::text FROM grants WHERE user_id = $1 "
            "ORDER BY granted_at DESC, tool, chat_id LIMIT $2",
            request.actor.user_id,
            _MOST_GRANTS + 1,
        )
        grants = tuple(
            rpc.Grant(row["tool"], row["granted_at"], row["chat_id"] and ChatId(row["chat_id"]))
            for row in rows[:_MOST_GRANTS]
        )
        return rpc.GrantPage(grants, len(rows) > _MOST_GRANTS)

    async def revoke_grant(self, request: rpc.RevokeGrant) -> Nothing:
        await self._database.value(
            "SELECT revoke_grant($1, $2, $3)",
            request.actor.user_id,
            request.chat_id,
            request.tool,
        )
        return Nothing()

    async def list_audit(self, request: rpc.ListAudit) -> rpc.AuditPage:
        if request.chat_id is not None and request.actor.role != "admin":
            await self._database.value(
                "SELECT (read_chat($1, $2)).id", request.chat_id, request.actor.user_id
            )
        rows = await self._database.rows(
            "SELECT id, at, actor_id::text, chat_id::text, action, details::text FROM audit a "
            "WHERE ($1::uuid IS NULL OR chat_id = $1) AND ($2::bigint IS NULL OR id < $2) "
            "AND ($3 OR actor_id = $4 OR EXISTS ("
            "SELECT 1 FROM chats c WHERE c.id = a.chat_id AND may_use(c, $4))) "
            "ORDER BY id DESC LIMIT $5",
            request.chat_id,
            request.before,
            request.actor.role == "admin",
            request.actor.user_id,
            request.limit + 1,
        )
        entries = tuple(_entry(row) for row in rows[: request.limit])
        return rpc.AuditPage(entries, len(rows) > request.limit)


def _subject(request: rpc.GetPolicy | rpc.PutPolicy) -> str | None:
    match request.level:
        case "system":
            return None
        case "user":
            return request.actor.user_id
        case "chat":
            if request.chat_id is None:
                raise InvalidRequest("which chat?", field="chat_id")
            return request.chat_id


def _entry(row: asyncpg.Record) -> rpc.AuditEntry:
    return rpc.AuditEntry(
        id=row["id"],
        at=row["at"],
        action=row["action"],
        details=msgspec.json.decode(row["details"]),
        actor_id=None if row["actor_id"] is None else UserId(row["actor_id"]),
        chat_id=None if row["chat_id"] is None else ChatId(row["chat_id"]),
    )
