"""Drives chats by the store's SQL functions alone: many states in one database, at little cost."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable, Collection
from typing import Final, Literal, NamedTuple, TypeAlias

import asyncpg

from steersman_contracts import subjects
from steersman_contracts.chats import Status, Transition
from steersman_contracts.ids import ChatId
from steersman_store.chats import new_chat_id
from support.databases import overdue

RUNNER: Final = "runner-1"
CALL: Final = "call-1"
ASK: Final = json.dumps({"call_id": CALL, "tool": "ask", "arguments": {}})

Action: TypeAlias = Literal["client", "approval", "agents", "limit"]
"""Whom or what a chat in `requires_action` waits for."""


class Case(NamedTuple):
    """A state of a chat, with all that a transition depends on."""

    status: Status
    backlog: bool = False
    action: Action | None = None
    summarised: bool = False
    """The history ends with a summary that nothing has followed."""
    archived: bool = False


_ACTIONS: Final[tuple[Action, ...]] = ("client", "approval", "agents", "limit")
CASES: Final = (
    *(
        Case(Status.WAITING, summarised=summarised, archived=archived)
        for summarised in (False, True)
        for archived in (False, True)
    ),
    *(Case(Status.RUNNING, backlog) for backlog in (False, True)),
    *(Case(Status.INTERRUPTING, backlog) for backlog in (False, True)),
    *(
        Case(Status.REQUIRES_ACTION, backlog, action)
        for action in _ACTIONS
        for backlog in (False, True)
    ),
    *(
        Case(Status.ERROR, backlog, archived=archived)
        for backlog in (False, True)
        for archived in (False, True)
    ),
    Case(Status.ERROR, summarised=True),
)
"""An idle chat has a queue only after an error."""


class Fence(NamedTuple):
    """What a worker believes, as the first arguments of its functions."""

    chat_id: str
    runner: str | None
    history_version: int
    status: str


class Messages(NamedTuple):
    """`new_messages`, without what says no more than that there is none."""

    roles: list[str]
    visibilities: list[str]
    contents: list[str]
    publics: list[str | None]
    models: list[str | None]
    usages: list[str | None]
    stops: list[str | None]


def text(words: str) -> str:
    """Parts."""
    return json.dumps([{"type": "text", "text": words}])


def said(words: str) -> Messages:
    """A step of the model."""
    return Messages(["assistant"], ["both"], [text(words)], [None], [None], [None], ["end"])


_CALLED: Final = Messages(
    ["assistant"],
    ["both"],
    [json.dumps([{"type": "tool-call", "call_id": CALL, "tool": "ask", "arguments": {}}])],
    [None],
    [None],
    [None],
    ["tool-calls"],
)
_RESULT: Final = json.dumps(
    {"type": "tool-result", "call_id": CALL, "tool": "ask", "content": [], "is_error": False}
)
NO_WAITS: Final[tuple[list[object], ...]] = ([], [], [], [])
_ERROR: Final = json.dumps({"kind": "generic", "message": "it broke"})


def summary() -> Messages:
    """The boundary of a compaction."""
    return Messages(["user"], ["model"], [text("so far")], [None], [None], [None], [None])


class ChatSql:
    """One person and one connection."""

    def __init__(self, connection: asyncpg.Connection, user_id: str) -> None:
        self.connection = connection
        self.user_id = user_id
        self._widths: dict[str, int] = {}

    async def call(self, function: str, *arguments: object) -> asyncpg.Record:
        """Call a function; parameters at the end that are not given are NULL."""
        width = await self._width(
            function,
            "SELECT pronargs FROM pg_proc WHERE proname = $1 "
            "AND pronamespace = current_schema()::regnamespace",
        )
        values: list[object] = [await self._whole(one) for one in arguments]
        values += [None] * (width - len(values))
        numbers = ", ".join(f"${n}" for n in range(1, len(values) + 1))
        row = await self.connection.fetchrow(f"SELECT * FROM {function}({numbers})", *values)
        assert row is not None  # a function call always has a row
        return row

    async def _whole(self, value: object) -> object:
        if not isinstance(value, Messages):
            return value
        width = await self._width(
            "new_messages", "SELECT relnatts FROM pg_class WHERE relname = $1"
        )
        return (*value, *([None] * len(value.roles) for _ in range(width - len(value))))

    async def _width(self, name: str, query: str) -> int:
        if name not in self._widths:
            self._widths[name] = await self.connection.fetchval(query, name)
        return self._widths[name]

    async def row(self, chat_id: str) -> asyncpg.Record:
        row = await self.connection.fetchrow("SELECT * FROM chats WHERE id = $1", chat_id)
        assert row is not None
        return row

    async def fence(self, chat_id: str) -> Fence:
        """True at this moment; without an owner, a fence that no worker has."""
        row = await self.row(chat_id)
        return Fence(chat_id, row["runner_id"], row["history_version"], row["status"])

    async def create(self, words: str | None) -> ChatId:
        chat_id = new_chat_id()
        await self.call(
            "create_chat",
            self.user_id,
            chat_id,
            subjects.partition(chat_id),
            "a title",
            "",
            "demo/echo",
            None if words is None else text(words),
            *(None, "[]", "person", None, None, False, None, None),
        )
        return chat_id

    async def send(self, chat_id: str, words: str, busy: str = "queue") -> asyncpg.Record:
        return await self.call(
            "send_message", self.user_id, chat_id, text(words), "", busy, None, None, 20
        )

    async def acquire(self, chat_id: str, runner: str = RUNNER) -> asyncpg.Record:
        return await self.call("acquire", chat_id, runner, 60.0, 0, 1 << 20, False)

    async def finish(self, chat_id: str) -> None:
        done = "finish_turn", "completed", False
        await self.call("end_turn", *await self.fence(chat_id), said("done"), *done)

    async def require_action(self, chat_id: str, action: Action) -> None:
        if action == "limit":
            await overdue(self.connection, chat_id)
            reached = json.dumps({"kind": "wall_s", "limit": 1, "used": 60})
            await self.call("pause_turn", *await self.fence(chat_id), reached, 300.0)
            return
        await self.call("commit_step", *await self.fence(chat_id), _CALLED, False)
        waits = NO_WAITS
        if action == "agents":
            waits = ([CALL], [await self.spawn(chat_id)], [False], [600.0])
        await self.call(
            "enter_requires_action",
            *await self.fence(chat_id),
            [CALL],
            ["ask"],
            [None],
            [ASK if action == "approval" else None],
            _CALLED.contents[0] if action == "client" else "[]",
            300.0,
            *waits,
        )

    async def spawn(self, chat_id: str) -> str:
        """An agent of the chat, which its present worker spawns for the call of its last step."""
        message: int = await self.connection.fetchval(
            "SELECT max(id) FROM messages WHERE chat_id = $1", chat_id
        )
        agent_id = new_chat_id()
        await self.call(
            "spawn_agent",
            *(chat_id, RUNNER, message, CALL, agent_id, subjects.partition(agent_id)),
            *(text("look"), "an agent", "general", None, None, False, 3, 8, False),
        )
        return agent_id

    async def made(self, case: Case) -> ChatId:
        """A chat in a state; owned by `RUNNER` where a state can have an owner."""
        chat_id = await self.create("first")
        await self.acquire(chat_id)
        await self.finish(chat_id)
        if case.status is not Status.WAITING:
            await self.send(chat_id, "second")
        elif case.summarised:
            await self.call("request_compaction", self.user_id, chat_id)
        if case.status is not Status.WAITING or case.summarised:
            await self.acquire(chat_id)
        if case.backlog:
            await self.send(chat_id, "queued")
        if case.summarised:
            fence = await self.fence(chat_id)
            await self.call("commit_compaction", *fence, summary(), "summary", False)
        match case.status:
            case Status.WAITING if case.summarised:
                nothing = Messages([], [], [], [], [], [], [])
                done = "finish_turn", "completed", False
                await self.call("end_turn", *await self.fence(chat_id), nothing, *done)
            case Status.ERROR:
                nothing = Messages([], [], [], [], [], [], [])
                await self.call("finish_error", *await self.fence(chat_id), nothing, _ERROR)
            case Status.INTERRUPTING:
                await self.call("interrupt_chat", self.user_id, chat_id)
            case Status.REQUIRES_ACTION:
                assert case.action is not None
                await self.require_action(chat_id, case.action)
            case _:
                pass
        if case.archived:
            await self.call("archive_chat", self.user_id, chat_id, True)
        return chat_id

    async def queued(self, chat_id: str) -> list[int]:
        query = "SELECT id FROM queued_messages WHERE chat_id = $1 ORDER BY position"
        return [row["id"] for row in await self.connection.fetch(query, chat_id)]

    async def try_(self, transition: Transition, chat_id: str) -> None:
        """Ask for a transition as whoever may ask for it."""
        await _TRY[transition](self, chat_id)


# -- one way to ask for each transition ----------------------------------------------------------

_Try: TypeAlias = Callable[[ChatSql, str], Awaitable[object]]


def _person(function: str, *arguments: object) -> _Try:
    async def ask(sql: ChatSql, chat_id: str) -> object:
        return await sql.call(function, sql.user_id, chat_id, *arguments)

    return ask


def _of_queue(function: str, *arguments: object) -> _Try:
    async def ask(sql: ChatSql, chat_id: str) -> object:
        head = (await sql.queued(chat_id) or [0])[0]
        return await sql.call(function, sql.user_id, chat_id, head, *arguments)

    return ask


def _worker(function: str, *arguments: object) -> _Try:
    async def ask(sql: ChatSql, chat_id: str) -> object:
        return await sql.call(function, *await sql.fence(chat_id), *arguments)

    return ask


async def _edit(sql: ChatSql, chat_id: str) -> object:
    first = await sql.connection.fetchval(
        "SELECT min(id) FROM messages WHERE chat_id = $1 AND role = 'user'", chat_id
    )
    return await sql.call("edit_message", sql.user_id, chat_id, first, text("edited"), None)


async def _reorder(sql: ChatSql, chat_id: str) -> object:
    return await sql.call("reorder_queue", sql.user_id, chat_id, await sql.queued(chat_id))


async def _resolve_wait(sql: ChatSql, chat_id: str) -> object:
    wait = await sql.connection.fetchval("SELECT max(id) FROM waits WHERE chat_id = $1", chat_id)
    return await sql.call("resolve_wait", wait or 0, chat_id, _RESULT)


async def _expire(sql: ChatSql, chat_id: str) -> object:
    await sql.connection.execute(
        "UPDATE chats SET action_expires_at = now() - interval '1 second' "
        "WHERE id = $1 AND action_expires_at IS NOT NULL",
        chat_id,
    )
    return await sql.call("expire_action")


async def _acquire(sql: ChatSql, chat_id: str) -> object:
    return await sql.acquire(chat_id)


async def _abandon(sql: ChatSql, chat_id: str) -> object:
    return await sql.call("abandon", chat_id, RUNNER)


async def _send(sql: ChatSql, chat_id: str) -> object:
    return await sql.send(chat_id, "another")


_TRY: Final[dict[Transition, _Try]] = {
    Transition.UPDATE: _person(
        "update_chat", "another title", None, None, None, False, None, None, None
    ),
    Transition.SEND_MESSAGE: _send,
    Transition.EDIT_MESSAGE: _edit,
    Transition.EDIT_QUEUED: _of_queue("edit_queued", text("edited"), True, None),
    Transition.DELETE_QUEUED: _of_queue("delete_queued"),
    Transition.PROMOTE_QUEUED: _of_queue("promote_queued"),
    Transition.REORDER_QUEUE: _reorder,
    Transition.INTERRUPT: _person("interrupt_chat"),
    Transition.SUBMIT_TOOL_RESULTS: _person("submit_tool_results", [CALL], [text("it")], [False]),
    Transition.RESOLVE_APPROVAL: _person("resolve_approval", CALL, True, "", "once"),
    Transition.RESOLVE_WAIT: _resolve_wait,
    Transition.REQUEST_COMPACTION: _person("request_compaction"),
    Transition.UNDO_COMPACTION: _person("undo_compaction"),
    Transition.CLEAR_CONTEXT: _person("clear_context"),
    Transition.ARCHIVE: _person("archive_chat", True),
    Transition.UNARCHIVE: _person("archive_chat", False),
    Transition.DELETE: _person("delete_chat"),
    Transition.ACQUIRE: _acquire,
    Transition.ABANDON: _abandon,
    Transition.BEGIN_ATTEMPT: _worker("begin_attempt"),
    Transition.RECORD_RETRY: _worker("record_retry", 1, 1000, "overloaded", "busy"),
    Transition.COMMIT_STEP: _worker("commit_step", said("step"), False),
    Transition.BEGIN_COMPACTION: _worker("begin_compaction", "manual"),
    Transition.COMMIT_COMPACTION: _worker("commit_compaction", summary(), "summary", False),
    Transition.FAIL_COMPACTION: _worker("fail_compaction", _ERROR),
    Transition.ENTER_REQUIRES_ACTION: _worker(
        "enter_requires_action",
        *([CALL], ["ask"], [None], [None], _CALLED.contents[0], 300.0),
        *NO_WAITS,
    ),
    Transition.RESUME: _person("set_limits", json.dumps({"steps": 9})),
    Transition.FINISH_TURN: _worker("end_turn", said("end"), "finish_turn", "completed", False),
    Transition.FINISH_INTERRUPTION: _worker(
        "end_turn", said("partial"), "finish_interruption", "interrupted", False
    ),
    Transition.FINISH_ERROR: _worker("finish_error", said("partial"), _ERROR),
    Transition.CANCEL_REQUIRES_ACTION: _expire,
}


# -- everything in the database ------------------------------------------------------------------


async def open_chats(database_url: str) -> ChatSql:
    """A person with a model, in a database without a store; the caller closes the connection."""
    connection = await asyncpg.connect(database_url)
    user_id = str(uuid.uuid4())
    await connection.execute(
        "INSERT INTO users (id, name, role) VALUES ($1, 'alice', 'member')", user_id
    )
    await connection.execute(
        "INSERT INTO providers (id, type, display_name) VALUES ('demo', 'demo', 'Demo')"
    )
    await connection.execute(
        "INSERT INTO models (name, provider_id, model_id, display_name, max_output_tokens) "
        "VALUES ('demo/echo', 'demo', 'echo', 'Echo', 1000)"
    )
    return ChatSql(connection, user_id)


class Sums(NamedTuple):
    """Sums over the rows of each table that has any."""

    all: dict[str, int]
    others: dict[str, int]
    """Without the rows that name a chat or one below it."""


class Everything:
    """All rows of all tables: the list is the catalog's, so that no table can be forgotten."""

    def __init__(self, connection: asyncpg.Connection, tables: list[str]) -> None:
        self._connection = connection
        self._query = " UNION ALL ".join(
            f"SELECT '{table}' AS name, sum(one.hash) AS total, "
            f"sum(one.hash) FILTER (WHERE NOT one.named) AS others "
            f"FROM (SELECT hashtextextended(t::text, 0) AS hash, t::text ~ $1 AS named "
            f'FROM "{table}" t) one'
            for table in tables
        )

    @classmethod
    async def of(
        cls, connection: asyncpg.Connection, *, besides: Collection[str] = ()
    ) -> Everything:
        rows = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relkind = 'r' "
            "AND relnamespace = current_schema()::regnamespace"
        )
        return cls(connection, sorted({row["relname"] for row in rows} - {*besides}))

    async def family(self, chat_id: str) -> str:
        """For `sums`: what the rows of a chat and of its agents have in them."""
        rows = await self._connection.fetch("SELECT id::text FROM family($1::uuid)", chat_id)
        return "|".join(row["id"] for row in rows)

    async def sums(self, family: str) -> Sums:
        rows = await self._connection.fetch(self._query, family)
        return Sums(
            {row["name"]: row["total"] for row in rows if row["total"] is not None},
            {row["name"]: row["others"] for row in rows if row["others"] is not None},
        )
