"""Approvals in the store: what a decision moves, and what it leaves in the book."""

from __future__ import annotations

import asyncpg
import pytest
from support.chat_driver import StoreDriver, assistant, new_actor
from support.invariants import broken, read_rows

from steersman_contracts import events
from steersman_contracts.chats import Role, Status
from steersman_contracts.errors import Conflict, InvalidRequest, NotFound, TransitionRefused
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import TextPart, ToolCallPart, ToolResultPart
from steersman_contracts.policies import PendingApproval, Rule
from steersman_contracts.rpc import Actor, policies
from steersman_contracts.rpc.worker import NewMessage

pytestmark = pytest.mark.one_stack

READ = ToolCallPart("read", "read_file", {"path": "a"})
RUN = ToolCallPart("run", "execute", {"command": "rm a"})
DROP = ToolCallPart("drop", "execute", {"command": "rm b"})
ASK = ToolCallPart("ask", "ask_user", {})


def approval(call: ToolCallPart) -> PendingApproval:
    return PendingApproval(call.call_id, call.tool, call.arguments, "it deletes")


RESULT = ToolResultPart(READ.call_id, READ.tool, (TextPart("contents"),))


async def waiting(
    store: StoreDriver, *calls: ToolCallPart, asked: tuple[ToolCallPart, ...]
) -> ChatId:
    """A chat whose model asked for these calls, some of which a person has to allow."""
    chat = await store.create("do it")
    await store.acquire(chat.id)
    await store.commit(await store.fence(chat.id), assistant(*calls))
    results = (RESULT,) if READ in calls else ()
    await store.require_action(
        await store.fence(chat.id),
        *calls,
        results=results,
        approvals=tuple(approval(call) for call in asked),
    )
    return chat.id


async def sound(database_url: str, chat_id: ChatId) -> bool:
    connection = await asyncpg.connect(database_url)
    try:
        return broken(await read_rows(connection, chat_id)) == []
    finally:
        await connection.close()


async def test_a_pending_approval_shows_what_is_asked(store: StoreDriver) -> None:
    chat_id = await waiting(store, READ, RUN, asked=(RUN,))

    action = (await store.chat(chat_id)).action

    assert action is not None
    assert (action.calls, action.approvals) == ((), (approval(RUN),))


async def test_an_allowed_call_is_run_by_the_next_worker_with_what_was_done_before(
    store: StoreDriver, database_url: str
) -> None:
    chat_id = await waiting(store, READ, RUN, asked=(RUN,))

    assert (await store.resolve(chat_id, "run")).status is Status.RUNNING
    owned = (await store.acquire(chat_id, "runner-2")).chat

    assert (owned.approved, owned.results) == (("run",), (RESULT,))
    assert len(await store.messages(chat_id)) == 2
    assert await sound(database_url, chat_id)
    results = (RESULT, ToolResultPart("run", "execute", (TextPart("done"),)))
    after = await store.commit(
        await store.fence(chat_id, "runner-2"), NewMessage(Role.TOOL, results)
    )
    assert (after.chat.approved, after.chat.results) == ((), ())
    assert await sound(database_url, chat_id)


async def test_a_refused_call_is_answered_with_the_reason(store: StoreDriver) -> None:
    chat_id = await waiting(store, RUN, asked=(RUN,))

    chat = await store.resolve(chat_id, "run", approved=False, reason="too risky")

    assert chat.status is Status.RUNNING
    result = (await store.messages(chat_id))[-1].parts[0]
    assert result == ToolResultPart(
        "run",
        "execute",
        (TextPart("a person refused this call: too risky"),),
        is_error=True,
    )


