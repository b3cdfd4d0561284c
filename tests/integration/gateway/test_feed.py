"""The feed of all chats as clients see it: the same guarantees as for one chat."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx2
import msgspec
import pytest
from integration.gateway.driver import (
    PATIENCE_S,
    Received,
    RunningGateway,
    running_gateway,
    watching,
    watching_chats,
)
from integration.gateway.stand_in import StandInStore, make_log, stand_in_store

from steersman.embedded.nats import NatsServer
from steersman_contracts.chats import Status
from steersman_contracts.deltas import TextDelta
from steersman_contracts.events import (
    ChatDeleted,
    ChatStatusChanged,
    ChatUpdated,
    PartDelta,
)
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc.chats import LIST
from steersman_contracts.subjects import EVENT_STREAM
from steersman_runtime.jetstream import request

TOKEN = "token-of-ann"


def status(chat_id: ChatId, version: int) -> ChatStatusChanged:
    return ChatStatusChanged(
        chat_id=chat_id, snapshot_version=version, status=Status.RUNNING, history_version=1
    )


async def publish(
    store: StandInStore, owner: Actor, chat_id: ChatId, first: int, last: int
) -> list[bytes]:
    """Publish to a feed; returns the bytes that watchers must see."""
    published = [status(chat_id, version) for version in range(first, last + 1)]
    for event in published:
        await store.publish_mine(owner, event)
    return [msgspec.json.encode(event) for event in published]


def data(events: list[Received]) -> list[bytes]:
    return [event.data for event in events]


async def becomes(condition: Callable[[], bool]) -> None:
    """Wait for something inside the gateway, which tells nobody."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # of another task; nothing to await
            await asyncio.sleep(0.005)


async def test_a_feed_begins_with_the_first_page_and_goes_on_live(
    client: httpx2.AsyncClient, store: StandInStore, ann: Actor
) -> None:
    chats = [store.add_chat(ann, title=str(number)) for number in range(52)]
    store.add_chat(store.add_user("bob"), title="not hers")

    async with watching_chats(client) as stream:
        sync = await stream.next()
        published = await publish(store, ann, chats[0], 2, 4)
        live = await stream.take(3)

    page = (await client.get("/api/v1/chats")).json()
    assert stream.response.headers["Content-Type"].startswith("text/event-stream")
    assert stream.response.headers["Cache-Control"] == "no-store"
    assert stream.retry == "1000"
    assert sync.name == "stream.sync"
    assert sync.id == f"{sync.body['epoch']}.{sync.body['position']}"
    assert sync.body["snapshot"] == {
        "chats": page["chats"],
        "has_more": True,
        "next_cursor": page["next_cursor"],
    }
    assert len(page["chats"]) == 50
    assert data(live) == published
    assert store.asked_for(LIST)[0].archived is False


async def test_what_happens_between_position_and_snapshot_is_not_lost(
    client: httpx2.AsyncClient, store: StandInStore, ann: Actor
) -> None:
    chat_id = store.add_chat(ann)
    published: list[bytes] = []

    async def meanwhile() -> None:
        published.extend(await publish(store, ann, chat_id, 2, 6))

    store.before[LIST.name] = meanwhile

    async with watching_chats(client) as stream:
        await stream.next()
        assert data(await stream.take(5)) == published


async def test_a_client_that_drops_at_any_point_misses_nothing_and_sees_nothing_twice(
    client: httpx2.AsyncClient, store: StandInStore, ann: Actor, nats: NatsServer
) -> None:
    one, two = store.add_chat(ann), store.add_chat(ann)
    bob = store.add_user("bob")
    async with watching_chats(client, snapshot="false") as stream:
        sync = await stream.next()
        assert "snapshot" not in sync.body
    asked = len(store.asked_for(LIST))
    start, expected = sync.id, list[bytes]()
    for version in range(2, 10):
        expected += await publish(store, ann, one, version, version)
        await publish(store, bob, one, version, version)
        await store.publish(status(one, version))
        expected += await publish(store, ann, two, version, version)
    removed = ChatDeleted(chat_id=one, snapshot_version=99)
    await store.publish_mine(ann, removed)
    expected += [msgspec.json.encode(removed), *await publish(store, ann, two, 20, 21)]

    async with watching_chats(client, after=start) as stream:
        sync = await stream.next()
        whole = await stream.take(len(expected))
    assert (sync.id, sync.body["head"]) == (start, whole[-1].seq)
    assert data(whole) == expected

    async with running_gateway(nats.url()) as second, second.client(TOKEN) as other:
        for cut in range(len(whole) + 1):
            async with watching_chats(client, after=start) as stream:
                await stream.next()
                head = await stream.take(cut)
            cursor = head[-1].id if head else start
            async with watching_chats(other, cursor=cursor) as stream:
                await stream.next()
                assert head + await stream.take(len(whole) - cut) == whole
    assert len(store.asked_for(LIST)) == asked, "a cursor that holds needs no snapshot"


