from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from integration.desktop.harness import (
    MANY_VIEWERS,
    Caller,
    RunningDesktop,
    calling,
    running_desktop,
)
from pytest_asyncio import is_async_test

from steersman.embedded.nats import NatsServer
from steersman_runtime.rpc import RpcClient

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One event loop for the tests of this directory, because they share a service."""
    marker = pytest.mark.asyncio(loop_scope="session")
    for item in items:
        if HERE in item.path.parents and is_async_test(item):
            item.add_marker(marker, append=False)


@pytest.fixture(scope="session")
def nats() -> Iterator[NatsServer]:
    """A patient one: between two files of tests nobody runs the loop of its clients."""
    with NatsServer(ping_s=3600) as server:
        yield server


@pytest.fixture
def own_nats() -> Iterator[NatsServer]:
    """For tests with a service of their own: instances on one server share the chats."""
    with NatsServer() as server:
        yield server


@pytest.fixture(scope="session")
def uid_base() -> int:
    """Users of this process alone: a place ends whatever runs as its user."""
    return 300_000 + 100 * os.getpid()


def _short_folder() -> Iterator[Path]:
    """Short, because the names of sockets are."""
    folder = Path(tempfile.mkdtemp(prefix="sd-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_dir() -> Iterator[Path]:
    """Where the desktops of the shared service live."""
    yield from _short_folder()


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """Where the desktops of a test's own service live."""
    yield from _short_folder()


@pytest.fixture
def own_uid_base(uid_base: int) -> int:
    return uid_base + 50


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def rpc(nats: NatsServer) -> AsyncGenerator[RpcClient]:
    async with calling(nats.url()) as client:
        yield client


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def desktop(
    nats: NatsServer, shared_dir: Path, uid_base: int
) -> AsyncGenerator[RunningDesktop]:
    """One for all tests that leave it alone: each has a chat of its own."""
    async with running_desktop(
        nats.url(),
        run_dir=str(shared_dir),
        uid_base=uid_base,
        agent_idle_s=3600,  # no test is to depend on how fast the machine is
        max_viewers=MANY_VIEWERS,
    ) as service:
        yield service


@pytest_asyncio.fixture(loop_scope="session")
async def caller(desktop: RunningDesktop, rpc: RpcClient) -> AsyncGenerator[Caller]:
    del desktop
    caller = Caller(rpc)
    yield caller
    await caller.stop()


@pytest.fixture
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give each desktop a user of its own")
