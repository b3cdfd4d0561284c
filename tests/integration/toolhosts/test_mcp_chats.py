"""Servers that people add: offered and called in their own chats alone, wherever those run."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from fakes import FakeProviders, Script, Text, ToolCall, Turn
from integration.toolhosts.conftest import StartTools
from integration.tools.host import Caller, text_of
from integration.tools.mcp_host import WAIT_S, free_port, http_server
from support.chat_driver import StoreDriver, new_actor
from support.chatloop import ModelSetup
from support.services import running_chatloop

from steersman.embedded.nats import NatsServer
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import JsonPart, ToolResultPart
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc import chats as people
from steersman_contracts.rpc import mcp as rpc
from steersman_contracts.rpc.tools import LIST_TOOLS, Catalog, ListTools
from steersman_plugin_mcp.plugin import McpPlugin, Settings
from steersman_runtime.nats_client import NatsClient
from steersman_tools.plugins import PluginSource

pytestmark = pytest.mark.one_stack


def plugin(*, private_hosts: str = "127.0.0.1", discovery_s: float = 30.0) -> PluginSource:
    found = McpPlugin(
        {"PATH": os.environ["PATH"]},
        settings=Settings(private_hosts=private_hosts),
        discovery_s=discovery_s,
    )
    return PluginSource("mcp", "1", lambda: found)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def friendly_port() -> AsyncGenerator[int]:
    """Where a server of the SDK listens: a process that takes a second to start."""
    port = free_port()
    async with http_server("http", port):
        yield port


async def add(
    store: StoreDriver, slug: str, actor: Actor | None = None, **more: Any
) -> rpc.McpServer:
    shared = more.pop("shared", False)
    settings = msgspec.convert({"slug": slug, **more}, rpc.McpSettings)
    request = rpc.CreateMcpServer(actor or store.actor, settings, shared)
    return await store.rpc.call(rpc.CREATE_MCP_SERVER, request)


async def catalog_of(store: StoreDriver, chat_id: ChatId) -> Catalog:
    return await store.rpc.call(LIST_TOOLS, ListTools(chat_id), deadline_s=WAIT_S)


async def chat_of(store: StoreDriver, actor: Actor) -> ChatId:
    return (await store.rpc.call(people.CREATE, people.CreateChat(actor))).chat.id


async def problem_of(store: StoreDriver, fits: Callable[[str | None], bool]) -> str | None:
    """What the owner sees of their one server; there is no event for it, people look."""
    async with asyncio.timeout(WAIT_S):
        while True:
            listed = await store.rpc.call(rpc.LIST_MCP_SERVERS, rpc.ListMcpServers(store.actor))
            if fits(listed.servers[0].problem):
                return listed.servers[0].problem
            await asyncio.sleep(0.05)


async def test_a_server_is_there_for_the_chats_of_its_owner_alone(
    start_tools: StartTools, store: StoreDriver, client: NatsClient, booked: str, friendly_port: int
) -> None:
    eve = await new_actor(booked, "eve")
    mine, hers = await chat_of(store, store.actor), await chat_of(store, eve)
    await start_tools(plugin(), toolset_patience_s=0.1)
    url = f"http://127.0.0.1:{friendly_port}/mcp"
    server = await add(
        store, "mine", url=url, allow=["add", "point"], needs_approval=True, read_only=["po*"]
    )
    offered = await catalog_of(store, mine)
    everywhere = await store.rpc.call(LIST_TOOLS, ListTools())
    not_hers = await catalog_of(store, hers)
    called = await Caller(client, mine).call("mine__add", {"a": 2, "b": 3})
    stolen = await Caller(client, hers).call("mine__add", {"a": 2, "b": 3})
    forbidden = await Caller(client, mine).call("mine__die")
    fewer = rpc.McpChanges(allow=("point",), read_only=())
    off = rpc.ChangeMcpServer(store.actor, server.id, fewer)
    await store.rpc.call(rpc.CHANGE_MCP_SERVER, off)
    changed = await catalog_of(store, mine)
    away = await Caller(client, mine).call("mine__add", {"a": 2, "b": 3})

    assert [(spec.name, spec.needs_approval, spec.read_only) for spec in offered.tools] == [
        ("mine__add", True, False),
        ("mine__point", True, True),
    ]
    assert (everywhere.tools, not_hers.tools, offered.warnings) == ((), (), ())
    assert called.content == (JsonPart({"result": 5}),)
    for refused in (stolen, forbidden, away):
        assert refused.is_error
        assert "there is no tool" in text_of(refused)
    assert [(spec.name, spec.read_only) for spec in changed.tools] == [("mine__point", False)]


@pytest.mark.own_stack  # what an administrator shares is everybody's
async def test_a_user_does_not_reach_into_the_network_but_an_administrator_does(
    start_tools: StartTools, store: StoreDriver, friendly_port: int
) -> None:
    await start_tools(plugin(private_hosts="127.0.0.1:1"), toolset_patience_s=0.1)
    chat = await chat_of(store, store.actor)
    admin = Actor(store.actor.user_id, "admin")
    url = f"http://localhost:{friendly_port}/mcp"
    await add(store, "inside", url=url)
    refused = await catalog_of(store, chat)
    problem = await problem_of(store, bool)
    await add(store, "shared", actor=admin, url=url, shared=True, allow=["add"])
    allowed = await catalog_of(store, chat)
    await add(store, "gone", actor=admin, url=f"http://localhost:{free_port()}", shared=True)
    await catalog_of(store, chat)
    reports = (await store.rpc.call(LIST_TOOLS, ListTools())).plugins

    assert refused.tools == ()
    assert "is not on the public internet" in refused.warnings[0]
    assert problem is not None
    assert "is not on the public internet" in problem
    assert [spec.name for spec in allowed.tools] == ["shared__add"]
    assert len(reports[0].warnings) == 1
    assert "'gone'" in reports[0].warnings[0]


async def test_a_server_that_does_not_answer_is_skipped_and_its_owner_sees_why(
    start_tools: StartTools, store: StoreDriver
) -> None:
    await start_tools(plugin(discovery_s=1), toolset_patience_s=0.1)
    chat = await chat_of(store, store.actor)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections, and that is all
        port = silent.getsockname()[1]
        await add(store, "slow", url=f"http://127.0.0.1:{port}/mcp")
        first = await catalog_of(store, chat)
        problem = await problem_of(store, bool)

    assert first.tools == ()
    assert "slow" in first.warnings[0]
    assert problem is not None
    assert "did not answer within 1 s" in problem


@asynccontextmanager
async def chatting(
    store: StoreDriver, nats: NatsServer
) -> AsyncGenerator[tuple[FakeProviders, ModelSetup]]:
    async with FakeProviders() as fakes, running_chatloop(nats.url()):
        yield fakes, ModelSetup(store, fakes)


async def test_a_model_is_offered_the_tools_of_its_chat_and_uses_one(
    start_tools: StartTools, store: StoreDriver, nats: NatsServer, friendly_port: int
) -> None:
    await start_tools(plugin(), toolset_patience_s=0.1)
    async with chatting(store, nats) as (fakes, models):
        await add(store, "mine", url=f"http://127.0.0.1:{friendly_port}/mcp", allow=["add"])
        call = ToolCall("mine__add", {"a": 20, "b": 22})
        fakes.script("m", Script([Turn([call]), Turn([Text("42")])]))
        chat = await store.create("go", model=await models.add("chat", "m"))
        await store.at_rest(chat.id)
        request = await fakes.next_request("m")
        messages = await store.messages(chat.id)

    assert [t.name for t in request.view.tools if "__" in t.name] == ["mine__add"]
    (result,) = [p for m in messages for p in m.parts if isinstance(p, ToolResultPart)]
    assert result.content == (JsonPart({"result": 42}),)
