"""No chat is stuck: in every state somebody or something is there that moves it on, and does.

That the stores' clock looks at all this by itself is shown in `test_ownership.py` (hints),
`test_editing.py` (deadlines) and `test_agents.py` (waits); here, that it finds every such state.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from support.chat_sql import CALL, CASES, Case, ChatSql
from support.invariants import movers, read_rows

from steersman_contracts.agents import DONE
from steersman_contracts.chats import Status, Transition

_OF_ACTION: Final = {
    "client": "client",
    "approval": "approver",
    "agents": "agents",
    "limit": "raised limit",
}


def expected(case: Case) -> set[str]:
    """By the state alone."""
    match case.status:
        case Status.WAITING | Status.ERROR:
            return {"person"}
        case Status.RUNNING | Status.INTERRUPTING:
            return {"owner"}
        case Status.REQUIRES_ACTION:
            assert case.action is not None
            return {_OF_ACTION[case.action], "deadline"}


# -- each of them does it: returns whether a worker is called ------------------------------------


async def _person(sql: ChatSql, chat_id: str) -> bool:
    if (await sql.row(chat_id))["archived"]:
        await sql.try_(Transition.UNARCHIVE, chat_id)
    return (await sql.send(chat_id, "go on"))["hint"]


async def _owner(sql: ChatSql, chat_id: str) -> bool:
    running = (await sql.row(chat_id))["status"] == Status.RUNNING
    await sql.try_(Transition.FINISH_TURN if running else Transition.FINISH_INTERRUPTION, chat_id)
    # The next turn of the queue is its own, and needs no hint.
    row = await sql.row(chat_id)
    return row["status"] == Status.RUNNING and row["runner_id"] is not None


async def _sweep(sql: ChatSql, chat_id: str) -> bool:
    called = await sql.connection.fetch("SELECT sweep_leases(1000)::text AS id")
    await sql.acquire(chat_id, "runner-2")
    assert movers(await read_rows(sql.connection, chat_id)) == {"owner"}
    return chat_id in {row["id"] for row in called}


async def _client(sql: ChatSql, chat_id: str) -> bool:
    await sql.try_(Transition.SUBMIT_TOOL_RESULTS, chat_id)
    return await _called(sql, chat_id)


async def _approver(sql: ChatSql, chat_id: str) -> bool:
    await sql.try_(Transition.RESOLVE_APPROVAL, chat_id)
    return await _called(sql, chat_id)


async def _limit(sql: ChatSql, chat_id: str) -> bool:
    await sql.try_(Transition.RESUME, chat_id)
    return await _called(sql, chat_id)


async def _agents(sql: ChatSql, chat_id: str) -> bool:
    (agent,) = await sql.connection.fetchval(
        "SELECT agent_ids::text[] FROM waits WHERE chat_id = $1", chat_id
    )
    done = sorted(status.value for status in DONE)
    ripe = "SELECT call_id FROM ripe_waits(NULL, NULL, $1) WHERE chat_id = $2"
    assert await sql.connection.fetch(ripe, done, chat_id) == []
    await sql.acquire(agent)
    await sql.finish(agent)
    assert [row["call_id"] for row in await sql.connection.fetch(ripe, done, chat_id)] == [CALL]
    await sql.try_(Transition.RESOLVE_WAIT, chat_id)
    return await _called(sql, chat_id)


async def _deadline(sql: ChatSql, chat_id: str) -> bool:
    await sql.try_(Transition.CANCEL_REQUIRES_ACTION, chat_id)
    return await _called(sql, chat_id)


async def _called(sql: ChatSql, chat_id: str) -> bool:
    """Nobody has it, and the sweep calls a worker even if the hint of the transition is lost."""
    return movers(await read_rows(sql.connection, chat_id)) == {"sweep"}


_MOVES: Final[dict[str, Callable[[ChatSql, str], Awaitable[bool]]]] = {
    "person": _person,
    "owner": _owner,
    "sweep": _sweep,
    "client": _client,
    "approver": _approver,
    "raised limit": _limit,
    "agents": _agents,
    "deadline": _deadline,
}


async def moved(sql: ChatSql, chat_id: str, mover: str) -> tuple[str, bool]:
    """The status after somebody did their part, and whether it goes on; taken back again."""
    transaction = sql.connection.transaction()
    await transaction.start()
    try:
        goes_on = await _MOVES[mover](sql, chat_id)
        return (await sql.row(chat_id))["status"], goes_on
    finally:
        await transaction.rollback()


async def test_in_every_state_there_is_somebody_who_moves_it_on(sql: ChatSql) -> None:
    chats = {case: await sql.made(case) for case in CASES}
    used: set[str] = set()
    for case, chat_id in chats.items():
        found = movers(await read_rows(sql.connection, chat_id))
        assert found == expected(case), case
        for mover in found:
            status, goes_on = await moved(sql, chat_id, mover)
            rests = mover in ("owner", "deadline") and not case.backlog
            assert (status, goes_on) == (Status.WAITING if rests else Status.RUNNING, not rests), (
                case,
                mover,
            )
        used |= found

    # Nobody has them: just made, given back by a worker that stops, or of a worker that is dead.
    await sql.connection.execute("UPDATE leases SET expires_at = now() - interval '1 second'")
    unowned = {case: chats[case] for case in CASES if expected(case) == {"owner"}}
    unowned[Case(Status.RUNNING)] = await sql.create("just made")
    given_back = await sql.made(Case(Status.INTERRUPTING))
    await sql.try_(Transition.ABANDON, given_back)
    for chat_id in (*unowned.values(), given_back):
        assert movers(await read_rows(sql.connection, chat_id)) == {"sweep"}
        status, called = await moved(sql, chat_id, "sweep")
        assert (status in (Status.RUNNING, Status.INTERRUPTING), called) == (True, True)
    assert used | {"sweep"} == set(_MOVES)


async def test_a_wait_for_agents_is_over_when_its_time_is_up(sql: ChatSql) -> None:
    chat_id = await sql.made(Case(Status.REQUIRES_ACTION, action="agents"))
    await sql.connection.execute("UPDATE waits SET deadline = now() - interval '1 second'")

    (ripe,) = await sql.connection.fetch("SELECT * FROM ripe_waits(NULL, NULL, '{}')")

    assert (ripe["chat_id"], ripe["timed_out"]) == (chat_id, True)
