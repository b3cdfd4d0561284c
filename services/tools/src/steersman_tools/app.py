"""The tools service: hosts plugins and runs tool calls."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from litestar import Litestar

from steersman_contracts.errors import NotFound, SteersmanError
from steersman_contracts.rpc import workspace_book as book
from steersman_contracts.rpc.workspace_book import Quota
from steersman_contracts.workspaces import State, WorkspaceId
from steersman_runtime.jetstream import Publisher
from steersman_runtime.nats_client import NatsClient
from steersman_runtime.rpc import RpcClient
from steersman_runtime.service import Runtime, create_service
from steersman_runtime.tasks import running
from steersman_tools.calls import Calls, limits_of
from steersman_tools.catalog import Tools
from steersman_tools.changes import Changes
from steersman_tools.chat_desk import ChatDesk
from steersman_tools.containers import ContainerDriver
from steersman_tools.deputy_access import DeputyAccess
from steersman_tools.desks import Desks, Policy
from steersman_tools.drivers import Drivers, LocalDriver
from steersman_tools.execution import Executor
from steersman_tools.hosts import Hosts
from steersman_tools.ledger import Ledger, MemoryLedger
from steersman_tools.notices import Notices
from steersman_tools.places import Places
from steersman_tools.plugin_book import EmptyBook, StoreBook
from steersman_tools.plugins import (
    PluginSource,
    Registry,
    Surroundings,
    installed_plugins,
)
from steersman_tools.sandbox import sandboxed
from steersman_tools.service import Server
from steersman_tools.settings import Settings, plugin_environment
from steersman_tools.store_ledger import StoreLedger
from steersman_tools.templates import Templates
from steersman_tools.toolsets import Toolsets
from steersman_tools.ways import keys_of, ways_of
from steersman_tools.workspace_service import WorkspaceService
from steersman_tools.workspaces import Workspaces

log = structlog.stdlib.get_logger()

_LONGEST_PAUSE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Service:
    """What runs: `app.state.service`."""

    host: str
    registry: Registry
    tools: Tools


def create_app(
    runtime: Runtime, settings: Settings, *, sources: Iterable[PluginSource] | None = None
) -> Litestar:
    """Build the service.

    Args:
        runtime: The process.
        settings: Of this service.
        sources: The plugins to host; None is those of the installed packages.
    """

    def find() -> Iterable[PluginSource]:
        return installed_plugins() if sources is None else sources

    @asynccontextmanager
    async def lifespan(runtime: Runtime) -> AsyncGenerator[Service]:
        # Another one at each start: what the last process ran must not be taken for ours.
        host = f"{runtime.instance}-{secrets.token_hex(6)}"
        workspaces = Workspaces(Path(settings.workspaces_dir), uid=settings.workspace_uid)
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(runtime.nats(name=host))
            rpc = RpcClient(client)
            ledger = await stack.enter_async_context(_ledger(runtime, settings, rpc, host))
            plugin_book = StoreBook(rpc) if settings.ledger == "store" else EmptyBook()
            around = Surroundings(
                plugin_environment(),
                plugin_book,
                settings.plugin_timeout_s,
                rpc if settings.ledger == "store" else None,
            )
            registry = Registry(find, around)
            stack.push_async_callback(registry.close)
            await stack.enter_async_context(sandboxed(workspaces, settings))
            toolsets = Toolsets(client, rpc)
            await stack.enter_async_context(
                running(toolsets.run, name="toolsets", on_failure=runtime.fail)
            )
            await registry.load()
            people = await stack.enter_async_context(
                _workspaces(runtime, settings, host, client, workspaces, registry)
            )
            service, places = people or (None, None)
            tools = Tools(registry, toolsets, patience_s=settings.toolset_patience_s)
            calls = _calls(settings, host, tools, ledger, workspaces, client, places)
            server = Server(
                runtime,
                settings,
                host=host,
                tools=tools,
                calls=calls,
                client=client,
                people=service,
                places=places,
                workspaces=workspaces,
            )
            await stack.enter_async_context(server.serving())
            yield Service(host, registry, tools)

    return create_service(runtime, lifespan)


@asynccontextmanager
async def _workspaces(
    runtime: Runtime,
    settings: Settings,
    host: str,
    client: NatsClient,
    workspaces: Workspaces,
    registry: Registry,
) -> AsyncGenerator[tuple[WorkspaceService, Places] | None]:
    """The workspaces; none without a store, which keeps the book of them."""
    if settings.ledger == "memory":
        yield None
        return
    rpc = RpcClient(client)
    quota = Quota(settings.workspaces_per_user, settings.running_workspaces_per_user)
    folder = settings.templates_dir
    changes = Changes(Publisher(client), workspaces, quiet_s=settings.diff_quiet_s)
    async with _containers(runtime, settings, rpc, client, workspaces) as containers:
        drivers = Drivers(
            LocalDriver(workspaces),
            containers,
            in_container=containers.has,
            end_processes=lambda path: registry.current.workspace_stopped(path),
        )
        desks = Desks(
            host=host,
            rpc=rpc,
            notices=Notices(host, client),
            directories=workspaces,
            templates=Templates(None if folder is None else Path(folder)),
            policy=Policy(quota, settings.workspace_idle_s, settings.workspace_look_s),
            drivers=drivers,
        )
        places = Places(
            rpc,
            workspaces,
            drivers,
            desk_of=lambda chat_id: ChatDesk(desks, chat_id),
            on_change=changes.noticed,
        )

        async def keep() -> None:
            await desks.run(lambda: places.in_use)

        async with running(keep, name="workspaces", on_failure=runtime.fail):
            yield WorkspaceService(desks, changes), places
            await changes.close()
            await desks.close()


@asynccontextmanager
async def _containers(
    runtime: Runtime,
    settings: Settings,
    rpc: RpcClient,
    client: NatsClient,
    workspaces: Workspaces,
) -> AsyncGenerator[ContainerDriver]:
    """Containers, as far as there is an engine, and what they may do on NATS."""

    async def state_of(workspace_id: WorkspaceId) -> State:
        return (await rpc.call(book.GET, book.GetWorkspace(workspace_id))).state

    keys = keys_of(settings)
    driver = ContainerDriver(workspaces, ways_of(settings, keys), client, state_of=state_of)

    async def sweep() -> None:
        while True:
            await asyncio.sleep(settings.container_sweep_s)
            try:
                await driver.sweep()
            except SteersmanError as error:
                log.info("containers.not_swept", error_code=error.code)

    async def runs(workspace_id: WorkspaceId) -> bool:
        if not await asyncio.to_thread(driver.has, workspace_id):
            return False
        try:
            return await state_of(workspace_id) in ("creating", "running")
        except NotFound:
            return False

    async with AsyncExitStack() as stack:
        if keys is not None:
            access = DeputyAccess(client, keys, account=settings.nats_account, runs=runs)
            stack.push_async_callback(access.close, access.open())
        await stack.enter_async_context(running(sweep, name="containers", on_failure=runtime.fail))
        yield driver


@asynccontextmanager
async def _ledger(
    runtime: Runtime, settings: Settings, rpc: RpcClient, host: str
) -> AsyncGenerator[Ledger]:
    if settings.ledger == "memory":
        yield MemoryLedger(
            kept=settings.results_kept,
            kept_s=settings.results_kept_s,
            kept_bytes=settings.results_kept_bytes,
            clock=time.monotonic,
        )
        return
    ledger = StoreLedger(rpc, host, lease_s=settings.host_lease_s)
    await _enlist(ledger, runtime)
    runtime.health.add("ledger", lambda: None if ledger.alive else "the store does not answer")
    async with running(ledger.renew, name="host-lease", on_failure=runtime.fail):
        yield ledger
    await ledger.leave()


async def _enlist(ledger: StoreLedger, runtime: Runtime) -> None:
    """Wait for the store: services start in any order."""
    pause = 0.05
    while not runtime.stopping.is_set():
        try:
            await ledger.enlist()
        except SteersmanError as error:
            log.info("host.waits_for_store", error_code=error.code)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)
            continue
        return


def _calls(
    settings: Settings,
    host: str,
    tools: Tools,
    ledger: Ledger,
    workspaces: Workspaces,
    client: NatsClient,
    places: Places | None,
) -> Calls:
    return Calls(
        host=host,
        tools=tools,
        executor=Executor(cancel_grace_s=settings.cancel_grace_s),
        ledger=ledger,
        workspaces=workspaces,
        limits=limits_of(settings, client.max_payload),
        max_concurrent=settings.max_concurrent_calls,
        max_per_chat=settings.max_calls_per_chat,
        max_waiting=settings.max_waiting_calls,
        rpc=RpcClient(client),
        ground=places,
        hosts=Hosts(host, client, ledger.hosts),
    )
