"""Providers from the environment: there from the start, and never in the way of an admin."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest
import pytest_asyncio
from support.chat_driver import StoreDriver, text
from support.services import SECRET_KEY

from steersman_contracts.chats import Role, Usage
from steersman_contracts.ids import ModelName
from steersman_contracts.model_options import Prices
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc import models as rpc
from steersman_contracts.rpc import worker as work
from steersman_runtime.settings import load_settings
from steersman_store.database import open_database
from steersman_store.models import Models
from steersman_store.presets import presets, write_presets
from steersman_store.price_list import PriceList
from steersman_store.secrets import Vault
from steersman_store.settings import Settings

pytestmark = pytest.mark.one_stack

KEYS = {
    "STEERSMAN_ANTHROPIC_API_KEY": "claude-of-the-environment",
    "STEERSMAN_OPENAI_API_KEY": "gpt-of-the-environment",
    "STEERSMAN_GEMINI_API_KEY": "gemini-of-the-environment",
    "STEERSMAN_LOCAL_MODEL_URL": "http://127.0.0.1:9/v1",
}
Start = Callable[[dict[str, str]], Awaitable[None]]


@pytest_asyncio.fixture(loop_scope="module")
async def start(store: StoreDriver, database_url: str) -> AsyncGenerator[Start]:
    """What a store does first when it starts with these variables."""
    del store
    needed = dict.fromkeys(("NATS_URL", "DATABASE_URL", "SECRET_KEY"), "unused")
    env = {f"STEERSMAN_{name}": value for name, value in needed.items()}
    async with open_database(database_url, size=2) as database:

        async def write(variables: dict[str, str]) -> None:
            settings = load_settings(Settings, "store", env | variables)
            await write_presets(database, Vault(SECRET_KEY), presets(settings))

        yield write


@pytest_asyncio.fixture(loop_scope="module")
async def look_up_prices(database_url: str) -> AsyncGenerator[Callable[[], Awaitable[None]]]:
    """What a store does then, beside its work; at first nothing answers in time."""
    hasty, price_list = PriceList(answer_s=0), PriceList(answer_s=60)
    async with open_database(database_url, size=2) as database:

        async def look_up() -> None:
            await Models(database, hasty).fill_prices()
            await Models(database, price_list).fill_prices()

        yield look_up
    await price_list.aclose()


async def listed(store: StoreDriver) -> dict[str, rpc.Provider]:
    found = await store.rpc.call(rpc.LIST_PROVIDERS, rpc.ListProviders(store.actor))
    return {provider.id: provider for provider in found.providers}


async def models(store: StoreDriver) -> dict[str, rpc.Model]:
    found = await store.rpc.call(rpc.LIST_MODELS, rpc.ListModels(store.actor))
    return {str(model.name): model for model in found.models}


async def access(store: StoreDriver, model: str) -> work.ModelAccess:
    chat = await store.create(model=model)
    return (await store.acquire(chat.id)).chat.model


def answer(words: str) -> work.NewMessage:
    return work.NewMessage(
        Role.ASSISTANT, text(words), model=ModelName("lab/m"), usage=Usage(1, 1), stop="end"
    )


async def test_a_key_in_the_environment_is_enough_and_that_of_an_admin_wins(
    store: StoreDriver, start: Start, look_up_prices: Callable[[], Awaitable[None]]
) -> None:
    await start(KEYS)

    found = await listed(store)
    assert {name: one.has_key for name, one in found.items()} == {
        "anthropic": True,
        "openai": True,
        "google": True,
        "local": False,
        "demo": False,
    }
    assert all(one.preset and one.enabled for one in found.values())
    offered = await models(store)
    (default,) = [name for name, model in offered.items() if model.is_default]
    assert offered[default].provider_id == "anthropic"
    assert {model.availability for model in offered.values()} == {"available"}
    assert (await access(store, default)).api_key == "claude-of-the-environment"
    assert offered[default].settings.prices == Prices(), "nobody has looked yet"
    await look_up_prices()
    priced = (await models(store))[default]
    assert priced.settings.prices.input
    assert priced.settings.prices.output
    assert not priced.prices_edited
    # Nobody has called any of them yet; the address of the local one came with the deployment.
    reached = {
        name: (await access(store, name)).reached
        for name in (default, "local/smollm2-135m-instruct")
    }
    assert list(reached.values()) == [False, True]

    admin = Actor(store.actor.user_id, "admin")
    own = rpc.PutProvider(admin, "anthropic", "anthropic", "Ours", None, "claude-of-the-admin")
    await store.rpc.call(rpc.PUT_PROVIDER, own)
    await start(KEYS | {"STEERSMAN_OPENAI_API_KEY": "another"})

    assert (await access(store, default)).api_key == "claude-of-the-admin"
    gpt = next(name for name in offered if name.startswith("openai/"))
    assert (await access(store, gpt)).api_key == "another"
    found = await listed(store)
    assert (found["anthropic"].preset, found["anthropic"].display_name) == (False, "Ours")

    await start({})

    found = await listed(store)
    enabled = {name for name, one in found.items() if one.enabled}
    assert enabled == {"anthropic", "demo"}, "what came with the environment goes with it"
    assert (await models(store))[gpt].availability == "disabled"
    assert (await access(store, default)).api_key == "claude-of-the-admin"


async def test_an_address_counts_as_reached_with_its_first_answer_until_it_changes(
    store: StoreDriver,
) -> None:
    admin = Actor(store.actor.user_id, "admin")
    put = rpc.PutProvider(admin, "lab", "openai-chat", "Lab", "http://127.0.0.1:9/v1", "key")
    await store.rpc.call(rpc.PUT_PROVIDER, put)
    await store.rpc.call(rpc.PUT_MODEL, rpc.PutModel(admin, "lab", "m"))

    async def change(**fields: str | bool) -> None:
        request = rpc.PatchProvider(admin, "lab", **fields)  # pyright: ignore[reportArgumentType]  # as the test gives them
        await store.rpc.call(rpc.PATCH_PROVIDER, request)

    chat = await store.create(model="lab/m")
    assert not (await store.acquire(chat.id)).chat.model.reached
    answered = await store.commit(await store.fence(chat.id), answer("an answer"))
    assert answered.chat.model.reached
    await store.finish(await store.fence(chat.id))
    assert (await access(store, "lab/m")).reached

    await change(api_key="another", display_name="The lab")
    assert (await access(store, "lab/m")).reached
    waiting = await store.create(model="lab/m")
    await store.acquire(waiting.id)
    await change(base_url="http://127.0.0.1:9/v2")
    assert not (await access(store, "lab/m")).reached
    late = await store.finish(await store.fence(waiting.id), answer("from the old address"))
    assert not late.chat.model.reached
    await store.send(waiting.id, "and now?")
    await store.acquire(waiting.id)
    now = await store.finish(await store.fence(waiting.id), answer("from the new one"))
    assert now.chat.model.reached
