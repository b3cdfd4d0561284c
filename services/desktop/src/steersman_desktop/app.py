"""The desktop service: virtual desktops of chats. Runs from the start, and says what is missing."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import msgspec
import structlog
from litestar import Litestar

from steersman_contracts import subjects
from steersman_contracts.errors import SteersmanError
from steersman_contracts.events import DesktopControlChanged
from steersman_contracts.ids import ChatId, UserId
from steersman_contracts.rpc.desktop import DesktopControl
from steersman_contracts.rpc.desktop_audit import RECORD_CONTROL, RecordControl
from steersman_desktop.answers import Answers
from steersman_desktop.desktops import Desktops
from steersman_desktop.foreign import ServerLeases
from steersman_desktop.hosts import Hosts
from steersman_desktop.programs import missing_programs
from steersman_desktop.relay import view
from steersman_desktop.routing import Routes
from steersman_desktop.session import event_id
from steersman_desktop.settings import Settings
from steersman_runtime.cloud_events import event_headers
from steersman_runtime.jetstream import Publisher
from steersman_runtime.nats_client import encode_headers
from steersman_runtime.rpc import RpcClient, RpcServer
from steersman_runtime.service import Runtime, create_service
from steersman_runtime.tasks import TaskGroup, running

log = structlog.stdlib.get_logger()

_REQUESTS = 512


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

    @asynccontextmanager
    async def lifespan(runtime: Runtime) -> AsyncGenerator[Desktops]:
        if lacking := missing():
            log.info("desktops.unavailable", missing=lacking)
        async with runtime.nats() as client:
            publisher = Publisher(client, deadline_s=5.0)
            caller = RpcClient(client)
            telling = TaskGroup("control")

            def on_control(chat: ChatId, control: DesktopControl, before: UserId | None) -> None:
                _announce(publisher, chat, control)
                request = RecordControl(chat, control.holder or before, control)
                telling.start(_write_down(caller, request))

            # Instances may share a name; what they have they do not.
            host = f"{runtime.instance}-{secrets.token_hex(4)}"
            hosts = Hosts[ChatId](client, host, subjects.chat_desktop)
            desktops = Desktops(
                settings,
                hosts,
                ServerLeases(client, host),
                caller,
                address=settings.advertise or _address(runtime),
                missing=missing,
                on_control=on_control,
            )
            await asyncio.to_thread(desktops.sweep)
            rpc = RpcServer(client, "desktop", version=runtime.version, concurrency=_REQUESTS)
            routes = Routes(
                rpc,
                hosts,
                caller,
                desktops.whose,
                missing=lambda: () if settings.vnc_address else missing(),
                is_here=desktops.has,
            )
            Answers(desktops, settings).serve(routes, rpc)
            await rpc.start()
            try:
                async with running(desktops.run, name="desktops", on_failure=runtime.fail):
                    yield desktops
            finally:
                await desktops.close()
                await telling.finish(2.0)
                await telling.cancel()
                await rpc.drain(settings.shutdown_timeout_s)

    return create_service(runtime, lifespan, route_handlers=[view])


def _announce(publisher: Publisher, chat_id: ChatId, control: DesktopControl) -> None:
    """Tell everybody who watches the chat; if the log is away they see it at the next change."""
    event = DesktopControlChanged(chat_id=chat_id, control=control)
    known_as = event_id(chat_id, control)
    headers = encode_headers(
        {**event_headers(event.name, chat_id, known_as), "Nats-Msg-Id": known_as}
    )
    log.info(
        "control.changed",
        chat_id=chat_id,
        holder=control.holder,
        private=control.private,
        reason=control.reason,
    )
    published = publisher.publish(
        subjects.chat_events(chat_id), msgspec.json.encode(event), headers=headers
    )
    published.add_done_callback(_look)


async def _write_down(caller: RpcClient, request: RecordControl) -> None:
    """Into the book of who did what. Control does not wait for that."""
    try:
        await caller.call(RECORD_CONTROL, request)
    except SteersmanError as error:
        log.warning("control.not_written_down", chat_id=request.chat_id, error_code=error.code)


def _look(published: asyncio.Future[int]) -> None:
    if not published.cancelled() and (error := published.exception()) is not None:
        log.warning("control.not_announced", error=str(error))


def _address(runtime: Runtime) -> str:
    """Where gateways reach this process: where it listens, by a name that others can use."""
    host, port = runtime.address
    if host in {"", "0.0.0.0", "::"}:  # noqa: S104, RUF100  # compared, not bound
        host = socket.gethostname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
