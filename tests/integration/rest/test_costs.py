"""What a step costs is the same whichever wire format counted it, and whoever asks for the sum."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest_asyncio
from fakes import FakeProviders, Script, Text, Turn
from fakes.script import Usage
from support.chat_driver import StoreDriver
from support.chatloop import KINDS, ModelSetup, serving_tools
from support.services import running_chatloop

from steersman.embedded.nats import NatsServer
from steersman_runtime.nats_client import NatsClient

USED = Usage(input=1000, output=500, cache_read=200, reasoning=400)
PRICES = {"input": 3_000_001, "output": 15_000_000, "cache_read": 300_000}
# 800 fresh and 200 cached tokens of input and 500 of output, of which 400 were thoughts that are
# not paid twice: 2400.0008 + 60 + 7500, rounded up.
COST = 9961
TOKENS = {
    "input_tokens": 1000,
    "output_tokens": 500,
    "reasoning_tokens": 400,
    "cache_read_tokens": 200,
}


@pytest_asyncio.fixture(loop_scope="module")
async def fakes() -> AsyncGenerator[FakeProviders]:
    async with FakeProviders() as providers:
        providers.script("m", Script([Turn([Text("hello"), USED])], repeat=True))
        providers.script("unpriced", Script([Turn([Text("hello"), USED])], repeat=True))
        yield providers


async def report(client: httpx2.AsyncClient, **query: str) -> dict[str, Any]:
    return (await client.get("/api/v1/usage", params=query)).json()


async def test_every_wire_format_is_charged_alike_and_an_unknown_price_is_no_zero(
    alice: httpx2.AsyncClient,
    bob: httpx2.AsyncClient,
    store: StoreDriver,
    fakes: FakeProviders,
    nats: NatsServer,
    client: NatsClient,
) -> None:
    models = ModelSetup(store, fakes)
    priced = [await models.add(provider, "m", prices=PRICES) for provider in KINDS]
    unpriced = await models.add("chat", "unpriced")
    names = [*priced, unpriced]

    async def answered(model: str) -> str:
        reply = await alice.post("/api/v1/chats", json={"text": "hi", "model": model})
        chat_id = reply.json()["chat"]["id"]
        await store.at_rest(chat_id)
        return chat_id

    async with serving_tools(client), running_chatloop(nats.url()):
        chats = await asyncio.gather(*(answered(name) for name in names))

    for name, chat in zip(names, chats, strict=True):
        shown = (await alice.get(f"/api/v1/chats/{chat}")).json()
        messages = (await alice.get(f"/api/v1/chats/{chat}/messages")).json()["messages"]
        assert messages[-1]["usage"] == TOKENS, name
        assert "cost" not in messages[0]
        if name == unpriced:
            assert "cost" not in messages[-1]
            assert (shown.get("cost_micros", 0), shown["cost_unknown_steps"]) == (0, 1)
        else:
            assert messages[-1]["cost"] == shown["cost_micros"] == COST, name
            assert "cost_unknown_steps" not in shown

    by_model = await report(alice, group_by="model")
    known = {"steps": 1, **TOKENS, "cost_micros": COST}
    unknown = {"steps": 1, **TOKENS, "cost_unknown_steps": 1}
    assert {row.pop("key"): row for row in by_model["rows"]} == {
        **dict.fromkeys(priced, known),
        unpriced: unknown,
    }
    total = by_model["total"]
    assert (total["steps"], total["cost_micros"], total["cost_unknown_steps"]) == (5, 4 * COST, 1)
    assert len((await report(alice, group_by="chat"))["rows"]) == 5
    assert len((await report(alice, group_by="user"))["rows"]) == 1
    days = await report(alice, group_by="day")
    assert (
        sum(row["cost_micros"] for row in days["rows"]) == days["total"]["cost_micros"] == 4 * COST
    )
    assert (await report(alice, chat_id=chats[0]))["total"] == known
    assert (await report(bob))["rows"] == [], "costs of others are nobody's business"
