"""The desktop service: virtual desktops of chats. Runs from the start, and says what is missing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import structlog
from litestar import Litestar

from steersman_contracts.rpc.desktop import GET_DESKTOP, Desktop, GetDesktop
from steersman_desktop.programs import missing_programs, unavailable
from steersman_desktop.settings import Settings
from steersman_runtime.rpc import RpcServer
from steersman_runtime.service import Runtime, create_service

log = structlog.stdlib.get_logger()


def create_app(
    runtime: Runtime,
    settings: Settings,
    *,
    missing: Callable[[], tuple[str, ...]] = missing_programs,
) -> Litestar:
    """Build the service.

    Args:
        runtime: The process.
        settings: Of this service.
        missing: Which programs this machine lacks; asked anew for each request, since an
            administrator may install them meanwhile.
    """

    async def get_desktop(_: GetDesktop) -> Desktop:
        raise unavailable(missing())

    @asynccontextmanager
    async def lifespan(runtime: Runtime) -> AsyncGenerator[None]:
        log.info("desktops.unavailable", missing=missing())
        async with runtime.nats() as client:
            rpc = RpcServer(client, "desktop", version=runtime.version)
            rpc.add(GET_DESKTOP, get_desktop)
            await rpc.start()
            try:
                yield
            finally:
                await rpc.drain(settings.shutdown_timeout_s)

    return create_service(runtime, lifespan)
