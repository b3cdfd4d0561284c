"""Replicas of the tools service that keep workspaces, with a real store that books them."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio
from integration.rest.conftest import (
    alice,
    alice_token,
    bob,
    gateway,
    one_gateway,
    shared_gateway,
)
from integration.tools.host import Caller, Service, tools_service
from support.chat_driver import StoreDriver
from support.stacks import client, database_url, nats, one_stack, share_loops, shared, store

from steersman.embedded.nats import NatsServer
from steersman_contracts.parts import JsonPart
from steersman_contracts.rpc.tools import CallResult
from steersman_runtime.nats_client import NatsClient
from steersman_tools.plugins import PluginSource, installed_plugins

__all__ = [
    "alice",
    "alice_token",
    "bob",
    "client",
    "database_url",
    "gateway",
    "nats",
    "one_gateway",
    "one_stack",
    "shared",
    "shared_gateway",
    "store",
]

OURS = ("exec", "files", "workspaces")
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    share_loops(items, HERE)


class StartTools(Protocol):
    async def __call__(self, *sources: PluginSource, **settings: Any) -> Service: ...


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory that other users reach as well: as root, commands run as one of them."""
    with tempfile.TemporaryDirectory(prefix="steersman-") as name:
        base = Path(name)
        base.chmod(0o755)
        yield base


@pytest.fixture
def templates(base: Path) -> Path:
    """The folder of the administrator's templates."""
    folder = base / "templates"
    folder.mkdir()
    return folder


def write_template(folder: Path, template_id: str, text: str) -> None:
    (folder / template_id).mkdir()
    (folder / template_id / "template.toml").write_text(text)


@pytest_asyncio.fixture(loop_scope="module")
async def start_tools(
    nats: NatsServer, store: StoreDriver, base: Path, templates: Path
) -> AsyncGenerator[StartTools]:
    """Starts a replica with our plugins; all of them have the same directories."""
    del store  # it only has to be there
    async with AsyncExitStack() as stack:

        async def start(*sources: PluginSource, **settings: Any) -> Service:
            settings = {
                "workspaces_dir": str(base / "workspaces"),
                "templates_dir": str(templates),
                "host_lease_s": 2.0,
                "toolset_patience_s": 0.0,
                "diff_quiet_s": 0.05,
                **settings,
            }
            ours = [source for source in installed_plugins() if source.name in OURS]
            return await stack.enter_async_context(
                tools_service(nats.url(), [*ours, *sources], settings)
            )

        yield start


class Chat(Caller):
    """A chat of the store's, whose model calls tools."""

    async def json(self, tool: str, **arguments: Any) -> Any:
        """The JSON of a result that is no error."""
        result = await self.call(tool, arguments)
        assert not result.is_error, result
        return json_of(result)


def json_of(result: CallResult) -> Any:
    part = result.content[0]
    assert isinstance(part, JsonPart), result
    return part.value


class NewChat(Protocol):
    async def __call__(self) -> Chat: ...


@pytest.fixture
def new_chat(store: StoreDriver, client: NatsClient) -> NewChat:
    async def make() -> Chat:
        return Chat(client, (await store.create("hello")).id)

    return make
