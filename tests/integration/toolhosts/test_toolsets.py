"""Tool hosts outside of the service: they come, go, clash and misbehave."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from integration.toolhosts.conftest import StartTools
from integration.tools.host import ECHO, Text, new_chat, plugin, tool
from support.toolhosts import words

from steersman.embedded.nats import NatsServer
from steersman_chatloop.toolbox import Toolbox
from steersman_contracts import subjects
from steersman_contracts.hooks import Denied, PendingCall, hookimpl
from steersman_contracts.parts import JsonObject, TextPart, ToolCallPart, ToolResultPart
from steersman_contracts.rpc.tools import (
    CALL_TOOL,
    LIST_TOOLS,
    CallProgress,
    CallResult,
    CallTool,
    CancelCall,
    Catalog,
    HostBeat,
    ListTools,
    PluginReport,
    ToolSpec,
)
from steersman_runtime.nats_client import NatsClient, close, connect
from steersman_runtime.rpc import Frames, RpcClient, RpcServer
from steersman_tools.plugins import PluginSource

pytestmark = pytest.mark.one_stack

NewToolbox = Callable[[], Awaitable[Toolbox]]
SCHEMA: JsonObject = {"type": "object", "properties": {"text": {"type": "string"}}}


def spec(name: str, **facts: Any) -> ToolSpec:
    return ToolSpec(name, f"The tool {name}.", SCHEMA, "whatever it says", **facts)


class Host:
    """A tool host as anybody could write one."""

    def __init__(self, client: NatsClient, toolset: str, *tools: ToolSpec, started: int) -> None:
        self.client = client
        self.toolset = toolset
        self.tools = tools
        self.started = started
        self.calls: asyncio.Queue[CallTool] = asyncio.Queue()
        self.cancelled: asyncio.Queue[CancelCall] = asyncio.Queue()
        self.hangs = False
        self._beating: asyncio.Task[None] | None = None

    async def start(self) -> None:
        server = RpcServer(self.client, self.toolset, version="1.0.0")
        server.add(replace(LIST_TOOLS, address=self._at("catalog.list")), self._catalog)
        server.add_stream(replace(CALL_TOOL, address=self._at("calls.run")), self._run)
        await server.start()
        self.client.listen(
            self._at("calls.cancel"),
            lambda _s, _r, _h, body: self.cancelled.put_nowait(
                msgspec.json.decode(body, type=CancelCall)
            ),
        )
        await self.client.flush()
        self._beating = asyncio.create_task(self._beat())

    def _at(self, method: str) -> str:
        return subjects.toolset(self.toolset, method)

    async def _beat(self) -> None:
        while True:
            self.beat()
            await asyncio.sleep(1)

    def beat(self, catalog: str = "1") -> None:
        subject = subjects.toolset_beat(self.toolset, "host-1")
        self.client.send(subject, msgspec.json.encode(HostBeat(self.started, catalog)))

    def silence(self) -> None:
        """No beat any more."""
        assert self._beating is not None
        self._beating.cancel()

    async def _catalog(self, _: ListTools) -> Catalog:
        return Catalog("host-1", self.tools, (PluginReport(self.toolset, "2.1"),))

    async def _run(self, request: CallTool, frames: Frames) -> CallResult:
        self.calls.put_nowait(request)
        frames.progress(CallProgress(1, f"{self.toolset} is on it"))
        if self.hangs:
            await asyncio.Event().wait()
        return CallResult((TextPart(f"{self.toolset}: {request.arguments.get('text')}"),))


@pytest_asyncio.fixture(loop_scope="module")
async def new_host(nats: NatsServer) -> AsyncGenerator[Callable[..., Awaitable[Host]]]:
    hosts: list[Host] = []

    async def make(toolset: str, *tools: ToolSpec, started: int = 1) -> Host:
        client = await connect(
            nats.url(), name="host", inbox_prefix="_INBOX_toolhost", on_closed=lambda: None
        )
        host = Host(client, toolset, *tools, started=started)
        hosts.append(host)
        await host.start()
        return host

    yield make
    for host in hosts:
        host.silence()
        await close(host.client)


NewHost = Callable[..., Awaitable[Host]]


async def catalog(client: NatsClient, until: Callable[[Catalog], bool]) -> Catalog:
    """The catalog, once it is as it should be; nobody announces that."""
    rpc = RpcClient(client)
    async with asyncio.timeout(60):
        while not until(found := await rpc.call(LIST_TOOLS, ListTools())):  # noqa: ASYNC110  # see above
            await asyncio.sleep(0.03)
    return found


def names(found: Catalog) -> list[tuple[str, str]]:
    return [(tool.name, tool.plugin) for tool in found.tools]


async def ask(toolbox: Toolbox, name: str, text: str, progress: list[str] | None = None) -> str:
    finished: dict[str, ToolResultPart] = {}
    call = ToolCallPart("c", name, {"text": text})
    told = [] if progress is None else progress
    await toolbox.run(
        new_chat(), (call,), finished=finished, on_progress=lambda _, frame: told.append(frame.text)
    )
    return words(finished["c"])


async def test_a_host_comes_is_called_and_goes_and_its_call_is_lost_and_said_so(
    start_tools: StartTools, new_toolbox: NewToolbox, new_host: NewHost, client: NatsClient
) -> None:
    await start_tools(plugin("p", ECHO))
    toolbox = await new_toolbox()
    host = await new_host("far", spec("far_away"))
    found = await catalog(client, lambda found: len(found.tools) == 2)
    told: list[str] = []

    assert names(found) == [("echo", "p"), ("far_away", "far")]
    assert [(r.name, r.version, r.hosts) for r in found.plugins] == [
        ("p", "1", ()),
        ("far", "2.1", ("host-1",)),
    ]
    assert await ask(toolbox, "far_away", "hi", told) == "far: hi"
    assert told == ["far is on it"]
    await host.calls.get()
    host.hangs = True
    calling = asyncio.create_task(ask(toolbox, "far_away", "hi"))
    await host.calls.get()
    host.silence()
    await close(host.client)
    gone = await catalog(client, lambda found: len(found.tools) == 1)
    async with asyncio.timeout(60):
        said = await calling
    assert [report.name for report in gone.plugins] == ["p"]
    assert said == "interrupted: the tool host stopped during the call, effect unknown"


async def test_of_two_with_the_same_tool_the_first_keeps_it_and_plugins_keep_theirs(
    start_tools: StartTools, new_host: NewHost, client: NatsClient
) -> None:
    await start_tools(plugin("p", ECHO))
    await new_host("late", spec("both"), spec("late_own"), started=20)
    await new_host("early", spec("both"), spec("echo"), started=10)

    wanted = {("both", "early"), ("late_own", "late")}
    found = await catalog(client, lambda found: wanted <= set(names(found)))

    assert names(found) == [("both", "early"), ("echo", "p"), ("late_own", "late")]
    assert {report.name: report.error for report in found.plugins} == {
        "p": None,
        "early": "its tool 'echo' is offered by plugin 'p'",
        "late": "its tool 'both' is offered by tool host 'early'",
    }


async def test_a_catalog_that_changes_is_read_again(
    start_tools: StartTools, new_host: NewHost, client: NatsClient
) -> None:
    await start_tools()
    host = await new_host("far", spec("old"))
    await catalog(client, lambda found: names(found) == [("old", "far")])

    host.tools = (spec("new"),)
    host.beat("2")

    await catalog(client, lambda found: names(found) == [("new", "far")])


BAD_CATALOGS: dict[str, tuple[tuple[ToolSpec, ...], str]] = {
    "long": ((spec("x" * 65),), "its catalog cannot be used"),
    "double": ((spec("twice"), spec("twice")), "it offers the tool 'twice' twice"),
    "mute": ((ToolSpec("mute", " ", SCHEMA, "p"),), "it has no description"),
    "patient": ((spec("slow", timeout_s=1e9),), "timeout_s must be above 0"),
    "listing": ((ToolSpec("list", "A list.", {"type": "array"}, "p"),), "not one of an object"),
    "many": (tuple(spec(f"t{n}") for n in range(501)), "more than 500 tools"),
}


async def test_a_host_whose_catalog_is_bad_is_reported(
    start_tools: StartTools, new_host: NewHost, client: NatsClient
) -> None:
    await start_tools(plugin("p", ECHO))
    for toolset, (tools, _) in BAD_CATALOGS.items():
        await new_host(toolset, *tools)

    def reported(found: Catalog) -> bool:
        return BAD_CATALOGS.keys() <= {one.name for one in found.plugins if one.error}

    found = await catalog(client, reported)

    assert names(found) == [("echo", "p")]
    told = {report.name: report.error or "" for report in found.plugins}
    for toolset, (_, why) in BAD_CATALOGS.items():
        assert why in told[toolset]


async def test_a_cancelled_call_is_cancelled_at_its_host(
    start_tools: StartTools, new_toolbox: NewToolbox, new_host: NewHost, client: NatsClient
) -> None:
    await start_tools()
    host = await new_host("far", spec("far_away"))
    host.hangs = True
    await catalog(client, lambda found: len(found.tools) == 1)
    calling = asyncio.create_task(ask(await new_toolbox(), "far_away", "hi"))
    call = await host.calls.get()

    calling.cancel()

    async with asyncio.timeout(60):
        cancelled = await host.cancelled.get()
    assert (cancelled.chat_id, cancelled.call_id) == (call.chat_id, call.call_id)


async def test_guards_of_plugins_stand_before_other_hosts_too(
    start_tools: StartTools, new_toolbox: NewToolbox, new_host: NewHost, client: NatsClient
) -> None:
    class Guard:
        @hookimpl
        def before_call(self, call: PendingCall) -> Denied | None:
            return Denied("not that far") if call.tool == "far_away" else None

    await start_tools(PluginSource("guard", "1", Guard))
    host = await new_host("far", spec("far_away"))
    await catalog(client, lambda found: len(found.tools) == 1)

    assert await ask(await new_toolbox(), "far_away", "hi") == "denied: not that far"
    assert host.calls.empty()


async def test_nonsense_on_the_beat_subjects_is_ignored(
    start_tools: StartTools, client: NatsClient
) -> None:
    await start_tools(plugin("p", tool(ECHO.handler, name="e", arguments=Text)))
    for body in (b"", b"[]", b'{"started_at_ms": -1}', b"\xff" * 1000):
        client.send(subjects.toolset_beat("bad", f"h{time.monotonic_ns()}"), body)

    found = await catalog(client, lambda _: True)

    assert names(found) == [("e", "p")]
