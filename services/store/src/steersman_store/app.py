"""The store service: everything is wired here."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from litestar import Litestar

from steersman_contracts import subjects
from steersman_runtime.conditions import Conditions
from steersman_runtime.jetstream import Publisher
from steersman_runtime.nats_client import NatsClient, close, connect
from steersman_runtime.rpc import RpcServer
from steersman_runtime.service import Runtime, create_service
from steersman_runtime.settings import Secret
from steersman_runtime.tasks import TaskGroup, running
from steersman_store.agent_recordings import AgentRecordings
from steersman_store.agents import Agents
from steersman_store.announce import Announcer
from steersman_store.attempts import Attempts
from steersman_store.chats import Chats
from steersman_store.database import open_database
from steersman_store.decisions import Decisions
from steersman_store.desktop_audit import DesktopAudit
from steersman_store.desktop_chats import DesktopChats, DesktopServers
from steersman_store.drops import Drops
from steersman_store.families import Families
from steersman_store.files import Files
from steersman_store.identity import Identities
from steersman_store.imports import Imports
from steersman_store.ledger import Ledger
from steersman_store.mcp import McpServers
from steersman_store.mcp_clients import McpClients
from steersman_store.mcp_sign_ins import McpSignIns
from steersman_store.migrate import migrate
from steersman_store.models import Models
from steersman_store.plugins import PluginBook
from steersman_store.policies import Policies
from steersman_store.presets import presets, write_presets
from steersman_store.price_list import PriceList
from steersman_store.prompts import Prompts
from steersman_store.providers import Providers
from steersman_store.purges import Purges
from steersman_store.relay import OutboxRelay
from steersman_store.secrets import Vault
from steersman_store.settings import Settings
from steersman_store.streams import try_to_ensure_streams
from steersman_store.sweep import Sweep
from steersman_store.titles import Titles
from steersman_store.usage import Usage
from steersman_store.users import Users
from steersman_store.worker import Worker
from steersman_store.workspaces import Workspaces


@asynccontextmanager
async def _system_account(runtime: Runtime, url: Secret) -> AsyncGenerator[NatsClient]:
    client = await connect(
        url.reveal(),
        name=f"store/{runtime.instance}/system",
        inbox_prefix=subjects.inbox("store"),
        on_closed=runtime.fail,
    )
    try:
        yield client
    finally:
        await close(client)


def create_app(runtime: Runtime, settings: Settings) -> Litestar:
    """Build the service; nothing runs before its lifespan begins."""

    @asynccontextmanager
    async def lifespan(runtime: Runtime) -> AsyncGenerator[None]:
        vault = Vault(settings.secret_key.reveal())
        url = settings.database_url.reveal()
        await migrate(url)
        async with AsyncExitStack() as stack:
            database = await stack.enter_async_context(
                # Each relay that leads keeps one connection for its lock.
                open_database(url, size=settings.pool_size + settings.relay_ranges)
            )
            client = await stack.enter_async_context(runtime.nats())
            # A NATS that goes away just now is no reason not to start: the sweep does it again.
            await try_to_ensure_streams(client, settings)
            await write_presets(database, vault, presets(settings))
            publisher = Publisher(client)
            relay = OutboxRelay(
                database,
                client,
                publisher,
                ranges=settings.relay_ranges,
                keep_deleted_s=settings.keep_deleted_s,
            )
            announcer = Announcer(client, publisher, relay.nudge)
            families = Families(database, announcer)
            stack.push_async_callback(families.aclose)
            sweep = Sweep(database, client, announcer, families, settings)
            ledger = Ledger(database)
            for work, name in (
                (relay.run, "relay"),
                (sweep.run, "sweep"),
                (Purges(database, client, settings).run, "purges"),
                (ledger.run, "ledger"),
            ):
                await stack.enter_async_context(running(work, name=name, on_failure=runtime.fail))
            if settings.nats_system_url is not None:
                drops = await stack.enter_async_context(
                    _system_account(runtime, settings.nats_system_url)
                )
                watch = Drops(drops, database, announcer)
                await stack.enter_async_context(
                    running(watch.run, name="drops", on_failure=runtime.fail)
                )
            conditions = Conditions()
            stack.push_async_callback(conditions.aclose)
            price_list = PriceList()
            stack.push_async_callback(price_list.aclose)
            models = Models(database, price_list, announcer.providers_changed)
            server = RpcServer(client, "store", version=runtime.version)
            Chats(database, announcer, families).serve(server)
            worker = Worker(
                database, announcer, vault, families, max_agent_depth=settings.max_agent_depth
            )
            worker.serve(server)
            Attempts(database, announcer).serve(server)
            Agents(database, announcer, families, settings).serve(server)
            Titles(database, announcer, worker).serve(server)
            Prompts(database, worker).serve(server)
            Decisions(database, announcer, families).serve(server)
            Files(database).serve(server)
            Imports(database, announcer).serve(server)
            Identities(database).serve(server)
            Policies(database, conditions).serve(server)
            DesktopAudit(database).serve(server)
            DesktopChats(database).serve(server)
            AgentRecordings(database).serve(server)
            DesktopServers(database, vault).serve(server)
            Providers(database, vault, announcer.providers_changed).serve(server)
            models.serve(server)
            Usage(database).serve(server)
            Users(database).serve(server)
            ledger.serve(server)
            PluginBook(database, vault).serve(server)
            Workspaces(database, announcer).serve(server)
            mcp_servers = McpServers(database, vault, announcer)
            mcp_servers.serve(server)
            McpSignIns(database, vault, mcp_servers).serve(server)
            McpClients(database, vault).serve(server)
            await server.start()
            once = TaskGroup("prices")
            stack.push_async_callback(once.cancel)
            once.start(models.fill_prices())
            stack.push_async_callback(server.drain, settings.shutdown_timeout_s)
            runtime.health.add("database", lambda: database.problem)
            yield

    return create_service(runtime, lifespan)
