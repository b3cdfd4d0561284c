"""Servers of people and of the deployment: who sees, changes and uses which."""

from __future__ import annotations

from typing import Any

import asyncpg
import msgspec
import pytest
import pytest_asyncio
from support.chat_driver import StoreDriver, new_actor, text

from steersman_contracts.errors import Conflict, Forbidden, InvalidRequest, NotFound
from steersman_contracts.events import ChatUpdated
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc import chats as people
from steersman_contracts.rpc import mcp as rpc

pytestmark = pytest.mark.one_stack

KEY = "k-1234567890"
URL = "https://mcp.example/mcp"


async def add(
    store: StoreDriver,
    slug: str,
    *,
    actor: Actor | None = None,
    shared: bool = False,
    **more: Any,
) -> rpc.McpServer:
    settings = msgspec.convert({"slug": slug, "url": URL, **more}, rpc.McpSettings)
    return await store.rpc.call(
        rpc.CREATE_MCP_SERVER, rpc.CreateMcpServer(actor or store.actor, settings, shared)
    )


async def change(
    store: StoreDriver, server: rpc.McpServer, actor: Actor | None = None, **changes: object
) -> rpc.McpServer:
    request = rpc.ChangeMcpServer(
        actor or store.actor, server.id, msgspec.convert(changes, rpc.McpChanges)
    )
    return await store.rpc.call(rpc.CHANGE_MCP_SERVER, request)


def admin(store: StoreDriver) -> Actor:
    return Actor(store.actor.user_id, "admin")


@pytest_asyncio.fixture(loop_scope="module")
async def stranger(database_url: str) -> Actor:
    return await new_actor(database_url, "eve")


async def slugs_of(store: StoreDriver, chat_id: ChatId) -> list[str]:
    reply = await store.rpc.call(rpc.SERVERS_OF_CHAT, rpc.ServersOfChat(chat_id))
    return [server.slug for server in reply.servers]


async def test_a_secret_goes_in_and_comes_out_for_the_tools_service_alone(
    store: StoreDriver, database_url: str
) -> None:
    described: dict[str, Any] = {"api_key": KEY, "deny": ["delete_*"], "read_only": ["get_*"]}
    made = await add(store, "github", auth="api_key", **described)
    listed = await store.rpc.call(rpc.LIST_MCP_SERVERS, rpc.ListMcpServers(store.actor))
    opened = await store.rpc.call(rpc.OPEN_MCP_SERVER, rpc.OpenMcpServer(made.id))
    connection = await asyncpg.connect(database_url)
    try:
        row = await connection.fetchval("SELECT mcp_servers::text FROM mcp_servers")
        audit = await connection.fetchval("SELECT action FROM audit")
    finally:
        await connection.close()

    assert listed.servers == (made,)
    assert (made.has_secret, made.shared, made.login) == (True, False, "not_needed")
    assert KEY not in repr(made)
    assert KEY not in row
    assert audit == "mcp_server.created"
    assert opened.headers == {"Authorization": f"Bearer {KEY}"}
    assert (opened.trusted, opened.deny, opened.oauth) == (False, ("delete_*",), False)
    assert made.read_only == opened.read_only == ("get_*",)


async def test_who_may_add_see_and_change_what(store: StoreDriver, stranger: Actor) -> None:
    mine = await add(store, "mine")
    with pytest.raises(Forbidden):
        await add(store, "ours", shared=True)
    ours = await add(store, "ours", actor=admin(store), shared=True)
    with pytest.raises(Forbidden):
        await add(store, "local", url=None, transport="stdio", command=["true"])
    process = await add(
        store,
        "local",
        actor=admin(store),
        shared=True,
        url=None,
        transport="stdio",
        command=["serve", "--all"],
        env={"KEY": KEY},
    )

    seen = await store.rpc.call(rpc.LIST_MCP_SERVERS, rpc.ListMcpServers(stranger))

    assert [(server.slug, server.command) for server in seen.servers] == [
        ("local", ()),
        ("ours", ()),
    ]
    with pytest.raises(NotFound):
        await change(store, mine, stranger, enabled=False)
    with pytest.raises(NotFound):
        await store.rpc.call(rpc.DELETE_MCP_SERVER, rpc.DeleteMcpServer(stranger, mine.id))
    with pytest.raises(Forbidden):
        await change(store, ours, stranger, enabled=False)
    opened = await store.rpc.call(rpc.OPEN_MCP_SERVER, rpc.OpenMcpServer(process.id))
    assert (opened.trusted, opened.env, opened.command) == (
        True,
        {"KEY": KEY},
        ("serve", "--all"),
    )
    with pytest.raises(Conflict):
        await add(store, "ours", actor=stranger)
    assert (await add(store, "mine", actor=stranger)).slug == "mine"


