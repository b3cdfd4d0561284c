"""What the service answers: calls and the catalog, shared by its replicas and at its own address.

A call is asked of any replica. Whoever learns that it runs on a certain one asks there; that one
host has the same methods under its name as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import msgspec
import structlog

from steersman_contracts import subjects
from steersman_contracts.errors import Forbidden
from steersman_contracts.rpc import Actor, Nothing
from steersman_contracts.rpc.tools import (
    ASK_PLUGIN,
    CALL_TOOL,
    CANCEL_CALL,
    LIST_PLUGINS,
    LIST_TOOLS,
    PING_HOST,
    RELOAD_PLUGINS,
    AskPlugin,
    CancelCall,
    Catalog,
    ListPlugins,
    ListTools,
    PingHost,
    PluginAnswer,
    PluginList,
    ReloadPlugins,
)
from steersman_runtime.nats_client import NatsClient
from steersman_runtime.rpc import RpcServer
from steersman_runtime.service import Runtime
from steersman_runtime.tasks import TaskGroup
from steersman_tools.calls import Calls
from steersman_tools.catalog import Tools
from steersman_tools.context_rpc import ContextServer
from steersman_tools.hosts import HELD, short
from steersman_tools.places import Places
from steersman_tools.settings import Settings
from steersman_tools.workspace_service import WorkspaceService
from steersman_tools.workspaces import Workspaces

log = structlog.stdlib.get_logger()

_OTHER_REQUESTS: Final = 256
"""RPC requests beside the calls: repeated ones, cancels, catalogs."""


class Server:
    """Answers RPC and what is told to all replicas."""

    def __init__(
        self,
        runtime: Runtime,
        settings: Settings,
        *,
        host: str,
        tools: Tools,
        calls: Calls,
        client: NatsClient,
        workspaces: Workspaces,
        people: WorkspaceService | None = None,
        places: Places | None = None,
    ) -> None:
        self._people = people
        self._context = ContextServer(workspaces, places)
        self._runtime = runtime
        self._settings = settings
        self._host = host
        self._tools = tools
        self._calls = calls
        self._client = client
        self._told = TaskGroup("told")

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[None]:
        """Answer for the length of the block; at its end calls are finished or interrupted."""
        rpc = self._rpc()
        listening = (
            self._client.listen(self._cancels, self._on_cancel),
            self._client.listen(subjects.TOOL_RELOADS, self._on_reload),
        )
        await rpc.start()
        try:
            yield
        finally:
            await self._stop(rpc)
            for sid in listening:
                self._client.unlisten(sid)
            await self._told.cancel()

    @property
    def _cancels(self) -> str:
        return subjects.tool_cancel(subjects.ALL_TOOL_HOSTS)

    def _rpc(self) -> RpcServer:
        settings = self._settings
        rpc = RpcServer(
            self._client,
            "tools",
            version=self._runtime.version,
            concurrency=settings.max_concurrent_calls
            + settings.max_waiting_calls
            + _OTHER_REQUESTS,
        )
        rpc.add(LIST_TOOLS, self._list_tools)
        rpc.add_stream(CALL_TOOL, self._calls.run)
        rpc.add(CANCEL_CALL, self._cancel)
        if self._people is not None:
            self._people.serve(rpc)
        rpc.add(LIST_PLUGINS, self._list_plugins)
        rpc.add(RELOAD_PLUGINS, self._reload)
        rpc.add(ASK_PLUGIN, self._ask)
        self._context.serve(rpc)
        here = subjects.tool_host(self._host, CALL_TOOL.name)
        rpc.add_stream(replace(CALL_TOOL, address=here), self._calls.run)
        here = short(self._host)
        held = replace(HELD, address=subjects.tool_host(here, HELD.name))
        rpc.add_stream(held, self._calls.run_held)
        for name in (self._host, here):
            address = subjects.tool_host(name, PING_HOST.name)
            rpc.add(replace(PING_HOST, address=address), self._ping)
        return rpc

    async def _list_tools(self, request: ListTools) -> Catalog:
        return await self._tools.catalog(self._host, request.chat_id)

    async def _ping(self, _: PingHost) -> Nothing:
        return Nothing()

    async def _list_plugins(self, request: ListPlugins) -> PluginList:
        _admins_only(request.actor)
        return PluginList(self._tools.reports)

    async def _reload(self, request: ReloadPlugins) -> PluginList:
        _admins_only(request.actor)
        # The others are told which replica has done it already: it hears the message as well.
        await self._tools.registry.reload()
        self._client.send(subjects.TOOL_RELOADS, self._host.encode())
        return PluginList(self._tools.reports)

    async def _ask(self, request: AskPlugin) -> PluginAnswer:
        plugins = self._tools.registry.current
        with plugins.in_use():
            return await plugins.answer(request)

    async def _cancel(self, request: CancelCall) -> Nothing:
        # The queue group chose one host at random; the call may run on another.
        if not self._calls.cancel(request):
            self._client.send(self._cancels, msgspec.json.encode(request))
        return Nothing()

    def _on_cancel(self, _: bytes, __: bytes, ___: bytes, payload: bytes) -> None:
        try:
            request = msgspec.json.decode(payload, type=CancelCall)
        except msgspec.DecodeError:
            log.warning("cancel.unreadable")
            return
        self._told.start(self._calls.cancel_early(request))

    def _on_reload(self, _: bytes, __: bytes, ___: bytes, payload: bytes) -> None:
        if payload.decode(errors="replace") != self._host:
            self._told.start(self._tools.registry.reload())

    async def _stop(self, rpc: RpcServer) -> None:
        """Take nothing new, let calls finish, end the rest: everybody who waits gets a result."""
        settings = self._settings
        # Of the time that the whole process has, the end is for cancelled tools and their results.
        ending_s = min(settings.cancel_grace_s + 1.0, settings.shutdown_timeout_s / 2)
        patience_s = settings.shutdown_timeout_s - ending_s
        draining = asyncio.get_running_loop().create_task(rpc.drain(settings.shutdown_timeout_s))
        if not await self._calls.finish(patience_s):
            self._calls.interrupt()
            await self._calls.finish(ending_s)
        await draining


def _admins_only(actor: Actor) -> None:
    if actor.role != "admin":
        raise Forbidden("only an admin may see and change plugins")
