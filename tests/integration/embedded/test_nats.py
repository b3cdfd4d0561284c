# pyright: reportUnknownMemberType=false
# nats-py is typed in part.
import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, RetentionPolicy

from steersman.embedded.nats import PERMISSIONS, NatsServer
from steersman_contracts.ids import ChatId, UserId
from steersman_contracts.subjects import (
    EVENT_STREAM,
    EVENT_SUBJECTS,
    PROVIDERS_CHANGED,
    TOOL_RELOADS,
    WORK_CONSUMER,
    WORK_STREAM,
    WORK_SUBJECTS,
    chat_desktop,
    chat_events,
    chat_live,
    chat_work,
    deputy,
    inbox,
    my_events,
    relay_nudge,
    rpc,
    tool_host,
    toolset,
    toolset_beat,
)

CHAT = ChatId("chat-1")
_SERVING = ("store", "tools", "desktop", "chatloop")
SUBJECTS = {
    "rpc store.chats": rpc("store", "chats.create"),
    "rpc store.identity": rpc("store", "identity.check"),
    "rpc store.agents": rpc("store", "agents.spawn"),
    "rpc store.worker": rpc("store", "worker.acquire"),
    "rpc store.ledger": rpc("store", "ledger.put"),
    "rpc store.admin": rpc("store", "admin.bootstrap"),
    "rpc tools.calls": rpc("tools", "calls.call"),
    "rpc tools.catalog": rpc("tools", "catalog.list"),
    "rpc tools.plugins": rpc("tools", "plugins.reload"),
    "rpc tools.workspaces": rpc("tools", "workspaces.list"),
    "rpc store.workspaces": rpc("store", "workspaces.claim"),
    "rpc tools.host": tool_host("host-1", "calls.run"),
    "rpc store.plugins": rpc("store", "plugins.put_secret"),
    "rpc store.policies": rpc("store", "policies.put"),
    "rpc store.prompts": rpc("store", "prompts.put"),
    "rpc tools.context": rpc("tools", "context.read"),
    "rpc chatloop.prompts": rpc("chatloop", "prompts.preview"),
    "rpc store.files": rpc("store", "files.find"),
    "rpc store.models": rpc("store", "models.list"),
    "rpc store.plugin_book": rpc("store", "plugin_book.secret"),
    "rpc store.mcp": rpc("store", "mcp.list"),
    "rpc store.mcp_book": rpc("store", "mcp_book.open"),
    "rpc store.desktop_audit": rpc("store", "desktop_audit.record"),
    "rpc store.desktop_chats": rpc("store", "desktop_chats.find_deleted"),
    "toolset beat": toolset_beat("some-set", "host-1"),
    "toolset call": toolset("some-set", "calls.run"),
    "deputy": deputy("workspace-1", "calls.run"),
    "reload": TOOL_RELOADS,
    "providers": PROVIDERS_CHANGED,
    "rpc desktop": rpc("desktop", "sessions.open"),
    "rpc chatloop": rpc("chatloop", "providers.list_models"),
    "events": chat_events(CHAT),
    "live": chat_live(CHAT),
    "feeds": my_events(UserId("user-1")),
    "work": chat_work(CHAT),
    "nudge": relay_nudge(0),
    "pull work": f"$JS.API.CONSUMER.MSG.NEXT.{WORK_STREAM}.{WORK_CONSUMER}",
    "read events": f"$JS.API.DIRECT.GET.{EVENT_STREAM}",
    "create stream": f"$JS.API.STREAM.CREATE.{EVENT_STREAM}",
    "delete stream": f"$JS.API.STREAM.DELETE.{EVENT_STREAM}",
    "delete event": f"$JS.API.STREAM.MSG.DELETE.{EVENT_STREAM}",
    "desktops": chat_desktop(CHAT),
    "foreign inbox": f"{inbox('somebody')}.x",
}
MAY_PUBLISH = {
    "gateway": {
        "rpc store.chats",
        "rpc store.identity",
        "rpc tools.catalog",
        "rpc tools.plugins",
        "rpc tools.workspaces",
        "rpc store.plugins",
        "rpc store.mcp",
        "rpc store.policies",
        "rpc store.prompts",
        "rpc chatloop.prompts",
        "rpc store.files",
        "rpc store.models",
        "rpc desktop",
        "rpc chatloop",
        "read events",
    },
    "store": {
        "events",
        "feeds",
        "work",
        "nudge",
        "providers",
        "create stream",
        "read events",
        "delete event",
    },
    "chatloop": {
        "rpc store.agents",
        "rpc store.worker",
        "rpc tools.calls",
        "rpc tools.context",
        "rpc tools.catalog",
        "rpc tools.host",
        "rpc desktop",
        "events",
        "pull work",
        "read events",
    },
    "tools": {
        "events",
        "rpc store.workspaces",
        "rpc store.ledger",
        "rpc store.plugin_book",
        "rpc store.mcp_book",
        "rpc desktop",
        "rpc tools.host",
        "toolset call",
        "deputy",
        "reload",
    },
    "toolhost": {"toolset beat"},
    "desktop": {
        "events",
        "rpc desktop",
        "rpc store.desktop_audit",
        "rpc store.desktop_chats",
        "desktops",
    },
    "cli": {"rpc store.admin"},
}


