"""A desktop service under test, those who call it, and somebody who watches."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import socket
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from litestar import Litestar

from steersman_contracts import desktop as actions
from steersman_contracts.chats import AgentKind
from steersman_contracts.errors import TooManyRequests
from steersman_contracts.ids import ChatId, UserId
from steersman_contracts.rpc import Actor, Nothing, agent_recordings, desktop_chats
from steersman_contracts.rpc import desktop as rpc
from steersman_desktop.app import create_app
from steersman_desktop.desktops import Desktops
from steersman_desktop.settings import Settings
from steersman_runtime.nats_client import close, connect
from steersman_runtime.rpc import RpcClient, RpcServer
from steersman_runtime.service import Runtime, listening_socket
from steersman_runtime.settings import Secret

PATIENCE_S = 60.0
MANY_VIEWERS = 100
"""Of one desktop of the shared service."""
ANN = Actor(UserId("ann"))
BEN = Actor(UserId("ben"))
LOOK = actions.TakeScreenshot()

needs_xvnc = pytest.mark.skipif(
    shutil.which("Xvnc") is None or shutil.which("icewm") is None,
    reason="needs Xvnc and icewm: apt-get install tigervnc-standalone-server icewm",
)
_keys = itertools.count(1)


class _Server(uvicorn.Server):
    """Leaves the signals of the test process alone, and says when it has started."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


@dataclass
class ChatBook:
    """What the store knows of chats and their desktops; of those not in here: nothing special."""

    owner: UserId = ANN.user_id
    """Of all chats, until it is another one."""
    claims: dict[ChatId, tuple[UserId, str]] = field(
        default_factory=dict[ChatId, tuple[UserId, str]]
    )
    """For whom the desktop of a chat counts, and which host has it."""
    desktops: dict[ChatId, desktop_chats.DesktopOf] = field(
        default_factory=dict[ChatId, desktop_chats.DesktopOf]
    )
    servers: dict[ChatId, desktop_chats.ServerSecret] = field(
        default_factory=dict[ChatId, desktop_chats.ServerSecret]
    )

    renewed: set[tuple[str, ChatId]] = field(default_factory=set[tuple[str, ChatId]])
    recorded: list[agent_recordings.AgentRecorded] = field(
        default_factory=list[agent_recordings.AgentRecorded]
    )
    done: set[ChatId] = field(default_factory=set[ChatId])
    """Agents that rest."""

    def share(self, agent: ChatId, *above: ChatId, kind: AgentKind = "computer_use") -> None:
        """Let an agent use the desktop of the last of the chats above it."""
        owner = above[-1] if above else agent
        self.desktops[agent] = desktop_chats.DesktopOf(owner, above, kind)

    async def find(self, request: desktop_chats.FindDesktop) -> desktop_chats.DesktopOf:
        chat_id = request.chat_id
        server = self.servers.get(chat_id, desktop_chats.ServerSecret(""))
        default = desktop_chats.DesktopOf(chat_id, server=server.address)
        return self.desktops.get(chat_id, default)

    async def server(self, request: desktop_chats.ReadServer) -> desktop_chats.ServerSecret:
        return self.servers.get(request.chat_id, desktop_chats.ServerSecret(""))

    async def claim(self, request: desktop_chats.ClaimDesktop) -> Nothing:
        others = sum(
            owner == self.owner and chat_id != request.chat_id
            for chat_id, (owner, _) in self.claims.items()
        )
        if others >= request.most:
            raise TooManyRequests(f"the owner of this chat has {others}", limit=request.most)
        self.claims[request.chat_id] = self.owner, request.host
        return Nothing()

    async def release(self, request: desktop_chats.ReleaseDesktop) -> Nothing:
        _, host = self.claims.get(request.chat_id, ("", ""))
        if host == request.host:
            del self.claims[request.chat_id]
        return Nothing()

    async def renew(self, request: desktop_chats.RenewDesktops) -> Nothing:
        self.renewed.update((request.host, chat_id) for chat_id in request.chat_ids)
        return Nothing()

    async def record(self, request: agent_recordings.AgentRecorded) -> Nothing:
        self.recorded.append(request)
        return Nothing()

    async def find_done(self, request: agent_recordings.FindDone) -> agent_recordings.Done:
        return agent_recordings.Done(tuple(self.done.intersection(request.chat_ids)))


@asynccontextmanager
async def store_of(nats_url: str, chats: ChatBook) -> AsyncGenerator[None]:
    """What the store answers the desktop service, on the wire."""
    client = await connect(
        nats_url, name="store", inbox_prefix="_INBOX_store", on_closed=lambda: None
    )
    try:
        server = RpcServer(client, "store", version="0.0.0")
        server.add(desktop_chats.FIND_DESKTOP, chats.find)
        server.add(desktop_chats.READ_SERVER, chats.server)
        server.add(desktop_chats.CLAIM_DESKTOP, chats.claim)
        server.add(desktop_chats.RENEW_DESKTOPS, chats.renew)
        server.add(desktop_chats.RELEASE_DESKTOP, chats.release)
        server.add(agent_recordings.RECORDED, chats.record)
        server.add(agent_recordings.FIND_DONE, chats.find_done)
        await server.start()
        yield
        await server.drain(5.0)
    finally:
        await close(client)


