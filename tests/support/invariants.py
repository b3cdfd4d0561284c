"""What must be true of a chat's rows and of its events, whatever has happened (DESIGN.md §3).

Pure checks over what was read: each returns what is broken, in words, and nothing when all is well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import asyncpg
import msgspec

from steersman_contracts import events as e
from steersman_contracts.chats import Role, Status
from steersman_contracts.parts import (
    Part,
    Parts,
    ToolCallPart,
    ToolResultPart,
    decode_parts,
    strip_internal,
)
from steersman_contracts.rpc.chats import MAX_QUEUED

Row = Mapping[str, Any]

AT_REST: Final = (Status.WAITING, Status.ERROR)
OWNED: Final = (Status.RUNNING, Status.INTERRUPTING)


@dataclass(frozen=True)
class ChatRows:
    """All rows that belong to a chat, at one moment."""

    chat: Row
    messages: tuple[Row, ...]
    """With those that were deleted, by id."""
    queue: tuple[Row, ...]
    """By position."""
    leases: tuple[Row, ...]
    client_keys: tuple[Row, ...]
    grants: tuple[Row, ...]
    """What its owner has approved for more than one call."""
    audit: tuple[Row, ...]
    """By id."""
    waits: tuple[Row, ...]
    """Calls that agents answer."""
    others: Mapping[str, tuple[str, ...]]
    """What any other table of the catalog has of it, as text."""

    @property
    def status(self) -> Status:
        return Status(self.chat["status"])

    @property
    def history(self) -> tuple[Row, ...]:
        """The messages that count."""
        return tuple(row for row in self.messages if row["deleted_at"] is None)

    def live_leases(self) -> tuple[Row, ...]:
        """Leases that were live at the moment of reading. One of a former owner never counts."""
        return tuple(
            lease
            for lease in self.leases
            if lease["live"] and lease["runner_id"] == self.chat["runner_id"]
        )


_READ: Final = """
SELECT to_json(c) AS chat,
    (SELECT coalesce(json_agg(m ORDER BY m.id), '[]')
        FROM (SELECT id, role, visibility, content::text, public_content::text, content_version,
                size, revision, model, usage, stop, created_at, deleted_at, boundary
            FROM messages WHERE chat_id = c.id) m) AS messages,
    (SELECT coalesce(json_agg(q ORDER BY q.position), '[]')
        FROM (SELECT id, position, content::text, model, created_at
            FROM queued_messages WHERE chat_id = c.id) q) AS queue,
    (SELECT coalesce(json_agg(l ORDER BY l.runner_id), '[]')
        FROM (SELECT runner_id, expires_at, expires_at > clock_timestamp() AS live
            FROM leases WHERE chat_id = c.id) l) AS leases,
    (SELECT coalesce(json_agg(k ORDER BY k.client_key), '[]')
        FROM (SELECT client_key, reply::text FROM client_keys WHERE chat_id = c.id) k) AS keys,
    (SELECT coalesce(json_agg(g ORDER BY g.tool, g.chat_id), '[]')
        FROM (SELECT chat_id, tool FROM grants WHERE user_id = c.owner_id
            AND (chat_id IS NULL OR chat_id = c.id)) g) AS grants,
    (SELECT coalesce(json_agg(a ORDER BY a.id), '[]')
        FROM (SELECT id, actor_id, action, details FROM audit WHERE chat_id = c.id) a) AS audit,
    (SELECT coalesce(json_agg(w ORDER BY w.id), '[]')
        FROM (SELECT * FROM waits WHERE chat_id = c.id) w) AS waits,
    {others} AS others
