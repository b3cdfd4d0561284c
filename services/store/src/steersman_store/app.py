"""The store service: everything is wired here."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from litestar import Litestar

from steersman_contracts import subjects
from steersman_runtime.jetstream import Publisher
from steersman_runtime.nats_client import NatsClient, close, connect
from steersman_runtime.rpc import RpcServer
from steersman_runtime.service import Runtime, create_service
from steersman_runtime.settings import Secret
from steersman_runtime.tasks import running
from steersman_store.announce import Announcer
from steersman_store.chats import Chats
from steersman_store.database import open_database
from steersman_store.drops import Drops
from steersman_store.identity import Identities
from steersman_store.ledger import Ledger
from steersman_store.migrate import migrate
from steersman_store.models import Models
from steersman_store.plugins import PluginBook
from steersman_store.presets import presets, write_presets
from steersman_store.relay import OutboxRelay
from steersman_store.secrets import Vault
from steersman_store.settings import Settings
from steersman_store.streams import ensure_streams
from steersman_store.sweep import Sweep
from steersman_store.worker import Worker


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
            await ensure_streams(client, settings)
            await write_presets(database, vault, presets(settings))
            publisher = Publisher(client)
            relay = OutboxRelay(database, client, publisher, ranges=settings.relay_ranges)
            announcer = Announcer(client, publisher, relay.nudge)
            sweep = Sweep(database, client, announcer, settings)
            ledger = Ledger(database)
            for work, name in (
                (relay.run, "relay"),
                (sweep.run, "sweep"),
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
            server = RpcServer(client, "store", version=runtime.version)
            Chats(database, announcer).serve(server)
            Worker(database, announcer, vault).serve(server)
            Models(database, vault).serve(server)
            Identities(database).serve(server)
            ledger.serve(server)
            PluginBook(database, vault).serve(server)
            await server.start()
            stack.push_async_callback(server.drain, settings.shutdown_timeout_s)
            runtime.health.add(
                "database", lambda: None if database.reachable else "does not answer"
            )
            yield

    return create_service(runtime, lifespan)
