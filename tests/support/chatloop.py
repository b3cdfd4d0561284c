"""What tests of the chatloop need: models of the fakes, and a tool host."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fakes import FakeProviders

from steersman_contracts.parts import JsonObject, TextPart
from steersman_contracts.rpc import Actor, Nothing
from steersman_contracts.rpc import models as models_rpc
from steersman_contracts.rpc.models import ProviderType
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
    ToolSpec,
)
from steersman_runtime.nats_client import NatsClient
from steersman_runtime.rpc import Frames, RpcServer
from support.chat_driver import StoreDriver

# Seconds of imports: now, and not while a test waits for its first answer.
for _format in ("anthropic", "google", "openai_chat", "openai_responses"):
    importlib.import_module(f"steersman_chatloop.providers.{_format}")

KINDS: dict[str, tuple[ProviderType, str]] = {
    "anthropic": ("anthropic", "anthropic"),
    "responses": ("openai-responses", "responses"),
    "chat": ("openai-chat", "chat"),
    "google": ("google", "gemini"),
}
"""Provider id → its type, and what the fakes call the wire format."""


class ModelSetup:
    """Configures models of the fakes."""

    def __init__(self, store: StoreDriver, fakes: FakeProviders) -> None:
        self._store = store
        self._fakes = fakes
        self._admin = Actor(store.actor.user_id, "admin")

    async def add(
        self, provider: str, model: str, *, context_limit: int | None = None, **settings: Any
    ) -> str:
        """Make a model of one wire format known.

        Returns:
            Its name.
        """
        kind, fake_kind = KINDS[provider]
        await self._store.rpc.call(
            models_rpc.PUT_PROVIDER,
            models_rpc.PutProvider(
                self._admin,
                provider,
                kind,
                provider,
                self._fakes.base_url(fake_kind),  # pyright: ignore[reportArgumentType]  # a Kind
                "test-key",
            ),
        )
        reply = await self._store.rpc.call(
            models_rpc.PUT_MODEL,
            models_rpc.PutModel(
                self._admin, provider, model, context_limit=context_limit, settings=settings
            ),
        )
        return reply.model.name


class ToolHost:
    """A tool host whose tools the test writes; what is called and cancelled can be awaited."""

    def __init__(self) -> None:
        self.tools: dict[str, Callable[[CallTool], Awaitable[CallResult]]] = {}
        self.facts: dict[str, dict[str, Any]] = {}
        """Tool → what it says about itself beside its name."""
        self.called: asyncio.Queue[CallTool] = asyncio.Queue()
        self.cancelled: asyncio.Queue[CancelCall] = asyncio.Queue()

    async def catalog(self, _: ListTools) -> Catalog:
        schema: JsonObject = {"type": "object", "properties": {}, "additionalProperties": True}
        specs = [
            ToolSpec(name, f"The tool {name}.", schema, "test", **self.facts.get(name, {}))
            for name in sorted(self.tools)
        ]
        return Catalog("test", tuple(specs), ())

    async def call(self, request: CallTool, frames: Frames) -> CallResult:
        self.called.put_nowait(request)
        frames.progress(CallProgress(1, "on it"))
        return await self.tools[request.tool](request)

    async def cancel(self, request: CancelCall) -> Nothing:
        self.cancelled.put_nowait(request)
        return Nothing()


@asynccontextmanager
async def serving_tools(client: NatsClient) -> AsyncGenerator[ToolHost]:
    """Answers the tools RPC instead of the tools service, at first with no tools.

    Without anybody who answers, the first turn of each chatloop would wait a second.
    """
    host = ToolHost()
    server = RpcServer(client, "tools", version="0.0.1")
    server.add(LIST_TOOLS, host.catalog)
    server.add_stream(CALL_TOOL, host.call)
    server.add(CANCEL_CALL, host.cancel)
    await server.start()
    yield host
    await server.drain(0.1)


def said(text: str) -> CallResult:
    """A result of one text."""
    return CallResult((TextPart(text),))
