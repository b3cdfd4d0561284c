"""The servers that were added over the API: connected when a chat needs them, and not for ever."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import structlog

from steersman_contracts.addresses import PrivateHosts
from steersman_contracts.errors import Conflict, SteersmanError
from steersman_contracts.hooks import DynamicTools
from steersman_contracts.ids import ChatId, UserId
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc import mcp as rpc
from steersman_contracts.rpc.caller import Caller
from steersman_contracts.rpc.mcp_clients import (
    FIND_CLIENT,
    FORGET_CLIENT,
    KEEP_CLIENT,
    Client,
    FindClient,
    ForgetClient,
    KeepClient,
)
from steersman_plugin_mcp.config import of_store

if TYPE_CHECKING:
    # With it comes the SDK, about a second and 30 MB: only those pay who have a server.
    from steersman_plugin_mcp.connection import Connection

log = structlog.stdlib.get_logger()

IDLE_S: Final = 900.0
"""Seconds after which a connection that no chat has asked for is closed."""
_SWEEP_S: Final = 30.0
_MAX_LINES: Final = 1_000
_MAX_OFFERS: Final = 2_000
_NOTHING: Final = DynamicTools()
_OF_CHAT_S: Final = 3.0
_LOGIN_S: Final = 30.0
LOGIN_VALID_S: Final = 600.0
"""Seconds that a person has to sign in."""

_Key: TypeAlias = tuple[str, UserId | None]


def quiet() -> None:
    """Silence the SDK, which logs what servers send, and the client, which logs URLs: secrets."""
    for name in ("mcp", "httpx2"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


class Line:
    """One server, as one version of it says, for one account."""

    def __init__(self, server: rpc.ChatServer, on_change: Callable[[Line], None]) -> None:
        self.server = server
        self.connection: Connection | None = None
        self.used_at = 0.0
        self.changes = 0
        self.failed = False
        """It could not be opened: the next chat tries again."""
        self.opening: asyncio.Task[None] | None = None
        self.told = False
        """Whether the store knows; `reported` is what."""
        self.reported: str | None = None
        self.reporting: asyncio.Task[None] | None = None
        self._on_change = on_change

    @property
    def busy(self) -> bool:
        """A call runs on it."""
        return self.connection is not None and self.connection.calls > 0

    @property
    def problem(self) -> str | None:
        """What is wrong now, in a line for people."""
        if self.connection is None:
            return None
        return "; ".join(self.connection.warnings)[:500] or None

    @property
    def untold(self) -> bool:
        """The store does not know how it is now."""
        return not self.told or self.reported != self.problem

    def changed(self) -> None:
        """Its tools or warnings are others."""
        self.changes += 1
        self._on_change(self)


class _Registrations:
    """Registrations of one server, as the store has them."""

    def __init__(self, caller: Caller, server_id: str) -> None:
        self._rpc = caller
        self._server_id = server_id

    async def find(self, issuer: str, redirect_uri: str) -> Client | None:
        wanted = FindClient(self._server_id, issuer, redirect_uri)
        return (await self._rpc.call(FIND_CLIENT, wanted)).client

    async def keep(
        self, issuer: str, redirect_uri: str, client: Client, expires_in_s: float | None
    ) -> None:
        kept = KeepClient(self._server_id, issuer, redirect_uri, client, expires_in_s)
        await self._rpc.call(KEEP_CLIENT, kept)


class Pool:
    """All lines of this process. Who may use which is asked of the store, every time."""

    def __init__(
        self,
        caller: Caller,
        environment: Mapping[str, str],
        *,
        private: PrivateHosts,
        discovery_s: float,
        on_change: Callable[[], None],
    ) -> None:
        """Connect to nothing yet.

        Args:
            caller: Reaches the store.
            environment: Of the service.
            private: What servers of users may be, beside public addresses.
            discovery_s: Seconds that a chat waits for a server.
            on_change: Called when `warnings` may be others.
        """
        self._rpc = caller
        self._environment = environment
        self._private = private
        self._discovery_s = discovery_s
        self._lines: OrderedDict[_Key, Line] = OrderedDict()
        self._retired: list[Line] = []
        self._offers: OrderedDict[str, tuple[object, DynamicTools]] = OrderedDict()
        self._sweeping: asyncio.Task[None] | None = None
        self._stopped = False
        self._on_change = on_change

    async def tools_of(self, chat_id: str) -> DynamicTools:
        """What a chat may use now. Servers that are new here are waited for, for a while."""
        try:
            reply = await self._rpc.call(
                rpc.SERVERS_OF_CHAT, rpc.ServersOfChat(ChatId(chat_id)), deadline_s=_OF_CHAT_S
            )
        except SteersmanError as error:
            log.warning("mcp.store_unavailable", error_code=error.code)
            return DynamicTools(warnings=("nobody can say which MCP servers there are",))
        if not reply.servers or self._stopped:
            return _NOTHING
        lines, warnings = self._lines_of(reply.servers)
        await self._answers(lines)
        key = (tuple((line, line.changes) for line in lines), warnings)
        known = self._offers.get(chat_id)
        if known is None or known[0] != key:
            known = (key, _offer(lines, warnings))
            self._offers[chat_id] = known
        self._offers.move_to_end(chat_id)
        while len(self._offers) > _MAX_OFFERS:
            self._offers.popitem(last=False)
        return known[1]

    async def begin_login(self, actor: Actor, server_id: str, redirect_uri: str) -> str:
        """Begin a sign-in for a person; where they have to go.

        Raises:
            NotFound: It is not theirs to use.
            Conflict: It cannot be done; the text says why.
        """
        opened = await self._rpc.call(rpc.OPEN_MCP_SERVER, rpc.OpenMcpServer(server_id, actor))
        if not opened.oauth:
            raise Conflict(f"the MCP server {opened.slug!r} does not use `oauth`")
        oauth, reach = await self._oauth(opened)
        try:
            async with asyncio.timeout(_LOGIN_S):
                begun = await oauth.begin(
                    opened, redirect_uri, reach, _Registrations(self._rpc, server_id)
                )
        except (oauth.SignInFailed, TimeoutError) as error:
            raise _failed(opened.slug, error) from error
        kept = rpc.BeginLogin(
            server_id, actor.user_id, _digest(begun.state), begun.pending, LOGIN_VALID_S
        )
        await self._rpc.call(rpc.BEGIN_LOGIN, kept)
        log.info("mcp.login_begun", server=opened.slug, user_id=actor.user_id)
        return begun.url

    async def finish_login(self, actor: Actor, state: str, code: str, issuer: str | None) -> str:
        """Finish a sign-in that the same person has begun; the server's id.

        Raises:
            NotFound: They have not, or it is over.
            Conflict: It cannot be done; the text says why.
        """
        taken = await self._rpc.call(rpc.TAKE_LOGIN, rpc.TakeLogin(actor.user_id, _digest(state)))
        oauth, reach = await self._oauth(taken.server)
        try:
            async with asyncio.timeout(_LOGIN_S):
                tokens, expires_in_s = await oauth.finish(taken.pending, code, issuer, reach)
        except (oauth.SignInFailed, TimeoutError) as error:
            if isinstance(error, oauth.Refused):
                # Perhaps it is we who are not known there any more: the next one registers anew.
                forgotten = ForgetClient(taken.server.id, taken.pending.client_id)
                await self._rpc.call(FORGET_CLIENT, forgotten)
            raise _failed(taken.server.slug, error) from error
        await self._rpc.call(
            rpc.PUT_TOKENS,
            rpc.PutTokens(taken.server.id, actor.user_id, tokens, expires_in_s),
        )
        log.info("mcp.login_finished", server=taken.server.slug, user_id=actor.user_id)
        return taken.server.id

    async def _oauth(self, opened: rpc.OpenedServer) -> tuple[Any, Any]:
        quiet()
        oauth: Any = await asyncio.to_thread(import_module, "steersman_plugin_mcp.oauth")
        http: Any = await asyncio.to_thread(import_module, "steersman_plugin_mcp.http")
        return oauth, http.Reach(None if opened.trusted else self._private)

    async def stop(self) -> None:
        """Disconnect from all."""
        self._stopped = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        lines = [*self._lines.values(), *self._retired]
        self._lines.clear()
        self._retired.clear()
        self._offers.clear()
        await asyncio.gather(*(_close(line) for line in lines))

    def _lines_of(self, servers: tuple[rpc.ChatServer, ...]) -> tuple[list[Line], tuple[str, ...]]:
        lines: list[Line] = []
        warnings: list[str] = []
        slugs: set[str] = set()
        for server in servers:
            if server.slug in slugs:
                # One of the deployment came later than the user's own.
                warnings.append(
                    f"server {server.slug!r} is not used: there is another of that name"
                )
                continue
            slugs.add(server.slug)
            if server.login in ("needed", "expired"):
                again = "again" if server.login == "expired" else "first"
                warnings.append(
                    f"server {server.slug!r}: sign in {again}: steersman mcp login {server.slug}"
                )
                self._retire((server.id, server.account))
                continue
            lines.append(self._line(server))
        return lines, tuple(warnings)

    def _retire(self, key: _Key) -> None:
        line = self._lines.pop(key, None)
        if line is not None:
            self._retired.append(line)

    def _line(self, server: rpc.ChatServer) -> Line:
        key = (server.id, server.account)
        line = self._lines.get(key)
        if line is None or line.failed or line.server.version != server.version:
            self._retire(key)
            line = self._lines[key] = Line(server, self._report_soon)
            line.opening = asyncio.get_running_loop().create_task(
                self._open(line), name=f"mcp-open-{server.slug}"
            )
            if self._sweeping is None:
                self._sweeping = asyncio.get_running_loop().create_task(self._sweep())
        line.used_at = asyncio.get_running_loop().time()
        self._lines.move_to_end(key)
        return line

    async def _open(self, line: Line) -> None:
        try:
            opened = await self._rpc.call(
                rpc.OPEN_MCP_SERVER, rpc.OpenMcpServer(line.server.id), deadline_s=_OF_CHAT_S
            )
        except SteersmanError as error:
            log.warning("mcp.cannot_open", server=line.server.slug, error_code=error.code)
            line.failed = True
            return
        quiet()
        module: Any = await asyncio.to_thread(import_module, "steersman_plugin_mcp.connection")
        http: Any = await asyncio.to_thread(import_module, "steersman_plugin_mcp.http")
        reach = http.Reach(None if opened.trusted else self._private)
        if opened.oauth and line.server.account is not None:
            held: Any = await asyncio.to_thread(import_module, "steersman_plugin_mcp.held")
            proof = held.HeldToken(self._rpc, opened, line.server.account, reach)
            reach = http.Reach(reach.private, proof)
        line.connection = module.Connection(
            of_store(opened),
            self._environment,
            line.changed,
            discovery_s=self._discovery_s,
            reach=reach,
        )
        assert line.connection is not None
        line.connection.start()

    async def _answers(self, lines: list[Line]) -> None:
        waiting = [line for line in lines if not _has_answered(line)]
        if not waiting:
            return
        loop = asyncio.get_running_loop()
        tasks = {loop.create_task(_answered(line)) for line in waiting}
        try:
            await asyncio.wait(tasks, timeout=self._discovery_s)
        finally:
            for task in tasks:
                task.cancel()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with servers of the deployment, for administrators."""
        return tuple(
            text
            for line in self._lines.values()
            if line.server.shared and line.server.account is None and line.connection is not None
            for text in line.connection.warnings
        )

    def _report_soon(self, line: Line) -> None:
        if line.server.shared:
            self._on_change()
        if line.reporting is None and line.untold:
            line.reporting = asyncio.get_running_loop().create_task(self._report(line))

    async def _report(self, line: Line) -> None:
        """Tell the store what is wrong, so that the owner sees it."""
        try:
            while line.untold and not self._stopped:
                problem = line.problem
                request = rpc.ReportMcpServer(
                    line.server.id, line.server.version, problem, line.server.account
                )
                await self._rpc.call(rpc.REPORT_MCP_SERVER, request)
                line.told, line.reported = True, problem
        except SteersmanError as error:
            log.debug("mcp.report_lost", error_code=error.code)
        finally:
            line.reporting = None

    async def _sweep(self) -> None:
        """Close what nobody uses any more; never under a call."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            now = asyncio.get_running_loop().time()
            for key, line in list(self._lines.items()):
                idle = now - line.used_at > IDLE_S or len(self._lines) > _MAX_LINES
                if idle and not line.busy:
                    self._retire(key)
            done = [line for line in self._retired if not line.busy]
            self._retired = [line for line in self._retired if line.busy]
            await asyncio.gather(*(_close(line) for line in done))


def _has_answered(line: Line) -> bool:
    return line.failed or (line.connection is not None and line.connection.answered.is_set())


async def _answered(line: Line) -> None:
    if line.opening is not None:
        await asyncio.shield(line.opening)
    if line.connection is not None:
        await line.connection.answered.wait()


def _digest(state: str) -> str:
    return hashlib.sha256(state.encode()).hexdigest()


def _failed(slug: str, error: Exception) -> Conflict:
    why = str(error) or "it took too long"
    return Conflict(f"signing in at the MCP server {slug!r} failed: {why}")


async def _close(line: Line) -> None:
    for task in (line.opening, line.reporting):
        if task is not None:
            task.cancel()
    if line.connection is not None:
        await line.connection.stop()


def _offer(lines: list[Line], warnings: tuple[str, ...]) -> DynamicTools:
    connections = [line.connection for line in lines if line.connection is not None]
    missing = [
        f"server {line.server.slug!r} cannot be reached now"
        for line in lines
        if line.connection is None
    ]
    return DynamicTools(
        tuple(tool for connection in connections for tool in connection.tools),
        (*warnings, *missing, *(text for one in connections for text in one.warnings)),
    )