async def test_the_chat_waits_until_everything_is_decided_and_answered(store: StoreDriver) -> None:
    chat_id = await waiting(store, RUN, DROP, ASK, asked=(RUN, DROP))

    one = await store.resolve(chat_id, "drop", approved=False)
    two = await store.submit(chat_id, {"ask": "yes"})
    three = await store.resolve(chat_id, "run")

    assert [c.status for c in (one, two, three)] == [
        Status.REQUIRES_ACTION,
        Status.REQUIRES_ACTION,
        Status.RUNNING,
    ]
    assert one.action is not None
    assert [a.call_id for a in one.action.approvals] == ["run"]
    await store.log.until(
        chat_id, events.ChatStatusChanged, snapshot_version=three.snapshot_version
    )
    seen = [e for e in store.log.of(chat_id) if isinstance(e, events.ActionRequired)]
    assert [[a.call_id for a in e.action.approvals] for e in seen] == [
        ["run", "drop"],
        ["run"],
        ["run"],
    ]
    owned = (await store.acquire(chat_id)).chat
    assert (owned.approved, [r.call_id for r in owned.results]) == (("run",), ["drop", "ask"])


async def test_only_what_is_pending_can_be_decided(store: StoreDriver) -> None:
    chat_id = await waiting(store, READ, RUN, DROP, asked=(RUN, DROP))
    await store.resolve(chat_id, "run")

    with pytest.raises(Conflict, match="decided already"):
        await store.resolve(chat_id, "run", approved=False)
    with pytest.raises(NotFound):
        await store.resolve(chat_id, "read")
    await store.resolve(chat_id, "drop")
    with pytest.raises(TransitionRefused):
        await store.resolve(chat_id, "drop")


async def test_nobody_else_decides(store: StoreDriver, database_url: str) -> None:
    chat_id = await waiting(store, RUN, asked=(RUN,))
    store.actor = await new_actor(database_url, "mallory")

    with pytest.raises(NotFound):
        await store.resolve(chat_id, "run")


async def test_an_interrupt_leaves_no_approval_and_no_open_call(
    store: StoreDriver, database_url: str
) -> None:
    chat_id = await waiting(store, READ, RUN, asked=(RUN,))

    chat = await store.interrupt(chat_id)

    assert (chat.status, chat.action) == (Status.WAITING, None)
    results = (await store.messages(chat_id))[-1].parts
    assert [(p.call_id, p.is_error) for p in results if isinstance(p, ToolResultPart)] == [
        ("read", False),
        ("run", True),
    ]
    assert await sound(database_url, chat_id)


@pytest.mark.parametrize(("scope", "elsewhere"), [("chat", ()), ("always", ("execute",))])
async def test_an_approval_can_reach_further_than_one_call(
    store: StoreDriver, scope: str, elsewhere: tuple[str, ...]
) -> None:
    chat_id = await waiting(store, RUN, asked=(RUN,))
    await store.resolve(chat_id, "run", scope=scope)
    other = await store.create("another")

    assert (await store.acquire(chat_id)).chat.grants == ("execute",)
    assert (await store.acquire(other.id)).chat.grants == elsewhere


@pytest.mark.own_stack  # its person has allowed nothing else
async def test_what_was_allowed_for_good_is_listed_and_taken_back(
    store: StoreDriver, database_url: str
) -> None:
    chat_id = await waiting(store, RUN, DROP, asked=(RUN, DROP))
    await store.resolve(chat_id, "run", scope="chat")
    await store.resolve(chat_id, "drop", scope="always")
    owner, mallory = store.actor, await new_actor(database_url, "mallory")

    async def listed(actor: Actor) -> tuple[policies.Grant, ...]:
        return (await store.rpc.call(policies.LIST_GRANTS, policies.ListGrants(actor))).grants

    async def revoke(actor: Actor, where: ChatId | None) -> None:
        request = policies.RevokeGrant(actor, "execute", where)
        await store.rpc.call(policies.REVOKE_GRANT, request)

    allowed = await listed(owner)
    assert {(one.tool, one.chat_id) for one in allowed} == {("execute", chat_id), ("execute", None)}
    assert await listed(mallory) == ()
    for where in (chat_id, None):
        with pytest.raises(NotFound):
            await revoke(mallory, where)

    assert (await store.acquire(chat_id)).chat.grants == ("execute",)
    await revoke(owner, chat_id)
    with pytest.raises(NotFound):
        await revoke(owner, chat_id)
    assert [one.chat_id for one in await listed(owner)] == [None]
    await revoke(owner, None)

    results = [ToolResultPart(one.call_id, one.tool, (TextPart("done"),)) for one in (RUN, DROP)]
    step = NewMessage(Role.TOOL, tuple(results))
    assert (await store.commit(await store.fence(chat_id), step)).chat.grants == ()
    assert await listed(owner) == ()
    assert await book(database_url, chat_id) == [
        (owner.user_id, "approval.approved"),
        (owner.user_id, "approval.approved"),
        (owner.user_id, "grant.revoked"),  # the other one is of no chat
    ]


