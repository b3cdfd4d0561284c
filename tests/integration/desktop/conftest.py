from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from integration.desktop.harness import Caller, RunningDesktop, calling, running_desktop

from steersman.embedded.nats import NatsServer
from steersman_runtime.rpc import RpcClient


@pytest.fixture(scope="session")
def nats() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


@pytest.fixture(scope="session")
def uid_base() -> int:
    """Users of this process alone: a place ends whatever runs as its user."""
    return 300_000 + 100 * (os.getpid() % 10_000)


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """Short, because the names of sockets are."""
    folder = Path(tempfile.mkdtemp(prefix="sd-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture
async def rpc(nats: NatsServer) -> AsyncGenerator[RpcClient]:
    async with calling(nats.url()) as client:
        yield client


@pytest_asyncio.fixture
async def desktop(nats: NatsServer, run_dir: Path, uid_base: int) -> AsyncGenerator[RunningDesktop]:
    async with running_desktop(nats.url(), run_dir=str(run_dir), uid_base=uid_base) as service:
        yield service


@pytest.fixture
def caller(desktop: RunningDesktop, rpc: RpcClient) -> Caller:
    del desktop
    return Caller(rpc)


@pytest.fixture
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give each desktop a user of its own")
