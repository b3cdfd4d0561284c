from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio
import structlog
from integration.gateway.driver import RunningGateway, RunningGateways, running_gateways
from integration.gateway.stand_in import StandInStore, stand_in_store
from pytest_asyncio import is_async_test

from steersman.embedded.nats import NatsServer
from steersman_contracts.rpc import Actor

TOKEN = "token-of-ann"
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One event loop for the tests of this directory, because they share a gateway."""
    marker = pytest.mark.asyncio(loop_scope="session")
    for item in items:
        if HERE in item.path.parents and is_async_test(item):
            item.add_marker(marker, append=False)


@pytest.fixture(scope="session", autouse=True)
def logs() -> Generator[None]:
    """Plain lines: the traceback with all locals that a terminal gets takes seconds to draw."""
    before = structlog.get_config()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.dev.ConsoleRenderer(
                colors=False, exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    )
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def nats() -> Generator[NatsServer]:
    """One server for all tests that leave it alone: every test has chats of its own.

    It is patient: between two files of tests nobody runs the loop of its clients for a while.
    """
    with NatsServer(ping_s=3600) as server:
        yield server


@pytest.fixture
def own_nats() -> Generator[NatsServer]:
    """A server for a test that breaks it."""
    with NatsServer() as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_store(nats: NatsServer) -> AsyncGenerator[StandInStore]:
    async with stand_in_store(nats.url()) as store:
        yield store


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gateway(nats: NatsServer, shared_store: StandInStore) -> AsyncGenerator[RunningGateways]:
    """Two for all tests that leave them alone: they keep nothing, which is half of what is tested.

    Each request goes to either of them.
    """
    del shared_store
    async with running_gateways(nats.url()) as gateways:
        yield gateways


@pytest.fixture
def replica(gateway: RunningGateways) -> RunningGateway:
    """One of them, for tests of what a gateway has in its memory."""
    return gateway.replicas[0]


@pytest.fixture
def store(shared_store: StandInStore) -> StandInStore:
    """Empty, but for the users that the gateway may still remember."""
    shared_store.reset()
    return shared_store


@pytest.fixture
def ann(store: StandInStore) -> Actor:
    return store.add_user(TOKEN)


@pytest_asyncio.fixture(loop_scope="session")
async def client(gateway: RunningGateways, ann: Actor) -> AsyncGenerator[httpx2.AsyncClient]:
    """Ann's."""
    del ann
    async with gateway.client(TOKEN) as client:
        yield client
