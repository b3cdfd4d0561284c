"""Rules about tool calls: who may write them, what is refused, whom they reach."""

from __future__ import annotations

import msgspec
import pytest
from support.chat_driver import StoreDriver, new_actor

from steersman_contracts.errors import Conflict, Forbidden, InvalidRequest, NotFound
from steersman_contracts.policies import LevelRules, Rule
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
