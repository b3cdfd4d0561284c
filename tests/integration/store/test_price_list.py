"""Prices from the list, asked of the process that has it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from decimal import Decimal

import pytest
import pytest_asyncio
from genai_prices.types import ModelPrice, Tier, TieredPrices
from support.chat_driver import StoreDriver

from steersman_contracts.model_options import Prices, PriceTier
from steersman_contracts.rpc import Actor, models
from steersman_store.price_list import PriceList, PriceQuery, find_prices, to_prices


@pytest_asyncio.fixture(loop_scope="module")
async def price_list() -> AsyncGenerator[PriceList]:
    made = PriceList()
    yield made
    await made.aclose()


LONG = Prices(
    1_250_000,
    1,
    100_000,
    2_500_000,
    tiers=(
        PriceTier(
            above=200_000, input=9_000_000, output=1, cache_read=100_000, cache_write=2_500_000
        ),
    ),
)


@pytest.mark.parametrize(
    ("listed", "prices"),
    [
        (ModelPrice(input_mtok=Decimal(3), output_mtok=Decimal(15)), Prices(3_000_000, 15_000_000)),
        (ModelPrice(input_mtok=Decimal(0), output_mtok=Decimal(0)), Prices(0, 0)),
        (
            ModelPrice(
                input_mtok=TieredPrices(Decimal("1.25"), [Tier(start=200_000, price=Decimal(9))]),
                output_mtok=Decimal("0.0000001"),
                cache_read_mtok=Decimal("0.1"),
                cache_write_mtok=Decimal("2.5"),
            ),
            LONG,
        ),
        (ModelPrice(input_mtok=Decimal(3)), None),
        (ModelPrice(requests_kcount=Decimal(3)), None),
    ],
)
def test_dollars_become_micro_units_and_half_a_price_is_none(
    listed: ModelPrice, prices: Prices | None
) -> None:
    assert to_prices(listed) == prices


async def test_the_process_answers_as_the_list_does_and_is_asked_only_for_what_may_be_there(
    price_list: PriceList,
) -> None:
    queries = [
        PriceQuery("anthropic", None, "claude-sonnet-5-5"),
        PriceQuery("openai-chat", "http://127.0.0.1:1/v1", "gpt-5.4-mini"),
        PriceQuery("google", None, "gemini-2.5-flash"),
        PriceQuery("openai-responses", None, "no-such-model"),
        PriceQuery("openai-chat", "https://api.groq.com/openai/v1", "llama-3.3-70b-versatile"),
        PriceQuery("openai-chat", "https://nobody.example/v1", "gpt-5.4-mini"),
        PriceQuery("demo", None, "echo"),
    ]
    found = await price_list.look_up(queries)
    assert found is not None
    now = datetime.now(UTC)

    assert found == [find_prices(q, now) if q.may_be_listed() else None for q in queries]
    assert [prices is not None for prices in found] == [
        True,
        False,
        True,
        False,
        True,
        False,
        False,
    ]
    assert found[2] == Prices(300_000, 2_500_000, 30_000)
    assert await price_list.look_up(queries[:1]) == found[:1]


async def test_a_new_model_has_known_prices_unless_an_admin_sets_them(store: StoreDriver) -> None:
    admin = Actor(store.actor.user_id, "admin")
    put = models.PutProvider(admin, "google", "google", "Google", api_key="k")
    await store.rpc.call(models.PUT_PROVIDER, put)

    async def add(model_id: str, **fields: object) -> models.Model:
        request = models.PutModel(admin, "google", model_id, **fields)  # pyright: ignore[reportArgumentType]  # as given
        return (await store.rpc.call(models.PUT_MODEL, request)).model

    listed = await add("gemini-2.5-flash")
    assert (listed.settings.prices, listed.prices_edited) == (
        Prices(300_000, 2_500_000, 30_000),
        False,
    )
    own = await add("gemini-3.8-flash", settings={"prices": {"input": 7, "output": 7}})
    assert (own.settings.prices, own.prices_edited) == (Prices(7, 7), True)
    assert (await add("gemini-of-mine")).settings.prices == Prices()

    refreshed = await store.rpc.call(models.REFRESH_PRICES, models.RefreshPrices(admin))
    assert refreshed.models == ()
    handed_back = models.PatchModel(admin, own.name, settings={"prices": None})
    await store.rpc.call(models.PATCH_MODEL, handed_back)
    refreshed = await store.rpc.call(models.REFRESH_PRICES, models.RefreshPrices(admin))
    assert [model.name for model in refreshed.models] == ["google/gemini-3.8-flash"]
    assert refreshed.models[0].settings.prices.input not in (None, 7)
