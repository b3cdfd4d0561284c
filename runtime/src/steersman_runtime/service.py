"""How a service runs: its Litestar application, its process, its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib.metadata import version as package_version
from types import FrameType
from typing import Any, TypeVar

import structlog
import uvicorn
from litestar import Litestar, MediaType, Response, get
from litestar.config.app import AppConfig
from litestar.datastructures import State
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from steersman_contracts import subjects
from steersman_contracts.errors import SteersmanError
from steersman_runtime import heap
from steersman_runtime.health import Health
from steersman_runtime.logging import configure_logging
from steersman_runtime.nats_client import NatsClient, close, connect
from steersman_runtime.settings import BadSettings, ServiceSettings, load_settings

log = structlog.stdlib.get_logger()

S = TypeVar("S", bound=ServiceSettings)

BACKLOG = 1024
WEBSOCKET_MESSAGE = 1 << 20
"""Bytes of one message from a client."""
PING_S = 20.0
"""After which the other end of a WebSocket is asked whether it is still there."""
PONG_S = 60.0
"""For which its answer is waited for. A pong comes after everything that was sent before the ping:
with megabytes of a large screen on their way it is late on a slow line, and nobody is gone. Who
takes nothing at all is found out by writing, and sooner; this finds who has left without a word."""


class Runtime:
    """What a service has from the start to the end of its process."""

    def __init__(self, service: str, settings: ServiceSettings) -> None:
        self.service = service
        self.settings = settings
        self.instance = settings.instance or f"{service}-{os.getpid()}"
        self.version = package_version(f"steersman-{service}")
        self.health = Health()
        self.address = ("127.0.0.1", 0)
        """Host and port where HTTP is served; known before the application is built."""
        self.stopping = asyncio.Event()
        """Set when the process was told to end: stop taking work, end streams."""
        self.not_started: SteersmanError | None = None
        """Why the service could not start."""
        self._on_stop: list[Callable[[], None]] = []

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Call `callback` as soon as the process is told to end."""
        self._on_stop.append(callback)

    def begin_stop(self) -> None:
        """The process was told to end."""
        if self.stopping.is_set():
            return
        self.health.draining = True
        self.stopping.set()
        for callback in self._on_stop:
            callback()

    def fail(self) -> None:
        """A part of the service is lost for good: end the process, its supervisor restarts it."""
        log.error("service.failed")
        signal.raise_signal(signal.SIGTERM)

    @asynccontextmanager
    async def nats(self, *, name: str | None = None) -> AsyncGenerator[NatsClient]:
        """The service's NATS connection; readiness depends on it.

        Args:
            name: What the server's list of connections shows behind the service; None shows the
                instance.
        """
        client = await connect(
            self.settings.nats_url.reveal(),
            name=f"{self.service}/{name or self.instance}",
            inbox_prefix=subjects.inbox(self.service),
            on_closed=self.fail,
        )
        self.health.add("nats", lambda: None if client.is_connected else "not connected")
        try:
            yield client
        finally:
            await close(client)


def create_service(
    runtime: Runtime,
    lifespan: Callable[[Runtime], AbstractAsyncContextManager[Any]],
    *,
    route_handlers: Sequence[Any] = (),
    configure: Callable[[AppConfig], AppConfig] | None = None,
) -> Litestar:
    """Build the application of a service: its routes, and `/livez`, `/readyz`, `/metrics`.

    Args:
        runtime: The process.
        lifespan: Opens what the service needs; leaving it closes everything. What it yields is
            `app.state.service`.
        route_handlers: The service's own routes.
        configure: Changes the application's configuration.
    """

    @get("/livez", sync_to_thread=False, opt={"public": True}, include_in_schema=False)
    def livez() -> dict[str, str]:
        return {"status": "alive", "service": runtime.service, "version": runtime.version}

    @get("/readyz", sync_to_thread=False, opt={"public": True}, include_in_schema=False)
    def readyz() -> Response[dict[str, Any]]:
        problems = runtime.health.problems()
        body = {"status": "not ready" if problems else "ready", "problems": problems}
        return Response(body, status_code=503 if problems else 200)

    @get("/metrics", sync_to_thread=False, opt={"public": True}, include_in_schema=False)
    def metrics() -> Response[bytes]:
        return Response(
            generate_latest(),
            media_type=MediaType.TEXT,
            headers={"Content-Type": CONTENT_TYPE_LATEST},
        )

    @asynccontextmanager
    async def run(app: Litestar) -> AsyncGenerator[None]:
        async with AsyncExitStack() as opened:
            try:
                app.state.service = await opened.enter_async_context(lifespan(runtime))
            except SteersmanError as error:
                runtime.not_started = error
                raise
            runtime.health.started = True
            log.info("service.started", version=runtime.version)
            yield
            runtime.begin_stop()
        log.info("service.stopped")

    return Litestar(
        route_handlers=[livez, readyz, metrics, *route_handlers],
        lifespan=[run],
        state=State({"runtime": runtime}),
        on_app_init=[configure] if configure else [],
        openapi_config=None,
        logging_config=None,
    )


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, runtime: Runtime) -> None:
        super().__init__(config)
        self._runtime = runtime

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        heap.settle()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not the base class: it would raise the signal again after the end, and a service that
        # stopped as it was told to would look killed.
        self._runtime.begin_stop()
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