FROM chats c WHERE c.id = $1
"""
_READ_APART: Final = {
    *("messages", "queued_messages", "leases", "client_keys", "grants", "audit", "waits"),
    # What follows a transition, at its own pace: on the way to the log, to agents, from hosts.
    *("outbox", "cascades", "tool_calls", "purges"),
}
_tables: list[str] = []
"""Found once: all databases of the tests have the same."""


async def tables_of_chats(connection: asyncpg.Connection) -> list[str]:
    """Every table with rows that belong to one chat; the list is the catalog's."""
    if not _tables:
        rows = await connection.fetch(
            "SELECT table_name FROM information_schema.columns "
            "WHERE table_schema = current_schema() AND column_name = 'chat_id'"
        )
        _tables.extend(sorted(row["table_name"] for row in rows))
    return _tables


async def remaining(connection: asyncpg.Connection, chat_id: str) -> set[str]:
    """The tables that have rows of a chat, whether it is there or not."""
    tables = await tables_of_chats(connection)
    query = " UNION ALL ".join(
        f"SELECT '{table}' AS name WHERE EXISTS (SELECT 1 FROM {table} WHERE {column} = $1)"
        for table, column in [*((table, "chat_id") for table in tables), ("chats", "id")]
    )
    return {row["name"] for row in await connection.fetch(query, chat_id)}


async def read_rows(connection: asyncpg.Connection, chat_id: str) -> ChatRows:
    """Read a chat in one statement, so that all of it is of the same moment."""
    others = ", ".join(
        f"'{table}', (SELECT array_agg(t::text ORDER BY t::text) FROM {table} t "
        "WHERE chat_id = c.id)"
        for table in await tables_of_chats(connection)
        if table not in _READ_APART
    )
    query = _READ.replace("{others}", f"json_build_object({others})")
    row = await connection.fetchrow(query, chat_id)
    if row is None:
        raise LookupError(f"no chat {chat_id!r}")
    chat, *lists, found = (json.loads(value) for value in row)
    named = {table: tuple(rows or ()) for table, rows in found.items()}
    return ChatRows(chat, *(tuple(rows) for rows in lists), others=named)


# -- one moment --------------------------------------------------------------------------------


def broken(rows: ChatRows) -> list[str]:
    """What is wrong with a chat as it is stored."""
    return [
        *_ownership(rows),
        *_versions(rows),
        *_queue(rows),
        *_pairing(rows),
        *_action(rows),
        *_stuck(rows),
    ]


def movers(rows: ChatRows) -> set[str]:
    """Who or what moves a chat on, by the rows that make them do so.

    `sweep` is the store's clock, which calls a worker; `deadline` its other one, which ends an
    action. The other names are people and programs outside of the store.
    """
    chat, status = rows.chat, rows.status
    if status in AT_REST:
        return {"person"}
    if status in OWNED:
        return {"owner"} if rows.live_leases() else {"sweep"}
    found: set[str] = set()
    if chat["action_expires_at"] is not None:
        found.add("deadline")
    if chat["action_calls"] is None:
        return found | ({"raised limit"} if chat["limit_reached"] is not None else set[str]())
    waiting = {wait["call_id"] for wait in rows.waits}
    for call_id, result, ask, decision in zip(
        *(
            cast("list[object]", chat[name])
            for name in ("action_calls", "action_results", "action_asks", "action_decisions")
        ),
        strict=True,
    ):
        if result is None and decision is None:
            found.add(
                "approver" if ask is not None else "agents" if call_id in waiting else "client"
            )
    return found


def _stuck(rows: ChatRows) -> Iterator[str]:
    found = movers(rows)
    if not found or found == {"deadline"}:
        yield f"{rows.status}, and nothing but {found or 'nothing'} moves it on"
    if rows.status is Status.REQUIRES_ACTION and "deadline" not in found:
        yield "requires_action, for ever"


def _ownership(rows: ChatRows) -> Iterator[str]:
    chat, status = rows.chat, rows.status
    if status not in OWNED and chat["runner_id"] is not None:
        yield f"{status} has the runner {chat['runner_id']!r}"
    if status not in OWNED and chat["attempt_started_at"] is not None:
        yield f"{status} has an attempt under way"
    if status not in OWNED and any(lease["live"] for lease in rows.leases):
        yield f"{status} has a live lease"
    if len(rows.live_leases()) > 1:
        yield f"{len(rows.live_leases())} live leases"
    if chat["archived"] and status not in AT_REST:
        yield f"archived while {status}"
    if (chat["last_error"] is not None) != (status is Status.ERROR):
        yield f"{status} has the last_error {chat['last_error']!r}"


