"""A service as a process of its own: how it starts, how it answers, how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest
from integration.runtime.conftest import Connect

from steersman.embedded.nats import NatsServer
from steersman_contracts.errors import DesktopUnavailable
from steersman_contracts.ids import ChatId, UserId
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc.desktop import GET_DESKTOP, GetDesktop
from steersman_runtime.rpc import RpcClient
from steersman_runtime.service import Runtime, create_service
from steersman_runtime.settings import Secret, ServiceSettings

ASK = GetDesktop(Actor(UserId("u")), ChatId("0190a0a0-0000-7000-8000-000000000001"))


class Process:
    """`python -m steersman_desktop`, the smallest of the services."""

    def __init__(self, process: asyncio.subprocess.Process, http: httpx.AsyncClient) -> None:
        self.process = process
        self.http = http
        self.lines: list[dict[str, Any]] = []

    async def logged(self, event: str) -> dict[str, Any]:
        """Read its log up to this event."""
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            while line := await self.process.stdout.readline():
                entry = msgspec.json.decode(line, type=dict[str, Any])
                self.lines.append(entry)
                if entry["event"] == event:
                    return entry
        raise AssertionError(f"it ended before {event!r}: {self.lines}")

    async def ready(self) -> None:
        await self.logged("service.started")

    async def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            return await self.process.wait()


def environment(**settings: str) -> dict[str, str]:
    # With an empty PATH the service finds no Xvnc, wherever these tests run.
    inherited = {name: os.environ[name] for name in ("HOME",) if name in os.environ} | {"PATH": ""}
    return inherited | {f"STEERSMAN_{name.upper()}": value for name, value in settings.items()}


@asynccontextmanager
async def running(nats: NatsServer, **settings: str) -> AsyncGenerator[Process]:
    """Start it on a socket of ours, so that we know the port and it cannot be taken."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        env = environment(nats_url=nats.url(), listen=f"fd:{listener.fileno()}", **settings)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "steersman_desktop",
            env=env,
            pass_fds=[listener.fileno()],
            stdout=asyncio.subprocess.PIPE,
        )
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        async with httpx.AsyncClient(base_url=address, trust_env=False) as http:
            yield Process(process, http)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_service_lives_from_its_start_to_sigterm(
    nats: NatsServer, new_client: Connect
) -> None:
    async with running(nats, instance="d-1") as service:
        await service.ready()

        alive = (await service.http.get("/livez")).json()
        ready = await service.http.get("/readyz")
        with pytest.raises(DesktopUnavailable):
            await RpcClient(await new_client(), wait_for_service_s=10).call(GET_DESKTOP, ASK)
        metrics = await service.http.get("/metrics")

        assert (alive["status"], alive["service"]) == ("alive", "desktop")
        assert (ready.status_code, ready.json()) == (200, {"status": "ready", "problems": {}})
        assert metrics.headers["content-type"].startswith("text/plain")
        answered = 'steersman_rpc_requests_total{code="desktop_unavailable",method="sessions.get"}'
        assert f"{answered} 1.0" in metrics.text
        assert 'steersman_rpc_seconds_bucket{le="0.001",method="sessions.get"}' in metrics.text

        assert await service.end() == 0
        await service.logged("service.stopped")
        assert {(line["service"], line["instance"]) for line in service.lines} == {
            ("desktop", "d-1")
        }


async def test_without_nats_it_is_not_ready_and_can_still_end(own_nats: NatsServer) -> None:
    async with running(own_nats) as service:
        await service.ready()

        await asyncio.to_thread(own_nats.kill)
        await service.logged("nats.disconnected")
        away = await service.http.get("/readyz")
        await own_nats.start_async()
        await service.logged("nats.reconnected")
        back = await service.http.get("/readyz")
        await asyncio.to_thread(own_nats.kill)
        await service.logged("nats.disconnected")

        assert (away.status_code, away.json()["problems"]) == (503, {"nats": "not connected"})
        assert back.status_code == 200
        assert await service.end() == 0


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "STEERSMAN_NATS_URL is not set"),
        (
            {"nats_url": "nats://127.0.0.1:1", "listen": "nonsense"},
            "STEERSMAN_LISTEN: cannot listen on 'nonsense'",
        ),
    ],
)
async def test_bad_settings_end_it_at_once_and_are_named(
    settings: dict[str, str], says: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "steersman_desktop",
        env=environment(**settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()

    assert process.returncode == 2
    assert says in output.decode()
    assert "Traceback" not in output.decode()


async def test_a_service_that_was_told_to_end_says_that_it_drains() -> None:
    runtime = Runtime("desktop", ServiceSettings(nats_url=Secret("nats://unused")))
    told: list[str] = []
    runtime.on_stop(lambda: told.append("once"))

    @asynccontextmanager
    async def nothing(_: Runtime) -> AsyncGenerator[str]:
        yield "the service"

    app = create_service(runtime, nothing)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),  # pyright: ignore[reportArgumentType]  # an ASGI app to its own typing
        base_url="http://service",
    ) as http:
        starting = (await http.get("/readyz")).json()
        async with app.lifespan():
            ready = (await http.get("/readyz")).json()
            runtime.begin_stop()
            runtime.begin_stop()
            draining = await http.get("/readyz")
            alive = await http.get("/livez")

    assert starting == {"status": "not ready", "problems": {"lifecycle": "starting"}}
    assert ready == {"status": "ready", "problems": {}}
    assert (draining.status_code, draining.json()["problems"]) == (503, {"lifecycle": "draining"})
    assert alive.status_code == 200
    assert told == ["once"]
    assert app.state.service == "the service"
