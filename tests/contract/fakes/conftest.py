from collections.abc import AsyncGenerator, Mapping

import pytest
from fakes.drivers import Driver, drivers
from fakes.script import Kind
from fakes.server import FakeProviders


@pytest.fixture
async def fakes() -> AsyncGenerator[FakeProviders]:
    async with FakeProviders() as server:
        yield server


@pytest.fixture
async def sdks(fakes: FakeProviders) -> AsyncGenerator[Mapping[Kind, Driver]]:
    async with drivers(fakes) as found:
        yield found
