"""Signing in at a server: once, by whoever began it, and renewed by one process at a time."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs, urlsplit

import asyncpg
import httpx2
import pytest
from integration.toolhosts.conftest import StartTools
from integration.toolhosts.sign_in_server import SignInServer, sign_in_server
from integration.toolhosts.test_mcp_chats import add, catalog_of, chat_of, plugin
from integration.tools.host import Caller, text_of
from support.chat_driver import StoreDriver, new_actor

from steersman_contracts.addresses import PrivateHosts
from steersman_contracts.errors import Conflict, NotFound
from steersman_contracts.parts import JsonObject
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc import mcp as rpc
from steersman_contracts.rpc.tools import ASK_PLUGIN, AskPlugin
from steersman_plugin_mcp.held import HeldToken
from steersman_plugin_mcp.http import Reach
from steersman_runtime.nats_client import NatsClient

pytestmark = pytest.mark.one_stack

BACK = "http://127.0.0.1:8700/mcp-login"
HERE = Reach(PrivateHosts.parse("127.0.0.1"))


async def ask(store: StoreDriver, actor: Actor, question: str, **body: object) -> JsonObject:
    request = AskPlugin(actor, "mcp", question, body)
    return (await store.rpc.call(ASK_PLUGIN, request)).body


async def come_back(store: StoreDriver, server: rpc.McpServer) -> dict[str, str]:
    """Begin, and do what the person does; what the address holds to which they come back."""
    begun = await ask(store, store.actor, "begin_login", server_id=server.id, redirect_uri=BACK)
    async with httpx2.AsyncClient() as browser:
        answer = await browser.get(begun["url"])
    location = answer.headers["location"]
    assert location.startswith(f"{BACK}?")
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


async def finish(store: StoreDriver, actor: Actor, back: dict[str, str]) -> JsonObject:
    return await ask(
        store, actor, "finish_login", state=back["state"], code=back["code"], issuer=back.get("iss")
    )


async def login_of(store: StoreDriver) -> rpc.McpLogin:
    listed = await store.rpc.call(rpc.LIST_MCP_SERVERS, rpc.ListMcpServers(store.actor))
    return listed.servers[0].login


@pytest.mark.own_stack  # it counts what is begun
async def test_who_began_a_sign_in_finishes_it_once(
    start_tools: StartTools, store: StoreDriver, client: NatsClient, booked: str
) -> None:
    eve = await new_actor(booked, "eve")
    await start_tools(plugin(), toolset_patience_s=0.1)
    async with sign_in_server() as there:
        server = await add(store, "mine", url=f"{there.url}/mcp", auth="oauth")
        chat = await chat_of(store, store.actor)
        before = await catalog_of(store, chat)
        with pytest.raises(NotFound):
            await ask(store, eve, "begin_login", server_id=server.id, redirect_uri=BACK)
        back = await come_back(store, server)
        with pytest.raises(NotFound):
            await finish(store, eve, back)
        elsewhere = {**await come_back(store, server), "iss": "https://thief.example"}
        with pytest.raises(Conflict, match="another sign-in server"):
            await finish(store, store.actor, elsewhere)
        done = await finish(store, store.actor, back)
        with pytest.raises(NotFound):
            await finish(store, store.actor, back)
        after = await catalog_of(store, chat)
        called = await Caller(client, chat).call("mine__who")
        (token,) = there.access

        assert before.warnings == ("server 'mine': sign in first: steersman mcp login mine",)
        assert done == {"server_id": server.id}
        assert [spec.name for spec in after.tools] == ["mine__who"]
        assert text_of(called) == "alice"
        assert await login_of(store) == "done"
        connection = await asyncpg.connect(booked)
        try:
            rows = await connection.fetchval("SELECT string_agg(i::text, '') FROM mcp_sign_ins i")
            logins = await connection.fetchval("SELECT count(*) FROM mcp_logins")
        finally:
            await connection.close()
        assert token not in rows
        assert bytes(token, "ascii").hex() not in rows
        assert logins == 0
        out = await store.rpc.call(rpc.SIGN_OUT, rpc.SignOut(store.actor, server.id))
        assert out.login == "needed"
        assert (await catalog_of(store, chat)).tools == ()


async def held(store: StoreDriver, client: NatsClient, server: rpc.McpServer) -> HeldToken:
    """The token as another replica has it."""
    other = StoreDriver(client, store.actor)
    opened = await other.rpc.call(rpc.OPEN_MCP_SERVER, rpc.OpenMcpServer(server.id))
    return HeldToken(other.rpc, opened, store.actor.user_id, HERE)


async def ping(there: SignInServer, auth: HeldToken) -> int:
    async with httpx2.AsyncClient(auth=auth, timeout=30) as asking:
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        return (await asking.post(f"{there.url}/mcp", json=message)).status_code


async def test_a_token_is_renewed_once_however_many_need_it(
    start_tools: StartTools, store: StoreDriver, client: NatsClient
) -> None:
    await start_tools(plugin(), toolset_patience_s=0.1)
    async with sign_in_server() as there:
        server = await add(store, "mine", url=f"{there.url}/mcp", auth="oauth")
        await finish(store, store.actor, await come_back(store, server))
        replicas = [await held(store, client, server) for _ in range(3)]
        assert [await ping(there, auth) for auth in replicas] == [200, 200, 200]

        there.over()
        async with asyncio.timeout(40):
            codes = await asyncio.gather(*(ping(there, auth) for auth in replicas * 3))
        # Also before it is refused: this one knows that the token is nearly over.
        there.expires_in = 5
        there.over()
        await ping(there, replicas[0])
        before = there.renewals
        await ping(there, await held(store, client, server))

        assert codes == [200] * 9
        assert (before, there.renewals) == (2, 3)
        assert len(there.refresh) == 1


async def test_a_sign_in_that_is_over_is_told_and_can_be_done_again(
    start_tools: StartTools, store: StoreDriver, client: NatsClient
) -> None:
    await start_tools(plugin(), toolset_patience_s=0.1)
    async with sign_in_server() as there:
        server = await add(store, "mine", url=f"{there.url}/mcp", auth="oauth")
        await finish(store, store.actor, await come_back(store, server))
        chat = await chat_of(store, store.actor)
        await catalog_of(store, chat)

        there.forget()
        failed = await Caller(client, chat).call("mine__who")
        told = await catalog_of(store, chat)
        expired = await login_of(store)
        await finish(store, store.actor, await come_back(store, server))
        again = await Caller(client, chat).call("mine__who")

    assert failed.is_error
    assert told.tools == ()
    assert told.warnings == ("server 'mine': sign in again: steersman mcp login mine",)
    assert expired == "expired"
    assert text_of(again) == "alice"


async def test_we_are_registered_once_until_nobody_knows_us_any_more(
    start_tools: StartTools, store: StoreDriver, booked: str
) -> None:
    await start_tools(plugin(), toolset_patience_s=0.1)
    async with sign_in_server() as there:
        server = await add(store, "mine", url=f"{there.url}/mcp", auth="oauth")
        await come_back(store, server)
        await finish(store, store.actor, await come_back(store, server))
        await finish(store, store.actor, await come_back(store, server))
        (first,) = there.clients
        connection = await asyncpg.connect(booked)
        try:
            kept = await connection.fetchval("SELECT string_agg(c::text, '') FROM mcp_clients c")
        finally:
            await connection.close()
        secret = there.clients[first]["client_secret"]

        back = await come_back(store, server)
        there.clients.clear()
        with pytest.raises(Conflict):
            await finish(store, store.actor, back)
        assert len(there.wrong) == 1  # it was asked by somebody whom it did not know
        there.wrong.clear()
        await finish(store, store.actor, await come_back(store, server))
        (second,) = there.clients
        await store.rpc.call(rpc.SIGN_OUT, rpc.SignOut(store.actor, server.id))
        await finish(store, store.actor, await come_back(store, server))

        assert first != second
        assert len(there.clients) == 2
        assert first in kept
        assert secret not in kept
        assert secret.encode().hex() not in kept
