"""Of a chat that was deleted neither the desktop nor a recording is left."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from integration.desktop.harness import ANN, Caller, alone, needs_xvnc, until, until_gone

from steersman.embedded.nats import NatsServer
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import desktop_chats
from steersman_contracts.rpc import desktop_recordings as recorded
from steersman_desktop.archive import Archive
from steersman_runtime.nats_client import close, connect
from steersman_runtime.rpc import RpcServer

pytestmark = needs_xvnc
LONG_ENDED = ChatId("01a00000-0000-7000-8000-000000000001")
KEPT = ChatId("01a00000-0000-7000-8000-000000000002")


@asynccontextmanager
async def store(nats_url: str, deleted: set[ChatId]) -> AsyncGenerator[None]:
    """What the store answers, on the wire; `deleted` may grow."""

    async def find(request: desktop_chats.FindDeleted) -> desktop_chats.Deleted:
        return desktop_chats.Deleted(tuple(deleted & set(request.chat_ids)))

    client = await connect(
        nats_url, name="store", inbox_prefix="_INBOX_store", on_closed=lambda: None
    )
    try:
        server = RpcServer(client, "store", version="0.0.0")
        server.add(desktop_chats.FIND_DELETED, find)
        await server.start()
        yield
        await server.drain(5.0)
    finally:
        await close(client)


async def test_the_desktop_ends_and_its_recordings_go(
    own_nats: NatsServer, run_dir: Path, own_uid_base: int, tmp_path: Path
) -> None:
    archive = Archive(str(tmp_path))
    for chat_id in (LONG_ENDED, KEPT):
        archive.begin(chat_id, (2, 2), datetime.now(UTC)).end(0.0, "stopped")
    deleted: set[ChatId] = {LONG_ENDED}
    async with alone(
        own_nats.url(),
        run_dir,
        own_uid_base,
        recordings_dir=str(tmp_path),
        deleted_check_s=0.1,
    ) as (desktop, rpc):
        caller = Caller(rpc)
        await caller.start((640, 480))
        request = recorded.StartRecording(ANN, caller.chat_id)
        await caller.rpc.call(recorded.START_RECORDING, request)
        async with store(own_nats.url(), deleted):  # was away until now
            await until(lambda: archive.chats() == {KEPT, caller.chat_id})
            assert (await caller.get()).state == "ready"

            deleted.add(caller.chat_id)

            await until(lambda: archive.chats() == {KEPT})
            await until_gone(run_dir)
            assert (await caller.get()).state == "absent"
            assert desktop.service.sessions == {}
