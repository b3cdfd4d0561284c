"""One writer: fences, leases, and the hints that bring a worker."""

from __future__ import annotations

import asyncio

import pytest
from support.chat_driver import StoreDriver, assistant, words_of
from support.databases import expire_leases
from support.work import hints

from steersman_contracts.chats import Status
from steersman_contracts.errors import AlreadyOwned, StaleFence
from steersman_contracts.ids import RunnerId
from steersman_contracts.rpc import worker as work
from steersman_runtime.nats_client import NatsClient


async def test_only_one_of_many_workers_gets_a_chat(store: StoreDriver) -> None:
    chat = await store.create("first")

    results = await asyncio.gather(
        *(store.acquire(chat.id, f"runner-{n}") for n in range(10)), return_exceptions=True
    )

    won = [r for r in results if isinstance(r, work.WorkContext)]
    assert len(won) == 1
    assert all(isinstance(r, AlreadyOwned) for r in results if r not in won)


async def test_an_overtaken_worker_can_write_nothing(store: StoreDriver, database_url: str) -> None:
    chat = await store.create("first")
    await store.acquire(chat.id, "old")
    stale = await store.fence(chat.id, "old")
    await expire_leases(database_url)
    await store.acquire(chat.id, "new")
    before = await store.messages(chat.id)

    for attempt in (
        store.begin(stale),
        store.commit(stale, assistant("x")),
        store.finish(stale, assistant("x")),
        store.finish_error(stale, assistant("x")),
        store.retry(stale),
    ):
        with pytest.raises(StaleFence) as refused:
            await attempt
        assert refused.value.details["owned"] is False

    assert await store.messages(chat.id) == before
    renewed = await store.rpc.call(work.RENEW, work.Renew(RunnerId("old"), (chat.id,), 60))
    assert renewed.held == ()


async def test_a_commit_for_an_older_history_is_refused(store: StoreDriver) -> None:
    chat = await store.create("first")
    await store.acquire(chat.id)
    fence = await store.fence(chat.id)
    await store.commit(fence, assistant("one"))

    with pytest.raises(StaleFence) as refused:
        await store.commit(fence, assistant("one"))

    assert refused.value.details["owned"] is True
    assert len(await store.messages(chat.id)) == 2


async def test_a_commit_after_an_interrupt_is_refused_and_says_why(store: StoreDriver) -> None:
    chat = await store.create("first")
    await store.acquire(chat.id)
    fence = await store.fence(chat.id)
    await store.interrupt(chat.id)

    with pytest.raises(StaleFence) as refused:
        await store.finish(fence, assistant("done"))

    assert refused.value.details == {
        "status": Status.INTERRUPTING,
        "history_version": fence.history_version,
        "owned": True,
    }


async def test_renewing_keeps_a_chat_and_tells_what_was_missed(store: StoreDriver) -> None:
    mine, other = await store.create("mine"), await store.create("other")
    await store.acquire(mine.id)
    await store.acquire(other.id, "runner-2")
    await store.interrupt(mine.id)

    request = work.Renew(RunnerId("runner-1"), (mine.id, other.id), 60)
    renewed = await store.rpc.call(work.RENEW, request)

    assert renewed.held == (work.HeldLease(mine.id, Status.INTERRUPTING, mine.history_version),)


async def test_a_runnable_chat_without_a_live_lease_is_hinted_again(
    store: StoreDriver, client: NatsClient, database_url: str
) -> None:
    chat = await store.create("first")
    assert await hints(client, 1) == [chat.id]
    await store.acquire(chat.id, "dead")
    await expire_leases(database_url)

    assert await hints(client, 1) == [chat.id]


async def test_an_abandoned_chat_is_hinted_at_once_and_can_be_taken(
    store: StoreDriver, client: NatsClient
) -> None:
    chat = await store.create("first")
    await hints(client, 1)
    await store.acquire(chat.id)

    await store.abandon(chat.id)

    assert await hints(client, 1) == [chat.id]
    assert (await store.acquire(chat.id, "next")).chat.status is Status.RUNNING


async def test_a_worker_that_knows_the_history_gets_only_what_is_new(store: StoreDriver) -> None:
    chat = await store.create("first")
    await store.acquire(chat.id)
    done = await store.finish(await store.fence(chat.id), assistant("one"))
    await store.send(chat.id, "second")

    context = await store.acquire(chat.id, known=done.chat.history_version)

    assert [words_of(message) for message in context.messages] == ["second"]


async def test_a_long_history_comes_in_pages(store: StoreDriver) -> None:
    chat = await store.create("first")
    await store.acquire(chat.id)
    big = "x" * 100_000
    for _ in range(20):
        await store.commit(await store.fence(chat.id), assistant(big))

    context = await store.acquire(chat.id)
    messages = list(context.messages)
    complete = context.complete
    pages = 1
    while not complete:
        last = messages[-1]
        request = work.LoadHistory(chat.id, RunnerId("runner-1"), (last.revision, last.id))
        page = await store.rpc.call(work.LOAD_HISTORY, request)
        messages += page.messages
        complete = page.complete
        pages += 1

    assert pages > 1
    assert [m.id for m in messages] == [m.id for m in await store.messages(chat.id)]
