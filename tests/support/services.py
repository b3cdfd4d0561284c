"""Services in the test's own process: the real application, without its HTTP server."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar

from steersman_chatloop import app as chatloop_app
from steersman_chatloop.settings import Settings as ChatloopSettings
from steersman_runtime.service import Runtime
from steersman_runtime.settings import Secret
from steersman_store import app as store_app
from steersman_store.settings import Settings as StoreSettings

SECRET_KEY = base64.b64encode(bytes(range(32))).decode()


@asynccontextmanager
async def _running(
    name: str, settings: Any, create_app: Callable[[Runtime, Any], Litestar]
) -> AsyncGenerator[Runtime]:
    runtime = Runtime(name, settings)
    app = create_app(runtime, settings)
    started = asyncio.Event()
    stop = asyncio.Event()

    async def live() -> None:
        # A task of its own: fixtures are set up and torn down in different ones, and the
        # application's lifespan does not like that.
        async with app.lifespan():
            started.set()
            await stop.wait()

    task = asyncio.get_running_loop().create_task(live())
    waiting = asyncio.get_running_loop().create_task(started.wait())
    await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    try:
        if not task.done():
            yield runtime
    finally:
        stop.set()
        await task


@asynccontextmanager
async def running_store(
    nats_url: str, database_url: str, **settings: Any
) -> AsyncGenerator[Runtime]:
    """A store on real NATS and PostgreSQL."""
    values: dict[str, Any] = {"pool_size": 4, "sweep_s": 0.5, "shutdown_timeout_s": 2.0} | settings
    wanted = StoreSettings(
        nats_url=Secret(nats_url),
        database_url=Secret(database_url),
        secret_key=Secret(SECRET_KEY),
        **values,
    )
    async with _running("store", wanted, store_app.create_app) as runtime:
        yield runtime


@asynccontextmanager
async def running_stores(
    nats_url: str, database_url: str, **settings: Any
) -> AsyncGenerator[tuple[Runtime, Runtime]]:
    """Two stores on the same database: whichever is free answers."""
    async with (
        running_store(nats_url, database_url, instance="store-1", **settings) as one,
        running_store(nats_url, database_url, instance="store-2", **settings) as two,
    ):
        yield one, two


@asynccontextmanager
async def running_chatloop(nats_url: str, **settings: Any) -> AsyncGenerator[Runtime]:
    """A chatloop that works on whatever the store hands out."""
    # Tests count the requests to providers; those that want titles say so.
    # A lease that ends while a busy machine holds up its owner would be one more attempt.
    values: dict[str, Any] = {
        "shutdown_timeout_s": 4.0,
        "generate_titles": False,
        "lease_s": 30.0,
    } | settings
    wanted = ChatloopSettings(nats_url=Secret(nats_url), **values)
    async with _running("chatloop", wanted, chatloop_app.create_app) as runtime:
        yield runtime


@asynccontextmanager
async def running_chatloops(
    nats_url: str, **settings: Any
) -> AsyncGenerator[tuple[Runtime, Runtime]]:
    """Two chatloops: whichever is free takes a chat."""
    async with (
        running_chatloop(nats_url, instance="chatloop-1", **settings) as one,
        running_chatloop(nats_url, instance="chatloop-2", **settings) as two,
    ):
        yield one, two
