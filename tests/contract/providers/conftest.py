from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import cast

import pytest
from contract.providers.harness import KINDS, Conversation, access
from fakes.script import Kind
from fakes.server import FakeProviders

from steersman_chatloop.providers.registry import Providers


@pytest.fixture
async def fakes() -> AsyncGenerator[FakeProviders]:
    async with FakeProviders() as server:
        yield server


@pytest.fixture
async def providers() -> AsyncGenerator[Providers]:
    found = Providers(first_event_s=20, idle_s=20)
    yield found
    await found.aclose()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return cast("Kind", request.param)


@pytest.fixture
def chat(kind: Kind, fakes: FakeProviders, providers: Providers) -> Conversation:
    return Conversation(providers, access(kind, fakes))
