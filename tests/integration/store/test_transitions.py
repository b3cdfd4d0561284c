"""Every transition in every state, with the queue and the archive: as the table says or not at all.

Straight on the functions of the database, which are the machine: what a refusal leaves is compared
over all rows of all tables, and what is allowed is taken back after a look.
"""

from __future__ import annotations

import json
from typing import Any, Final

import asyncpg
import pytest
from support.chat_sql import CASES, Case, ChatSql, Everything, Sums

from steersman_contracts.chats import Status, Transition
from steersman_store.transitions import ARCHIVED, CREATION, TRANSITIONS, Next

UNCHANGED: Final = "unchanged"
REFUSED: Final = "transition_refused"
GONE: Final = "gone"

_OF_QUEUE: Final = (Transition.EDIT_QUEUED, Transition.DELETE_QUEUED, Transition.PROMOTE_QUEUED)
_NOBODYS: Final = (
    Transition.ABANDON,
    Transition.CANCEL_REQUIRES_ACTION,
    Transition.RESOLVE_WAIT,
)
"""Asked for what is not there, these find nothing to do."""


def expected(case: Case, transition: Transition) -> str:
    """A status, a reason to refuse, that nothing changes, or that the chat is gone."""
    table = ARCHIVED if case.archived else TRANSITIONS
    after = table.get((case.status, transition))
    already = Transition.ARCHIVE if case.archived else Transition.UNARCHIVE
    if transition is already or (after is None and transition in _NOBODYS):
        return UNCHANGED
    if transition is Transition.RESUME and not case.archived and case.action != "limit":
        return case.status  # raising a limit is an update like any other
    if after is None:
        return REFUSED
    return _lacking(case, transition) or _landed(case, transition, after)


def _lacking(case: Case, transition: Transition) -> str | None:
    """What the table allows, for a chat that has nothing which it could be about."""
    match transition:
        case Transition.INTERRUPT if case.status in (
            Status.WAITING,
            Status.ERROR,
            Status.INTERRUPTING,
        ):
            return UNCHANGED
        case Transition.SUBMIT_TOOL_RESULTS if case.action != "client":
            return "invalid_request"
        case Transition.RESOLVE_APPROVAL if case.action != "approval":
            return "not_found"
        case Transition.RESOLVE_WAIT if case.action != "agents":
            return UNCHANGED
        case Transition.REQUEST_COMPACTION if case.summarised:
            return "conflict"
        case Transition.UNDO_COMPACTION if not case.summarised:
            return "conflict"
        case _ if transition in _OF_QUEUE and not case.backlog:
            return "not_found"
        case _:
            return None


def _landed(case: Case, transition: Transition, after: Next) -> str:
    if transition is Transition.DELETE:
        return GONE
    return after.with_backlog if case.backlog else after.status


def code_of(error: asyncpg.PostgresError) -> str:
    """Why a function refused."""
    assert error.sqlstate == "SM000", error
    return json.loads(error.detail or "{}")["code"]


async def outcome(
    sql: ChatSql, tables: Everything, chat_id: str, transition: Transition, before: Sums
) -> str:
    """What an allowed transition comes to, in the words of `expected`; nothing of it stays."""
    found = UNCHANGED
    family = await tables.family(chat_id)
    transaction = sql.connection.transaction()
    await transaction.start()
    try:
        former = await sql.row(chat_id)
        await sql.try_(transition, chat_id)
        after = await tables.sums(family)
        assert after.others == before.others, "rows of other chats have changed"
        if not await sql.connection.fetchval("SELECT true FROM chats WHERE id = $1", chat_id):
            left = {name for name in after.all if after.all[name] != after.others.get(name)}
            assert left == {"outbox"}, "all but the news of its end must be gone"
            found = GONE
        elif after.all != before.all:
            row = await sql.row(chat_id)
            assert row["snapshot_version"] > former["snapshot_version"]
            archive = transition in (Transition.ARCHIVE, Transition.UNARCHIVE)
            assert (row["archived"] != former["archived"]) == archive
            found = row["status"]
    except asyncpg.PostgresError as error:
        return code_of(error)
    finally:
        await transaction.rollback()
    return found


async def refusal(sql: ChatSql, chat_id: str, transition: Transition) -> str:
    """Why a transition is refused. Not taken back: there is nothing that could be."""
    try:
        await sql.try_(transition, chat_id)
    except asyncpg.PostgresError as error:
        return code_of(error)
    return UNCHANGED


@pytest.mark.timeout(300)
async def test_every_transition_lands_where_the_table_says_or_changes_nothing(sql: ChatSql) -> None:
    chats = {case: await sql.made(case) for case in CASES}
    assert {case.status for case in CASES} == set(Status)
    await sql.connection.execute("DELETE FROM outbox")  # as the relay does
    tables = await Everything.of(sql.connection)

    for case, chat_id in chats.items():
        before = await tables.sums(await tables.family(chat_id))
        wanted = {one: expected(case, one) for one in Transition if one is not Transition.CREATE}
        found: dict[Transition, str] = {}
        for one, what in wanted.items():
            if what in (*Status, GONE):
                found[one] = await outcome(sql, tables, chat_id, one, before)
            else:
                found[one] = await refusal(sql, chat_id, one)
        assert found == wanted, case
        assert await tables.sums(await tables.family(chat_id)) == before, case


async def test_the_database_has_the_table_and_no_more(sql: ChatSql) -> None:
    """Also where no request of anybody leads: `next_status` decides for all functions."""
    tables = {(False, *pair): after for pair, after in TRANSITIONS.items()}
    tables |= {(True, *pair): after for pair, after in ARCHIVED.items()}
    chat_id = await sql.create(None)
    for archived in (False, True):
        for status in Status:
            for transition in Transition:
                wanted = tables.get((archived, status, transition))
                for backlog in (False, True):
                    await sql.connection.execute(
                        "UPDATE chats SET status = $2, archived = $3 WHERE id = $1",
                        *(chat_id, status, archived),
                    )
                    found = await next_status(sql, chat_id, transition, backlog=backlog)
                    if wanted is None:
                        assert found == {
                            "status": status,
                            "transition": transition,
                            "archived": archived,
                        }
                    else:
                        assert found == (wanted.with_backlog if backlog else wanted.status)


async def next_status(
    sql: ChatSql, chat_id: str, transition: Transition, *, backlog: bool
) -> dict[str, Any] | str:
    """Where a transition leads, or the details of the refusal."""
    query = "SELECT next_status(c, $2, $3) FROM chats c WHERE id = $1"
    try:
        return await sql.connection.fetchval(query, chat_id, transition, backlog)
    except asyncpg.PostgresError as error:
        return json.loads(error.detail or "{}")["details"]


async def test_a_chat_begins_as_the_table_says(sql: ChatSql) -> None:
    for words, wanted in ((None, CREATION.status), ("hello", CREATION.with_backlog)):
        assert (await sql.row(await sql.create(words)))["status"] == wanted