def _versions(rows: ChatRows) -> Iterator[str]:
    chat = rows.chat
    snapshot = chat["snapshot_version"]
    for name in ("history_version", "queue_version"):
        if chat[name] > snapshot:
            yield f"{name} {chat[name]} is beyond snapshot_version {snapshot}"
    for row in rows.messages:
        if row["revision"] > chat["history_version"]:
            yield f"message {row['id']} changed at {row['revision']}, after the history did"
    revisions = [row["revision"] for row in rows.history]
    if revisions != sorted(revisions):
        yield f"messages by id have the revisions {revisions}"


def _queue(rows: ChatRows) -> Iterator[str]:
    if len(rows.queue) > MAX_QUEUED:
        yield f"{len(rows.queue)} messages are queued"
    if rows.status is Status.WAITING and rows.queue:
        yield "waiting, with a queue that nobody will ever look at"


def _action(rows: ChatRows) -> Iterator[str]:
    chat = rows.chat
    kept = ("action_calls", "action_tools", "action_results", "action_decisions")
    asked = ("action_asks", "action_pending", "action_expires_at")
    waits = rows.status is Status.REQUIRES_ACTION
    at_limit = waits and chat["action_calls"] is None
    if at_limit and chat["limit_reached"] is None:
        yield "waits, and neither for a call nor at a limit"
    if rows.waits and not waits:
        yield f"{rows.status}, and waits for agents"
    # A worker has yet to run what was approved.
    approved = rows.status in OWNED and chat["action_decisions"] is not None
    wanted = (*kept, *asked) if waits else kept if approved else ()
    if at_limit:
        wanted = ("action_pending", "action_expires_at")
    for name in (*kept, *asked):
        if (chat[name] is not None) != (name in wanted):
            yield f"{rows.status} has the {name} {chat[name]!r}"
    if rows.status in AT_REST and chat["compaction_requested"]:
        yield f"{rows.status}, with a summary that nobody will ever write"
    if at_limit and (calls := open_calls(_all_parts(rows))):
        yield f"waits at a limit with the open calls {[call.call_id for call in calls]}"
    if not wanted or None in [chat[name] for name in kept]:
        return
    calls = open_calls(_all_parts(rows))
    if chat["action_calls"] != [call.call_id for call in calls]:
        yield f"waits for {chat['action_calls']}, open are {[call.call_id for call in calls]}"
    results, decisions = cast("list[list[object]]", [chat[name] for name in kept[2:]])
    undecided = sum(
        result is None and decision is None
        for result, decision in zip(results, decisions, strict=True)
    )
    if bool(undecided) != waits:
        yield f"{rows.status}, and {undecided} calls are neither answered nor decided"
    answered = {
        call_id
        for call_id, result in zip(cast("list[str]", chat["action_calls"]), results, strict=True)
        if result is not None
    }
    if strange := [w["call_id"] for w in rows.waits if w["call_id"] in answered]:
        yield f"waits for agents to answer {strange}, which is answered"


def _pairing(rows: ChatRows) -> Iterator[str]:
    history = _all_parts(rows)
    yield from broken_pairing(history)
    if rows.status in AT_REST and (calls := open_calls(history)):
        yield f"rests with the open calls {[call.call_id for call in calls]}"


def _all_parts(rows: ChatRows) -> list[tuple[Role, Parts]]:
    return [
        (Role(row["role"]), decode_parts(row["content"], row["content_version"]))
        for row in rows.history
    ]


# -- calls and results -------------------------------------------------------------------------


