"""The live view of a desktop: a WebSocket of the browser, carried to the host of the desktop.

Bytes pass unchanged both ways. Each is sent on before the next is read, so a slow viewer slows its
own connection to the VNC server and nothing gathers here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs

import msgspec
import structlog
import websockets
from litestar import WebSocket, websocket
from litestar.exceptions import WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect

from steersman_contracts.errors import (
    Forbidden,
    NotFound,
    SteersmanError,
    Unauthenticated,
    Unavailable,
)
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc.chats import GET, GetChat
from steersman_contracts.rpc.desktop import REDEEM_TICKET, RedeemTicket, ViewGrant
from steersman_gateway.auth import digest, same_origin
from steersman_gateway.backend import Backend
from steersman_gateway.ids import ChatIdText, known_chat_id
from steersman_gateway.problems import MEDIA_TYPE, to_problem
from steersman_gateway.settings import Settings
from steersman_runtime.service import PING_S, PONG_S

log = structlog.stdlib.get_logger()

PROTOCOL: Final = "binary"
TICKET_PROTOCOL: Final = "ticket."
"""A subprotocol may carry the ticket, for clients that keep secrets out of addresses."""
RIGHT_LOST: Final = 4403
_TRY_AGAIN: Final = 1013
TAKES_NOTHING: Final = "the viewer takes nothing"
_GOODBYE_S: Final = 2.0
_QUEUE: Final = 4
"""Messages of at most 64 KiB that are read ahead of the browser."""
_OURS: Final = range(4000, 5000)


class Ended(NamedTuple):
    """Why a view ended, as a WebSocket says it."""

    code: int
    reason: str = ""


@websocket("/api/v1/chats/{chat_id:str}/desktop", opt={"public": True})
async def live_view(socket: WebSocket[Any, Any, Any], chat_id: ChatIdText) -> None:
    """Carry the RFB bytes of one viewer, who comes with a ticket that is good once."""
    backend: Backend = socket.app.state.service.backend
    settings: Settings = socket.app.state.runtime.settings
    try:
        chat = known_chat_id(chat_id)
        _check_origin(socket, settings)
        grant = await backend.call(REDEEM_TICKET, RedeemTicket(chat, digest(_ticket(socket))))
        # The rights of now, not those of when the ticket was made.
        await backend.call(GET, GetChat(Actor(grant.user_id), chat))
        upstream = await _dial(grant)
    except SteersmanError as error:
        await _refuse(socket, error)
        return
    try:
        await socket.accept(subprotocols=PROTOCOL)
        ended = await _carry(socket, upstream, backend, chat, grant, settings)
    finally:
        await upstream.close()
    log.info("view.closed", chat_id=chat, code=ended.code)
    if socket.connection_state != "disconnect":
        # Who takes nothing does not take this either; the kernel then ends the connection.
        with suppress(WebSocketDisconnect, TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                await socket.close(ended.code, ended.reason)


def _check_origin(socket: WebSocket[Any, Any, Any], settings: Settings) -> None:
    """Refuse pages of others: browsers let every page open a WebSocket to everywhere."""
    if socket.headers.get("origin") in settings.view_origins.split():
        return
    if same_origin(socket) is False:
        raise Forbidden("the live view must be opened by a page of this server")


def _ticket(socket: WebSocket[Any, Any, Any]) -> str:
    scope: Any = socket.scope
    found = parse_qs(scope["query_string"].decode("latin-1")).get("ticket", [])
    found += [
        offered.removeprefix(TICKET_PROTOCOL)
        for offered in scope["subprotocols"]
        if offered.startswith(TICKET_PROTOCOL)
    ]
    if len(found) != 1:
        raise Unauthenticated("a ticket is required, as `?ticket=`; it is made by POST")
    return found[0]


async def _dial(grant: ViewGrant) -> ClientConnection:
    try:
        return await connect(
            f"ws://{grant.address}/view",
            subprotocols=[websockets.Subprotocol(PROTOCOL)],
            additional_headers={"Authorization": f"Bearer {grant.key}"},
            compression=None,
            max_queue=_QUEUE,
            max_size=1 << 20,
            # While its viewer is slow a gateway reads slowly, pongs as well.
            ping_interval=PING_S,
            ping_timeout=PONG_S,
            proxy=None,
            open_timeout=10,
            close_timeout=2,
        )
    except (OSError, TimeoutError, websockets.WebSocketException) as error:
        raise Unavailable("the host of the desktop does not answer", service="desktop") from error


async def _carry(
    socket: WebSocket[Any, Any, Any],
    upstream: ClientConnection,
    backend: Backend,
    chat: ChatId,
    grant: ViewGrant,
    settings: Settings,
) -> Ended:
    """Both directions until one of them ends, or the right to watch does."""
    ways: tuple[Awaitable[Ended], ...] = (
        _down(upstream, socket, settings.write_timeout_s),
        _up(socket, upstream),
        _rights(backend, chat, grant, settings.recheck_interval_s),
        _service_stops(socket),
    )
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _down(
    upstream: ClientConnection, socket: WebSocket[Any, Any, Any], write_timeout_s: float
) -> Ended:
    try:
        while True:
            data = await upstream.recv(decode=False)
            # At most 64 KiB: a line on which that takes longer shows no desktop.
            async with asyncio.timeout(write_timeout_s):
                await socket.send_bytes(data)
    except TimeoutError:
        return Ended(_TRY_AGAIN, TAKES_NOTHING)
    except websockets.ConnectionClosed:
        code = upstream.close_code or _TRY_AGAIN
        # What other hosts close with (1006, 1012) must not, or says nothing to a browser.
        known = code in _OURS or code in {1000, 1002, 1003}
        return Ended(code, upstream.close_reason or "") if known else Ended(_TRY_AGAIN)
    except (WebSocketDisconnect, OSError):
        return Ended(1000)


async def _up(socket: WebSocket[Any, Any, Any], upstream: ClientConnection) -> Ended:
    try:
        while True:
            message: Any = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return Ended(1000)
            if message.get("bytes") is None:
                return Ended(1003, "only binary messages are carried")
            await upstream.send(message["bytes"])
    except websockets.ConnectionClosed:
        # The other direction has what was still on its way, and why.
        await asyncio.Event().wait()
    except WebSocketDisconnect:
        pass
    return Ended(1000)


async def _rights(backend: Backend, chat: ChatId, grant: ViewGrant, interval_s: float) -> Ended:
    while True:
        await asyncio.sleep(interval_s)
        try:
            await backend.call(GET, GetChat(Actor(grant.user_id), chat))
        except (NotFound, Forbidden, Unauthenticated):
            return Ended(RIGHT_LOST, "the chat is not yours to see any more")
        except SteersmanError:
            continue  # the store is away: what was allowed stays so for the moment


async def _service_stops(socket: WebSocket[Any, Any, Any]) -> Ended:
    await socket.app.state.runtime.stopping.wait()
    return Ended(_TRY_AGAIN, "the gateway stops")


async def _refuse(socket: WebSocket[Any, Any, Any], error: SteersmanError) -> None:
    """Answer in place of the upgrade, with a status and a problem as for every other request."""
    problem = to_problem(error, "")
    body = msgspec.json.encode(problem)
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"cache-control", b"no-store")]
    send: Any = socket.send  # Litestar's types know nothing of this extension
    await send(
        {"type": "websocket.http.response.start", "status": problem.status, "headers": headers}
    )
    await send({"type": "websocket.http.response.body", "body": body})
