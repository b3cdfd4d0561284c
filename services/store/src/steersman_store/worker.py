"""What chatloops do with the chats that they own: one call of a SQL function each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Final

import asyncpg
import msgspec

from steersman_contracts.chats import AgentKind, ClientTool, Status
from steersman_contracts.errors import InvalidRequest, NotFound, StaleFence
from steersman_contracts.ids import ChatId, ModelName, UserId
from steersman_contracts.model_options import Effort, ModelSettings
from steersman_contracts.parts import ToolResultPart, encode_parts, strip_internal
from steersman_contracts.policies import LevelRules, RuleFacts
from steersman_contracts.rpc import Nothing
from steersman_contracts.rpc import worker as rpc
from steersman_contracts.rpc.steering import PAUSE_TURN, PROPOSE_PLAN, PauseTurn, ProposePlan
from steersman_contracts.terms import Terms
from steersman_runtime.rpc import RpcServer
from steersman_store.announce import Announcer
from steersman_store.database import Database, json_text
from steersman_store.families import Families
from steersman_store.people import admins_only
from steersman_store.providers import open_headers
from steersman_store.secrets import Vault, account_of

MAX_PAGE_BYTES: Final = 600_000
"""Bytes of history in one reply; NATS refuses messages above 1 MB unless told otherwise."""

_CHAT: Final = (
    "chat, messages, complete, released, model, provider_id, provider_type, model_id, base_url, "
    "api_key, context_limit, max_output_tokens, tools, disabled, headers, settings, region, "
    "project, reached, summary_limit"
)


class _ChatRow(msgspec.Struct):
    """`OwnedChat` without its model, as the SQL functions build it."""

    chat_id: ChatId
    owner_id: UserId
    status: Status
    snapshot_version: int
    history_version: int
    generation_attempt: int
    system_prompt: str
    steps: int
    attempt_started_at: datetime | None
    client_tools: tuple[ClientTool, ...]
    begun: bool
    compaction_requested: bool
    approved: tuple[str, ...]
    results: tuple[ToolResultPart, ...]
    policies: tuple[LevelRules, ...]
    grants: tuple[str, ...]
    facts: RuleFacts | None
    has_own_tools: bool
    no_workspace: bool
    parent_id: ChatId | None
    agent_kind: AgentKind | None
    effort: Effort | None
    depth: int
    terms: Terms
    calls_era: str | None


class _RawContext(msgspec.Struct):
    chat: rpc.OwnedChat
    messages: msgspec.Raw
    complete: bool


class _RawCommitted(msgspec.Struct):
    chat: rpc.OwnedChat
    messages: msgspec.Raw
    released: bool


_decode_chat = msgspec.json.Decoder(_ChatRow).decode
_encode = msgspec.json.Encoder().encode


class Worker:
    """The handlers of the group `worker`."""

    def __init__(
        self,
        database: Database,
        announcer: Announcer,
        vault: Vault,
        families: Families,
        *,
        max_agent_depth: int,
    ) -> None:
        self._database = database
        self._announcer = announcer
        self._vault = vault
        self._families = families
        self._max_agent_depth = max_agent_depth

    def serve(self, server: RpcServer) -> None:
        """Answer the methods of this group."""
        server.add(rpc.ACQUIRE, self.acquire)
        server.add(rpc.LOAD_HISTORY, self.load_history)
        server.add(rpc.BEGIN_ATTEMPT, self.begin_attempt)
        server.add(rpc.RECORD_RETRY, self.record_retry)
        server.add(rpc.COMMIT_STEP, self.commit_step)
        server.add(rpc.ENTER_REQUIRES_ACTION, self.enter_requires_action)
        server.add(rpc.BEGIN_COMPACTION, self.begin_compaction)
        server.add(rpc.COMMIT_COMPACTION, self.commit_compaction)
        server.add(rpc.FAIL_COMPACTION, self.fail_compaction)
        server.add(rpc.FINISH_TURN, self.finish_turn)
        server.add(rpc.FINISH_INTERRUPTION, self.finish_interruption)
        server.add(rpc.FINISH_ERROR, self.finish_error)
        server.add(rpc.ABANDON, self.abandon)
        server.add(rpc.RENEW, self.renew)
        server.add(rpc.MODEL_ACCESS, self.model_access)
        server.add(rpc.PROVIDER_ACCESS, self.provider_access)
        server.add(rpc.PROVIDER_TYPES, self.provider_types)
        server.add(PAUSE_TURN, self.pause_turn)
        server.add(PROPOSE_PLAN, self.propose_plan)

    async def acquire(self, request: rpc.Acquire) -> msgspec.Raw:
        row = await self._row(
            f"SELECT {_CHAT} FROM acquire($1, $2, $3, $4, $5, $6)",  # constant columns
            request.chat_id,
            request.runner_id,
            request.lease_s,
            request.known_revision,
            MAX_PAGE_BYTES,
            request.begin,
        )
        context = _RawContext(
            self._owned(row), msgspec.Raw(row["messages"].encode()), row["complete"]
        )
        return msgspec.Raw(_encode(context))

    async def load_history(self, request: rpc.LoadHistory) -> msgspec.Raw:
        return await self._database.raw(
            "SELECT load_history($1, $2, $3, $4, $5)",
            request.chat_id,
            request.runner_id,
            *request.after,
            MAX_PAGE_BYTES,
        )

    async def begin_attempt(self, request: rpc.BeginAttempt) -> msgspec.Raw:
        reply = await self._database.raw(
            "SELECT begin_attempt($1, $2, $3, $4)", *_fence(request.fence)
        )
        self._announcer.changed(request.fence.chat_id)
        return reply

    async def record_retry(self, request: rpc.RecordRetry) -> Nothing:
        await self._database.value(
            "SELECT record_retry($1, $2, $3, $4, $5, $6, $7, $8)",
            *_fence(request.fence),
            request.attempt,
            request.delay_ms,
            request.error.kind,
            request.error.message,
        )
        self._announcer.changed(request.fence.chat_id)
        return Nothing()

    async def commit_step(self, request: rpc.CommitStep) -> msgspec.Raw:
        return await self._commit(
            f"SELECT {_CHAT} FROM commit_step($1, $2, $3, $4, $5, $6)",
            request.fence,
            _columns(request.messages),
            request.begin,
        )

    async def enter_requires_action(self, request: rpc.EnterRequiresAction) -> msgspec.Raw:
        results = {result.call_id: result for result in request.results}
        pending = tuple(call for call in request.calls if call.call_id not in results)
        if not pending:
            raise InvalidRequest("no call is pending", field="results")
        asks = {approval.call_id: approval for approval in request.approvals}
        waits = [w for w in request.waits if w.call_id not in results and w.call_id not in asks]
        others = {*asks, *(wait.call_id for wait in waits)}
        of_client = tuple(call for call in pending if call.call_id not in others)
        reply = await self._commit(
            f"SELECT {_CHAT} FROM enter_requires_action("
            "$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
            request.fence,
            [call.call_id for call in request.calls],
            [call.tool for call in request.calls],
            [
                # They become a message without another look at them.
                json_text(strip_internal((results[call.call_id],))[0])
                if call.call_id in results
                else None
                for call in request.calls
            ],
            [
                json_text(asks[call.call_id]) if call.call_id in asks else None
                for call in request.calls
            ],
            encode_parts(strip_internal(of_client)).decode(),
            request.expires_s,
            [wait.call_id for wait in waits],
            [",".join(wait.agent_ids) for wait in waits],
            [wait.any_of for wait in waits],
            [wait.timeout_s for wait in waits],
        )
        if waits:  # an agent may have come to its end just before
            self._families.waiting(request.fence.chat_id)
        return reply

    async def pause_turn(self, request: PauseTurn) -> msgspec.Raw:
        reply = await self._commit(
            f"SELECT {_CHAT} FROM pause_turn($1, $2, $3, $4, $5, $6)",
            request.fence,
            json_text(request.reached),
            request.expires_s,
        )
        # A limit above may have been raised while this was written: neither saw the other.
        self._families.limited_anew(request.fence.chat_id)
        return reply

    async def propose_plan(self, request: ProposePlan) -> Nothing:
        await self._database.value(
            "SELECT propose_plan($1, $2, $3, $4)",
            request.chat_id,
            request.runner_id,
            request.call_id,
            request.text.replace("\0", "\ufffd"),
        )
        self._announcer.changed(request.chat_id)
        return Nothing()

    async def begin_compaction(self, request: rpc.BeginCompaction) -> msgspec.Raw:
        reply = await self._database.raw(
            "SELECT begin_compaction($1, $2, $3, $4, $5)", *_fence(request.fence), request.source
        )
        self._announcer.changed(request.fence.chat_id)
        return reply

    async def commit_compaction(self, request: rpc.CommitCompaction) -> msgspec.Raw:
        return await self._commit(
            f"SELECT {_CHAT} FROM commit_compaction($1, $2, $3, $4, $5, $6, $7)",
            request.fence,
            _columns(request.messages),
            request.boundary,
            request.begin,
        )

    async def fail_compaction(self, request: rpc.FailCompaction) -> msgspec.Raw:
        return await self._commit(
            f"SELECT {_CHAT} FROM fail_compaction($1, $2, $3, $4, $5)",
            request.fence,
            json_text(request.error),
        )

    async def finish_turn(self, request: rpc.FinishTurn) -> msgspec.Raw:
        return await self._commit(
            f"SELECT {_CHAT} FROM end_turn($1, $2, $3, $4, $5, 'finish_turn', $6, $7)",
            request.fence,
            _columns(request.messages),
            request.outcome,
            request.begin,
            ends=True,
        )

    async def finish_interruption(self, request: rpc.FinishInterruption) -> msgspec.Raw:
        return await self._commit(
            f"SELECT {_CHAT} FROM "
            "end_turn($1, $2, $3, $4, $5, 'finish_interruption', 'interrupted', false)",
            request.fence,
            _columns(request.messages),
            ends=True,
        )

    async def finish_error(self, request: rpc.FinishError) -> msgspec.Raw:
        return await self._commit(
            f"SELECT {_CHAT} FROM finish_error($1, $2, $3, $4, $5, $6)",
            request.fence,
            _columns(request.messages),
            json_text(request.error),
        )

    async def abandon(self, request: rpc.Abandon) -> Nothing:
        released: bool = await self._database.value(
            "SELECT abandon($1, $2)", request.chat_id, request.runner_id
        )
        if released:
            self._announcer.runnable(request.chat_id)
        return Nothing()

    async def renew(self, request: rpc.Renew) -> msgspec.Raw:
        return await self._database.raw(
            "SELECT renew_leases($1, $2, $3)",
            request.runner_id,
            request.chat_ids,
            request.lease_s,
        )

    async def look_at(self, user_id: UserId, chat_id: ChatId) -> rpc.OwnedChat:
        """A chat as its worker would get it, for somebody who may read it."""
        return self._owned(
            await self._row(f"SELECT {_CHAT} FROM look_at_chat($1, $2)", user_id, chat_id)
        )

    async def access(self, chat_id: ChatId, model: ModelName) -> rpc.ModelAccess:
        """How to reach a model in the name of a chat."""
        return self._access(
            await self._row(f"SELECT {_CHAT} FROM access_for($1, $2)", chat_id, model)
        )

    async def _commit(
        self, query: str, fence: rpc.Fence, *arguments: object, ends: bool = False
    ) -> msgspec.Raw:
        row = await self._row(query, *_fence(fence), *arguments)
        self._announcer.changed(fence.chat_id)
        chat = self._owned(row)
        if row["released"] and chat.parent_id is not None:
            self._families.rested(chat.chat_id)
        if ends and not row["released"] and chat.terms.limited:
            self._families.limited_anew(chat.chat_id)  # the next of its queue begins a turn
        committed = _RawCommitted(chat, msgspec.Raw(row["messages"].encode()), row["released"])
        return msgspec.Raw(_encode(committed))

    async def _row(self, query: str, *arguments: object) -> asyncpg.Record:
        row = await self._database.row(query, *arguments)
        assert row is not None  # a function call always has a row
        return row

    def _owned(self, row: asyncpg.Record) -> rpc.OwnedChat:
        chat = _decode_chat(row["chat"])
        return rpc.OwnedChat(
            chat_id=chat.chat_id,
            owner_id=chat.owner_id,
            status=chat.status,
            snapshot_version=chat.snapshot_version,
            history_version=chat.history_version,
            generation_attempt=chat.generation_attempt,
            model=msgspec.structs.replace(self._access(row), summary_limit=row["summary_limit"]),
            system_prompt=chat.system_prompt,
            steps=chat.steps,
            attempt_started_at=chat.attempt_started_at,
            client_tools=chat.client_tools,
            begun=chat.begun,
            compaction_requested=chat.compaction_requested,
            approved=chat.approved,
            results=chat.results,
            policies=chat.policies,
            grants=chat.grants,
            facts=chat.facts or RuleFacts(),
            effort=chat.effort,
            has_own_tools=chat.has_own_tools,
            no_workspace=chat.no_workspace,
            parent_id=chat.parent_id,
            agent_kind=chat.agent_kind,
            may_spawn=chat.depth < self._max_agent_depth,
            terms=chat.terms,
            calls_era=chat.calls_era,
        )

    async def model_access(self, request: rpc.GetModelAccess) -> rpc.Access:
        row = await self._database.row(
            "SELECT $3::text AS model, m.provider_id, p.type AS provider_type, m.model_id, "
            "p.base_url, p.api_key, p.headers, m.context_limit, m.max_output_tokens, m.tools, "
            "m.settings, obstacle(m, p) AS disabled, p.region, p.project, "
            "p.unreached_since IS NULL AS reached FROM chats c "
            "LEFT JOIN models m ON m.name = $3 LEFT JOIN providers p ON p.id = m.provider_id "
            "WHERE c.id = $1 AND c.runner_id = $2",
            request.chat_id,
            request.runner_id,
            request.model,
        )
        if row is None:
            raise StaleFence("the chat has moved on", owned=False)
        return rpc.Access(self._access(row))

    async def provider_access(self, request: rpc.GetProviderAccess) -> rpc.Access:
        admins_only(request.actor)
        row = await self._database.row(
            "SELECT '' AS model, id AS provider_id, type AS provider_type, '' AS model_id, "
            "base_url, api_key, headers, NULL AS context_limit, 32000 AS max_output_tokens, "
            "false AS tools, '{}'::json AS settings, "
            "CASE WHEN lacks_key(p) THEN 'missing_key' END AS disabled, region, project, "
            "unreached_since IS NULL AS reached "
            "FROM providers p WHERE id = $1",
            request.provider_id,
        )
        if row is None:
            raise NotFound(f"no provider {request.provider_id!r}", provider_id=request.provider_id)
        return rpc.Access(self._access(row))

    async def provider_types(self, _: rpc.ListProviderTypes) -> rpc.ProviderTypes:
        rows = await self._database.rows(
            "SELECT DISTINCT p.type FROM models m JOIN providers p ON p.id = m.provider_id "
            "WHERE obstacle(m, p) IS NULL ORDER BY p.type",
        )
        return rpc.ProviderTypes(tuple(row["type"] for row in rows))

    def _access(self, row: asyncpg.Record) -> rpc.ModelAccess:
        if row["provider_type"] is None:  # removed since the chat chose it
            return rpc.ModelAccess(row["model"], "openai-chat", "", "", disabled="config")
        sealed: bytes | None = row["api_key"]
        key = None if sealed is None else self._vault.open(sealed, row["provider_id"])
        sealed_headers: bytes | None = row["headers"]
        return rpc.ModelAccess(
            name=row["model"],
            provider_type=row["provider_type"],
            provider_id=row["provider_id"],
            model_id=row["model_id"],
            base_url=row["base_url"],
            api_key=key,
            account=account_of(row["base_url"], key),
            context_limit=row["context_limit"],
            max_output_tokens=row["max_output_tokens"],
            tools=row["tools"],
            headers=(
                {}
                if sealed_headers is None
                else open_headers(self._vault, sealed_headers, row["provider_id"])
            ),
            settings=_settings(row["settings"]),
            disabled=row["disabled"],
            region=row["region"],
            project=row["project"],
            reached=row["reached"],
        )


@lru_cache(maxsize=256)
def _settings(text: str) -> ModelSettings:
    """Read what was checked when it was written; the same few again and again."""
    return msgspec.json.decode(text, type=ModelSettings)


def _fence(fence: rpc.Fence) -> tuple[str, str, int, str]:
    return fence.chat_id, fence.runner_id, fence.history_version, fence.status.value


def _columns(messages: Sequence[rpc.NewMessage]) -> tuple[list[str | None], ...]:
    """New messages as the columns of the SQL type `new_messages`."""
    rows = [_column_values(message) for message in messages]
    return tuple([row[i] for row in rows] for i in range(8))


def _column_values(message: rpc.NewMessage) -> tuple[str | None, ...]:
    public = strip_internal(message.parts)
    return (
        message.role.value,
        message.visibility.value,
        encode_parts(message.parts).decode(),
        None if public is message.parts else encode_parts(public).decode(),
        message.model,
        None if message.usage is None else json_text(message.usage),
        message.stop,
        message.response_id,
    )
