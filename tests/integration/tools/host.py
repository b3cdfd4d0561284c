"""Plugins made in a test, and a tools service that hosts them, driven over RPC."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import msgspec

from steersman_contracts.hooks import Tool, ToolContext, ToolResult, hookimpl
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import TextPart
from steersman_contracts.rpc.tools import (
    CALL_TOOL,
    CANCEL_CALL,
    LIST_TOOLS,
    CallProgress,
    CallResult,
    CallTool,
    CancelCall,
    Catalog,
    ListTools,
)
from steersman_runtime.nats_client import NatsClient
from steersman_runtime.rpc import RpcClient, last_reply
from steersman_runtime.service import Runtime
from steersman_runtime.settings import Secret
from steersman_tools.app import create_app
from steersman_tools.plugins import PluginSource
from steersman_tools.settings import Settings

_numbers = itertools.count(1)


class NoArguments(msgspec.Struct, frozen=True):
    pass


class Text(msgspec.Struct, frozen=True):
    text: str = ""


Handler = Callable[[ToolContext, Any], Awaitable[ToolResult]]


def tool(
    handler: Handler, *, name: str = "", arguments: type[msgspec.Struct] = NoArguments, **facts: Any
) -> Tool[Any]:
    """A tool that is named after its handler unless it is given a name."""
    return Tool(
        name or getattr(handler, "__name__", "tool"),
        "A tool of a test.",
        arguments,
        handler,
        **facts,
    )


def plugin(name: str, *tools: Tool[Any]) -> PluginSource:
    @hookimpl(specname="tools")
    def offer() -> Iterable[Tool[Any]]:
        return tools

    return PluginSource(name, "1", lambda: SimpleNamespace(tools=offer))


async def echo(_: ToolContext, args: Text) -> ToolResult:
    return ToolResult(args.text)


ECHO = tool(echo, arguments=Text)


def new_chat() -> ChatId:
    return ChatId(str(uuid.uuid4()))


def text_of(result: CallResult) -> str:
    return "".join(part.text for part in result.content if isinstance(part, TextPart))


class Caller:
    """Somebody who wants tools to be run, as a chatloop does."""

    def __init__(self, client: NatsClient, chat_id: ChatId) -> None:
        self.rpc = RpcClient(client)
        self.chat_id = chat_id

    async def catalog(self) -> Catalog:
        return await self.rpc.call(LIST_TOOLS, ListTools())

    async def call(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        call_id: str = "",
        chat_id: ChatId | None = None,
        timeout_s: float | None = None,
        on_progress: Callable[[CallProgress], None] = lambda _: None,
    ) -> CallResult:
        request = CallTool(
            chat_id=self.chat_id if chat_id is None else chat_id,
            call_id=call_id or f"call-{next(_numbers)}",
            tool=name,
            arguments=dict(arguments or {}),
            timeout_s=timeout_s,
        )
        stream = self.rpc.stream(CALL_TOOL, request, CallProgress)

        def on_frame(frame: CallProgress) -> None:
            if frame.seq:  # the first frame only says which replica has the call
                on_progress(frame)

        return await last_reply(stream, CallResult, on_frame)

    async def cancel(self, call_id: str) -> None:
        await self.rpc.call(CANCEL_CALL, CancelCall(self.chat_id, call_id))


class Service:
    """A tools service that runs in the test's loop."""

    def __init__(self, runtime: Runtime, stop: asyncio.Event, stopped: asyncio.Event) -> None:
        self.runtime = runtime
        self._stop = stop
        self._stopped = stopped

    async def stop(self) -> None:
        """End it as SIGTERM does, and wait until it has ended."""
        self._stop.set()
        await self._stopped.wait()


@asynccontextmanager
async def tools_service(
    nats_url: str, sources: Iterable[PluginSource] | None, settings: Mapping[str, Any]
) -> AsyncGenerator[Service]:
    runtime_settings = Settings(nats_url=Secret(nats_url), **settings)
    runtime = Runtime("tools", runtime_settings)
    app = create_app(runtime, runtime_settings, sources=sources)
    started, stop, stopped = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def run() -> None:
        async with app.lifespan():
            started.set()
            await stop.wait()
        stopped.set()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(run())
        waiting = group.create_task(started.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        try:
            yield Service(runtime, stop, stopped)
        finally:
            stop.set()