async def test_secrets_do_not_follow_a_server_to_another_host(store: StoreDriver) -> None:
    made = await add(store, "github", auth="headers", headers={"X-Key": KEY})

    with pytest.raises(InvalidRequest) as refused:
        await change(store, made, url="https://thief.example/mcp")
    with pytest.raises(InvalidRequest):
        await change(store, made, url="https://thief.example/mcp", auth="headers")
    moved = await change(
        store, made, url="https://other.example/mcp", headers={"X-Other": "o-12345"}
    )
    bare = await change(store, moved, auth="none")

    assert refused.value.details["field"] == "headers"
    assert (moved.version, moved.header_names) == (2, ("X-Other",))
    assert (bare.has_secret, bare.header_names) == (False, ())
    opened = await store.rpc.call(rpc.OPEN_MCP_SERVER, rpc.OpenMcpServer(made.id))
    assert opened.headers == {}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"url": None}, "url"),
    ({"url": "https://me:secret@mcp.example/"}, "url"),
    ({"url": "https://mcp.example/#x"}, "url"),
    ({"auth": "api_key"}, "api_key"),
    ({"auth": "api_key", "api_key": "a\r\nX: y"}, "api_key"),
    ({"auth": "api_key", "api_key": KEY, "header": "Host"}, "header"),
    ({"auth": "headers"}, "headers"),
    ({"headers": {"X-Key": KEY}}, "headers"),
    ({"api_key": KEY}, "api_key"),
    ({"command": ["true"]}, "command"),
    ({"oauth_client_secret": KEY}, "oauth_client_secret"),
]


async def test_what_is_no_server_is_refused_by_its_field(store: StoreDriver) -> None:
    for wrong, field in WRONG:
        with pytest.raises(InvalidRequest) as refused:
            await add(store, "x", **wrong)

        assert refused.value.details["field"] == field, wrong
        assert KEY not in str(refused.value)


@pytest.mark.own_stack
async def test_a_chat_has_what_is_forced_chosen_or_on_by_default(
    store: StoreDriver, stranger: Actor
) -> None:
    boss = admin(store)
    for kind in ("force_on", "default_on", "default_off"):
        await add(store, kind.replace("_", "-"), actor=boss, shared=True, availability=kind)
    mine = await add(store, "mine", availability="default_off")
    foreign = await add(store, "foreign", actor=stranger, availability="force_on")
    plain = (await store.rpc.call(people.CREATE, people.CreateChat(store.actor))).chat

    assert await slugs_of(store, plain.id) == ["default-on", "force-on"]
    chosen = people.CreateChat(store.actor, mcp_server_ids=(mine.id,))
    chat = (await store.rpc.call(people.CREATE, chosen)).chat
    assert chat.mcp_server_ids == (mine.id,)
    assert await slugs_of(store, chat.id) == ["force-on", "mine"]

    none = people.UpdateChat(store.actor, chat.id, mcp_server_ids=())
    await store.rpc.call(people.UPDATE, none)
    assert await slugs_of(store, chat.id) == ["force-on"]
    renamed = await store.rpc.call(people.UPDATE, people.UpdateChat(store.actor, chat.id, "title"))
    assert renamed.chat.mcp_server_ids == ()
    default = people.UpdateChat(store.actor, chat.id, mcp_server_ids=None)
    await store.rpc.call(people.UPDATE, default)
    assert await slugs_of(store, chat.id) == ["default-on", "force-on"]

    with pytest.raises(InvalidRequest):
        await store.rpc.call(
            people.UPDATE, people.UpdateChat(store.actor, chat.id, mcp_server_ids=(foreign.id,))
        )
    await change(store, mine, availability="force_on", enabled=False)
    assert await slugs_of(store, chat.id) == ["default-on", "force-on"]


