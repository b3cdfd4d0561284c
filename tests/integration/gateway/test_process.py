"""The gateway as it is run: a process of its own, with no more rights on NATS than it needs."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx2
import pytest
from integration.gateway.driver import PATIENCE_S, watching
from integration.gateway.stand_in import stand_in_store
from integration.gateway.test_streams import data, publish_deltas

from steersman.embedded.nats import NatsServer

pytestmark = pytest.mark.asyncio(loop_scope="session")


@asynccontextmanager
async def gateway_process(
    nats_url: str, listener: socket.socket
) -> AsyncGenerator[asyncio.subprocess.Process]:
    """It gets a socket of ours: nobody else can take its port."""
    environment = os.environ | {
        "STEERSMAN_NATS_URL": nats_url,
        "STEERSMAN_LISTEN": f"fd:{listener.fileno()}",
        "STEERSMAN_LOG_FORMAT": "json",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "steersman_gateway",
        env=environment,
        pass_fds=[listener.fileno()],
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            while b"service.started" not in await process.stdout.readline():
                pass
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_a_process_serves_within_its_rights_and_ends_when_told_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await _serves_and_ends(listener)


async def _serves_and_ends(listener: socket.socket) -> None:
    async with (
        NatsServer(auth=True) as nats,
        stand_in_store(nats.url("store"), ("store",)) as store,
        gateway_process(nats.url("gateway"), listener) as process,
        httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{listener.getsockname()[1]}",
            headers={"Authorization": "Bearer anything"},
            timeout=PATIENCE_S,
            verify=False,
        ) as client,
    ):
        store.add_user("anything")
        created = await client.post("/api/v1/chats", json={"text": "hello"})
        chat_id = created.json()["chat"]["id"]
        async with watching(client, chat_id) as stream:
            start = await stream.next()
            published = await publish_deltas(store, chat_id, 1, 3)
            assert data(await stream.take(3)) == published
        async with watching(client, chat_id, after=start.id) as stream:
            await stream.next()
            assert data(await stream.take(3)) == published
            assert (await client.get("/readyz")).json()["status"] == "ready"

            process.send_signal(signal.SIGTERM)

            assert await stream.rest() == []
            async with asyncio.timeout(PATIENCE_S):
                assert await process.wait() == 0
