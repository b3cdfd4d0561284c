"""The live view on the side of the desktop: a WebSocket for gateways, who bring a key."""

from __future__ import annotations

from typing import Any, Final

import structlog
from litestar import WebSocket, websocket
from litestar.exceptions import WebSocketDisconnect

from steersman_contracts.errors import TooManyRequests
from steersman_desktop.desktops import Desktops
from steersman_desktop.tickets import digest
from steersman_desktop.views import Closed

log = structlog.stdlib.get_logger()

PROTOCOL: Final = "binary"


class _Socket:
    """The gateway's end."""

    def __init__(self, connection: WebSocket[Any, Any, Any]) -> None:
        self._connection = connection

    async def send(self, data: bytes) -> None:
        try:
            await self._connection.send_bytes(data)
        except WebSocketDisconnect as error:
            raise ConnectionResetError("the viewer is gone") from error

    async def receive(self) -> bytes | None:
        try:
            return await self._connection.receive_data("binary")
        except WebSocketDisconnect:
            return None


@websocket("/view", opt={"public": True})
async def view(socket: WebSocket[Any, Any, Any]) -> None:
    """Carry the bytes of one viewer. Refused before the upgrade without a key that is good."""
    desktops: Desktops = socket.app.state.service
    scheme, _, key = socket.headers.get("authorization", "").partition(" ")
    found = desktops.admit(digest(key)) if scheme.lower() == "bearer" else None
    machine = None if found is None else found[0].machine
    if found is None or machine is None:
        await socket.close(4403)
        return
    session, admitted = found
    await socket.accept(subprotocols=PROTOCOL)
    structlog.contextvars.bind_contextvars(chat_id=admitted.chat_id)
    log.info("view.opened", mode=admitted.mode)
    try:
        closed = await session.views.run(machine, _Socket(socket), admitted.user, admitted.mode)
    except TooManyRequests as error:
        closed = Closed(4409, str(error))
    log.info("view.closed", code=closed.code, reason=str(closed))
    if socket.connection_state != "disconnect":
        await socket.close(closed.code, str(closed))
