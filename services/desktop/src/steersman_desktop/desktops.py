"""All desktops of this instance."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

import structlog
from prometheus_client import Gauge, Histogram

from steersman_contracts.errors import NotFound, SteersmanError, TooManyRequests, Unavailable
from steersman_contracts.ids import ChatId
from steersman_desktop.admission import Admission, Admitted
from steersman_desktop.agent_films import CHECK_S, AgentFilms
from steersman_desktop.archive import Archive
from steersman_desktop.claims import RENEW_CLAIMS_S, Claims
from steersman_desktop.deleted import find_deleted
from steersman_desktop.foreign import ServerLeases
from steersman_desktop.hosts import RENEW_S, Hosts
from steersman_desktop.machine import ForeignMachine, LocalMachine, Machine, Size
from steersman_desktop.places import Places
from steersman_desktop.programs import unavailable
from steersman_desktop.recordings import SWEEP_S, Recordings
from steersman_desktop.servers import read_rules, resolve
from steersman_desktop.session import OnControl, Session
from steersman_desktop.settings import Settings
from steersman_desktop.whose import Whose
from steersman_runtime.rpc import RpcClient
from steersman_runtime.tasks import TaskGroup

log = structlog.stdlib.get_logger()

_TICK_S: Final = 0.5
SESSIONS: Final = Gauge("steersman_desktop_sessions", "Desktops of this instance.")
START: Final = Histogram("steersman_desktop_start_seconds", "From nothing to ready.")


class Desktops:
    """Starts, keeps and ends them."""

    def __init__(
        self,
        settings: Settings,
        hosts: Hosts[ChatId],
        servers: ServerLeases,
        client: RpcClient,
        *,
        address: str,
        missing: Callable[[], tuple[str, ...]],
        on_control: OnControl,
    ) -> None:
        """Begin, with none.

        Args:
            settings: Of the service.
            hosts: Who has which chat.
            servers: Who has which VNC server of somebody else.
            client: Asks the store.
            address: `host:port` of this instance for gateways.
            missing: The programs that desktops of our own need and this machine lacks.
            on_control: Told each change of control.
        """
        self._settings = settings
        self._hosts = hosts
        self._servers = servers
        self._client = client
        self._missing = missing
        self._on_control = on_control
        self._vnc_allowed = read_rules(settings.vnc_allowed)
        self._sessions: dict[ChatId, Session] = {}
        self._opening: dict[ChatId, asyncio.Task[Session]] = {}
        self._tasks = TaskGroup("desktops")
        self._places = Places(settings.run_dir, settings.max_desktops, settings.uid_base)
        self._stopping = False
        self.admission = Admission(settings.ticket_s, address)
        self.whose = Whose(client)
        self._claims = Claims(client, hosts.host, settings.max_desktops_per_user)
        self.recordings = Recordings(
            Archive(settings.recordings_dir),
            self._sessions,
            self.open,
        )
        self.films = AgentFilms(client, self.whose, self.recordings.archive, self._tasks)

    # -- the service -----------------------------------------------------------------------------

    @property
    def sessions(self) -> Mapping[ChatId, Session]:
        """The desktops of this instance."""
        return self._sessions

    def has(self, chat_id: ChatId) -> bool:
        """Whether the desktop of a chat is here, or is being made."""
        return chat_id in self._sessions or chat_id in self._opening

    def sweep(self) -> None:
        """End what services that were killed on this host have left behind."""
        if ended := self._places.sweep():
            log.warning("orphans.ended", processes=ended)

    async def run(self) -> None:
        """Look after the desktops until cancelled."""
        loop = asyncio.get_running_loop()
        renewed = loop.time()
        swept = float("-inf")
        # On the side: a store that is away must not hold up control and renewal.
        asking = _Asking(self._tasks, self._settings.deleted_check_s, self._forget_deleted)
        filming = _Asking(self._tasks, CHECK_S, self._end_films)
        claiming = _Asking(self._tasks, RENEW_CLAIMS_S, lambda: self._claims.renew(self._sessions))
        while True:
            await asyncio.sleep(_TICK_S)
            now = loop.time()
            for session in list(self._sessions.values()):
                session.check_control(now)
                session.views.check_gestures(now)
                if session.is_idle(now):
                    self._tasks.start(self.end(session, "nobody used it"))
            if now - renewed >= RENEW_S:
                renewed = now
                await self._renew()
            if now - swept >= SWEEP_S:
                swept = now
                await self.recordings.sweep(self._settings.keep_recordings_s)
            asking.check(now)
            filming.check(now)
            if self._sessions:
                claiming.check(now)

    async def _end_films(self) -> None:
        try:
            await self.films.check(self._sessions)
        except SteersmanError as error:  # asked again soon
            log.warning("agents.not_asked", error_code=error.code)

    async def _forget_deleted(self) -> None:
        """Keep nothing of chats that are no more."""
        try:
            chats = set(self._sessions)
            if self._settings.recordings_dir:  # else chats of other deployments may be there too
                chats |= await self.recordings.chats()
            for chat_id in await find_deleted(self._client, chats):
                if (session := self._sessions.get(chat_id)) is not None:
                    await self.end(session, "the chat was deleted")
                await self.recordings.forget(chat_id)
        except SteersmanError as error:  # asked again soon
            log.warning("deleted.not_asked", error_code=error.code)

    async def _renew(self) -> None:
        for session in list(self._sessions.values()):
            try:
                if not await self._hosts.renew(session.chat_id):
                    await self.end(session, "another host has the desktop now")
                elif not await self._servers.renew(session.chat_id):
                    await self.end(session, "another chat has its VNC server now")
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
            *(self.end(session, "the service stops") for session in self._sessions.values())
        )
        await self._tasks.cancel()

    # -- sessions --------------------------------------------------------------------------------

    async def open(self, chat_id: ChatId, size: Size | None = None) -> Session:
        """The session of a chat; concurrent callers share one."""
        while (session := self._sessions.get(chat_id)) is not None:
            if session.state not in {"stopping", "gone"}:
                return session
            await session.ended.wait()
        opening = self._opening.get(chat_id)
        if opening is None:
            opening = self._tasks.start(self._claim(chat_id, size))
            self._opening[chat_id] = opening
            opening.add_done_callback(lambda _: self._opening.pop(chat_id, None))
        return await asyncio.shield(opening)

    async def _claim(self, chat_id: ChatId, size: Size | None) -> Session:
        if self._stopping:
            raise Unavailable("the desktop service stops", service="desktop")
        self._check_room()
        entry = await self._hosts.find(chat_id)
        if not await self._hosts.claim(chat_id, entry):
            raise Unavailable("another host starts the desktop at the same moment")
        try:
            await self._claims.take(chat_id)
            self._check_room()  # again: others may have come meanwhile
        except BaseException:
            await self._claims.leave(chat_id)  # also where nobody knows whether it was taken
            await self._hosts.leave(chat_id)
            raise
        session = self._sessions[chat_id] = Session(
            chat_id,
            size or size_of(self._settings.geometry),
            self._settings,
            open_machine=lambda size: self._open_machine(chat_id, size),
            on_control=self._on_control,
        )
        SESSIONS.set(len(self._sessions))
        if self._settings.record:
            self._tasks.start(self._record(session))
        return session

    async def _record(self, session: Session) -> None:
        try:
            await session.record(self.recordings.archive)
        except SteersmanError as error:  # who uses the desktop hears of that
            log.warning("desktop.not_recorded", chat_id=session.chat_id, error_code=error.code)

    def _check_room(self) -> None:
        taken = len(self._sessions)
        most = 1 if self._settings.vnc_address else self._settings.max_desktops
        if taken >= most:
            raise TooManyRequests(f"this host has its {most} desktops; stop one first", limit=most)

    async def _open_machine(self, chat_id: ChatId, size: Size) -> Machine:
        settings = self._settings
        if settings.vnc_address:
            password = settings.vnc_password.reveal()
            return await self._log_in(chat_id, settings.vnc_address, password)
        server = await self.whose.server(chat_id)
        if server.address:  # asked anew at each start: rules and names change
            address = await resolve(server.address, self._vnc_allowed)
            return await self._log_in(chat_id, address, server.password)
        await self._servers.leave(chat_id)  # it may have had one before
        if missing := self._missing():
            raise unavailable(missing)
        with START.time():
            place = await asyncio.to_thread(self._places.take)
            return await LocalMachine.open(
                place, size, sandbox=settings.browser_sandbox, timeout_s=settings.start_timeout_s
            )

    async def _log_in(self, chat_id: ChatId, address: str, password: str) -> Machine:
        await self._servers.take(chat_id, address)
        try:
            return await ForeignMachine.open(address, password, self._settings.start_timeout_s)
        except BaseException:
            await self._servers.leave(chat_id)
            raise

    async def end(self, session: Session, reason: str) -> None:
        """End a desktop; when this returns the chat may have another one."""
        if session.state in {"stopping", "gone"}:
            await session.ended.wait()
            return
        try:
            await session.stop(reason)
            await self._claims.leave(session.chat_id)
            await self._servers.leave(session.chat_id)
            await self._hosts.leave(session.chat_id)
        except SteersmanError as error:
            log.warning("host.not_left", chat_id=session.chat_id, error_code=error.code)
        finally:
            del self._sessions[session.chat_id]
            self.whose.forget(session.chat_id)
            self.films.forget(session)
            SESSIONS.set(len(self._sessions))
            session.ended.set()

    def known(self, chat_id: ChatId) -> Session:
        """The desktop that a chat has here.

        Raises:
            NotFound: It has none.
        """
        session = self._sessions.get(chat_id)
        if session is None:
            raise NotFound("the chat has no desktop at the moment")
        return session

    def admit(self, key_digest: str) -> tuple[Session, Admitted] | None:
        """Who comes with this key, and to which desktop; None for everybody else."""
        admitted = self.admission.enter(key_digest)
        session = None if admitted is None else self._sessions.get(admitted.chat_id)
        return None if admitted is None or session is None else (session, admitted)


class _Asking:
    """Does something now and then, and not again before it is done."""

    def __init__(
        self, tasks: TaskGroup, every_s: float, work: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        self._tasks = tasks
        self._every_s = every_s
        self._work = work
        self._at = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def check(self, now: float) -> None:
        if now - self._at >= self._every_s and (self._task is None or self._task.done()):
            self._at = now
            self._task = self._tasks.start(self._work())


def size_of(text: str) -> Size:
    """A size as settings write it: `1280x800`."""
    width, _, height = text.partition("x")
    return int(width), int(height)