@pytest.mark.parametrize(("cursor", "reason"), [("0.1", "epoch"), ("{epoch}.999999999", "ahead")])
async def test_a_cursor_that_cannot_be_resumed_gets_a_gap_and_the_first_page(
    client: httpx2.AsyncClient, store: StandInStore, ann: Actor, cursor: str, reason: str
) -> None:
    chat_id = store.add_chat(ann)
    await publish(store, ann, chat_id, 2, 3)
    async with watching_chats(client) as stream:
        cursor = cursor.format(epoch=(await stream.next()).body["epoch"])

    async with watching_chats(client, after=cursor) as stream:
        gap, sync = await stream.take(2)

    assert (gap.name, gap.id) == ("stream.gap", "")
    assert gap.body == {"reason": reason, "requested": cursor}
    assert [chat["id"] for chat in sync.body["snapshot"]["chats"]] == [chat_id]


async def test_a_feed_survives_whatever_happens_to_the_log(own_nats: NatsServer) -> None:
    async with (
        stand_in_store(own_nats.url()) as store,
        running_gateway(own_nats.url()) as gateway,
        gateway.client(TOKEN) as client,
    ):
        ann = store.add_user(TOKEN)
        chat_id = store.add_chat(ann)
        async with watching_chats(client) as stream:
            first = await stream.next()
            published = await publish(store, ann, chat_id, 2, 6)
            seen = await stream.take(5)
            own_nats.kill()
            await own_nats.start_async()
            published += await _publish_through_outage(store, ann, chat_id, 7)
            seen += await stream.take(5)
            assert data(seen) == published

            # Expired: only what is left can be resumed.
            oldest = seen[3].seq
            await request(
                store.client,
                f"$JS.API.STREAM.PURGE.{EVENT_STREAM}",
                msgspec.json.encode({"seq": oldest}),
            )
            async with watching_chats(client, after=seen[0].id) as late:
                gap, sync = await late.take(2)
                assert (gap.name, gap.body["reason"]) == ("stream.gap", "expired")
                assert len(sync.body["snapshot"]["chats"]) == 1
            async with watching_chats(client, after=seen[3].id) as kept:
                await kept.next()
                assert await kept.take(6) == seen[4:]

            # Made anew under an open stream.
            await request(store.client, f"$JS.API.STREAM.DELETE.{EVENT_STREAM}", b"")
            await make_log(store.client)
            again = await publish(store, ann, chat_id, 20, 21)
            gap, sync = await stream.take(2)
            assert (gap.name, gap.body["reason"]) == ("stream.gap", "epoch")
            assert gap.body["requested"] == seen[-1].id
            assert sync.body["epoch"] != first.body["epoch"]
            rest = 2 - sync.body["position"]
            assert data(await stream.take(rest)) == again[2 - rest :]


