"""All desktops of this instance."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import structlog
from prometheus_client import Gauge, Histogram

from steersman_contracts.errors import (
    InvalidRequest,
    NotFound,
    SteersmanError,
    TooManyRequests,
    Unavailable,
)
from steersman_contracts.ids import ChatId, UserId
from steersman_contracts.rpc import Nothing
from steersman_contracts.rpc import desktop as rpc
from steersman_contracts.rpc import desktop_files as files
from steersman_contracts.rpc import desktop_recordings as recorded
from steersman_contracts.rpc import desktop_servers as servers_rpc
from steersman_contracts.rpc.workspaces import FileEntry, Piece
from steersman_desktop import exchange
from steersman_desktop.archive import Archive
from steersman_desktop.deleted import find_deleted
from steersman_desktop.hosts import RENEW_S, Hosts
from steersman_desktop.machine import ForeignMachine, LocalMachine, Machine, Size
from steersman_desktop.places import Places
from steersman_desktop.programs import unavailable
from steersman_desktop.recordings import SWEEP_S, Recordings
from steersman_desktop.routing import Routes
from steersman_desktop.servers import read_rules, resolve
from steersman_desktop.session import OnControl, Session
from steersman_desktop.settings import Settings
from steersman_desktop.tickets import OneTime
from steersman_desktop.whose import Whose
from steersman_runtime.rpc import RpcClient, RpcServer
from steersman_runtime.tasks import TaskGroup

log = structlog.stdlib.get_logger()

MIN_SIZE: Final = (640, 480)
MAX_SIZE: Final = (4096, 2304)
_TICK_S: Final = 0.5
_KEY_S: Final = 10.0
SESSIONS: Final = Gauge("steersman_desktop_sessions", "Desktops of this instance.")
START: Final = Histogram("steersman_desktop_start_seconds", "From nothing to ready.")
ACTION: Final = Histogram(
    "steersman_desktop_action_seconds", "Actions with their screenshot.", ["action"]
)


class Admitted(NamedTuple):
    """Somebody who may watch a desktop."""

    chat_id: ChatId
    user: UserId
    mode: rpc.ViewMode


class Desktops:
    """Answers the methods of the service."""

    def __init__(
        self,
        settings: Settings,
        hosts: Hosts,
        client: RpcClient,
        *,
        address: str,
        missing: Callable[[], tuple[str, ...]],
        on_control: OnControl,
    ) -> None:
        self._settings = settings
        self._hosts = hosts
        self._client = client
        self._address = address
        self._missing = missing
        self._on_control = on_control
        self._whose = Whose(client)
        self._vnc_allowed = read_rules(settings.vnc_allowed)
        self._sessions: dict[ChatId, Session] = {}
        self._opening: dict[ChatId, asyncio.Task[Session]] = {}
        self._tickets = OneTime[Admitted](settings.ticket_s)
        self._keys = OneTime[Admitted](_KEY_S)
        self._tasks = TaskGroup("desktops")
        self._places = Places(settings.run_dir, settings.max_desktops, settings.uid_base)
        self._stopping = False
        self._recordings = Recordings(
            Archive(settings.recordings_dir),
            self._sessions,
            lambda chat_id, person: self._open(chat_id, None, person),
        )

    # -- the service -----------------------------------------------------------------------------

    @property
    def sessions(self) -> Mapping[ChatId, Session]:
        """The desktops of this instance."""
        return self._sessions

    def serve(self, server: RpcServer) -> None:
        """Answer every method, for all instances and for this one alone."""
        routes = Routes(
            server,
            self._hosts,
            self._client,
            self._whose,
            missing=lambda: () if self._settings.vnc_address else self._missing(),
            is_here=lambda chat_id: chat_id in self._sessions or chat_id in self._opening,
        )
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
        recordings = self._recordings
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

    def sweep(self) -> None:
        """End what services that were killed on this host have left behind."""
        if ended := self._places.sweep():
            log.warning("orphans.ended", processes=ended)

    async def run(self) -> None:
        """Look after the desktops until cancelled."""
        loop = asyncio.get_running_loop()
        renewed = loop.time()
        swept = float("-inf")
        forgetting: asyncio.Task[None] | None = None
        asked = float("-inf")
        while True:
            await asyncio.sleep(_TICK_S)
            now = loop.time()
            for session in list(self._sessions.values()):
                session.check_control(now)
                session.views.check_gestures(now)
                if session.is_idle(now):
                    self._tasks.start(self._end(session, "nobody used it"))
            if now - renewed >= RENEW_S:
                renewed = now
                await self._renew()
            if now - swept >= SWEEP_S:
                swept = now
                await self._recordings.sweep(self._settings.keep_recordings_s)
            # On the side: a store that is away must not hold up control and renewal.
            if now - asked >= self._settings.deleted_check_s and (
                forgetting is None or forgetting.done()
            ):
                asked = now
                forgetting = self._tasks.start(self._forget_deleted())

    async def _forget_deleted(self) -> None:
        """Keep nothing of chats that are no more."""
        try:
            chats = set(self._sessions)
            if self._settings.recordings_dir:  # else chats of other deployments may be there too
                chats |= await self._recordings.chats()
            for chat_id in await find_deleted(self._client, chats):
                if (session := self._sessions.get(chat_id)) is not None:
                    await self._end(session, "the chat was deleted")
                await self._recordings.forget(chat_id)
        except SteersmanError as error:  # asked again soon
            log.warning("deleted.not_asked", error_code=error.code)

    async def _renew(self) -> None:
        for session in list(self._sessions.values()):
            try:
                if not await self._hosts.renew(session.chat_id):
                    await self._end(session, "another host has the desktop now")
            except SteersmanError as error:
                # It goes on here: others find the entry again as soon as JetStream is back.
                log.warning("host.not_renewed", chat_id=session.chat_id, error_code=error.code)

    async def close(self) -> None:
        """End all desktops: nothing may outlive us."""
        self._stopping = True
        opening = list(self._opening.values())
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        await asyncio.gather(
            *(self._end(session, "the service stops") for session in self._sessions.values())
        )
        await self._tasks.cancel()

    # -- sessions --------------------------------------------------------------------------------

    async def _open(self, chat_id: ChatId, size: Size | None, person: UserId | None) -> Session:
        """The session of a chat; concurrent callers share one."""
        while (session := self._sessions.get(chat_id)) is not None:
            if session.state not in {"stopping", "gone"}:
                return session
            await session.ended.wait()
        opening = self._opening.get(chat_id)
        if opening is None:
            opening = self._tasks.start(self._claim(chat_id, size, person))
            self._opening[chat_id] = opening
            opening.add_done_callback(lambda _: self._opening.pop(chat_id, None))
        return await asyncio.shield(opening)

    async def _claim(self, chat_id: ChatId, size: Size | None, person: UserId | None) -> Session:
        if self._stopping:
            raise Unavailable("the desktop service stops", service="desktop")
        self._check_limits(person)
        entry = await self._hosts.find(chat_id)
        if not await self._hosts.claim(chat_id, entry):
            raise Unavailable("another host starts the desktop at the same moment")
        session = self._sessions[chat_id] = Session(
            chat_id,
            size or _size(self._settings.geometry),
            self._settings,
            open_machine=lambda size: self._open_machine(chat_id, size),
            on_control=self._on_control,
            owner=person,
        )
        SESSIONS.set(len(self._sessions))
        if self._settings.record:
            self._tasks.start(self._record(session))
        return session

    async def _record(self, session: Session) -> None:
        try:
            await session.record(self._recordings.archive)
        except SteersmanError as error:  # who uses the desktop hears of that
            log.warning("desktop.not_recorded", chat_id=session.chat_id, error_code=error.code)

    async def _record_agent(self, session: Session, chat_id: ChatId) -> None:
        """Record what an agent does that was spawned for a desktop; once, as people may stop it."""
        if chat_id in session.recorded_agents:
            return
        try:
            kind = (await self._whose.desktop(chat_id)).agent_kind
        except SteersmanError:  # asked again at its next action, which must not fail for that
            return
        session.recorded_agents.add(chat_id)
        if kind == "computer_use":
            self._tasks.start(self._record(session))

    def _check_limits(self, person: UserId | None) -> None:
        taken = len(self._sessions)
        most = 1 if self._settings.vnc_address else self._settings.max_desktops
        if taken >= most:
            raise TooManyRequests(f"this host has its {most} desktops; stop one first", limit=most)
        if person is None:
            return
        own = sum(session.owner == person for session in self._sessions.values())
        if own >= self._settings.max_desktops_per_user:
            raise TooManyRequests(
                f"you have {own} desktops, which is the limit; stop one first",
                limit=self._settings.max_desktops_per_user,
            )

    async def _open_machine(self, chat_id: ChatId, size: Size) -> Machine:
        settings = self._settings
        if settings.vnc_address:
            return await ForeignMachine.open(settings.vnc_address, settings.vnc_password.reveal())
        server = await self._whose.server(chat_id)
        if server.address:  # asked anew at each start: rules and names change
            address = await resolve(server.address, self._vnc_allowed)
            return await ForeignMachine.open(address, server.password)
        if missing := self._missing():
            raise unavailable(missing)
        with START.time():
            place = await asyncio.to_thread(self._places.take)
            return await LocalMachine.open(
                place, size, sandbox=settings.browser_sandbox, timeout_s=settings.start_timeout_s
            )

    async def _end(self, session: Session, reason: str) -> None:
        if session.state in {"stopping", "gone"}:
            await session.ended.wait()
            return
        try:
            await session.stop(reason)
            await self._hosts.leave(session.chat_id)
        except SteersmanError as error:
            log.warning("host.not_left", chat_id=session.chat_id, error_code=error.code)
        finally:
            del self._sessions[session.chat_id]
            self._whose.forget(session.chat_id)
            SESSIONS.set(len(self._sessions))
            session.ended.set()

    def _known(self, chat_id: ChatId) -> Session:
        session = self._sessions.get(chat_id)
        if session is None:
            raise NotFound("the chat has no desktop at the moment")
        return session

    # -- methods ---------------------------------------------------------------------------------

    async def _get(self, request: rpc.GetDesktop) -> rpc.Desktop:
        session = self._sessions.get(request.chat_id)
        return rpc.Desktop(request.chat_id, "absent") if session is None else session.describe()

    async def _start(self, request: rpc.StartDesktop) -> rpc.Desktop:
        size = _wanted_size(request, _size(self._settings.geometry))
        session = await self._open(request.chat_id, size, request.actor.user_id)
        await session.ready()
        return session.describe()

    async def _stop(self, request: rpc.StopDesktop) -> rpc.Desktop:
        session = self._sessions.get(request.chat_id)
        if session is None:
            return rpc.Desktop(request.chat_id, "absent")
        await self._end(session, "somebody stopped it")
        return session.describe()

    async def _screenshot(self, request: rpc.GetScreenshot) -> rpc.Picture:
        return await self._known(request.chat_id).picture()

    async def _perform(self, request: rpc.PerformAction) -> rpc.ActionReply:
        person = None if request.actor is None else request.actor.user_id
        session = await self._open(request.chat_id, None, person)
        if person is None and self._settings.record_agents:
            await self._record_agent(session, request.agent or request.chat_id)
        with ACTION.labels(str(request.action.__struct_config__.tag)).time():
            return await session.perform(request)

    async def _cancel(self, request: rpc.CancelAction) -> Nothing:
        session = self._sessions.get(request.chat_id)
        if session is not None:
            session.cancel(request.agent, request.key)
        return Nothing()

    async def _take(self, request: rpc.TakeControl) -> rpc.Desktop:
        session = self._known(request.chat_id)
        session.take_control(request.actor.user_id, private=request.private)
        return session.describe()

    async def _return(self, request: rpc.ReturnControl) -> rpc.Desktop:
        session = self._known(request.chat_id)
        session.return_control(request.actor.user_id)
        return session.describe()

    async def _clipboard(self, request: rpc.GetClipboard) -> rpc.Clipboard:
        return rpc.Clipboard(await self._known(request.chat_id).clipboard())

    async def _copy(self, request: rpc.PutClipboard) -> Nothing:
        await self._known(request.chat_id).copy(request.actor.user_id, request.text)
        return Nothing()

    async def _resize(self, request: rpc.ResizeDesktop) -> rpc.Desktop:
        size = _checked((request.width, request.height))
        session = self._known(request.chat_id)
        await session.resize(size)
        return session.describe()

    async def _list_files(self, request: files.ListFiles) -> files.FileList:
        return await asyncio.to_thread(exchange.entries, self._known(request.chat_id).folder())

    async def _read_file(self, request: files.ReadFile) -> Piece:
        folder = self._known(request.chat_id).folder()
        return await asyncio.to_thread(
            exchange.read, folder, request.path, request.offset, request.tag
        )

    async def _write_file(self, request: files.WriteFile) -> FileEntry:
        person = None if request.actor is None else request.actor.user_id
        session = await self._open(request.chat_id, None, person)
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
        user = request.actor.user_id
        session = await self._open(request.chat_id, None, user)
        await session.ready()
        ticket, expires = self._tickets.make(Admitted(request.chat_id, user, request.mode))
        return rpc.DesktopTicket(ticket, request.mode, expires)

    async def _redeem(self, request: rpc.RedeemTicket) -> rpc.ViewGrant:
        admitted = self._tickets.take(request.digest)
        if admitted is None or admitted.chat_id != request.chat_id:
            raise NotFound("the ticket is not valid (any more)")
        key, _ = self._keys.make(admitted)
        return rpc.ViewGrant(admitted.user, admitted.mode, self._address, key)

    def admit(self, key_digest: str) -> tuple[Session, Admitted] | None:
        """Who comes with this key, and to which desktop; None for everybody else."""
        admitted = self._keys.take(key_digest)
        session = None if admitted is None else self._sessions.get(admitted.chat_id)
        return None if admitted is None or session is None else (session, admitted)


def _size(text: str) -> Size:
    width, _, height = text.partition("x")
    return int(width), int(height)


def _wanted_size(request: rpc.StartDesktop, default: Size) -> Size:
    return _checked((request.width or default[0], request.height or default[1]))


def _checked(size: Size) -> Size:
    for field, value, low, high in zip(("width", "height"), size, MIN_SIZE, MAX_SIZE, strict=True):
        if not low <= value <= high or value % 2:
            raise InvalidRequest(
                f"{field} is {value}; it must be an even number from {low} to {high}", field=field
            )
    return size
