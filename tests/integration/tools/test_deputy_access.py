"""What the deputy of a workspace may do on NATS, as the server sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import msgspec
import pytest

from steersman.embedded.nats import NatsServer
from steersman_contracts import subjects
from steersman_contracts.errors import Unavailable
from steersman_contracts.nkeys import account_key, signing_seed, token_key
from steersman_contracts.rpc import Nothing
from steersman_contracts.rpc.tools import PING_HOST, PingHost
from steersman_contracts.workspaces import WorkspaceId
from steersman_runtime.nats_client import NatsClient, close, connect
from steersman_runtime.rpc import RpcClient, RpcServer
from steersman_tools.deputy_access import DeputyAccess, Keys, deputy_url, read_request

MINE = WorkspaceId("11111111-2222-4333-8444-555555555555")
OTHER = WorkspaceId("22222222-2222-4333-8444-555555555555")
STOPPED = WorkspaceId("33333333-2222-4333-8444-555555555555")
KEYS = Keys("a secret of forty characters, at the least")


async def _connect(url: str, name: str, wait_s: float = 30.0) -> NatsClient:
    return await connect(
        url, name=name, inbox_prefix=subjects.inbox(name), on_closed=lambda: None, wait_s=wait_s
    )


@pytest.fixture
async def tools() -> AsyncGenerator[tuple[NatsServer, NatsClient]]:
    """A server with rights, and the tools service's connection, which answers for deputies."""
    with NatsServer(auth=True, issuer=KEYS.issuer) as nats:
        client = await _connect(nats.url("tools"), "tools")

        async def runs(workspace_id: WorkspaceId) -> bool:
            return workspace_id != STOPPED

        access = DeputyAccess(client, KEYS, account="STEER", runs=runs)
        number = access.open()
        await client.flush()
        yield nats, client
        await access.close(number)
        await close(client)


async def test_a_deputy_answers_for_its_workspace_and_reaches_nothing_else(
    tools: tuple[NatsServer, NatsClient],
) -> None:
    nats, client = tools
    deputy = await _connect(deputy_url(nats.url("tools"), MINE, KEYS), "deputy")
    refused: list[str] = []
    three = asyncio.Event()

    async def on_error(error: Exception) -> None:
        refused.append(str(error))
        if len(refused) == 3:
            three.set()

    deputy._error_cb = on_error  # pyright: ignore[reportPrivateUsage]  # `connect` takes none
    server = RpcServer(deputy, "deputy", version="1", announced=False)
    ping = replace(PING_HOST, address=subjects.deputy(MINE, PING_HOST.name))

    async def answer(_: PingHost) -> Nothing:
        return Nothing()

    server.add(ping, answer)
    await server.start()

    assert await RpcClient(client).call(ping, PingHost()) == Nothing()
    heard: list[bytes] = []

    def hear(subject: bytes, _: bytes, __: bytes, ___: bytes) -> None:
        heard.append(subject)

    deputy.listen(subjects.deputy(OTHER, "calls.run"), hear)
    deputy.listen(f"{subjects.ROOT}.>", hear)
    deputy.send(subjects.TOOL_RELOADS, b"x")
    async with asyncio.timeout(30):
        await three.wait()
    assert all("permissions violation" in one for one in refused)
    client.send(subjects.deputy(OTHER, "calls.run"), b"{}")
    await client.flush()
    await deputy.flush()
    assert heard == []
    await server.drain(1)
    await close(deputy)


async def test_nobody_else_gets_in(tools: tuple[NatsServer, NatsClient]) -> None:
    nats, _ = tools
    address = nats.url("tools").rpartition("@")[2]
    token = KEYS.token(MINE)

    for user, password in (
        (f"deputy-{OTHER}", token),
        (f"deputy-{STOPPED}", KEYS.token(STOPPED)),
        ("gateway", token),
        (f"deputy-{MINE}.>", token),
    ):
        with pytest.raises(Unavailable):
            await _connect(f"nats://{user}:{password}@{address}", "x", wait_s=1.0)
    with pytest.raises(Unavailable):
        await _connect(f"nats://{address}", "x", wait_s=1.0)


def test_keys_come_from_a_secret_that_cannot_be_guessed() -> None:
    assert Keys("x" * 40).issuer == Keys("x" * 40).issuer != Keys("y" * 40).issuer
    assert signing_seed("x" * 40) != token_key("x" * 40)
    # As nsc shows the account of 32 zero bytes.
    assert account_key(bytes(32)) == "A" * 53 + account_key(bytes(32))[53:]
    assert len(account_key(bytes(32))) == 56
    with pytest.raises(ValueError, match="fewer than 32 characters"):
        Keys("short")


def test_deputies_get_the_servers_of_the_service_and_never_its_password() -> None:
    url = "nats://tools:word@one:4222, tls://tools:word@two:4222"

    assert deputy_url(url, MINE, None) == "nats://one:4222,tls://two:4222"
    known = f"deputy-{MINE}:{KEYS.token(MINE)}@"
    assert deputy_url(url, MINE, KEYS) == f"nats://{known}one:4222,tls://{known}two:4222"


@pytest.mark.parametrize("payload", [b"", b"a.b.c", b"x.e30.y", msgspec.json.encode({})])
def test_what_is_no_question_of_the_server_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match="not a request"):
        read_request(payload)