async def book(database_url: str, chat_id: ChatId) -> list[tuple[str | None, str]]:
    """Who has decided what about the calls of a chat."""
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch(
            "SELECT actor_id::text, action FROM audit WHERE chat_id = $1 ORDER BY id", chat_id
        )
    finally:
        await connection.close()
    return [(row["actor_id"], row["action"]) for row in rows]


async def test_every_decision_is_in_the_book(store: StoreDriver, database_url: str) -> None:
    chat_id = await waiting(store, RUN, DROP, asked=(RUN, DROP))
    await store.resolve(chat_id, "run")
    await store.resolve(chat_id, "drop", approved=False)

    actor = store.actor.user_id
    assert await book(database_url, chat_id) == [
        (actor, "approval.approved"),
        (actor, "approval.denied"),
    ]


@pytest.mark.own_stack
async def test_a_draft_is_tried_on_the_calls_of_a_chat_and_changes_nothing(
    store: StoreDriver, database_url: str
) -> None:
    chat_id = await waiting(store, READ, RUN, asked=(RUN,))
    draft = (Rule("deny", tool="execute", arguments={"command": "rm *"}, reason="no"),)
    request = policies.DryRun(store.actor, chat_id, "chat", draft, ("execute",))

    report = await store.rpc.call(policies.DRY_RUN, request)

    assert [(one.call_id, one.before, one.after) for one in report.calls] == [
        ("read", policies.Outcome("allow"), policies.Outcome("allow")),
        ("run", policies.Outcome("ask"), policies.Outcome("deny", "no")),
    ]
    assert (report.changed, report.truncated) == (1, False)
    get = policies.GetPolicy(store.actor, "chat", chat_id)
    assert (await store.rpc.call(policies.GET, get)).rules == ()
    stranger = await new_actor(database_url, "mallory")
    with pytest.raises(NotFound):
        await store.rpc.call(policies.DRY_RUN, policies.DryRun(stranger, chat_id, "chat", draft))
    broken_rule = policies.DryRun(store.actor, chat_id, "chat", (Rule("deny", when="args ="),))
    with pytest.raises(InvalidRequest):
        await store.rpc.call(policies.DRY_RUN, broken_rule)


async def test_what_nobody_decides_in_time_is_refused_and_what_was_done_stays(
    store: StoreDriver, database_url: str
) -> None:
    chat_id = await waiting(store, READ, RUN, asked=(RUN,))
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("UPDATE chats SET action_expires_at = now() - interval '1 s'")
    finally:
        await connection.close()

    await store.log.until(chat_id, events.ChatStatusChanged, outcome="action_expired")

    chat = await store.chat(chat_id)
    assert (chat.status, chat.action) == (Status.WAITING, None)
    read, run = (await store.messages(chat_id))[-1].parts
    assert read == RESULT
    assert isinstance(run, ToolResultPart)
    assert (run.call_id, run.is_error) == ("run", True)
    with pytest.raises(TransitionRefused):  # too late
        await store.resolve(chat_id, "run")
    assert await sound(database_url, chat_id)
    assert await book(database_url, chat_id) == [(None, "approval.expired")]