def broken_pairing(history: Sequence[tuple[Role, Parts]]) -> list[str]:
    """Whether each local call has its one result directly after it; the last step may be open."""
    found: list[str] = []
    for position, (role, parts) in enumerate(history):
        after = history[position + 1] if position + 1 < len(history) else None
        if role is Role.ASSISTANT:
            found += _answered_directly(position, parts, after)
            found += _inside(position, parts)
        elif role is Role.TOOL:
            before = history[position - 1] if position else None
            if before is None or before[0] is not Role.ASSISTANT:
                found.append(f"message {position} has results, and no step is before it")
        elif any(isinstance(part, ToolCallPart | ToolResultPart) for part in parts):
            found.append(f"message {position} of {role} has calls or results")
    return found


def _answered_directly(
    position: int, parts: Parts, after: tuple[Role, Parts] | None
) -> Iterator[str]:
    calls = [call.call_id for call in local_calls(parts)]
    if after is None:
        return  # open, or without calls: what that means depends on the status
    role, answer = after
    results = [p.call_id for p in answer if isinstance(p, ToolResultPart)]
    if role is not Role.TOOL:
        if calls:
            yield f"message {position}: the calls {calls} have no results after them"
    elif results != calls or len(results) != len(answer):
        yield f"message {position}: the calls {calls} are answered by {results}"


def _inside(position: int, parts: Parts) -> Iterator[str]:
    """What a provider runs itself stays in its message, each result after its call."""
    called: set[str] = set()
    for part in parts:
        if isinstance(part, ToolCallPart) and part.provider_executed:
            called.add(part.call_id)
        elif isinstance(part, ToolResultPart):
            if not part.provider_executed:
                yield f"message {position} of the assistant has the local result {part.call_id!r}"
            elif part.call_id not in called:
                yield f"message {position}: the result {part.call_id!r} is not after its call"


def local_calls(parts: Iterable[Part]) -> list[ToolCallPart]:
    """Calls that are answered by a message of their own."""
    return [p for p in parts if isinstance(p, ToolCallPart) and not p.provider_executed]


def open_calls(history: Sequence[tuple[Role, Parts]]) -> list[ToolCallPart]:
    """Local calls of the last message: nothing after it can have answered them."""
    if not history or history[-1][0] is not Role.ASSISTANT:
        return []
    return local_calls(history[-1][1])


# -- from one moment to a later one ------------------------------------------------------------


def broken_change(before: ChatRows, after: ChatRows) -> list[str]:
    """What may not have happened between two moments."""
    found = [
        f"{name} went from {before.chat[name]} to {after.chat[name]}"
        for name in ("snapshot_version", "history_version", "queue_version")
        if after.chat[name] < before.chat[name]
    ]
    same = after.chat["snapshot_version"] == before.chat["snapshot_version"]
    if same and _without_leases(before) != _without_leases(after):
        found.append("something changed, and snapshot_version did not")
    found += _rows_changed(before, after)
    return found


def _rows_changed(before: ChatRows, after: ChatRows) -> Iterator[str]:
    known = {row["id"]: row for row in before.messages}
    newest = max(known, default=0)
    changed = False
    for row in after.messages:
        former = known.pop(row["id"], None)
        if former is None:
            changed = True
            if row["id"] < newest:
                yield f"message {row['id']} is new, and {newest} was there before it"
        elif former != row:
            changed = True
            marks = {"deleted_at": row["deleted_at"], "revision": row["revision"]}
            if {**former, **marks} != row:
                yield f"message {row['id']} was rewritten"
            if former["deleted_at"] is not None:
                yield f"message {row['id']} was changed after it was deleted"
        if former != row and row["revision"] <= before.chat["snapshot_version"]:
            yield f"message {row['id']} changed without a new revision"
    if known:
        yield f"the messages {sorted(known)} are gone"
    moved = before.chat["history_version"] != after.chat["history_version"]
    if changed != moved:
        yield f"the history changed: {changed}; history_version moved: {moved}"
    if before.queue != after.queue and before.chat["queue_version"] == after.chat["queue_version"]:
        yield "the queue changed, and queue_version did not"