class Refusals:
    """What the server refused to a client."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._more = asyncio.Event()

    async def add(self, error: Exception) -> None:
        self.seen.append(str(error))
        self._more.set()

    async def at_least(self, count: int) -> None:
        """Wait for them: nats-py reports them in tasks of their own."""
        async with asyncio.timeout(60):
            while len(self.seen) < count:
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def as_user(server: NatsServer, user: str) -> AsyncGenerator[tuple[Client, Refusals]]:
    refusals = Refusals()
    client = await nats.connect(
        server.url(user), error_cb=refusals.add, inbox_prefix=inbox(user).encode()
    )
    try:
        yield client, refusals
    finally:
        await client.close()


@pytest.mark.parametrize("user", list(PERMISSIONS))
async def test_a_service_publishes_what_it_needs_and_nothing_else(
    guarded_nats: NatsServer, user: str
) -> None:
    async with as_user(guarded_nats, user) as (client, refusals):
        for subject in SUBJECTS.values():
            await client.publish(subject, b"{}")
        await refusals.at_least(len(SUBJECTS) - len(MAY_PUBLISH[user]))
        await client.flush()

        refused = {
            name
            for name, subject in SUBJECTS.items()
            if any(f'"{subject.lower()}"' in text for text in refusals.seen)  # as nats-py puts it
        }
    assert SUBJECTS.keys() - refused == MAY_PUBLISH[user]


@pytest.mark.parametrize("user", list(PERMISSIONS))
async def test_a_service_hears_no_one_elses_requests_and_replies(
    guarded_nats: NatsServer, user: str
) -> None:
    others = [name for name in PERMISSIONS if name != user]
    foreign = [f"{inbox(other)}.>" for other in others]
    foreign += [rpc(other, "a.b") for other in _SERVING if other != user]
    foreign += [WORK_SUBJECTS, EVENT_SUBJECTS, ">"]
    foreign += [PROVIDERS_CHANGED] if user != "chatloop" else []
    async with as_user(guarded_nats, user) as (client, refusals):
        for subject in foreign:
            await client.subscribe(subject)
        await refusals.at_least(len(foreign))


async def test_who_may_publish_nothing_may_still_answer(guarded_nats: NatsServer) -> None:
    async def answer(message: Msg) -> None:
        await message.respond(b"unavailable")

    async with (
        as_user(guarded_nats, "desktop") as (desktop, _),
        as_user(guarded_nats, "gateway") as (gateway, _),
    ):
        await desktop.subscribe(rpc("desktop", "a.b"), cb=answer)
        # The first PING of nats-py goes out ahead of the subscription, and proves nothing.
        await desktop.flush()
        await desktop.flush()
        reply = await gateway.request(rpc("desktop", "a.b"), b"", timeout=30)
    assert reply.data == b"unavailable"


async def test_work_and_events_go_their_way(guarded_nats: NatsServer) -> None:
    async with (
        as_user(guarded_nats, "store") as (store, store_refusals),
        as_user(guarded_nats, "chatloop") as (chatloop, chatloop_refusals),
        as_user(guarded_nats, "gateway") as (gateway, gateway_refusals),
    ):
        streams = store.jetstream()
        await streams.add_stream(name=EVENT_STREAM, subjects=[EVENT_SUBJECTS], allow_direct=True)
        await streams.add_stream(
            name=WORK_STREAM, subjects=[WORK_SUBJECTS], retention=RetentionPolicy.WORK_QUEUE
        )
        await streams.add_consumer(WORK_STREAM, ConsumerConfig(durable_name=WORK_CONSUMER))
        await streams.publish(chat_work(CHAT), b"run")

        pull = await chatloop.jetstream().pull_subscribe_bind(WORK_CONSUMER, WORK_STREAM)
        (hint,) = await pull.fetch(1, timeout=30)
        await hint.ack_sync(timeout=30)
        await chatloop.jetstream().publish(chat_events(CHAT), b"{}")
        stored = await gateway.jetstream().get_last_msg(
            EVENT_STREAM, chat_events(CHAT), direct=True
        )

        assert (hint.data, stored.data) == (b"run", b"{}")
        assert store_refusals.seen + chatloop_refusals.seen + gateway_refusals.seen == []


async def test_the_system_account_hears_of_lost_connections(guarded_nats: NatsServer) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def on_disconnect(message: Msg) -> None:
        heard.put_nowait(message.data)

    system = await nats.connect(guarded_nats.url("system"))
    await system.subscribe("$SYS.ACCOUNT.STEER.DISCONNECT", cb=on_disconnect)
    await system.flush()
    async with as_user(guarded_nats, "chatloop"):
        pass
    async with asyncio.timeout(60):
        while b'"user":"chatloop"' not in await heard.get():
            pass
    await system.close()


async def test_nobody_gets_in_without_a_password(guarded_nats: NatsServer) -> None:
    port = int(guarded_nats.url("cli").rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.readline()  # INFO
    writer.write(b'CONNECT {"verbose":false}\r\nPING\r\n')
    assert b"Authorization Violation" in await reader.readline()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    assert (guarded_nats.home / "nats.conf").stat().st_mode & 0o777 == 0o600


async def test_it_comes_back_at_the_same_port_with_what_it_stored(tmp_path: Path) -> None:
    async with NatsServer(tmp_path / "nats") as server:
        url = server.url()
        before = await nats.connect(url)
        await before.jetstream().add_stream(name="kept", subjects=["kept"])
        await before.jetstream().publish("kept", b"1")
        await before.close()

        server.kill()
        await server.start_async()

        assert server.url() == url
        after = await nats.connect(url)
        assert (await after.jetstream().stream_info("kept")).state.messages == 1
        await after.close()


def test_it_starts_and_stops_from_plain_code() -> None:
    with NatsServer() as server:
        home = server.home
        assert server.url().startswith("nats://127.0.0.1:")
    assert not home.exists()


def test_what_a_killed_test_left_behind_is_removed() -> None:
    code = (
        "import os, signal; from steersman.embedded.nats import NatsServer; "
        "server = NatsServer(); server.start(); print(server.home, flush=True); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=False)
    left = Path(done.stdout.decode().strip())
    assert left.is_dir()
    os.utime(left, (0, 0))

    with NatsServer() as server:
        assert not left.exists()
        assert server.home.is_dir()


def test_its_directory_goes_with_the_last_reference() -> None:
    server = NatsServer()
    server.start()
    home = server.home
    server.stop()
    assert home.is_dir()
    del server
    assert not home.exists()
