"""The book of workspaces: whose they are, what state they are in, and which chats use them.

Chats are locked before workspaces and those before people, always: nothing here can deadlock.
"""

from __future__ import annotations

import uuid
from typing import Final

import asyncpg
import msgspec
import structlog
from asyncpg.pool import PoolConnectionProxy

from steersman_contracts.errors import Conflict, NotFound, StaleFence
from steersman_contracts.ids import ChatId, UserId
from steersman_contracts.rpc import Actor, Nothing
from steersman_contracts.rpc import workspace_book as rpc
from steersman_contracts.workspaces import Change, Value, Workspace, WorkspaceId, next_state
from steersman_runtime.rpc import RpcServer
from steersman_store.announce import Announcer
from steersman_store.database import Database, json_text

log = structlog.stdlib.get_logger()

LOST: Final = "the tools service stopped during the set-up"
_MOST_CHORES: Final = 20
_COLUMNS: Final = (
    "w.id::text, w.owner_id::text, w.name, w.template, w.driver, w.state, w.reason, w.host, "
    "w.parameters::text, w.environment::text, w.created_at, w.updated_at, w.last_used_at"
)
_DONE_ALREADY: Final[dict[Change, tuple[str, ...]]] = {
    "start": ("running",),
    "stop": ("stopping", "stopped"),
    "delete": ("deleted",),
}
_BY_ITS_HOST: Final = ("finish", "finish_stop")

_decode_parameters = msgspec.json.Decoder(dict[str, Value]).decode
_decode_environment = msgspec.json.Decoder(dict[str, str]).decode


