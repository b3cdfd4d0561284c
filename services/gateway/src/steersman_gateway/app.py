"""The gateway: the HTTP face of Steersman. Stateless; any number of replicas."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from litestar import Litestar
from litestar.config.app import AppConfig
from litestar.di import Provide
from litestar.exceptions import HTTPException

from steersman_contracts.errors import SteersmanError
from steersman_gateway import about, landing, mcp_login, sign_in
from steersman_gateway.api import api_router, provide_backend
from steersman_gateway.auth import Authenticator
from steersman_gateway.backend import Backend
from steersman_gateway.bodies import JsonRequest
from steersman_gateway.docs import HANDLERS, DocumentCache
from steersman_gateway.edge import Edge
from steersman_gateway.event_log import NatsEventLog
from steersman_gateway.feeds import Feeds
from steersman_gateway.live_view import live_view
from steersman_gateway.problems import handle
from steersman_gateway.settings import Settings
from steersman_gateway.streams import Streams
from steersman_runtime.rpc import RpcClient
from steersman_runtime.service import Runtime, create_service
from steersman_runtime.tasks import running

SEND_BUFFER = 64 * 1024
UNACKNOWLEDGED_MS = 60_000


@dataclass(frozen=True, slots=True)
class Gateway:
    """What the handlers share."""

    backend: Backend
    authenticator: Authenticator
    streams: Streams
    document: DocumentCache


def create_app(runtime: Runtime, settings: Settings) -> Litestar:
    """Wire the gateway."""

    @asynccontextmanager
    async def lifespan(runtime: Runtime) -> AsyncGenerator[Gateway]:
        async with runtime.nats() as client:
            backend = Backend(RpcClient(client))
            feeds = Feeds(NatsEventLog(client))
            client.on_reconnect.append(feeds.reconnected)
            streams = Streams(feeds, settings)
            runtime.on_stop(streams.stop)
            try:
                async with running(streams.run, name="streams", on_failure=runtime.fail):
                    yield Gateway(
                        backend, Authenticator(backend), streams, DocumentCache(runtime.version)
                    )
            finally:
                await streams.close()

    def configure(config: AppConfig) -> AppConfig:
        config.dependencies["backend"] = Provide(provide_backend, sync_to_thread=False)
        config.exception_handlers = {
            SteersmanError: handle,
            HTTPException: handle,
            Exception: handle,
        }
        config.request_class = JsonRequest
        return config

    app = create_service(
        runtime,
        lifespan,
        route_handlers=[
            landing.landing,
            sign_in.ask,
            sign_in.redeem,
            mcp_login.ask,
            mcp_login.finish,
            *HANDLERS,
            about.version,
            live_view,
            api_router(),
        ],
        configure=configure,
    )
    # Not in `configure`: Litestar 2.25 does not read this field back.
    app.request_max_body_size = settings.max_body_bytes
    app.asgi_handler = Edge(app.asgi_handler)
    return app


def tune_socket(sock: socket.socket) -> None:
    """Set what every accepted connection inherits.

    The kernel would hide 3.5 MB of a client that reads nothing; with this it is 0.2. And it would
    wait a quarter of an hour for one that is gone without a word, where it can be told not to.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