async def test_a_child_that_chose_nothing_has_what_the_chats_above_it_have(
    store: StoreDriver, database_url: str
) -> None:
    mine = await add(store, "mine", availability="default_off")
    await add(store, "other")
    chosen = people.CreateChat(store.actor, mcp_server_ids=(mine.id,))
    chats = [(await store.rpc.call(people.CREATE, chosen)).chat.id]
    connection = await asyncpg.connect(database_url)
    try:
        for _ in range(2):
            made = (await store.rpc.call(people.CREATE, people.CreateChat(store.actor))).chat.id
            await connection.execute(
                "UPDATE chats SET parent_id = $2 WHERE id = $1", made, chats[-1]
            )
            chats.append(made)
    finally:
        await connection.close()

    assert [await slugs_of(store, chat) for chat in chats] == [["mine"], ["mine"], ["mine"]]


async def test_what_leaves_its_family_keeps_the_servers_that_it_had(
    store: StoreDriver, database_url: str
) -> None:
    mine = await add(store, "mine", availability="default_off")
    await add(store, "other")
    chosen = people.CreateChat(store.actor, parts=text("go"), mcp_server_ids=(mine.id,))
    chats = [(await store.rpc.call(people.CREATE, chosen)).chat.id]
    connection = await asyncpg.connect(database_url)
    try:
        for detached in (False, True):
            made = await store.create("go")
            await connection.execute(
                "UPDATE chats SET parent_id = $2, root_id = $3, detached = $4 WHERE id = $1",
                made.id,
                chats[-1],
                chats[0],
                detached,
            )
            chats.append(made.id)
    finally:
        await connection.close()
    message = (await store.messages(chats[2]))[0]

    request = people.ForkChat(store.actor, chats[2], message.id)
    fork = (await store.rpc.call(people.FORK, request)).chat
    await store.delete(chats[1])

    assert [await slugs_of(store, chat) for chat in (fork.id, chats[2])] == [["mine"], ["mine"]]
    assert (await store.chat(chats[2])).parent_id is None


@pytest.mark.own_stack
async def test_the_owner_of_a_chat_knows_whether_it_has_tools_of_its_own(
    store: StoreDriver,
) -> None:
    chat = await store.create("hello")
    before = await store.acquire(chat.id)
    server = await add(store, "mine")
    again = await store.acquire(chat.id)

    assert (before.chat.has_own_tools, again.chat.has_own_tools) == (False, True)
    problem = rpc.ReportMcpServer(server.id, server.version, "it does not answer")
    await store.rpc.call(rpc.REPORT_MCP_SERVER, problem)
    listed = await store.rpc.call(rpc.LIST_MCP_SERVERS, rpc.ListMcpServers(store.actor))
    assert listed.servers[0].problem == "it does not answer"
    assert (await change(store, server, name="Mine")).problem is None


async def test_chats_forget_a_server_that_is_deleted(store: StoreDriver) -> None:
    mine, other = await add(store, "mine", availability="default_off"), await add(store, "other")
    both = people.CreateChat(store.actor, mcp_server_ids=(mine.id, other.id))
    alone = people.CreateChat(store.actor, mcp_server_ids=(mine.id,))
    chats = [(await store.rpc.call(people.CREATE, wanted)).chat for wanted in (both, alone)]

    await store.rpc.call(rpc.DELETE_MCP_SERVER, rpc.DeleteMcpServer(store.actor, mine.id))

    now = [await store.chat(chat.id) for chat in chats]
    assert [chat.mcp_server_ids for chat in now] == [(other.id,), ()]
    assert [await slugs_of(store, chat.id) for chat in chats] == [["other"], []]
    told = await store.log.until(chats[0].id, ChatUpdated)
    assert isinstance(told, ChatUpdated)
    assert told.chat.mcp_server_ids == (other.id,)
