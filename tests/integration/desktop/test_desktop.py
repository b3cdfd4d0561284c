"""There are no desktops yet, and the service says why."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager

import pytest

from steersman.embedded.nats import NatsServer
from steersman_contracts.errors import DesktopUnavailable
from steersman_contracts.ids import ChatId, UserId
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc.desktop import GET_DESKTOP, GetDesktop
from steersman_desktop.app import create_app
from steersman_desktop.programs import missing_programs
from steersman_desktop.settings import Settings
from steersman_runtime.nats_client import close, connect
from steersman_runtime.rpc import RpcClient
from steersman_runtime.service import Runtime
from steersman_runtime.settings import Secret

ASK = GetDesktop(Actor(UserId("u")), ChatId("0190a0a0-0000-7000-8000-000000000001"))


@pytest.fixture(scope="module")
def nats() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


@asynccontextmanager
async def desktop(nats: NatsServer, *missing: str) -> AsyncGenerator[tuple[Runtime, RpcClient]]:
    settings = Settings(nats_url=Secret(nats.url()))
    runtime = Runtime("desktop", settings)
    client = await connect(
        nats.url(), name="test", inbox_prefix="_INBOX_test", on_closed=lambda: None
    )
    try:
        async with create_app(runtime, settings, missing=lambda: missing).lifespan():
            yield runtime, RpcClient(client)
    finally:
        await close(client)


async def test_what_is_missing_is_named_with_its_package(nats: NatsServer) -> None:
    async with desktop(nats, "Xvnc") as (runtime, rpc):
        assert runtime.health.problems() == {}

        with pytest.raises(DesktopUnavailable) as refused:
            await rpc.call(GET_DESKTOP, ASK)

    assert refused.value.details == {"missing": ["Xvnc"]}
    assert "Xvnc" in str(refused.value)
    assert "apt-get install tigervnc-standalone-server" in str(refused.value)


async def test_with_everything_installed_it_says_that_it_is_not_built_yet(
    nats: NatsServer,
) -> None:
    async with desktop(nats) as (_, rpc):
        with pytest.raises(DesktopUnavailable) as refused:
            await rpc.call(GET_DESKTOP, ASK)

    assert refused.value.details == {"missing": []}
    assert str(refused.value) == "virtual desktops are not built yet in this version of Steersman"


async def test_many_may_ask_at_once(nats: NatsServer) -> None:
    async with desktop(nats) as (_, rpc):
        answers = await asyncio.gather(
            *(rpc.call(GET_DESKTOP, ASK) for _ in range(50)), return_exceptions=True
        )

    assert {type(answer) for answer in answers} == {DesktopUnavailable}


def test_programs_are_looked_for_on_the_path() -> None:
    assert missing_programs(lambda _: None) == ("Xvnc",)
    assert missing_programs(lambda name: f"/usr/bin/{name}") == ()