def _without_leases(rows: ChatRows) -> object:
    return (
        *(rows.chat, rows.messages, rows.queue, rows.client_keys),
        *(rows.grants, rows.waits, rows.others),
    )


# -- the event log -----------------------------------------------------------------------------


def broken_log(rows: ChatRows, log: Sequence[e.Event], *, whole: bool = True) -> list[str]:
    """What is wrong with a chat's events.

    Args:
        rows: The chat once its outbox is empty.
        log: Its events in the order of the log.
        whole: The log reaches back to the chat's creation.
    """
    found: list[str] = []
    durable = [event for event in log if isinstance(event, e.DurableEvent)]
    versions = [event.snapshot_version for event in durable]
    if versions != sorted(versions):
        found.append(f"the log has the versions {versions}")
    if versions and versions[-1] > rows.chat["snapshot_version"]:
        found.append(f"the log is ahead: {versions[-1]} of {rows.chat['snapshot_version']}")
    found += _created(rows, durable, whole=whole)
    found += _newest(rows, durable)
    found += _episodes(durable)
    return found


def _created(rows: ChatRows, durable: Sequence[e.DurableEvent], *, whole: bool) -> Iterator[str]:
    announced = [event.message for event in durable if isinstance(event, e.MessageCreated)]
    ids = [message.id for message in announced]
    if ids != sorted(set(ids)):
        yield f"message.created came for {ids}"
    stored = {row["id"]: row for row in rows.messages}
    for message in announced:
        row = stored.get(message.id)
        if row is None:
            yield f"message {message.id} was announced and is not stored"
        elif not message.truncated and message.parts != _public_parts(row):
            yield f"message {message.id} was announced with other parts"
    public = {key for key, row in stored.items() if row["visibility"] != "model"}
    if hidden := sorted(set(ids) & set(stored) - public):
        yield f"the messages {hidden} are for the model alone, and were announced"
    if whole and (missing := sorted(public - set(ids))):
        yield f"the messages {missing} were never announced"


def _public_parts(row: Row) -> Parts:
    return strip_internal(decode_parts(row["content"], row["content_version"]))


def _newest(rows: ChatRows, durable: Sequence[e.DurableEvent]) -> Iterator[str]:
    for event in reversed(durable):
        if isinstance(event, e.ChatStatusChanged):
            if event.status is not rows.status:
                yield f"the log ends with {event.status}, the chat is {rows.status}"
            break
    for event in reversed(durable):
        if isinstance(event, e.QueueUpdated):
            if [q.id for q in event.queue] != [q["id"] for q in rows.queue]:
                yield "the log ends with another queue"
            break


def _episodes(durable: Sequence[e.DurableEvent]) -> Iterator[str]:
    """Each is opened once: deltas of two attempts under one key would be taken for one answer."""
    newest = (0, 0)
    for event in durable:
        if isinstance(event, e.AttemptStarted | e.CompactionStarted):
            episode = (event.history_version, event.attempt)
            if episode <= newest:
                yield f"the episode {episode} was opened after {newest}"
            newest = max(newest, episode)


# -- deltas ------------------------------------------------------------------------------------


def broken_deltas(log: Sequence[e.Event], *, whole: bool = True) -> list[str]:
    """Each episode counts its deltas from 1, without a repeat, and without a hole if `whole`."""
    seen: dict[tuple[int, int], int] = {}
    found: list[str] = []
    for event in log:
        if isinstance(event, e.PartDelta):
            episode = (event.history_version, event.attempt)
            last = seen.get(episode, 0)
            if event.seq <= last or (whole and event.seq > last + 1):
                found.append(f"{episode}: delta {event.seq} came after {last}")
            seen[episode] = event.seq
    return found


def decode_event(name: str, payload: bytes) -> e.Event:
    """An event out of the log."""
    return msgspec.json.decode(payload, type=e.EVENTS[name])
