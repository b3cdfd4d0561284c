"""What chats do with their agents: one call of a SQL function each, fenced by the chat's owner."""

from __future__ import annotations

import hashlib

import asyncpg
import msgspec

from steersman_contracts import subjects
from steersman_contracts.errors import InvalidRequest
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import Parts, TextPart, encode_parts
from steersman_contracts.rpc import agents as rpc
from steersman_contracts.rpc.chats import MAX_QUEUED
from steersman_runtime.rpc import RpcServer
from steersman_store.announce import Announcer, announce
from steersman_store.chats import new_chat_id, title_of
from steersman_store.database import Database
from steersman_store.families import Families, announcement_of, states_of
from steersman_store.settings import Settings


class Agents:
    """The handlers of the group `agents`."""

    def __init__(
        self, database: Database, announcer: Announcer, families: Families, settings: Settings
    ) -> None:
        self._database = database
        self._announcer = announcer
        self._families = families
        self._settings = settings

    def serve(self, server: RpcServer) -> None:
        """Answer the methods of this group."""
        server.add(rpc.SPAWN_AGENT, self.spawn)
        server.add(rpc.LOOK_AT_AGENTS, self.look)
        server.add(rpc.MESSAGE_AGENT, self.message)
        server.add(rpc.INTERRUPT_AGENT, self.interrupt)

    async def spawn(self, request: rpc.SpawnAgent) -> rpc.Spawned:
        if request.share_desktop and request.kind != "computer_use":
            raise InvalidRequest(
                f"an agent of the type {request.kind} uses no desktop", field="share_desktop"
            )
        parts: Parts = (TextPart(request.prompt),)
        agent_id = new_chat_id()
        row = await self._database.row(
            "SELECT * FROM spawn_agent("
            "$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
            *_caller(request.caller),
            request.call.message_id,
            request.call.call_id,
            agent_id,
            subjects.partition(agent_id),
            encode_parts(parts).decode(),
            request.title or title_of(parts),
            request.kind,
            request.model,
            request.effort,
            request.detached,
            self._settings.max_agent_depth,
            self._settings.max_agents,
            request.share_desktop,
        )
        assert row is not None  # a function call always has a row
        spawned = msgspec.json.decode(row["reply"], type=rpc.Spawned)
        announce(self._announcer, spawned.agent_id, announcement_of(row))
        return spawned

    async def look(self, request: rpc.LookAtAgents) -> rpc.AgentList:
        rows = await self._database.rows(
            "SELECT * FROM look_at_agents($1, $2, $3)",
            *_caller(request.caller),
            request.agent_ids,
        )
        return rpc.AgentList(states_of(rows))

    async def message(self, request: rpc.MessageAgent) -> rpc.AgentMessaged:
        row = await self._database.row(
            "SELECT * FROM message_agent($1, $2, $3, $4, $5, $6, $7)",
            *_caller(request.caller),
            request.agent_id,
            encode_parts((TextPart(request.text),)).decode(),
            request.busy_behavior,
            _key(request.caller, request.call),
            MAX_QUEUED,
        )
        self._tell(request.agent_id, row, stops=request.busy_behavior == "interrupt")
        assert row is not None  # a function call always has a row
        return msgspec.json.decode(row["reply"], type=rpc.AgentMessaged)

    async def interrupt(self, request: rpc.InterruptAgent) -> rpc.AgentInterrupted:
        row = await self._database.row(
            "SELECT * FROM interrupt_agent($1, $2, $3, $4)",
            *_caller(request.caller),
            request.agent_id,
            _key(request.caller, request.call),
        )
        self._tell(request.agent_id, row, stops=True)
        assert row is not None  # a function call always has a row
        return msgspec.json.decode(row["reply"], type=rpc.AgentInterrupted)

    def _tell(self, agent_id: ChatId, row: asyncpg.Record | None, *, stops: bool) -> None:
        assert row is not None  # a function call always has a row
        what = announcement_of(row)
        announce(self._announcer, agent_id, what)
        if what.hint:
            self._families.begun(agent_id, row["reply"])
        if stops:
            self._families.stopped(agent_id)


def _caller(caller: rpc.Caller) -> tuple[str, str]:
    return caller.chat_id, caller.runner_id


def _key(caller: rpc.Caller, call: rpc.AgentCall) -> str:
    """The client key of what a call does to an agent: the same for whoever runs the call again."""
    text = f"{caller.chat_id}/{call.message_id}/{call.call_id}"
    return hashlib.sha256(text.encode()).hexdigest()
