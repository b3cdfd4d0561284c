"""What the service answers: each method, on the desktop that the request is about."""

from __future__ import annotations

import asyncio
from typing import Final

from prometheus_client import Histogram

from steersman_contracts.errors import InvalidRequest
from steersman_contracts.rpc import Nothing
from steersman_contracts.rpc import desktop as rpc
from steersman_contracts.rpc import desktop_files as files
from steersman_contracts.rpc import desktop_recordings as recorded
from steersman_contracts.rpc import desktop_servers as servers_rpc
from steersman_contracts.rpc.workspaces import FileEntry, Piece
from steersman_desktop import exchange
from steersman_desktop.desktops import Desktops, size_of
from steersman_desktop.machine import Size
from steersman_desktop.routing import Routes
from steersman_desktop.servers import read_rules, resolve
from steersman_desktop.settings import Settings
from steersman_runtime.rpc import RpcServer

MIN_SIZE: Final = (640, 480)
MAX_SIZE: Final = (4096, 2304)
ACTION: Final = Histogram(
    "steersman_desktop_action_seconds", "Actions with their screenshot.", ["action"]
)


class Answers:
    """Answers the methods of the service."""

    def __init__(self, desktops: Desktops, settings: Settings) -> None:
        self._desktops = desktops
        self._settings = settings
        self._vnc_allowed = read_rules(settings.vnc_allowed)

    def serve(self, routes: Routes, server: RpcServer) -> None:
        """Answer every method, for all instances and for this one alone."""
        routes.add(rpc.GET_DESKTOP, self._get)
        routes.add(rpc.START_DESKTOP, self._start)
        routes.add(rpc.STOP_DESKTOP, self._stop)
        routes.add(rpc.GET_SCREENSHOT, self._screenshot)
        routes.add(rpc.PERFORM_ACTION, self._perform)
        routes.add(rpc.CANCEL_ACTION, self._cancel)
        routes.add(rpc.TAKE_CONTROL, self._take)
        routes.add(rpc.RETURN_CONTROL, self._return)
        routes.add(rpc.MAKE_TICKET, self._ticket)
        routes.add(rpc.REDEEM_TICKET, self._redeem)
        routes.add(rpc.GET_CLIPBOARD, self._clipboard)
        routes.add(rpc.PUT_CLIPBOARD, self._copy)
        routes.add(rpc.RESIZE_DESKTOP, self._resize)
        routes.add(files.LIST_FILES, self._list_files)
        routes.add(files.READ_FILE, self._read_file)
        routes.add(files.WRITE_FILE, self._write_file)
        server.add(servers_rpc.CHECK_SERVER, self._check_server)
        recordings = self._desktops.recordings
        routes.add(recorded.START_RECORDING, recordings.start)
        routes.add(recorded.STOP_RECORDING, recordings.stop)
        routes.add(recorded.LIST_RECORDINGS, recordings.list)
        routes.add(recorded.READ_TIMELINE, recordings.timeline)
        routes.add(recorded.GET_FRAME, recordings.frame)
        routes.add(recorded.DELETE_RECORDING, recordings.delete)
        routes.add(recorded.PREPARE_DOWNLOAD, recordings.prepare)
        routes.add(recorded.READ_DOWNLOAD, recordings.download)

    async def _check_server(self, request: servers_rpc.CheckServer) -> Nothing:
        await resolve(request.address, self._vnc_allowed)
        return Nothing()

    async def _get(self, request: rpc.GetDesktop) -> rpc.Desktop:
        session = self._desktops.sessions.get(request.chat_id)
        return rpc.Desktop(request.chat_id, "absent") if session is None else session.describe()

    async def _start(self, request: rpc.StartDesktop) -> rpc.Desktop:
        size = _wanted_size(request, size_of(self._settings.geometry))
        session = await self._desktops.open(request.chat_id, size)
        await session.ready()
        return session.describe()

    async def _stop(self, request: rpc.StopDesktop) -> rpc.Desktop:
        session = self._desktops.sessions.get(request.chat_id)
        if session is None:
            return rpc.Desktop(request.chat_id, "absent")
        await self._desktops.end(session, "somebody stopped it")
        return session.describe()

    async def _screenshot(self, request: rpc.GetScreenshot) -> rpc.Picture:
        return await self._desktops.known(request.chat_id).picture()

    async def _perform(self, request: rpc.PerformAction) -> rpc.ActionReply:
        session = await self._desktops.open(request.chat_id)
        if request.actor is None and self._settings.record_agents:
            await self._desktops.films.before(session, request.agent or request.chat_id)
        with ACTION.labels(str(request.action.__struct_config__.tag)).time():
            return await session.perform(request)

    async def _cancel(self, request: rpc.CancelAction) -> Nothing:
        session = self._desktops.sessions.get(request.chat_id)
        if session is not None:
            session.cancel(request.agent, request.key)
        return Nothing()

    async def _take(self, request: rpc.TakeControl) -> rpc.Desktop:
        session = self._desktops.known(request.chat_id)
        session.take_control(request.actor.user_id, private=request.private)
        return session.describe()

    async def _return(self, request: rpc.ReturnControl) -> rpc.Desktop:
        session = self._desktops.known(request.chat_id)
        session.return_control(request.actor.user_id)
        return session.describe()

    async def _clipboard(self, request: rpc.GetClipboard) -> rpc.Clipboard:
        return rpc.Clipboard(await self._desktops.known(request.chat_id).clipboard())

    async def _copy(self, request: rpc.PutClipboard) -> Nothing:
        await self._desktops.known(request.chat_id).copy(request.actor.user_id, request.text)
        return Nothing()

    async def _resize(self, request: rpc.ResizeDesktop) -> rpc.Desktop:
        size = _checked((request.width, request.height))
        session = self._desktops.known(request.chat_id)
        await session.resize(request.actor.user_id, size)
        return session.describe()

    async def _list_files(self, request: files.ListFiles) -> files.FileList:
        return await asyncio.to_thread(
            exchange.entries, self._desktops.known(request.chat_id).folder()
        )

    async def _read_file(self, request: files.ReadFile) -> Piece:
        folder = self._desktops.known(request.chat_id).folder()
        return await asyncio.to_thread(
            exchange.read, folder, request.path, request.offset, request.tag
        )

    async def _write_file(self, request: files.WriteFile) -> FileEntry:
        session = await self._desktops.open(request.chat_id)
        await session.ready()
        return await asyncio.to_thread(
            exchange.write,
            session.folder(),
            request.path,
            request.upload_id,
            request.offset,
            request.data,
            request.size,
        )

    async def _ticket(self, request: rpc.MakeTicket) -> rpc.DesktopTicket:
        session = await self._desktops.open(request.chat_id)
        await session.ready()
        return self._desktops.admission.ticket(request)

    async def _redeem(self, request: rpc.RedeemTicket) -> rpc.ViewGrant:
        return self._desktops.admission.redeem(request)


def _wanted_size(request: rpc.StartDesktop, default: Size) -> Size:
    return _checked((request.width or default[0], request.height or default[1]))


def _checked(size: Size) -> Size:
    for field, value, low, high in zip(("width", "height"), size, MIN_SIZE, MAX_SIZE, strict=True):
        if not low <= value <= high or value % 2:
            raise InvalidRequest(
                f"{field} is {value}; it must be an even number from {low} to {high}", field=field
            )
    return size
