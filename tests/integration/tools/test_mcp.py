"""MCP servers that are made with the SDK: real processes, real HTTP, one tools service."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from integration.tools.conftest import StartTools
from integration.tools.host import ECHO, Caller, new_chat, plugin, text_of, tools_service
from integration.tools.mcp_host import (
    WAIT_S,
    configured,
    free_port,
    http_server,
    report,
    stdio,
    until,
    until_file,
    until_offered,
)
from mcp_types.version import LATEST_PROTOCOL_VERSION
from structlog.testing import capture_logs
from support.connections import connected

from steersman.embedded.nats import NatsServer
from steersman_contracts.parts import FilePart, JsonPart, TextPart
from steersman_contracts.rpc.tools import CallProgress
from steersman_runtime.nats_client import close

INHERITED = {"HOME", "PATH", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"}
PNG = b"\x89PNG\r\n\x1a\n"
TOOLS = ("add", "die", "environment", "everything", "fail", "grow", "point", "wait")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def friend(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Caller]:
    """A service with one process, for tests that leave it as it was: its start takes a second."""
    folder = tmp_path_factory.mktemp("friend")
    given = stdio("friendly", "stdio", env={"KEY": "env:STEERSMAN_PLUGIN_KEY"})
    keys = {**os.environ, "STEERSMAN_PLUGIN_KEY": "k-123456", "STEERSMAN_NATS_URL": "nats://secret"}
    sources = [configured(folder, given, environment=keys), plugin("other", ECHO)]
    settings = {"workspaces_dir": str(folder), "ledger": "memory", "toolset_patience_s": 0.0}
    with NatsServer() as nats:
        async with tools_service(nats.url(), sources, settings):
            client = await connected(nats.url())
            caller = Caller(client, new_chat())
            await until_offered(caller, "s__add")
            yield caller
            await close(client)


with_friend = pytest.mark.asyncio(loop_scope="module")


@with_friend
async def test_the_tools_of_a_process_are_offered_under_its_slug(friend: Caller) -> None:
    catalog = await friend.catalog()

    found = report(catalog)
    assert (found.error, found.warnings) == (None, ())
    assert found.tools == tuple(f"s__{name}" for name in TOOLS)
    spec = next(spec for spec in catalog.tools if spec.name == "s__add")
    assert (spec.plugin, spec.description) == ("mcp", "Add two numbers.")
    assert spec.input_schema["properties"]["a"]["type"] == "integer"
    assert spec.timeout_s == 125.0
    assert [spec.name for spec in catalog.tools] == sorted(spec.name for spec in catalog.tools)


@with_friend
async def test_results_become_parts(friend: Caller) -> None:
    everything = await friend.call("s__everything")
    failed = await friend.call("s__fail")
    wrong = await friend.call("s__add", {"a": "no number"})

    assert (await friend.call("s__add", {"a": 2, "b": 3})).content == (JsonPart({"result": 5}),)
    assert (await friend.call("s__point", {"x": 4})).content == (JsonPart({"x": 4, "y": 4}),)
    assert everything.content == (
        TextPart("words"),
        FilePart("image/png", data=PNG),
        FilePart("audio/wav", data=PNG),
        TextPart("[resource memo://one]\na memo"),
        FilePart("application/zip", name="two.bin", data=PNG),
        TextPart("[resource https://example.org/x: x, text/html]"),
    )
    assert not everything.is_error
    assert failed.is_error
    assert "no luck today" in text_of(failed)
    assert wrong.is_error


@with_friend
async def test_a_process_sees_nothing_of_the_service_but_what_it_is_given(friend: Caller) -> None:
    (part,) = (await friend.call("s__environment")).content

    assert isinstance(part, JsonPart)
    names: set[str] = set(part.value["result"]) - {"LC_CTYPE"}  # Python's own
    assert names <= {*INHERITED, "LANG", "KEY"}
    assert {"PATH", "KEY"} <= names


@pytest.mark.parametrize("kind", ["http", "sse"])
async def test_a_server_behind_a_url_is_found_called_and_found_again(
    kind: str, start_tools: StartTools, caller: Caller, tmp_path: Path
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/{'mcp' if kind == 'http' else 'sse'}"
    async with http_server(kind, port):
        with capture_logs() as logs:
            await start_tools(configured(tmp_path, {"slug": "web", "transport": kind, "url": url}))
            await until_offered(caller, "web__add")
        result = await caller.call("web__add", {"a": 2, "b": 3})
        died = await caller.call("web__die")

    spoken = [entry["protocol"] for entry in logs if entry["event"] == "mcp.connected"]
    assert spoken == [LATEST_PROTOCOL_VERSION]  # those before it: test_mcp_hostile.py
    assert result.content == (JsonPart({"result": 5}),)
    assert died.is_error
    await until(caller, lambda found: not found.tools and bool(found.warnings))
    async with http_server(kind, port):
        await until_offered(caller, "web__add")
        again = await caller.call("web__add", {"a": 3, "b": 3})
    assert again.content == (JsonPart({"result": 6}),)


@with_friend
async def test_a_cancelled_call_is_cancelled_at_the_process(friend: Caller, tmp_path: Path) -> None:
    await _cancelled(friend, tmp_path / "note")


async def test_a_cancelled_call_is_cancelled_behind_a_url(
    start_tools: StartTools, caller: Caller, tmp_path: Path
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    async with http_server("http", port):
        await start_tools(configured(tmp_path, {"slug": "s", "transport": "http", "url": url}))
        await until_offered(caller, "s__wait")

        await _cancelled(caller, tmp_path / "note")


async def _cancelled(caller: Caller, note: Path) -> None:
    waiting = asyncio.Event()
    told: list[str] = []

    def on_progress(frame: CallProgress) -> None:
        told.append(frame.text)
        waiting.set()

    async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
        call = group.create_task(
            caller.call("s__wait", {"note": str(note)}, call_id="c", on_progress=on_progress)
        )
        await waiting.wait()
        await caller.cancel("c")

    assert call.result().is_error
    assert told == ["waiting"]
    assert await until_file(note) == "cancelled"
    assert not (await caller.call("s__add", {"a": 1, "b": 1})).is_error


async def test_a_call_over_its_deadline_ends_and_is_cancelled(
    start_tools: StartTools, caller: Caller, tmp_path: Path
) -> None:
    note = tmp_path / "note"
    await start_tools(configured(tmp_path, stdio("friendly", "stdio", call_timeout_s=1)))
    await until_offered(caller, "s__wait")

    result = await caller.call("s__wait", {"note": str(note)})

    assert result.is_error
    assert "has not answered for 1 s" in text_of(result)
    assert await until_file(note) == "cancelled"


@pytest.mark.parametrize("kind", ["stdio", "http"])
async def test_a_changed_list_is_read_again(
    kind: str, start_tools: StartTools, caller: Caller, tmp_path: Path
) -> None:
    port = free_port()
    described: dict[str, Any] = (
        stdio("friendly", "stdio")
        if kind == "stdio"
        else {"slug": "s", "transport": "http", "url": f"http://127.0.0.1:{port}/mcp"}
    )
    async with AsyncExitStack() as stack:
        if kind == "http":
            await stack.enter_async_context(http_server(kind, port))
        await start_tools(configured(tmp_path, described))
        await until_offered(caller, "s__grow")

        await caller.call("s__grow")

        await until_offered(caller, "s__learned")
        result = await caller.call("s__learned", {"a": 1, "b": 1})
        assert result.content == (JsonPart({"result": 2}),)


async def test_allowed_and_denied_tools_and_servers_that_are_off(
    start_tools: StartTools, caller: Caller, tmp_path: Path
) -> None:
    some = stdio("friendly", "stdio", slug="some", allow=["add", "d*"], deny=["die"])
    off = stdio("friendly", "stdio", slug="off", availability="default_off")
    asked = stdio(
        "friendly", "stdio", slug="asked", allow=["add"], needs_approval=True, call_timeout_s=7
    )
    await start_tools(configured(tmp_path, some, off, asked))

    catalog = await until_offered(caller, "some__add", "asked__add")

    found = report(catalog)
    assert found.tools == ("asked__add", "some__add")
    assert found.warnings == (
        "server 'off' is default_off: chats can choose only among those of the API",
    )
    spec = next(spec for spec in catalog.tools if spec.name == "asked__add")
    assert (spec.needs_approval, spec.timeout_s) == (True, 12.0)