class Workspaces:
    """The handlers of the group `workspaces`."""

    def __init__(self, database: Database, announcer: Announcer) -> None:
        self._database = database
        self._announcer = announcer

    def serve(self, server: RpcServer) -> None:
        """Answer the methods of this group."""
        server.add(rpc.CLAIM, self.claim)
        server.add(rpc.FIND, self.find)
        server.add(rpc.GET, self.get)
        server.add(rpc.LIST, self.list_workspaces)
        server.add(rpc.MOVE, self.move)
        server.add(rpc.ATTACH, self.attach)
        server.add(rpc.LOOK_AFTER, self.look_after)
        server.add(rpc.FORGET, self.forget)
        server.add(rpc.USES, self.uses)

    async def claim(self, request: rpc.Claim) -> rpc.Claimed:
        root: ChatId | None = None
        async with self._database.transaction() as connection:
            if request.chat_id is None:
                assert request.actor is not None  # the tools service asks for a chat or a person
                owner: str = request.actor.user_id
            else:
                chat = await _lock_root(connection, request.chat_id, request.actor)
                root, owner = ChatId(chat["id"]), chat["owner_id"]
                if chat["workspace_id"] is not None:
                    found = await _living(connection, chat["workspace_id"])
                    if found is not None:
                        return found
            await _check_quota(connection, owner, request.quota, kept=1, running=1)
            made = await _insert(connection, owner, request)
            if root is not None:
                await connection.execute("SELECT set_workspace($1, $2)", root, made.id)
        if root is not None:
            self._announcer.changed(root)
        log.info("workspace.claimed", workspace_id=made.id, template=made.template, chat_id=root)
        return rpc.Claimed("new", made)

    async def find(self, request: rpc.FindPlace) -> rpc.Place:
        row = await self._database.row(
            f"SELECT {_COLUMNS}, c.id::text AS root_id, "
            "w.last_used_at < now() - interval '5 seconds' AS rested "
            "FROM chats c LEFT JOIN workspaces w ON w.id = c.workspace_id AND w.state <> 'deleted' "
            "WHERE c.id = root_of($1)",
            request.chat_id,
        )
        if row is None:
            return rpc.Place()
        root = ChatId(row["root_id"])
        if row["id"] is None:
            return rpc.Place(root_id=root)
        if row["rested"]:
            await self._database.value(
                "UPDATE workspaces SET last_used_at = now() WHERE id = $1", row["id"]
            )
        return rpc.Place(_workspace(row), _decode_environment(row["environment"]), root)

    async def get(self, request: rpc.GetWorkspace) -> Workspace:
        row = await self._database.row(
            f"SELECT {_COLUMNS} FROM workspaces w WHERE id = $1 AND state <> 'deleted'",
            request.workspace_id,
        )
        return _workspace(_owned(row, request))

    async def list_workspaces(self, request: rpc.ListWorkspaces) -> rpc.WorkspaceList:
        rows = await self._database.rows(
            f"SELECT {_COLUMNS} FROM workspaces w WHERE owner_id = $1 AND state <> 'deleted' "
            "ORDER BY created_at DESC, id",
            request.actor.user_id,
        )
        return rpc.WorkspaceList(tuple(map(_workspace, rows)))

    async def move(self, request: rpc.Move) -> rpc.Moved:
        chats: list[ChatId] = []
        async with self._database.transaction() as connection:
            if request.change == "delete":
                chats = await _lock_chats(connection, request.workspace_id)
            row = _owned(await _lock(connection, request.workspace_id), request)
            if row["state"] in _DONE_ALREADY.get(request.change, ()):
                return rpc.Moved(_workspace(row), changed=False)
            state = next_state(row["state"], request.change)
            ends_making = request.change == "fail" and row["state"] == "creating"
            if (request.change in _BY_ITS_HOST or ends_making) and row["host"] != request.host:
                raise StaleFence("another host looks after the workspace now")
            if request.change == "start":
                await _check_quota(connection, row["owner_id"], request.quota, running=1)
            for chat_id in chats:
                await connection.execute("SELECT set_workspace($1, NULL)", chat_id)
            moved = await connection.fetchrow(
                "UPDATE workspaces w SET state = $2, host = $3, reason = $4, updated_at = now(), "
                "last_used_at = CASE WHEN $2 = 'running' THEN now() ELSE last_used_at END "
                f"WHERE id = $1 RETURNING {_COLUMNS}",
                row["id"],
                state,
                request.host,
                request.reason,
            )
        for chat_id in chats:
            self._announcer.changed(chat_id)
        log.info("workspace.moved", workspace_id=row["id"], change=request.change, state=state)
        assert moved is not None  # it is locked
        return rpc.Moved(_workspace(moved), changed=True)

    async def attach(self, request: rpc.Attach) -> Nothing:
        async with self._database.transaction() as connection:
            chat = await _lock_root(connection, request.chat_id, request.actor)
            if request.workspace_id is not None:
                row = await connection.fetchrow(
                    f"SELECT {_COLUMNS} FROM workspaces w WHERE id = $1 FOR SHARE",
                    request.workspace_id,
                )
                if row is None or row["state"] == "deleted" or row["owner_id"] != chat["owner_id"]:
                    raise _no_such(request.workspace_id)
                if row["state"] == "failed":
                    raise Conflict("the workspace has failed", reason=row["reason"])
            await connection.execute(
                "SELECT set_workspace($1, $2)", chat["id"], request.workspace_id
            )
        self._announcer.changed(ChatId(chat["id"]))
        return Nothing()

    async def look_after(self, request: rpc.LookAfter) -> rpc.Chores:
        async with self._database.transaction() as connection:
            await connection.execute(
                "UPDATE workspaces SET last_used_at = now() WHERE id = ANY($1::uuid[])",
                list(request.in_use),
            )
            # What a replica had begun when it died.
            await connection.execute(
                "UPDATE workspaces SET state = $1, reason = $2, updated_at = now() "
                "WHERE state = 'creating' AND NOT host_lives(host)",
                next_state("creating", "fail"),
                LOST,
            )
            await connection.execute(
                "UPDATE workspaces SET state = $1, updated_at = now() "
                "WHERE state = 'stopping' AND NOT host_lives(host)",
                next_state("stopping", "finish_stop"),
            )
            idle = await connection.fetch(
                "UPDATE workspaces SET state = $1, host = $2, updated_at = now() WHERE id IN ("
                "SELECT id FROM workspaces WHERE state = 'running' "
                "AND last_used_at < now() - make_interval(secs => $3) "
                "ORDER BY last_used_at LIMIT $4 FOR UPDATE SKIP LOCKED) RETURNING id::text",
                next_state("running", "stop"),
                request.host,
                request.idle_s,
                _MOST_CHORES,
            )
            deleted = await connection.fetch(
                "UPDATE workspaces SET host = $1 WHERE id IN ("
                "SELECT id FROM workspaces WHERE state = 'deleted' "
                "AND (host = $1 OR NOT host_lives(host)) "
                "ORDER BY updated_at LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING id::text",
                request.host,
                _MOST_CHORES,
            )
        return rpc.Chores(
            tuple(WorkspaceId(row["id"]) for row in idle),
            tuple(WorkspaceId(row["id"]) for row in deleted),
        )

    async def forget(self, request: rpc.Forget) -> Nothing:
        async with self._database.transaction() as connection:
            chats = await _lock_chats(connection, request.workspace_id)
            row = await _lock(connection, request.workspace_id)
            if row is None or row["state"] != "deleted":
                return Nothing()
            for chat_id in chats:  # attached while it was being deleted
                await connection.execute("SELECT set_workspace($1, NULL)", chat_id)
            await connection.execute("DELETE FROM workspaces WHERE id = $1", row["id"])
        for chat_id in chats:
            self._announcer.changed(chat_id)
        return Nothing()

    async def uses(self, request: rpc.CountUses) -> rpc.Uses:
        del request
        rows = await self._database.rows("SELECT template, uses FROM template_uses")
        return rpc.Uses({row["template"]: row["uses"] for row in rows})


