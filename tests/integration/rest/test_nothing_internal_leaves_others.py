"""The same for what other services answer: tools, chatloop and desktops really run here.

Each story asks its routes in an order in which they can succeed, with the bodies of the table.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest
import pytest_asyncio
from fakes import FakeProviders, Reasoning, Script, Text, Turn
from integration.desktop.harness import needs_xvnc, running_desktop
from integration.rest.stories import (
    CHAT,
    CHATLOOP,
    DESKTOP,
    DESKTOPS,
    MCP,
    RECORDING,
    SIGN_IN,
    TOOLS,
    WORKSPACE,
    Step,
)
from integration.rest.test_nothing_internal_leaves import (
    KEY,
    ROUTES,
    Wiretap,
    clean,
    filled,
    planted,
)
from integration.toolhosts.sign_in_server import sign_in_server
from integration.toolhosts.test_mcp_chats import plugin as mcp_plugin
from integration.tools.host import ECHO, plugin, tools_service
from support.chat_driver import StoreDriver, words_of
from support.services import running_chatloop

from steersman.embedded.nats import NatsServer
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc import models as models_rpc
from steersman_contracts.rpc.mcp import CREATE_MCP_SERVER, CreateMcpServer, McpSettings
from steersman_runtime.nats_client import NatsClient
from steersman_tools.plugins import PluginSource, installed_plugins

OURS: Final = ("exec", "files", "workspaces")


class Walker:
    """Asks routes about one chat full of secrets, and looks at every byte that comes back."""

    def __init__(self, client: httpx2.AsyncClient, ids: dict[str, Any]) -> None:
        self._client = client
        self.ids = ids
        self.seen: list[bytes] = []

    async def walk(self, steps: tuple[Step, ...]) -> None:
        for step in steps:
            await self.take(step)

    async def take(self, step: Step) -> None:
        where = (step.method, step.path)
        content = dict(step.more or {})
        if (body := ROUTES[where][0]) is not None:
            content["json"] = filled(body, self.ids)
        reply = await self._client.request(step.method, step.path.format_map(self.ids), **content)
        fits = reply.is_success if step.refused is None else reply.status_code == step.refused
        assert fits, (where, reply.status_code, reply.text)
        assert clean(reply.content), where
        assert b"provider_metadata" not in reply.content, where
        assert clean(str(reply.headers).encode()), where
        self.seen.append(reply.content)
        if where == ("post", MCP + "/login"):
            self.ids |= await _signed_in(reply.json()["url"])
        elif where == ("post", "/api/v1/workspaces"):
            self.ids["workspace_id"] = reply.json()["id"]
            await self._until(WORKSPACE, b'"running"')
        elif where == ("post", DESKTOP + "/recordings"):
            self.ids["recording_id"] = reply.json()["id"]
            await self._until(RECORDING, b'"frame"')

    async def _until(self, path: str, word: bytes) -> None:
        """Look at something that nobody announces until it is far enough."""
        address = path.format_map(self.ids)
        async with asyncio.timeout(60):
            while word not in (await self._client.get(address)).content:  # noqa: ASYNC110  # see above
                await asyncio.sleep(0.05)


async def _signed_in(url: str) -> dict[str, str]:
    """Do what a person does in a browser; what the address holds to which they come back."""
    async with httpx2.AsyncClient() as browser:
        answer = await browser.get(url)
    return dict(parse_qsl(urlsplit(answer.headers["location"]).query))


@pytest_asyncio.fixture(loop_scope="module")
async def fakes() -> AsyncGenerator[FakeProviders]:
    async with FakeProviders() as providers:
        turn = Turn([Reasoning("Let me see."), Text("I see the sea.")])
        providers.script("m", Script([turn], repeat=True))
        yield providers


@pytest_asyncio.fixture(loop_scope="module")
async def walker(
    alice_is_admin: None, alice: httpx2.AsyncClient, store: StoreDriver, fakes: FakeProviders
) -> Walker:
    del alice_is_admin
    owner = Actor(store.actor.user_id, "admin")
    url = fakes.base_url("anthropic")
    put = models_rpc.PutProvider(owner, "lab", "anthropic", "Lab", url, KEY)
    await store.rpc.call(models_rpc.PUT_PROVIDER, put)
    model = models_rpc.PutModel(owner, "lab", "m", make_default=True)
    await store.rpc.call(models_rpc.PUT_MODEL, model)
    settings = McpSettings(slug="lab", url="https://a.example", auth="api_key", api_key=KEY)
    server = await store.rpc.call(CREATE_MCP_SERVER, CreateMcpServer(owner, settings))
    chat = await planted(store)
    ids = {
        "chat_id": chat.chat_id,
        "provider_id": "lab",
        "plugin": "glossary",
        "key": "token",
        "template_id": "default",
        "server_id": server.id,
        "number": "1",
    }
    return Walker(alice, ids)


@pytest.fixture
def folder() -> Generator[Path]:
    """Short and open to other users: sockets live there, and commands run as one of them."""
    path = Path(tempfile.mkdtemp(prefix="sn-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.mark.skipif(sys.platform != "linux", reason="commands are confined on Linux")
async def test_tools_and_models_answer_without_what_is_internal(
    walker: Walker, nats: NatsServer, store: StoreDriver, client: NatsClient, folder: Path
) -> None:
    tap = Wiretap(client)
    sources = [source for source in installed_plugins() if source.name in OURS]
    # May reach the sign-in server, at this very host; a new one each time that it is loaded.
    # It is asked before the story that reloads the plugins.
    sources.append(PluginSource("mcp", "1", lambda: mcp_plugin().load()))
    settings = {
        "workspaces_dir": str(folder / "workspaces"),
        "templates_dir": str(folder),
        "toolset_patience_s": 0.0,
    }
    async with AsyncExitStack() as services:
        tools = tools_service(nats.url(), [*sources, plugin("glossary", ECHO)], settings)
        await services.enter_async_context(tools)
        await services.enter_async_context(running_chatloop(nats.url()))
        there = await services.enter_async_context(sign_in_server())
        owner = Actor(store.actor.user_id, "admin")
        behind = McpSettings(slug="behind", url=f"{there.url}/mcp", auth="oauth")
        server = await store.rpc.call(CREATE_MCP_SERVER, CreateMcpServer(owner, behind))
        keyed, walker.ids["server_id"] = walker.ids["server_id"], server.id
        await walker.walk(SIGN_IN)
        walker.ids["server_id"] = keyed
        assert any(b"behind__who" in reply for reply in walker.seen), "somebody was signed in"
        tokens = {token.encode() for token in there.access | there.refresh}
        assert tokens
        assert [r for r in (*walker.seen, *tap.heard) if any(t in r for t in tokens)] == []

        await walker.walk(TOOLS)
        await walker.walk(CHATLOOP)

        # The chat goes on, with all of its history, and then with what was in its queue.
        await walker.take(Step("post", CHAT + "/tool-results"))
        chat_id = walker.ids["chat_id"]
        rested = await store.at_rest(chat_id)
        assert rested.last_outcome == "completed"
        said = [words_of(m) for m in await store.messages(chat_id) if m.role == "assistant"]
        assert said[-2:] == ["I see the sea.", "I see the sea."]
        await walker.take(Step("get", CHAT + "/messages"))
        await walker.take(Step("get", CHAT))
        await walker.take(Step("get", "/api/v1/usage"))
    assert [heard for heard in tap.heard if not clean(heard)] == []
    assert [heard for heard in tap.heard if b"provider_metadata" in heard] == []


@needs_xvnc
async def test_a_desktop_answers_without_what_is_internal(
    walker: Walker, nats: NatsServer, client: NatsClient, folder: Path
) -> None:
    tap = Wiretap(client)
    uid_base = 300_000 + 100 * os.getpid() + 70
    run_dir = str(folder)
    async with running_desktop(
        nats.url(), run_dir=run_dir, uid_base=uid_base, vnc_allowed="127.0.0.1/32"
    ):
        await walker.walk(DESKTOPS)
    assert [heard for heard in tap.heard if not clean(heard)] == []
