"""Providers and models: who may change them, what is refused, and what becomes of their chats."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from support.chat_driver import StoreDriver, assistant
from support.services import SECRET_KEY

from steersman_contracts import events
from steersman_contracts.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    StaleFence,
    UnknownModel,
)
from steersman_contracts.ids import ModelName, RunnerId
from steersman_contracts.model_options import ModelSettings, Prices
from steersman_contracts.parts import JsonObject
from steersman_contracts.rpc import Actor, models
from steersman_contracts.rpc import chats as people
from steersman_contracts.rpc import worker as work
from steersman_store.database import open_database
from steersman_store.presets import Preset, PresetModel, write_presets
from steersman_store.secrets import Vault

pytestmark = pytest.mark.one_stack

URL = "http://127.0.0.1:9/v1"
BAD_PROVIDERS: list[tuple[dict[str, Any], str]] = [
    ({"base_url": "ftp://x"}, "base_url"),
    ({"base_url": "http://"}, "base_url"),
    ({"base_url": "http://me:secret@host/v1"}, "base_url"),
    ({"base_url": "http://host/v1?key=secret"}, "base_url"),
    ({"base_url": "http://host:99999/"}, "base_url"),
    ({"base_url": "http://ho st/"}, "base_url"),
    ({"base_url": None}, "base_url"),
    ({"api_key": "two\nlines"}, "api_key"),
    ({"headers": {"Bad Name": "x"}}, "headers"),
    ({"headers": {"Host": "x"}}, "headers"),
    ({"headers": {"X-A": "secret\r\nX-B: y"}}, "headers.X-A"),
    ({"headers": {"X-A": "x", "x-a": "y"}}, "headers.x-a"),
    ({"base_url": "http://another.example/v1", "api_key": None}, "api_key"),
]
BAD_SETTINGS: list[tuple[JsonObject, str]] = [
    ({"temprature": 1}, "settings.temprature"),
    ({"temperature": 3}, "settings.temperature"),
    ({"options": {"web_search_enabled": True}}, "settings.options.web_search_enabled"),
    ({"options": {"parallel_tool_calls": "no"}}, "settings.options.parallel_tool_calls"),
    ({"options": {"user": "a\x00b"}}, "settings"),
    ({"prices": {"input": -1}}, "settings.prices.input"),
    ({"fallbacks": ["lab/nothing"]}, "settings.fallbacks"),
    ({"fallbacks": ["lab/m"]}, "settings.fallbacks"),
    ({"compaction_model": "lab/nothing"}, "settings.compaction_model"),
]


class Admin:
    """Short names for what an admin does."""

    def __init__(self, store: StoreDriver) -> None:
        self.rpc = store.rpc
        self.actor = Actor(store.actor.user_id, "admin")

    async def provider(self, **fields: Any) -> models.Provider:
        values: dict[str, Any] = {
            "id": "lab",
            "type": "openai-chat",
            "display_name": "The lab",
            "base_url": URL,
            "api_key": "sk-secret",
        }
        request = models.PutProvider(self.actor, **(values | fields))
        return (await self.rpc.call(models.PUT_PROVIDER, request)).provider

    async def change_provider(self, **fields: Any) -> models.Provider:
        request = models.PatchProvider(self.actor, "lab", **fields)
        return (await self.rpc.call(models.PATCH_PROVIDER, request)).provider

    async def model(self, model_id: str = "m", **fields: Any) -> models.Model:
        request = models.PutModel(self.actor, "lab", model_id, **fields)
        return (await self.rpc.call(models.PUT_MODEL, request)).model

    async def change(self, name: str = "lab/m", **fields: Any) -> models.Model:
        request = models.PatchModel(self.actor, ModelName(name), **fields)
        return (await self.rpc.call(models.PATCH_MODEL, request)).model

    async def delete(self, name: str = "lab/m") -> None:
        request = models.DeleteModel(self.actor, ModelName(name))
        await self.rpc.call(models.DELETE_MODEL, request)

    async def listed(self, actor: Actor | None = None) -> dict[str, models.Model]:
        request = models.ListModels(actor or self.actor)
        found = (await self.rpc.call(models.LIST_MODELS, request)).models
        return {str(model.name): model for model in found}


@pytest.fixture
def admin(store: StoreDriver) -> Admin:
    return Admin(store)


async def access(store: StoreDriver, model: str = "lab/m") -> work.ModelAccess:
    """What a worker is told of a chat with this model."""
    chat = await store.create(model=model)
    return (await store.acquire(chat.id)).chat.model


async def test_settings_and_secret_headers_reach_the_worker_and_nobody_else(
    store: StoreDriver, admin: Admin, database_url: str
) -> None:
    made = await admin.provider(headers={"X-Team": "header-secret"})
    settings: JsonObject = {"temperature": 0.5, "options": {"extra_body": {"seed": 7}}}
    model = await admin.model(settings=settings)
    got = await access(store)

    assert (made.has_key, made.header_names) == (True, ("X-Team",))
    assert (got.api_key, got.headers) == ("sk-secret", {"X-Team": "header-secret"})
    assert (
        got.settings
        == model.settings
        == ModelSettings(temperature=0.5, options=settings["options"])
    )
    assert got.disabled is None
    member = (await admin.listed(store.actor))["lab/m"]
    assert (member.settings.temperature, member.settings.options) == (0.5, {})
    connection = await asyncpg.connect(database_url)
    try:
        stored = repr(await connection.fetchrow("SELECT * FROM providers WHERE id = 'lab'"))
    finally:
        await connection.close()
    assert "sk-secret" not in stored
    assert "header-secret" not in stored


async def test_a_change_names_what_it_changes_and_leaves_the_rest(
    store: StoreDriver, admin: Admin
) -> None:
    await admin.provider(headers={"X-A": "1", "X-B": "2"})
    await admin.model(
        context_limit=4096, settings={"top_p": 0.5, "prices": {"input": 1, "output": 2}}
    )

    provider = await admin.change_provider(headers={"x-a": None, "X-C": "3"}, enabled=False)
    assert (provider.header_names, provider.enabled, provider.has_key) == (
        ("X-B", "X-C"),
        False,
        True,
    )
    assert (await admin.change_provider(enabled=True, api_key=None)).has_key is False
    changed = await admin.change(
        display_name="New", settings={"top_p": None, "temperature": 1, "prices": {"output": 3}}
    )
    assert (changed.display_name, changed.context_limit) == ("New", 4096)
    assert changed.settings == ModelSettings(temperature=1, prices=Prices(1, 3))
    assert changed.prices_edited
    assert (await admin.change(context_limit=None)).context_limit is None
    got = await access(store)
    assert (got.api_key, got.headers) == (None, {"X-B": "2", "X-C": "3"})


async def test_a_provider_that_cannot_be_is_refused_with_its_field(admin: Admin) -> None:
    before = await admin.provider()
    for fields, field in BAD_PROVIDERS:
        with pytest.raises(InvalidRequest) as refused:
            await admin.provider(**fields)
        assert refused.value.details["field"] == field, fields
        assert "secret" not in str(refused.value)
    assert (await admin.change_provider(version=before.version)).version == before.version + 1


async def test_settings_that_cannot_be_are_refused_with_their_field(admin: Admin) -> None:
    await admin.provider()
    await admin.model()
    for settings, field in BAD_SETTINGS:
        for change in (admin.model, admin.change):
            with pytest.raises(InvalidRequest) as refused:
                await change(settings=settings)
            assert refused.value.details["field"] == field, settings


async def test_of_two_admins_who_edit_the_later_one_is_told(admin: Admin) -> None:
    provider = await admin.provider()
    model = await admin.model()
    await admin.change_provider(display_name="One", version=provider.version)
    await admin.change(display_name="One", version=model.version)

    with pytest.raises(Conflict) as refused:
        await admin.change_provider(display_name="Two", version=provider.version)
    assert refused.value.details == {"field": "version", "version": provider.version + 1}
    for edit in (admin.change, admin.model):
        with pytest.raises(Conflict):
            await edit(display_name="Two", version=model.version)
    assert (await admin.listed())["lab/m"].display_name == "One"


async def test_a_provider_keeps_its_type_while_models_have_options_of_it(admin: Admin) -> None:
    await admin.provider()
    await admin.model(settings={"options": {"extra_body": {"x": 1}}})
    with pytest.raises(InvalidRequest) as refused:
        await admin.change_provider(type="anthropic")
    assert refused.value.details["field"] == "type"
    await admin.change(settings={"options": None})
    assert (await admin.change_provider(type="anthropic")).type == "anthropic"


async def test_only_admins_change_models_and_providers(store: StoreDriver, admin: Admin) -> None:
    await admin.provider()
    await admin.model()
    admin.actor = store.actor
    for change in (
        admin.provider,
        admin.change_provider,
        admin.model,
        admin.change,
        admin.delete,
    ):
        with pytest.raises(Forbidden):
            await change()
    with pytest.raises(Forbidden):
        await store.rpc.call(models.REFRESH_PRICES, models.RefreshPrices(store.actor))
    with pytest.raises(Forbidden):
        await store.rpc.call(work.PROVIDER_ACCESS, work.GetProviderAccess(store.actor, "lab"))


async def test_there_is_one_default_and_the_list_says_what_can_be_used(
    store: StoreDriver, admin: Admin
) -> None:
    await admin.provider()
    await admin.model("a", make_default=True)
    await admin.model("b")
    await admin.change("lab/b", make_default=True)
    listed = await admin.listed()
    assert [name for name, model in listed.items() if model.is_default] == ["lab/b"]
    with pytest.raises(InvalidRequest) as refused:
        await admin.model("c", make_default=True, enabled=False)
    assert refused.value.details["field"] == "make_default"

    await admin.provider(id="bare", type="anthropic", base_url=None, api_key=None)
    request = models.PutModel(admin.actor, "bare", "claude")
    await store.rpc.call(models.PUT_MODEL, request)
    await admin.change("lab/b", enabled=False)
    listed = await admin.listed(store.actor)
    assert (listed["bare/claude"].availability, listed["bare/claude"].reason) == (
        "missing_api_key",
        "there is no API key for The lab",
    )
    assert (listed["lab/b"].availability, listed["lab/a"].availability) == ("disabled", "available")
    assert [name for name, model in listed.items() if model.is_default] == ["demo/broken"]
    assert (await access(store, "bare/claude")).disabled == "missing_key"
    with pytest.raises(UnknownModel):
        await store.create(model="lab/b")

    await admin.change_provider(enabled=False)
    assert (await admin.listed())["lab/a"].reason == "The lab is disabled"


async def test_a_chat_whose_model_is_gone_goes_on_with_the_default_at_its_next_turn(
    store: StoreDriver, admin: Admin
) -> None:
    await admin.provider()
    await admin.model()
    await admin.change("demo/echo", make_default=True)
    chat = await store.create(model="lab/m")
    await store.acquire(chat.id)
    answer = work.NewMessage(
        assistant("one").role, assistant("one").parts, model=ModelName("lab/m"), stop="end"
    )
    await store.send(chat.id, "in the queue")
    await admin.delete()
    with pytest.raises(NotFound):
        await admin.delete()

    assert (await store.chat(chat.id)).model == "lab/m"
    done = await store.finish(await store.fence(chat.id), answer)
    assert done.chat.model.name == "demo/echo"
    assert done.chat.model.disabled is None
    updated = await store.log.until(chat.id, events.ChatUpdated)
    assert isinstance(updated, events.ChatUpdated)
    assert updated.chat.model == "demo/echo"
    assert [m.model for m in await store.messages(chat.id)] == [None, "lab/m", None]

    await store.finish(await store.fence(chat.id), assistant("two"))
    await admin.model()  # it is back, and so are its chats' choices
    await store.send(chat.id, "again", model=ModelName("lab/m"))
    await store.interrupt(chat.id)
    await store.acquire(chat.id)
    await store.finish_interruption(await store.fence(chat.id))
    await admin.change(enabled=False)
    assert (await store.send(chat.id, "once more")).chat.model == "demo/echo"


@pytest.mark.own_stack
async def test_an_edit_goes_on_with_the_default_too(store: StoreDriver, admin: Admin) -> None:
    await admin.provider()
    await admin.model()
    chat = await store.create(model="lab/m")
    (question,) = await store.messages(chat.id)
    request = models.DeleteProvider(admin.actor, "lab")
    await store.rpc.call(models.DELETE_PROVIDER, request)

    assert (await store.acquire(chat.id)).chat.model.disabled == "config"
    edited = await store.edit(chat.id, question.id, "asked anew")
    assert edited.chat.model == "demo/tour"
    await store.log.until(chat.id, events.ChatUpdated)


async def test_a_worker_reaches_another_model_only_for_a_chat_that_it_owns(
    store: StoreDriver, admin: Admin
) -> None:
    await admin.provider()
    await admin.model()
    chat = await store.create()
    await store.acquire(chat.id, "runner-1")

    async def reach(runner: str, model: str) -> work.ModelAccess:
        request = work.GetModelAccess(chat.id, RunnerId(runner), ModelName(model))
        return (await store.rpc.call(work.MODEL_ACCESS, request)).model

    assert (await reach("runner-1", "lab/m")).api_key == "sk-secret"
    assert (await reach("runner-1", "lab/nothing")).disabled == "config"
    with pytest.raises(StaleFence):
        await reach("runner-2", "lab/m")


async def test_a_worker_learns_which_types_of_providers_can_be_called(
    store: StoreDriver, admin: Admin
) -> None:
    async def types() -> tuple[str, ...]:
        return (await store.rpc.call(work.PROVIDER_TYPES, work.ListProviderTypes())).types

    before = await types()
    await admin.provider()
    assert await types() == before, "a provider without a model is not called"
    await admin.model()
    assert set(await types()) == {*before, "openai-chat"}


async def test_a_preset_that_was_removed_stays_away(
    store: StoreDriver, admin: Admin, database_url: str
) -> None:

    await admin.delete("demo/tour")
    found = [Preset("demo", "demo", "Demo", [PresetModel("tour", "Tour", free=True)])]
    async with open_database(database_url, size=2) as database:
        await write_presets(database, Vault(SECRET_KEY), found)

    assert "demo/tour" not in await admin.listed()
    page = await store.rpc.call(people.LIST, people.ListChats(store.actor))
    assert page.chats == ()
