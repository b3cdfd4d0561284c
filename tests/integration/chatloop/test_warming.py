"""Adapters are imported before a turn needs them, also those that an admin adds later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from support.chat_driver import StoreDriver
from support.chatloop import ModelSetup

from steersman_chatloop.warming import keep_warm
from steersman_contracts.errors import InvalidRequest
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc import models as models_rpc
from steersman_contracts.subjects import PROVIDERS_CHANGED
from steersman_runtime.nats_client import NatsClient
from steersman_runtime.tasks import running

pytestmark = pytest.mark.one_stack

NEVER_S = 3600.0


class Imports:
    """What was asked to be imported, in order."""

    def __init__(self) -> None:
        self._asked: asyncio.Queue[str] = asyncio.Queue()

    async def warm(self, provider_type: str) -> None:
        self._asked.put_nowait(provider_type)

    async def until(self, provider_type: str) -> list[str]:
        """Those up to this one."""
        found: list[str] = []
        async with asyncio.timeout(60):
            while not found or found[-1] != provider_type:
                found.append(await self._asked.get())
        return found


@asynccontextmanager
async def warming(
    client: NatsClient, store: StoreDriver, *, after_s: float
) -> AsyncGenerator[Imports]:
    """Looks once after this long, and then only when it is told to."""
    imports = Imports()

    async def work() -> None:
        await keep_warm(client, store.rpc, imports.warm, after_s=after_s, look_again_s=NEVER_S)

    ended = asyncio.Event()
    async with running(work, name="warming", on_failure=ended.set):
        yield imports
    assert not ended.is_set()


async def test_what_is_configured_is_imported_and_what_an_admin_adds_at_once(
    store: StoreDriver, models: ModelSetup, client: NatsClient
) -> None:
    admin = Actor(store.actor.user_id, "admin")
    async with warming(client, store, after_s=0) as imports:
        await imports.until("demo")

        await models.add("google", "m")
        await imports.until("google")

        # One without a key is as good as none, until it has one; nobody is told of what is refused.
        put = models_rpc.PutProvider(admin, "later", "anthropic", "Later")
        await store.rpc.call(models_rpc.PUT_PROVIDER, put)
        with pytest.raises(InvalidRequest):
            await store.rpc.call(
                models_rpc.PUT_PROVIDER,
                models_rpc.PutProvider(admin, "bad", "openai-chat", "Bad", base_url=None),
            )
        put_model = models_rpc.PutModel(admin, "later", "m")
        await store.rpc.call(models_rpc.PUT_MODEL, put_model)
        patch = models_rpc.PatchProvider(admin, "later", api_key="a-good-key")
        await store.rpc.call(models_rpc.PATCH_PROVIDER, patch)
        assert "openai-chat" not in await imports.until("anthropic")


async def test_a_replica_that_has_just_started_is_told_as_well(
    store: StoreDriver, models: ModelSetup, client: NatsClient
) -> None:
    async with warming(client, store, after_s=NEVER_S) as imports:
        await models.add("google", "m")
        await imports.until("google")


async def test_it_ends_also_when_it_hears_of_a_change_at_that_moment(
    store: StoreDriver, models: ModelSetup, client: NatsClient
) -> None:
    looked = asyncio.Event()

    async def warm(_: str) -> None:
        looked.set()

    work = keep_warm(client, store.rpc, warm, after_s=0, look_again_s=NEVER_S)
    task = asyncio.get_running_loop().create_task(work)
    async with asyncio.timeout(60):
        await looked.wait()

    def cancel(*_: object) -> None:
        task.cancel()

    # Of two that listen, the one that came first hears first: of the same message, at once.
    sid = client.listen(PROVIDERS_CHANGED, cancel)
    await models.add("google", "m")
    await asyncio.wait({task}, timeout=30)
    client.unlisten(sid)

    assert task.cancelled()
