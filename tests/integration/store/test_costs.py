"""What steps cost: one function of usage and prices, and sums that agree with a recomputation."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import date
from fractions import Fraction
from math import ceil
from typing import Any

import asyncpg
import msgspec
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.chat_driver import StoreDriver, new_actor, text
from support.databases import expire_leases

from steersman_contracts import events
from steersman_contracts.chats import Role, Usage
from steersman_contracts.ids import ChatId, ModelName, UserId
from steersman_contracts.model_options import Prices, PriceTier
from steersman_contracts.rpc import Actor, models
from steersman_contracts.rpc import chats as people
from steersman_contracts.rpc import usage as rpc
from steersman_contracts.rpc import worker as work

PRICED, FREE, UNKNOWN = "lab/priced", "lab/free", "lab/unknown"
PRICES = {
    PRICED: Prices(input=3_000_000, output=15_000_000, cache_read=300_000, cache_write=3_750_000),
    FREE: Prices(input=0, output=0),
    UNKNOWN: Prices(),
}


GEMINI = Prices(
    2_000_000,
    15_000_000,
    500_000,
    tiers=(PriceTier(above=200_000, input=4_000_000, output=18_000_000, cache_read=500_000),),
)
Paid = tuple[str, str, str, Usage, int | None]
"""Owner, chat, model, usage and cost of a step."""


def expected(usage: Usage | None, prices: Prices) -> int | None:
    """The same again with fractions, from the words of the contract."""
    if prices.input is None or prices.output is None:
        return None
    if usage is None and prices.tiers:
        return None
    reached = [t for t in prices.tiers if usage is not None and t.above < usage.input_tokens]
    if reached:
        tier = max(reached, key=lambda one: one.above)
        prices = Prices(tier.input, tier.output, tier.cache_read, tier.cache_write)
        assert prices.input is not None
        assert prices.output is not None
    read = prices.input if prices.cache_read is None else prices.cache_read
    write = prices.input if prices.cache_write is None else prices.cache_write
    if usage is None:
        return None if any((prices.input, prices.output, read, write)) else 0
    fresh = max(usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens, 0)
    total = (
        fresh * prices.input
        + usage.cache_read_tokens * read
        + usage.cache_write_tokens * write
        + usage.output_tokens * prices.output
    )
    return ceil(Fraction(total, 1_000_000))


tokens = st.integers(0, 10**9)
usages = st.none() | st.builds(Usage, tokens, tokens, tokens, tokens, tokens)
price = st.none() | st.integers(0, 10**12) | st.integers(0, 10)
known = st.integers(0, 10**12)
tiers = st.builds(
    PriceTier,
    above=st.integers(1, 10**9),
    input=known,
    output=known,
    cache_read=price,
    cache_write=price,
)
prices = st.builds(
    Prices,
    price,
    price,
    price,
    price,
    st.lists(tiers, max_size=3, unique_by=lambda tier: tier.above).map(tuple),
)


async def costs(url: str, pairs: list[tuple[Usage | None, Prices]]) -> list[int | None]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT step_cost(u::json, p::json) AS cost FROM unnest($1::text[], $2::text[]) "
            "WITH ORDINALITY AS t(u, p, n) ORDER BY n",
            [None if u is None else msgspec.json.encode(u).decode() for u, _ in pairs],
            [msgspec.json.encode(p).decode() for _, p in pairs],
        )
    finally:
        await connection.close()
    return [row["cost"] for row in rows]


@settings(
    max_examples=10,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(pairs=st.lists(st.tuples(usages, prices), min_size=1, max_size=100))
async def test_the_cost_of_a_step_is_exact_and_rounded_up(
    database_url: str, pairs: list[tuple[Usage | None, Prices]]
) -> None:
    assert await costs(database_url, pairs) == [expected(u, p) for u, p in pairs]


async def test_costs_by_example(database_url: str) -> None:
    sonnet = PRICES[PRICED]
    cases: list[tuple[Usage | None, Prices, int | None]] = [
        (Usage(1000, 100), sonnet, 3000 + 1500),
        (Usage(1000, 100, reasoning_tokens=90), sonnet, 4500),
        (Usage(1000, 0, 0, 800, 100), sonnet, 300 + 240 + 375),
        (Usage(1, 0), Prices(1, 0), 1),
        (Usage(200_000, 10, 0, 100_000), GEMINI, 250_000 + 150),
        (Usage(200_001, 10, 0, 100_000), GEMINI, 450_184),
        (Usage(0, 0), sonnet, 0),
        (Usage(0, 0), Prices(), None),
        (Usage(5, 5), Prices(input=1), None),
        (Usage(5, 5), Prices(0, 0), 0),
        (None, sonnet, None),
        (None, Prices(0, 0), 0),
    ]
    assert await costs(database_url, [(u, p) for u, p, _ in cases]) == [c for *_, c in cases]


@pytest_asyncio.fixture(loop_scope="module")
async def priced(store: StoreDriver) -> StoreDriver:
    """A store with a model that costs, one that is free and one that nobody knows."""
    admin = Actor(store.actor.user_id, "admin")
    put = models.PutProvider(admin, "lab", "openai-chat", "Lab", "http://127.0.0.1:9/v1")
    await store.rpc.call(models.PUT_PROVIDER, put)
    for name, known in PRICES.items():
        request = models.PutModel(
            admin, "lab", name.split("/")[1], settings={"prices": msgspec.to_builtins(known)}
        )
        await store.rpc.call(models.PUT_MODEL, request)
    return store


async def step(
    store: StoreDriver, chat_id: ChatId, model: str, usage: Usage | None
) -> work.Committed:
    message = work.NewMessage(
        Role.ASSISTANT, text("hm"), model=ModelName(model), usage=usage, stop="end"
    )
    return await store.commit(await store.fence(chat_id), message)


async def report(store: StoreDriver, actor: Actor | None = None, **fields: Any) -> rpc.UsageReport:
    return await store.rpc.call(rpc.GET_USAGE, rpc.GetUsage(actor or store.actor, **fields))


async def test_each_step_carries_its_cost_and_the_chat_their_sum(priced: StoreDriver) -> None:
    chat = await priced.create(model=PRICED)
    await priced.acquire(chat.id)
    await step(priced, chat.id, PRICED, Usage(1000, 100))
    await step(priced, chat.id, FREE, Usage(1000, 100))
    await step(priced, chat.id, UNKNOWN, Usage(1000, 100))
    done = await step(priced, chat.id, PRICED, None)

    costs_stored = [message.cost for message in await priced.messages(chat.id)]
    assert costs_stored == [None, 4500, 0, None, None]
    assert done.messages[0].cost is None
    now = await priced.chat(chat.id)
    assert (now.cost_micros, now.cost_unknown_steps) == (4500, 2)
    recorded = await priced.log.until(chat.id, events.UsageRecorded, model=PRICED)
    assert isinstance(recorded, events.UsageRecorded)
    assert recorded.cost == 4500
    unknown = await priced.log.until(chat.id, events.UsageRecorded, model=UNKNOWN)
    assert isinstance(unknown, events.UsageRecorded)
    assert unknown.cost is None


async def test_what_a_worker_used_that_died_is_unknown_and_no_zero(
    priced: StoreDriver, database_url: str
) -> None:
    async def unknown(chat_id: ChatId) -> tuple[int, int]:
        chat = await priced.chat(chat_id)
        total = (await report(priced, chat_id=chat_id)).total
        assert total.cost_unknown_steps == chat.cost_unknown_steps
        return total.steps, chat.cost_unknown_steps

    paid, free = await priced.create(model=PRICED), await priced.create(model=FREE)
    for chat in (paid, free):
        await priced.acquire(chat.id, "dead", lease_s=60)
        await priced.begin(await priced.fence(chat.id, "dead"))
    await expire_leases(database_url)
    for chat in (paid, free):
        await priced.acquire(chat.id, "heir", lease_s=60)
    told = await priced.log.until(paid.id, events.ChatUpdated)
    assert isinstance(told, events.ChatUpdated)
    assert told.chat.cost_unknown_steps == 1
    assert [await unknown(paid.id), await unknown(free.id)] == [(0, 1), (0, 0)]

    # It had begun nothing of its own, and what the first one did is told already.
    await expire_leases(database_url)
    await priced.acquire(paid.id, "second-heir", lease_s=60)
    assert await unknown(paid.id) == (0, 1)

    # Who gives a chat back says itself what it has used of it.
    await priced.begin(await priced.fence(paid.id, "second-heir"))
    await priced.abandon(paid.id, "second-heir")
    await priced.acquire(paid.id)
    assert await unknown(paid.id) == (0, 1)
    await step(priced, paid.id, PRICED, Usage(1000, 100))
    assert await unknown(paid.id) == (1, 1)
    assert (await priced.chat(paid.id)).cost_micros == 4500


async def test_what_an_edit_takes_away_was_paid_all_the_same(priced: StoreDriver) -> None:
    chat = await priced.create(model=PRICED)
    await priced.acquire(chat.id)
    await step(priced, chat.id, PRICED, Usage(1000, 100))
    (question, _) = await priced.messages(chat.id)
    await priced.edit(chat.id, question.id, "anew")
    assert (await priced.chat(chat.id)).cost_micros == 4500

    answer = (await priced.messages(chat.id))[-1]
    forked = await priced.rpc.call(people.FORK, people.ForkChat(priced.actor, chat.id, answer.id))
    assert forked.chat.cost_micros == 0, "nothing was paid for it"
    await priced.delete(chat.id)
    assert (await report(priced)).total.cost_micros == 4500


async def test_sums_agree_with_a_recomputation(priced: StoreDriver, database_url: str) -> None:
    dice = random.Random(7)
    other = await new_actor(database_url, "bob")
    paid: list[Paid] = []
    first: ChatId | None = None
    for owner in (priced.actor, priced.actor, other):
        priced.actor, mine = owner, priced.actor
        chat = await priced.create(model=PRICED)
        await priced.acquire(chat.id)
        for _ in range(4):
            model = dice.choice(list(PRICES))
            numbers = [dice.randrange(10_000) for _ in range(5)]
            usage = Usage(*numbers)
            await step(priced, chat.id, model, usage)
            paid.append((owner.user_id, chat.id, model, usage, expected(usage, PRICES[model])))
        priced.actor, first = mine, first or chat.id
    admin = Actor(other.user_id, "admin")

    def total(rows: list[Paid]) -> rpc.UsageSum:
        return rpc.UsageSum(
            steps=len(rows),
            input_tokens=sum(u.input_tokens for *_, u, _ in rows),
            output_tokens=sum(u.output_tokens for *_, u, _ in rows),
            reasoning_tokens=sum(u.reasoning_tokens for *_, u, _ in rows),
            cache_read_tokens=sum(u.cache_read_tokens for *_, u, _ in rows),
            cache_write_tokens=sum(u.cache_write_tokens for *_, u, _ in rows),
            cost_micros=sum(cost or 0 for *_, cost in rows),
            cost_unknown_steps=sum(cost is None for *_, cost in rows),
        )

    mine = [row for row in paid if row[0] != other.user_id]
    owner = Actor(UserId(mine[0][0]))
    for place, group_by in ((0, "user"), (1, "chat"), (2, "model")):
        for actor, rows in ((owner, mine), (admin, paid)):
            groups: defaultdict[str, list[Paid]]
            groups = defaultdict(list)
            for row in rows:
                groups[str(row[place])].append(row)
            got = await report(priced, actor, group_by=group_by)
            assert got.total == total(rows)
            assert {row.key: sum_of(row) for row in got.rows} == {
                key: total(group) for key, group in groups.items()
            }
            assert [r.cost_micros for r in got.rows] == sorted(
                (r.cost_micros for r in got.rows), reverse=True
            )
    assert first is not None
    tree = await report(priced, owner, chat_id=first, group_by="model")
    assert tree.total == total([row for row in paid if row[1] == first])
    assert (await report(priced, Actor(other.user_id), chat_id=first)).rows == ()
    page = await report(priced, admin, group_by="chat", limit=1)
    assert (len(page.rows), page.has_more, page.total) == (1, True, total(paid))
    labels = {row.label for row in (await report(priced, admin, group_by="user")).rows}
    assert labels == {"alice", "bob"}


async def test_subagents_are_part_of_the_tree_and_days_of_the_report(
    priced: StoreDriver, database_url: str
) -> None:
    parent, child = await priced.create(model=PRICED), await priced.create(model=PRICED)
    for chat in (parent, child):
        await priced.acquire(chat.id)
        await step(priced, chat.id, PRICED, Usage(1000, 100))
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "UPDATE chats SET parent_id = $1 WHERE id = $2", parent.id, child.id
        )
        await connection.execute(
            "UPDATE usage_days SET day = '2026-01-31' WHERE chat_id = $1", child.id
        )
        today = await connection.fetchval("SELECT (now() AT TIME ZONE 'UTC')::date")
    finally:
        await connection.close()

    tree = await report(priced, chat_id=parent.id)
    assert tree.total.cost_micros == 9000
    assert [row.key for row in tree.rows] == ["2026-01-31", str(today)]
    assert (await priced.chat(parent.id)).cost_micros == 4500
    assert (await report(priced, chat_id=child.id)).total.cost_micros == 4500
    assert (await report(priced, first_day=today)).total.steps == 1
    first, last = date(2026, 1, 1), date(2026, 1, 31)
    assert (await report(priced, first_day=first, last_day=last)).total.steps == 1


def sum_of(row: rpc.UsageRow) -> rpc.UsageSum:
    return rpc.UsageSum(*(getattr(row, name) for name in rpc.UsageSum.__struct_fields__))
