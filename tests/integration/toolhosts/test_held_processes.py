"""Processes that one replica holds, looked after by way of another."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from integration.tools.host import new_chat, text_of
from support.toolhosts import Replica

from steersman.embedded.nats import NatsServer
from steersman_contracts import subjects
from steersman_contracts.parts import JsonPart
from steersman_contracts.rpc.ledger import LIST_HOSTS, ListHosts
from steersman_contracts.rpc.tools import (
    CALL_TOOL,
    PING_HOST,
    CallProgress,
    CallResult,
    CallTool,
    PingHost,
)
from steersman_runtime.nats_client import NatsClient
from steersman_runtime.rpc import RpcClient, last_reply
from steersman_tools.hosts import GONE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="commands are confined on Linux")


@pytest_asyncio.fixture(loop_scope="module")
async def replicas(
    nats: NatsServer, booked: str, client: NatsClient
) -> AsyncGenerator[dict[str, Replica]]:
    """Two, by their names."""
    del booked  # it only has to be there
    rpc = RpcClient(client, wait_for_service_s=30.0)
    found: dict[str, Replica] = {}
    with tempfile.TemporaryDirectory(prefix="steersman-") as name:
        base = Path(name)
        base.chmod(0o755)  # noqa: ASYNC240  # a moment
        async with AsyncExitStack() as stack:
            for instance in ("one", "two"):
                replica = Replica(
                    *(nats.url(), base / "workspaces", base),
                    STEERSMAN_INSTANCE=instance,
                    STEERSMAN_HOST_LEASE_S="30",
                )
                stack.push_async_callback(replica.end)
                found[instance] = replica
            async with asyncio.timeout(60):
                while len(hosts := (await rpc.call(LIST_HOSTS, ListHosts())).hosts) < 2:  # noqa: ASYNC110  # the book tells nobody
                    await asyncio.sleep(0.05)
            for host in hosts:
                ping = replace(PING_HOST, address=subjects.tool_host(host, PING_HOST.name))
                await rpc.call(ping, PingHost(), deadline_s=60)
            yield {host: found[host.split("-")[0]] for host in hosts}


class Asking:
    """Calls of a chat, each at a certain replica."""

    def __init__(self, client: NatsClient) -> None:
        self._rpc = RpcClient(client)
        self._chat_id = new_chat()
        self._calls = 0

    async def __call__(self, host: str, tool: str, **arguments: Any) -> CallResult:
        self._calls += 1
        method = replace(CALL_TOOL, address=subjects.tool_host(host, CALL_TOOL.name))
        request = CallTool(self._chat_id, f"call-{self._calls}", tool, arguments)
        return await last_reply(
            self._rpc.stream(method, request, CallProgress), CallResult, lambda _: None
        )

    async def facts(self, host: str, tool: str, **arguments: Any) -> dict[str, Any]:
        result = await self(host, tool, **arguments)
        assert not result.is_error, result
        (*_, found) = (part.value for part in result.content if isinstance(part, JsonPart))
        return found


async def test_a_process_is_looked_after_wherever_a_call_arrives(
    replicas: dict[str, Replica], client: NatsClient
) -> None:
    one, two = sorted(replicas)
    chat = Asking(client)
    command = "read -r line; echo got $line; exec sleep 300"
    begun = await chat.facts(one, "execute", command=command, background=True)
    later = await chat.facts(two, "execute", command="exec sleep 300", background=True)
    process_id = begun["process_id"]

    said = await chat(two, "process_input", process_id=process_id, text="it\n", timeout_s=0.1)
    assert not said.is_error
    seen = await chat(two, "process_output", process_id=process_id, timeout_s=0.1)
    async with asyncio.timeout(60):
        while "got it" not in text_of(seen):
            seen = await chat(two, "process_output", process_id=process_id, timeout_s=0.1)
    for host in (one, two):
        listed = await chat.facts(host, "process_list")
        ids = {line["process_id"] for line in listed["processes"]}
        assert ids == {process_id, later["process_id"]}
    other = Asking(client)
    assert "there is no process" in text_of(
        await other(two, "process_signal", process_id=process_id, signal="kill")
    )
    killed = await chat.facts(one, "process_signal", process_id=later["process_id"], signal="kill")
    assert (killed["running"], killed["signal"]) == (False, "SIGKILL")

    await replicas[one].kill()

    gone = await chat(two, "process_output", process_id=process_id)
    assert (gone.is_error, text_of(gone)) == (True, GONE)
    listed = await chat.facts(two, "process_list")
    assert [line["process_id"] for line in listed["processes"]] == [later["process_id"]]
