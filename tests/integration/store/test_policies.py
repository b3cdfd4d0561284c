"""Rules about tool calls: who may write them, what is refused, whom they reach."""

from __future__ import annotations

import asyncpg
import msgspec
import pytest
from support.chat_driver import StoreDriver, new_actor
from support.databases import expire_leases

from steersman_contracts.errors import Conflict, Forbidden, InvalidRequest, NotFound
from steersman_contracts.policies import LevelRules, Rule, RuleFacts, WorkspaceFacts
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc import policies as rpc

pytestmark = pytest.mark.one_stack

ASK = Rule("ask", tool="execute", reason="it runs commands")
DENY = Rule("deny", when='args.path.startsWith("/etc")')


def admin(store: StoreDriver) -> Actor:
    return msgspec.structs.replace(store.actor, role="admin")


async def test_rules_of_all_levels_reach_the_worker(store: StoreDriver) -> None:
    chat = await store.create("hello")
    for request in (
        rpc.PutPolicy(admin(store), "system", (ASK,)),
        rpc.PutPolicy(store.actor, "user", (DENY,)),
        rpc.PutPolicy(store.actor, "chat", (ASK, DENY), chat.id),
    ):
        assert (await store.rpc.call(rpc.PUT, request)).version == 1

    levels = (await store.acquire(chat.id)).chat.policies

    assert set(map(repr, levels)) == {
        repr(LevelRules("system", (ASK,))),
        repr(LevelRules("user", (DENY,))),
        repr(LevelRules("chat", (ASK, DENY))),
    }


@pytest.mark.own_stack  # there are no rules at first
async def test_what_conditions_look_at_reaches_the_worker_of_a_chat_and_of_its_agents(
    store: StoreDriver, database_url: str
) -> None:
    chat, agent = await store.create("hello"), await store.create("look")
    without_rules = (await store.acquire(chat.id, "before")).chat.facts
    await store.rpc.call(rpc.PUT, rpc.PutPolicy(store.actor, "user", (ASK,)))
    poor = (await store.acquire((await store.create("another")).id)).chat.facts
    connection = await asyncpg.connect(database_url)
    try:
        workspace = await connection.fetchval(
            "INSERT INTO workspaces (id, owner_id, name, template, driver, parameters, "
            "environment, state, host) VALUES (gen_random_uuid(), $1, 'mine', 'python', 'local', "
            "'{}', '{}', 'running', 'host-1') RETURNING id::text",
            store.actor.user_id,
        )
        await connection.execute(
            "UPDATE chats SET workspace_id = $2 WHERE id = $1", chat.id, workspace
        )
        await connection.execute(
            "UPDATE chats SET parent_id = $2, root_id = $2 WHERE id = $1", agent.id, chat.id
        )
        for spender, cost in ((chat.id, 700), (agent.id, 50)):
            await connection.execute(
                "INSERT INTO usage_days (day, model, chat_id, user_id, root_id, steps, "
                "unknown_steps, input_tokens, output_tokens, reasoning_tokens, cache_read_tokens, "
                "cache_write_tokens, cost) "
                "VALUES (current_date, 'm', $1, $2, $3, 1, 0, 0, 0, 0, 0, 0, $4)",
                *(spender, store.actor.user_id, chat.id, cost),
            )
    finally:
        await connection.close()
    await expire_leases(database_url)
    rich = [(await store.acquire(one.id, "after")).chat.facts for one in (chat, agent)]

    assert without_rules == poor == RuleFacts()
    assert rich == [RuleFacts(750, WorkspaceFacts(workspace, "mine", "python", "local"))] * 2


@pytest.mark.own_stack
async def test_what_was_written_is_read_again(store: StoreDriver) -> None:
    await store.rpc.call(rpc.PUT, rpc.PutPolicy(store.actor, "user", (ASK, DENY)))

    policy = await store.rpc.call(rpc.GET, rpc.GetPolicy(store.actor, "user"))

    assert policy == rpc.Policy("user", (ASK, DENY), 1)
    assert (await store.rpc.call(rpc.GET, rpc.GetPolicy(store.actor, "system"))).version == 0


async def test_who_was_slower_does_not_overwrite(store: StoreDriver) -> None:
    await store.rpc.call(rpc.PUT, rpc.PutPolicy(store.actor, "user", (ASK,), version=0))

    with pytest.raises(Conflict, match="changed since"):
        await store.rpc.call(rpc.PUT, rpc.PutPolicy(store.actor, "user", (), version=0))


async def test_the_deployment_is_for_admins(store: StoreDriver) -> None:
    with pytest.raises(Forbidden):
        await store.rpc.call(rpc.PUT, rpc.PutPolicy(store.actor, "system", ()))


async def test_a_broken_condition_is_named(store: StoreDriver) -> None:
    request = rpc.PutPolicy(store.actor, "user", (ASK, Rule("deny", when="args.x ==")))

    with pytest.raises(InvalidRequest) as refused:
        await store.rpc.call(rpc.PUT, request)

    assert refused.value.details["field"] == "rules[1].when"


async def test_a_chat_of_somebody_else_has_no_rules_and_no_book(
    store: StoreDriver, database_url: str
) -> None:
    chat = await store.create("hello")
    mallory = await new_actor(database_url, "mallory")

    with pytest.raises(NotFound):
        await store.rpc.call(rpc.GET, rpc.GetPolicy(mallory, "chat", chat.id))
    with pytest.raises(NotFound):
        await store.rpc.call(rpc.LIST_AUDIT, rpc.ListAudit(mallory, chat.id))


@pytest.mark.own_stack
async def test_changes_of_rules_are_in_the_book_of_who_made_them(
    store: StoreDriver, database_url: str
) -> None:
    await store.rpc.call(rpc.PUT, rpc.PutPolicy(store.actor, "user", (ASK,)))
    mallory = await new_actor(database_url, "mallory")

    mine = await store.rpc.call(rpc.LIST_AUDIT, rpc.ListAudit(store.actor))
    theirs = await store.rpc.call(rpc.LIST_AUDIT, rpc.ListAudit(mallory))

    assert [(e.action, e.actor_id, e.details["level"]) for e in mine.entries] == [
        ("policy.changed", store.actor.user_id, "user")
    ]
    assert theirs == rpc.AuditPage((), has_more=False)
