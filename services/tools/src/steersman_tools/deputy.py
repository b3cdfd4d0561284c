"""`python -m steersman_tools.deputy`: this service in a container, for one workspace alone.

It runs the calls that the tools service passes on, with the plugins that its image has. It asks
nobody for anything, and its connection could not: see `deputy_access.py`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import msgspec
import structlog
from litestar import Litestar

from steersman_contracts import subjects
from steersman_contracts.ids import Uuid
from steersman_contracts.rpc import Nothing
from steersman_contracts.rpc.deputy import SET_UP, SetUp, SetUpEnded
from steersman_contracts.rpc.tools import (
    CALL_TOOL,
    PING_HOST,
    CancelCall,
    PingHost,
)
from steersman_contracts.workspaces import WorkspaceId
from steersman_runtime.nats_client import NatsClient
from steersman_runtime.rpc import Frames, RpcClient, RpcServer
from steersman_runtime.service import Runtime, create_service, run_service
from steersman_runtime.settings import BadSettings
from steersman_tools.calls import Calls, limits_of
from steersman_tools.catalog import Tools
from steersman_tools.context import CallContext, CallPlace, Progress
from steersman_tools.drivers import CONTAINER
from steersman_tools.execution import Executor, Runnable
from steersman_tools.ledger import MemoryLedger
from steersman_tools.making import SetupFailed, set_up
from steersman_tools.plugin_book import EmptyBook
from steersman_tools.plugins import PluginSource, Registry, Surroundings, installed_plugins
from steersman_tools.sandbox import hide_from_commands, sandboxed
from steersman_tools.settings import Settings
from steersman_tools.templates import Setup
from steersman_tools.toolsets import Toolsets
from steersman_tools.workspaces import Workspaces

log = structlog.stdlib.get_logger()

_OWN_FILES: Final = "/tmp/steersman"


class DeputySettings(Settings, frozen=True, kw_only=True):
    """Read once, from the environment of the container."""

    workspace_id: Uuid
    workspace_dir: Annotated[str, msgspec.Meta(min_length=1)] = "/workspace"
    """Where its files are."""
    workspace_environment: str = "{}"
    """What commands in it see beside the usual, as JSON."""
    workspaces_dir: Annotated[str, msgspec.Meta(min_length=1)] = _OWN_FILES
    """For calls that need no workspace."""


class OnlyPlace:
    """The one workspace: every call acts in it, whichever chat of the family asks."""

    def __init__(self, path: Path, workspace_id: WorkspaceId, environment: dict[str, str]) -> None:
        self.path = path
        self.environment = environment
        self._workspace_id = workspace_id

    @asynccontextmanager
    async def place(self, context: CallContext, tool: Runnable) -> AsyncGenerator[Runnable]:
        """Give a call this place."""
        context.place = CallPlace(
            self.path, self._workspace_id, self.environment, context.chat_id, CONTAINER
        )
        yield tool


def create_deputy(
    runtime: Runtime, settings: DeputySettings, *, sources: Iterable[PluginSource] | None = None
) -> Litestar:
    """Build the deputy.

    Args:
        runtime: The process.
        settings: Of the container.
        sources: The plugins to host; None is those of the installed packages.
    """
    only = OnlyPlace(
        Path(settings.workspace_dir),
        WorkspaceId(settings.workspace_id),
        _environment(settings.workspace_environment),
    )

    def find() -> Iterable[PluginSource]:
        return installed_plugins() if sources is None else sources

    @asynccontextmanager
    async def lifespan(runtime: Runtime) -> AsyncGenerator[None]:
        workspaces = Workspaces(Path(settings.workspaces_dir))
        host = f"deputy-{secrets.token_hex(6)}"
        async with runtime.nats(name=host) as client, sandboxed(workspaces, settings):
            registry = Registry(
                find, Surroundings({}, EmptyBook(), settings.plugin_timeout_s, None)
            )
            await registry.load()
            try:
                calls = _calls(settings, host, registry, workspaces, client, only)
                async with _serving(runtime, settings, client, calls, workspaces, only):
                    yield
            finally:
                await registry.close()

    return create_service(runtime, lifespan)


def _environment(text: str) -> dict[str, str]:
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except msgspec.DecodeError as error:
        raise BadSettings(f"STEERSMAN_WORKSPACE_ENVIRONMENT: {error}") from error


def _calls(
    settings: DeputySettings,
    host: str,
    registry: Registry,
    workspaces: Workspaces,
    client: NatsClient,
    only: OnlyPlace,
) -> Calls:
    # Not run: a deputy hears of no other hosts.
    toolsets = Toolsets(client, RpcClient(client))
    return Calls(
        host=host,
        tools=Tools(registry, toolsets, patience_s=0.0),
        executor=Executor(cancel_grace_s=settings.cancel_grace_s),
        # The service that passes calls on has them in the book.
        ledger=MemoryLedger(
            kept=settings.results_kept,
            kept_s=settings.results_kept_s,
            kept_bytes=settings.results_kept_bytes,
            clock=time.monotonic,
        ),
        workspaces=workspaces,
        limits=limits_of(settings, client.max_payload),
        max_concurrent=settings.max_concurrent_calls,
        max_per_chat=settings.max_calls_per_chat,
        max_waiting=settings.max_waiting_calls,
        ground=only,
    )


@asynccontextmanager
async def _serving(
    runtime: Runtime,
    settings: DeputySettings,
    client: NatsClient,
    calls: Calls,
    workspaces: Workspaces,
    only: OnlyPlace,
) -> AsyncGenerator[None]:
    def at(method: str) -> str:
        return subjects.deputy(settings.workspace_id, method)

    async def ping(_: PingHost) -> Nothing:
        return Nothing()

    async def prepare(request: SetUp, frames: Frames) -> SetUpEnded:
        progress = Progress(frames.progress)
        setup = Setup(request.script, request.timeout_s)
        try:
            await set_up(only.path, setup, only.environment, workspaces.sandbox, progress.report)
        except SetupFailed as failed:
            return SetUpEnded(str(failed))
        finally:
            progress.close()
        return SetUpEnded()

    def on_cancel(_: bytes, __: bytes, ___: bytes, payload: bytes) -> None:
        try:
            calls.cancel(msgspec.json.decode(payload, type=CancelCall))
        except msgspec.DecodeError:
            log.warning("cancel.unreadable")

    rpc = RpcServer(client, "deputy", version=runtime.version, announced=False)
    rpc.add_stream(replace(CALL_TOOL, address=at(CALL_TOOL.name)), calls.run)
    rpc.add_stream(replace(SET_UP, address=at(SET_UP.name)), prepare)
    rpc.add(replace(PING_HOST, address=at(PING_HOST.name)), ping)
    listening = client.listen(at("calls.cancel"), on_cancel)
    await rpc.start()
    try:
        yield
    finally:
        calls.interrupt()
        await calls.finish(settings.cancel_grace_s + 1.0)
        await rpc.drain(1.0)
        client.unlisten(listening)


if __name__ == "__main__":
    hide_from_commands()
    run_service("tools", DeputySettings, create_deputy)
