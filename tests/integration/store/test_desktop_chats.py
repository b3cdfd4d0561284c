"""The desktop service learns which chats are no more, and what desktop is whose."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from support.agents import Family
from support.chat_driver import StoreDriver, assistant, new_actor

from steersman_contracts.agents import AgentState, described
from steersman_contracts.errors import InvalidRequest, NotFound, TooManyRequests
from steersman_contracts.events import ChatStatusChanged
from steersman_contracts.ids import ChatId, ModelName
from steersman_contracts.rpc import agent_recordings as films
from steersman_contracts.rpc import agents
from steersman_contracts.rpc import chats as chats_rpc
from steersman_contracts.rpc import desktop_chats as rpc
from steersman_contracts.rpc import desktop_servers as people
from steersman_contracts.rpc.desktop_chats import FIND_DELETED, FindDeleted

pytestmark = pytest.mark.one_stack


async def test_only_chats_that_are_no_more_are_named(store: StoreDriver) -> None:
    kept, deleted = await store.create("one"), await store.create("two")
    never = ChatId("01a00000-0000-7000-8000-000000000000")
    request = FindDeleted((kept.id, deleted.id, never))
    before = await store.rpc.call(FIND_DELETED, request)
    await store.acquire(deleted.id)
    await store.finish(await store.fence(deleted.id), assistant("answer"))
    await store.log.until(deleted.id, ChatStatusChanged, outcome="completed")

    await store.delete(deleted.id)

    after = await store.rpc.call(FIND_DELETED, request)
    nothing = await store.rpc.call(FIND_DELETED, FindDeleted(()))
    assert before.chat_ids == (never,)
    assert set(after.chat_ids) == {deleted.id, never}
    assert nothing.chat_ids == ()


async def test_an_agent_that_shares_uses_the_desktop_above_and_a_detached_one_gets_its_own(
    store: StoreDriver,
) -> None:
    family = await Family.begin(store)
    parent = family.parent.id
    own = await family.spawn(kind="computer_use")
    shares = await family.spawn("s-2", kind="computer_use", share_desktop=True, detached=True)
    with pytest.raises(InvalidRequest, match="uses no desktop"):
        await family.spawn("s-3", share_desktop=True)

    async def found(chat_id: ChatId) -> rpc.DesktopOf:
        return await store.rpc.call(rpc.FIND_DESKTOP, rpc.FindDesktop(chat_id))

    assert await found(parent) == rpc.DesktopOf(parent)
    assert await found(own) == rpc.DesktopOf(own, agent_kind="computer_use")
    assert await found(shares) == rpc.DesktopOf(parent, (parent,), "computer_use")
    await store.finish(await store.fence(parent), assistant("done"))
    await store.log.until(parent, ChatStatusChanged, outcome="completed")
    await store.delete(parent)
    assert await found(shares) == rpc.DesktopOf(shares, agent_kind="computer_use")
    assert await found(parent) == rpc.DesktopOf(parent)  # is no more


async def test_desktops_count_for_the_owner_of_their_chats_over_all_hosts(
    store: StoreDriver, database_url: str
) -> None:
    chats = [(await store.create(f"chat {number}")).id for number in range(6)]

    async def claim(chat_id: ChatId, host: str, most: int = 2) -> None:
        request = rpc.ClaimDesktop(chat_id, host, most, 3600.0)
        await store.rpc.call(rpc.CLAIM_DESKTOP, request)

    async def release(chat_id: ChatId, host: str) -> None:
        await store.rpc.call(rpc.RELEASE_DESKTOP, rpc.ReleaseDesktop(chat_id, host))

    # All at the same moment, on two hosts: never one too many.
    answers = await asyncio.gather(
        *(claim(chat_id, f"host-{place % 2}") for place, chat_id in enumerate(chats)),
        return_exceptions=True,
    )
    refused = [each for each in answers if isinstance(each, TooManyRequests)]
    have = [chat_id for chat_id, each in zip(chats, answers, strict=True) if each is None]
    lack = [chat_id for chat_id in chats if chat_id not in have]
    said = "the owner of this chat has 2 desktops, which is the limit; stop one first"
    assert (len(have), [str(each) for each in refused]) == (2, [said] * 4)
    assert {each.details["limit"] for each in refused} == {2}

    # Another host has it when the one before has died; what that one says late is nothing to it.
    await claim(have[0], "host-2")
    await claim(have[0], "host-2")
    await release(have[0], "host-0")
    await release(have[0], "host-1")
    with pytest.raises(TooManyRequests):
        await claim(lack[0], "host-0")
    await release(have[0], "host-2")
    await claim(lack[0], "host-0")

    # What nobody renews counts no more, until its host is there again; what has ended stays so.
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("UPDATE desktop_claims SET expires_at = now() - interval '1 s'")
        await claim(lack[1], "host-1", 1)
        renewed = rpc.RenewDesktops("host-0", (lack[0], have[0]), 3600.0)
        await store.rpc.call(rpc.RENEW_DESKTOPS, renewed)
        with pytest.raises(TooManyRequests, match="has 2 desktops"):
            await claim(lack[2], "host-1")
        stranger = await new_actor(database_url, "cid")
        asked = chats_rpc.CreateChat(stranger, ModelName("demo/echo"))
        theirs = (await store.rpc.call(chats_rpc.CREATE, asked)).chat
        await claim(theirs.id, "host-1", 1)
        # Of a long time ago nothing is kept, and of a chat that is no more nothing is counted.
        await connection.execute("UPDATE desktop_claims SET expires_at = now() - interval '2 days'")
        await claim(lack[2], "host-1", 1)
        await claim(ChatId("01a00000-0000-7000-8000-000000000000"), "host-1", 1)
        left = await connection.fetch("SELECT chat_id::text FROM desktop_claims")
    finally:
        await connection.close()
    assert {row[0] for row in left} == {lack[2], theirs.id}


async def test_a_password_goes_in_and_comes_out_for_the_desktop_service_alone(
    store: StoreDriver, database_url: str
) -> None:
    chat = (await store.create("one")).id
    one = people.OneServer(store.actor, chat)

    async def put(address: str, password: str | None) -> people.DesktopServer:
        request = people.PutServer(store.actor, chat, address, password)
        return await store.rpc.call(people.PUT_SERVER, request)

    async def secret() -> rpc.ServerSecret:
        return await store.rpc.call(rpc.READ_SERVER, rpc.ReadServer(chat))

    assert await store.rpc.call(people.GET_SERVER, one) == people.DesktopServer()
    assert await put("vnc.test:5901", "s3cret") == people.DesktopServer("vnc.test:5901", True)
    assert await put("vnc.test:5901", None) == people.DesktopServer("vnc.test:5901", True)
    with pytest.raises(InvalidRequest, match="its password again") as refused:
        await put("evil.test:5901", None)
    assert refused.value.details["field"] == "password"
    assert await secret() == rpc.ServerSecret("vnc.test:5901", "s3cret")
    connection = await asyncpg.connect(database_url)
    try:
        stored = await connection.fetchval("SELECT password FROM desktop_servers")
        told = await connection.fetch("SELECT details::text FROM audit ORDER BY id")
    finally:
        await connection.close()
    assert b"s3cret" not in stored
    assert [row[0] for row in told] == ['{"address":"vnc.test:5901"}'] * 2
    asked = await store.rpc.call(rpc.FIND_DESKTOP, rpc.FindDesktop(chat))
    assert asked == rpc.DesktopOf(chat, server="vnc.test:5901")

    stranger = await new_actor(database_url, "bob")
    with pytest.raises(NotFound):
        await store.rpc.call(people.GET_SERVER, people.OneServer(stranger, chat))
    with pytest.raises(NotFound):
        await store.rpc.call(people.PUT_SERVER, people.PutServer(stranger, chat, "vnc.test:5901"))
    await store.rpc.call(people.DELETE_SERVER, one)
    assert await secret() == rpc.ServerSecret("")


async def test_where_an_agent_was_recorded_is_in_its_report(store: StoreDriver) -> None:
    family = await Family.begin(store)
    agent = await family.spawn(kind="computer_use")
    parent = family.parent.id

    async def report() -> tuple[AgentState, tuple[ChatId, ...]]:
        asked = agents.LookAtAgents(family.caller(), (agent,))
        (state,) = (await store.rpc.call(agents.LOOK_AT_AGENTS, asked)).agents
        done = await store.rpc.call(films.FIND_DONE, films.FindDone((agent, parent)))
        return state, done.chat_ids

    for name in ("20260102T000000-00000001", "20260101T000000-00000000") * 2:
        await store.rpc.call(films.RECORDED, films.AgentRecorded(agent, agent, name))
    nobody = ChatId("01a00000-0000-7000-8000-000000000000")
    late = films.AgentRecorded(nobody, nobody, "20260101T000000-00000002")
    await store.rpc.call(films.RECORDED, late)  # it was deleted meanwhile
    working, none = await report()
    await store.acquire(agent, "runner-2")
    await store.finish(await store.fence(agent, "runner-2"), assistant("It is open."))
    rests, done = await report()

    pages = [
        f"/api/v1/chats/{agent}/desktop/recordings/{name}/player"
        for name in ("20260101T000000-00000000", "20260102T000000-00000001")
    ]
    assert (none, done) == ((), (agent,))
    assert "recordings" not in described(working)
    told = described(rests)
    assert (told["report"], told["recordings"]) == ("It is open.", pages)