@dataclass
class RunningDesktop:
    app: Litestar
    runtime: Runtime
    chats: ChatBook

    @property
    def service(self) -> Desktops:
        return self.app.state.service


@asynccontextmanager
async def running_desktop(
    nats_url: str, *, known: ChatBook | None = None, **changes: Any
) -> AsyncGenerator[RunningDesktop]:
    """The service in the test's own process, with its HTTP server, and what it asks of a store.

    With what is `known` somebody else answers from that.
    """
    chats = known or ChatBook()
    settings = Settings(nats_url=Secret(nats_url), **changes)
    runtime = Runtime("desktop", settings)
    sock = listening_socket("127.0.0.1:0")
    runtime.address = sock.getsockname()[:2]
    app = create_app(runtime, settings)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=5,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    # The store outlives it: what ends is told there.
    async with store_of(nats_url, chats) if known is None else nullcontext():
        try:
            async with asyncio.timeout(PATIENCE_S):
                await server.up.wait()
            yield RunningDesktop(app, runtime, chats)
        finally:
            runtime.begin_stop()
            server.should_exit = True
            await serving


class Caller:
    """A tools service or a gateway, as the desktop service sees it."""

    def __init__(self, client: RpcClient, chat_id: ChatId | None = None) -> None:
        self.rpc = client
        self.chat_id = chat_id or ChatId(str(uuid.uuid4()))

    async def get(self, actor: Actor = ANN) -> rpc.Desktop:
        return await self.rpc.call(rpc.GET_DESKTOP, rpc.GetDesktop(actor, self.chat_id))

    async def start(self, size: tuple[int, int] | None = None, actor: Actor = ANN) -> rpc.Desktop:
        request = rpc.StartDesktop(actor, self.chat_id, *(size or (None, None)))
        return await self.rpc.call(rpc.START_DESKTOP, request)

    async def stop(self) -> rpc.Desktop:
        return await self.rpc.call(rpc.STOP_DESKTOP, rpc.StopDesktop(ANN, self.chat_id))

    async def act(
        self,
        action: actions.Action,
        *,
        actor: Actor | None = None,
        key: str = "",
        last_digest: str = "",
        look: bool = True,
    ) -> rpc.ActionReply:
        request = rpc.PerformAction(
            self.chat_id, key or f"key-{next(_keys)}", action, actor, last_digest, look=look
        )
        return await self.rpc.call(rpc.PERFORM_ACTION, request)

    async def cancel(self, key: str) -> None:
        await self.rpc.call(rpc.CANCEL_ACTION, rpc.CancelAction(self.chat_id, key))

    async def take(self, actor: Actor = ANN, *, private: bool = False) -> rpc.Desktop:
        request = rpc.TakeControl(actor, self.chat_id, private)
        return await self.rpc.call(rpc.TAKE_CONTROL, request)

    async def give_back(self, actor: Actor = ANN) -> rpc.Desktop:
        return await self.rpc.call(rpc.RETURN_CONTROL, rpc.ReturnControl(actor, self.chat_id))


@asynccontextmanager
async def calling(nats_url: str) -> AsyncGenerator[RpcClient]:
    client = await connect(
        nats_url, name="test", inbox_prefix="_INBOX_test", on_closed=lambda: None
    )
    try:
        yield RpcClient(client, wait_for_service_s=60)
    finally:
        await close(client)


def processes_of(folder: Path) -> list[int]:
    """The processes that live in a folder of places, zombies left out."""
    mark = f"STEERSMAN_DESKTOP_PLACE={folder}/".encode()
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if mark in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that nobody announces."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110  # see above
            await asyncio.sleep(0.02)


async def until_gone(folder: Path) -> None:
    """Wait until no process of a folder of places lives."""
    await until(lambda: not processes_of(folder))  # the kernel tells nobody about grandchildren


async def acting(desktop: RunningDesktop, caller: Caller) -> None:
    """Wait until the agent is in the middle of an action."""
    await until(lambda: desktop.service.sessions[caller.chat_id].acting)


@asynccontextmanager
async def alone(
    nats_url: str,
    run_dir: Path,
    uid_base: int,
    *,
    known: ChatBook | None = None,
    **settings: Any,
) -> AsyncGenerator[tuple[RunningDesktop, RpcClient]]:
    """A service of a test's own, and a way to call it."""
    async with (
        running_desktop(
            nats_url, known=known, run_dir=str(run_dir), uid_base=uid_base, **settings
        ) as service,
        calling(nats_url) as client,
    ):
        yield service, client
