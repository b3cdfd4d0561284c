"""The tools service: hosts plugins and runs tool calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
import structlog
from litestar import Litestar

from steersman_contracts import subjects
from steersman_contracts.rpc import Nothing
from steersman_contracts.rpc.tools import (
    CALL_TOOL,
    CANCEL_CALL,
    LIST_TOOLS,
    CancelCall,
    Catalog,
    ListTools,
)
from steersman_runtime.nats_client import NatsClient
from steersman_runtime.rpc import RpcClient, RpcServer
from steersman_runtime.service import Runtime, create_service
from steersman_runtime.tasks import TaskGroup
from steersman_tools.calls import Calls
from steersman_tools.execution import Executor
from steersman_tools.ledger import MemoryLedger
from steersman_tools.plugins import Plugins, PluginSource, installed_plugins
from steersman_tools.results import Limits
from steersman_tools.settings import Settings
from steersman_tools.workspaces import Workspaces

log = structlog.stdlib.get_logger()

_OTHER_REQUESTS: Final = 256
"""RPC requests beside the calls: repeated ones, cancels, catalogs."""


def create_app(
    runtime: Runtime, settings: Settings, *, sources: Iterable[PluginSource] | None = None
) -> Litestar:
    """Build the service.

    Args:
        runtime: The process.
        settings: Of this service.
        sources: The plugins to host; None is those of the installed packages.
    """

    @asynccontextmanager
    async def lifespan(runtime: Runtime) -> AsyncGenerator[Plugins]:
        workspaces = Workspaces(Path(settings.workspaces_dir), uid=settings.workspace_uid)
        plugins = Plugins(installed_plugins() if sources is None else sources)
        async with runtime.nats() as client:
            calls = _calls(settings, plugins, workspaces, client)
            async with _serving(runtime, settings, plugins, calls, client):
                yield plugins

    return create_service(runtime, lifespan)


def _calls(
    settings: Settings, plugins: Plugins, workspaces: Workspaces, client: NatsClient
) -> Calls:
    return Calls(
        plugins=plugins,
        executor=Executor(plugins, cancel_grace_s=settings.cancel_grace_s),
        ledger=MemoryLedger(
            kept=settings.results_kept,
            kept_s=settings.results_kept_s,
            kept_bytes=settings.results_kept_bytes,
            clock=time.monotonic,
        ),
        workspaces=workspaces,
        limits=_limits(settings, client.max_payload),
        max_concurrent=settings.max_concurrent_calls,
        max_waiting=settings.max_waiting_calls,
        rpc=RpcClient(client),
    )


def _limits(settings: Settings, max_payload: int) -> Limits:
    """What fits into one message: text may grow sixfold by JSON escapes, files by base64."""
    room = (max_payload - 6 * settings.max_result_bytes - (16 << 10)) * 3 // 4
    return Limits(settings.max_result_bytes, max(0, min(settings.max_file_bytes, room)))


@asynccontextmanager
async def _serving(
    runtime: Runtime, settings: Settings, plugins: Plugins, calls: Calls, client: NatsClient
) -> AsyncGenerator[None]:
    cancels = TaskGroup("cancel")
    broadcast = subjects.tool_cancel(subjects.ALL_TOOL_HOSTS)

    async def list_tools(_: ListTools) -> Catalog:
        return Catalog(runtime.instance, plugins.specs, plugins.reports)

    async def cancel_call(request: CancelCall) -> Nothing:
        # The queue group chose one host at random; the call may run on another.
        if not calls.cancel(request):
            client.send(broadcast, msgspec.json.encode(request))
        return Nothing()

    def on_broadcast(_: bytes, __: bytes, ___: bytes, payload: bytes) -> None:
        try:
            request = msgspec.json.decode(payload, type=CancelCall)
        except msgspec.DecodeError:
            log.warning("cancel.unreadable")
            return
        cancels.start(calls.cancel_early(request))

    rpc = RpcServer(
        client,
        "tools",
        version=runtime.version,
        concurrency=settings.max_concurrent_calls + settings.max_waiting_calls + _OTHER_REQUESTS,
    )
    rpc.add(LIST_TOOLS, list_tools)
    rpc.add_stream(CALL_TOOL, calls.run)
    rpc.add(CANCEL_CALL, cancel_call)
    listening = client.listen(broadcast, on_broadcast)
    await rpc.start()
    try:
        yield
    finally:
        await _stop(settings, calls, rpc)
        client.unlisten(listening)
        await cancels.cancel()


async def _stop(settings: Settings, calls: Calls, rpc: RpcServer) -> None:
    """Take nothing new, let calls finish, end the rest: everybody who waits gets a result."""
    # Of the time that the whole process has, the end is for cancelled tools and their results.
    ending_s = min(settings.cancel_grace_s + 1.0, settings.shutdown_timeout_s / 2)
    patience_s = settings.shutdown_timeout_s - ending_s
    draining = asyncio.get_running_loop().create_task(rpc.drain(settings.shutdown_timeout_s))
    if not await calls.finish(patience_s):
        calls.interrupt()
        await calls.finish(ending_s)
    await draining