async def _publish_through_outage(
    store: StandInStore, ann: Actor, chat_id: ChatId, first: int
) -> list[bytes]:
    """Five events while the gateway may not be connected yet."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                published = await publish(store, ann, chat_id, first, first)
                break
            except Exception:  # noqa: BLE001  # whatever a server that starts answers
                await asyncio.sleep(0.02)
    return published + await publish(store, ann, chat_id, first + 1, first + 4)


async def test_the_feed_of_a_person_is_shared_and_shown_to_nobody_else(
    replica: RunningGateway, store: StandInStore, ann: Actor
) -> None:
    bob = store.add_user("bob")
    mine, his = store.add_chat(ann), store.add_chat(bob)
    feeds = replica.service.streams.feeds
    await becomes(lambda: len(feeds) == 0)  # streams of tests before this one end on their own
    async with (
        replica.client(TOKEN) as client,
        replica.client("bob") as other,
        watching_chats(client) as one,
        watching_chats(client) as two,
        watching_chats(other) as bobs,
    ):
        syncs = [await stream.next() for stream in (one, two, bobs)]
        assert len(feeds) == 2
        published = await publish(store, ann, mine, 2, 3)
        theirs = await publish(store, bob, his, 2, 2)
        assert data(await one.take(2)) == data(await two.take(2)) == published
        assert data(await bobs.take(1)) == theirs

    listed = [[chat["id"] for chat in sync.body["snapshot"]["chats"]] for sync in syncs]
    assert listed == [[mine], [mine], [his]]
    async with replica.client() as nobody:
        refused = await nobody.get("/api/v1/events")
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
    await becomes(lambda: len(feeds) == 0)


async def test_a_filter_leaves_out_events_and_refuses_what_a_feed_never_has(
    client: httpx2.AsyncClient, store: StandInStore, ann: Actor
) -> None:
    chat_id = store.add_chat(ann)
    async with watching_chats(client, types="chat.updated") as stream:
        await stream.next()
        await publish(store, ann, chat_id, 2, 4)
        updated = ChatUpdated(chat_id=chat_id, snapshot_version=5, chat=store.chats[chat_id].chat)
        last = await store.publish_mine(ann, updated)
        seen = await stream.next()
        assert (seen.name, seen.seq) == ("chat.updated", last)

    refused = await client.get("/api/v1/events", params={"types": "chat.status,part.delta"})
    assert (refused.status_code, refused.json()["field"]) == (400, "types")
    refused = await client.get("/api/v1/events", params={"cursor": "nonsense"})
    assert (refused.status_code, refused.json()["code"]) == (400, "bad_cursor")


async def test_a_feed_ends_when_its_token_is_revoked(nats: NatsServer, store: StandInStore) -> None:
    ann = store.add_user("short-lived")
    async with running_gateway(nats.url(), recheck_interval_s=0.2) as gateway:
        gateway.service.authenticator.known_s = 0.0  # otherwise seconds of grace
        async with gateway.client("short-lived") as client, watching_chats(client) as stream:
            await stream.next()
            published = await publish(store, ann, store.add_chat(ann), 2, 2)
            assert data(await stream.take(1)) == published
            store.revoke("short-lived")

            assert await stream.rest() == []


async def test_a_reader_of_little_comes_back_where_it_was(
    nats: NatsServer, store: StandInStore
) -> None:
    """Nothing is delivered for long: the keep-alive tells how far the stream is all the same."""
    chat_id = store.add_chat(store.add_user(TOKEN))

    async def deltas(first: int, last: int) -> int:
        seq = 0
        for number in range(first, last + 1):
            event = PartDelta(
                chat_id=chat_id,
                history_version=1,
                attempt=1,
                seq=number,
                deltas=(TextDelta(0, "x"),),
            )
            seq = await store.publish(event)
        return seq

    async with (
        running_gateway(nats.url(), ping_interval_s=0.1) as gateway,
        gateway.client(TOKEN) as client,
    ):
        async with watching(client, chat_id, deltas="false") as stream:
            epoch = (await stream.next()).body["epoch"]
            last = await deltas(1, 3)
            reading = asyncio.create_task(stream.next())
            await becomes(lambda: stream.last_id == f"{epoch}.{last}")
            shown = await store.publish(status(chat_id, 2))
            assert (await reading).seq == shown
            await deltas(4, 6)
        async with watching(client, chat_id, after=stream.last_id, deltas="false") as again:
            sync = await again.next()
            assert (sync.id, "snapshot" in sync.body) == (stream.last_id, False)
            reading = asyncio.create_task(again.next())
            await becomes(lambda: again.last_id == f"{epoch}.{sync.body['head']}")
            reading.cancel()