async def _lock_root(
    connection: PoolConnectionProxy[asyncpg.Record], chat_id: ChatId, actor: Actor | None
) -> asyncpg.Record:
    row = await connection.fetchrow(
        "SELECT id::text, owner_id::text, workspace_id::text FROM chats c "
        "WHERE id = root_of($1) AND ($2::uuid IS NULL OR may_use(c, $2)) FOR UPDATE",
        chat_id,
        None if actor is None else actor.user_id,
    )
    if row is None:
        raise NotFound("no such chat", chat_id=chat_id)
    if actor is not None:
        # Not for a call of a tool: an agent that was detached may outlive what it shares.
        await connection.execute("SELECT check_changeable($1)", [chat_id, row["id"]])
    return row


async def _lock_chats(
    connection: PoolConnectionProxy[asyncpg.Record], workspace_id: str
) -> list[ChatId]:
    rows = await connection.fetch(
        "SELECT id::text FROM chats WHERE workspace_id = $1 ORDER BY id FOR UPDATE", workspace_id
    )
    return [ChatId(row["id"]) for row in rows]


async def _lock(
    connection: PoolConnectionProxy[asyncpg.Record], workspace_id: str
) -> asyncpg.Record | None:
    return await connection.fetchrow(
        f"SELECT {_COLUMNS}, host_lives(w.host) AS lives FROM workspaces w "
        "WHERE id = $1 FOR UPDATE",
        workspace_id,
    )


async def _living(
    connection: PoolConnectionProxy[asyncpg.Record], workspace_id: str
) -> rpc.Claimed | None:
    """The workspace that a chat has, unless it is dead: then it makes room for another."""
    row = await _lock(connection, workspace_id)
    assert row is not None  # the chat refers to it
    if row["state"] in ("running", "stopping", "stopped"):
        return rpc.Claimed("already_exists", _workspace(row))
    if row["state"] == "creating" and row["lives"]:
        return rpc.Claimed("in_progress", _workspace(row))
    if row["state"] != "deleted":
        # The files go with the next round of whoever looks after what is deleted.
        await connection.execute(
            "UPDATE workspaces SET state = $2, updated_at = now() WHERE id = $1",
            row["id"],
            next_state(row["state"], "delete"),
        )
    return None


async def _check_quota(
    connection: PoolConnectionProxy[asyncpg.Record],
    owner: str,
    quota: rpc.Quota,
    *,
    kept: int = 0,
    running: int,
) -> None:
    # One at a time for each person; other rows may go on referring to this one meanwhile.
    await connection.execute("SELECT 1 FROM users WHERE id = $1 FOR NO KEY UPDATE", owner)
    row = await connection.fetchrow(
        "SELECT count(*) AS kept, count(*) FILTER (WHERE state IN ('creating', 'running')) "
        "AS running FROM workspaces WHERE owner_id = $1 AND state NOT IN ('failed', 'deleted')",
        owner,
    )
    assert row is not None  # an aggregate always has a row
    if row["kept"] + kept > quota.kept:
        raise Conflict(
            f"you have {row['kept']} workspaces, which is as many as you may; delete one",
            limit=quota.kept,
        )
    if row["running"] + running > quota.running:
        raise Conflict(
            f"{row['running']} of your workspaces run, which is as many as may; stop one",
            limit=quota.running,
        )


async def _insert(
    connection: PoolConnectionProxy[asyncpg.Record], owner: str, request: rpc.Claim
) -> Workspace:
    row = await connection.fetchrow(
        "INSERT INTO workspaces AS w "
        "(id, owner_id, name, template, driver, parameters, environment, state, host) "
        f"VALUES ($1, $2, $3, $4, $5, $6, $7, 'creating', $8) RETURNING {_COLUMNS}",
        uuid.uuid4(),
        owner,
        request.name or request.template,
        request.template,
        request.driver,
        json_text(request.parameters),
        json_text(request.environment),
        request.host,
    )
    assert row is not None  # it was just inserted
    await connection.execute(
        "INSERT INTO template_uses AS t (template, uses) VALUES ($1, 1) "
        "ON CONFLICT (template) DO UPDATE SET uses = t.uses + 1",
        request.template,
    )
    return _workspace(row)


def _owned(row: asyncpg.Record | None, request: rpc.GetWorkspace | rpc.Move) -> asyncpg.Record:
    if row is None or (request.actor is not None and row["owner_id"] != request.actor.user_id):
        raise _no_such(request.workspace_id)
    return row


def _no_such(workspace_id: str) -> NotFound:
    return NotFound("no such workspace", workspace_id=workspace_id)


def _workspace(row: asyncpg.Record) -> Workspace:
    return Workspace(
        id=WorkspaceId(row["id"]),
        owner_id=UserId(row["owner_id"]),
        name=row["name"],
        template=row["template"],
        driver=row["driver"],
        state=row["state"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        last_used_at=row["last_used_at"],
        parameters=_decode_parameters(row["parameters"]),
        reason=row["reason"],
    )