def listening_socket(listen: str) -> socket.socket:
    """Open `host:port`, or take over `fd:N`.

    Raises:
        BadSettings: The address is malformed or cannot be had.
    """
    kind, _, value = listen.rpartition(":")
    try:
        if kind == "fd":
            return socket.socket(fileno=int(value))
        family = socket.AF_INET6 if ":" in kind else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((kind.strip("[]"), int(value)))
    except (OSError, ValueError, OverflowError) as error:
        raise BadSettings(f"STEERSMAN_LISTEN: cannot listen on {listen!r}: {error}") from error
    sock.listen(BACKLOG)
    return sock


async def _serve(
    service: str,
    settings: S,
    create_app: Callable[[Runtime, S], Litestar],
    tune_socket: Callable[[socket.socket], None] | None,
    *,
    websockets: bool,
) -> bool:
    runtime = Runtime(service, settings)
    sock = listening_socket(settings.listen)
    runtime.address = sock.getsockname()[:2]
    if tune_socket is not None:
        tune_socket(sock)
    config = uvicorn.Config(
        create_app(runtime, settings),
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=max(1, int(settings.shutdown_timeout_s)),
        server_header=False,
        # Compression would cost a core per live view and saves nothing that images have to save.
        ws="websockets-sansio" if websockets else "none",
        ws_per_message_deflate=False,
        ws_max_size=WEBSOCKET_MESSAGE,
        ws_ping_interval=PING_S,
        ws_ping_timeout=PONG_S,
        backlog=BACKLOG,
    )
    # It would show where in the code an error arose whose message says it all.
    logging.getLogger("uvicorn.error").addFilter(lambda _: runtime.not_started is None)
    server = _Server(config, runtime)
    try:
        await server.serve(sockets=[sock])
    except SystemExit:
        if runtime.not_started is not None:
            raise runtime.not_started from None
        raise
    return server.started


def run_service(
    service: str,
    kind: type[S],
    create_app: Callable[[Runtime, S], Litestar],
    *,
    tune_socket: Callable[[socket.socket], None] | None = None,
    websockets: bool = False,
) -> None:
    """Run a service until it is told to end: the body of `python -m steersman_<service>`.

    With `websockets` it also serves those; its package must then depend on the library.

    Exits with status 2 for bad settings, 1 when it could not start.
    """
    try:
        settings = load_settings(kind, service)
    except BadSettings as error:
        sys.stderr.write(f"{service}: {error}\n")
        sys.exit(2)
    configure_logging(
        service,
        instance=settings.instance,
        log_format=settings.log_format,
        level=settings.log_level,
    )
    try:
        import uvloop  # not on every platform

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ImportError:
        runner = asyncio.Runner()
    with runner:
        try:
            started = runner.run(
                _serve(service, settings, create_app, tune_socket, websockets=websockets)
            )
        except SteersmanError as error:
            log.error("service.not_started", error=str(error))  # noqa: TRY400  # the message says it all
            sys.exit(2 if isinstance(error, BadSettings) else 1)
    sys.exit(0 if started else 1)
