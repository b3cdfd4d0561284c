"""Event streams as clients see them: nothing missing, nothing twice, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import httpx2
import msgspec
import pytest
from integration.gateway.driver import (
    PATIENCE_S,
    Received,
    RunningGateway,
    RunningGateways,
    running_gateway,
    watching,
)
from integration.gateway.stand_in import MODEL, StandInStore, make_log, stand_in_store

from steersman.embedded.nats import NatsServer
from steersman_contracts.chats import Role, Status
from steersman_contracts.deltas import TextDelta
from steersman_contracts.errors import Unavailable
from steersman_contracts.events import (
    AttemptStarted,
    ChatDeleted,
    ChatStatusChanged,
    PartDelta,
)
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import ProviderMetadata, TextPart
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc.chats import GET, SNAPSHOT
from steersman_contracts.subjects import EVENT_STREAM, chat_events, chat_live
from steersman_gateway.event_log import NatsEventLog
from steersman_gateway.feeds import Feeds
from steersman_gateway.viewers import OVERFLOWS
from steersman_runtime.jetstream import purge_subject, request

TOKEN = "token-of-ann"


def delta(chat_id: ChatId, seq: int, text: str = "x", *, version: int = 1) -> PartDelta:
    return PartDelta(
        chat_id=chat_id,
        history_version=version,
        attempt=1,
        seq=seq,
        deltas=(TextDelta(0, text),),
    )


async def publish_deltas(
    store: StandInStore, chat_id: ChatId, first: int, last: int, text: str = "x"
) -> list[bytes]:
    """Publish deltas `first` to `last`; returns the bytes that viewers must see."""
    events = [delta(chat_id, seq, text) for seq in range(first, last + 1)]
    for event in events:
        await store.publish(event)
    return [msgspec.json.encode(event) for event in events]


def data(events: list[Received]) -> list[bytes]:
    return [event.data for event in events]


async def becomes(condition: Callable[[], bool]) -> None:
    """Wait for something inside the gateway, which tells nobody."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # of another task; nothing to await
            await asyncio.sleep(0.005)


@pytest.fixture
def chat_id(store: StandInStore, ann: Actor) -> ChatId:
    return store.add_chat(ann)


async def test_a_stream_begins_with_a_snapshot_and_goes_on_live(
    client: httpx2.AsyncClient, store: StandInStore, chat_id: ChatId
) -> None:
    secret = ProviderMetadata("anthropic", native={"signature": "sesame"})
    store.add_message(chat_id, Role.ASSISTANT, (TextPart("before", provider_metadata=secret),))
    await publish_deltas(store, chat_id, 1, 3)

    async with watching(client, chat_id) as stream:
        sync = await stream.next()
        published = await publish_deltas(store, chat_id, 4, 6)
        live = await stream.take(3)

    assert stream.response.headers["Content-Type"].startswith("text/event-stream")
    assert stream.response.headers["Cache-Control"] == "no-store"
    assert stream.response.headers["X-Accel-Buffering"] == "no"
    assert stream.retry == "1000"
    assert sync.name == "stream.sync"
    assert sync.id == f"{sync.body['epoch']}.{sync.body['position']}"
    assert sync.body["position"] == sync.body["head"]
    assert sync.body["snapshot"]["chat"]["id"] == chat_id
    assert sync.body["snapshot"]["messages"][0]["parts"] == [{"type": "text", "text": "before"}]
    assert b"sesame" not in sync.data
    assert data(live) == published
    assert {event.name for event in live} == {"part.delta"}
    assert [event.id.partition(".")[0] for event in live] == [sync.body["epoch"]] * 3


async def test_a_client_that_drops_at_any_point_misses_nothing_and_sees_nothing_twice(
    client: httpx2.AsyncClient, store: StandInStore, ann: Actor, chat_id: ChatId
) -> None:
    other = store.add_chat(ann)
    async with watching(client, chat_id, snapshot="false") as stream:
        start = (await stream.next()).id
    expected: list[bytes] = []
    for seq in range(1, 21):
        expected += await publish_deltas(store, chat_id, seq, seq, f"token {seq} \u2603\n")
        await publish_deltas(store, other, seq, seq)

    whole: list[Received] = []
    async with watching(client, chat_id, after=start) as stream:
        sync = await stream.next()
        whole = await stream.take(20)
    assert sync.id == start
    assert "snapshot" not in sync.body
    assert sync.body["head"] == whole[-1].seq
    assert data(whole) == expected

    for cut in range(20):
        async with watching(client, chat_id, after=start) as stream:
            await stream.next()
            head = await stream.take(cut)
        cursor = head[-1].id if head else start
        async with watching(client, chat_id, cursor=cursor) as stream:
            await stream.next()
            tail = await stream.take(20 - cut)
        assert head + tail == whole


async def test_a_client_may_drop_while_events_stream_in(
    client: httpx2.AsyncClient, store: StandInStore, chat_id: ChatId
) -> None:
    async with watching(client, chat_id, snapshot="false") as stream:
        cursor = (await stream.next()).id
    publishing = asyncio.create_task(publish_deltas(store, chat_id, 1, 400))

    seen: list[Received] = []
    step = 1
    while len(seen) < 400:
        async with watching(client, chat_id, after=cursor) as stream:
            sync = await stream.next()
            assert sync.id == cursor
            seen += await stream.take(min(step, 400 - len(seen)))
            cursor = seen[-1].id
        step = step * 2 % 37 + 1

    assert data(seen) == await publishing


async def test_every_viewer_of_a_chat_shares_one_subscription(
    replica: RunningGateway, store: StandInStore, chat_id: ChatId
) -> None:
    feeds = replica.service.streams.feeds
    await becomes(lambda: len(feeds) == 0)  # streams of tests before this one end on their own
    async with asyncio.timeout(PATIENCE_S * 2), asyncio.TaskGroup() as viewers:
        ready = asyncio.Semaphore(0)
        seen = [viewers.create_task(_watch_raw(replica, chat_id, ready)) for _ in range(500)]
        for _ in seen:
            await ready.acquire()
        assert len(feeds) == 1
        assert _subscriptions(feeds, chat_id) == 1
        published = await publish_deltas(store, chat_id, 1, 3)

    for viewer in seen:
        assert [line.removeprefix(b"data: ") for line in viewer.result()] == published
    await becomes(lambda: len(feeds) == 0)
    assert _subscriptions(feeds, chat_id) == 0


def _subscriptions(feeds: Feeds, chat_id: ChatId) -> int:
    event_log = feeds.log
    assert isinstance(event_log, NatsEventLog)
    subscriptions = event_log._client._subs.values()  # pyright: ignore[reportPrivateUsage]  # no getter
    return sum(sub.subject == chat_live(chat_id) for sub in subscriptions)


async def _watch_raw(
    gateway: RunningGateway, chat_id: ChatId, ready: asyncio.Semaphore
) -> list[bytes]:
    """Read the data of three events without an HTTP client: 500 of those take half a minute."""
    reader, writer = await raw_stream(gateway, f"/api/v1/chats/{chat_id}/events?snapshot=false")
    await reader.readuntil(b"event: stream.sync")
    ready.release()
    lines: list[bytes] = []
    await reader.readuntil(b"data: ")
    while len(lines) < 3:
        line = await reader.readline()
        if line.startswith(b"data: "):
            lines.append(line.rstrip())
    writer.close()
    return lines


async def raw_stream(
    gateway: RunningGateway, path: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = gateway.address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=2048)
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
    )
    return reader, writer


async def test_a_slow_reader_is_caught_up_from_the_log(
    client: httpx2.AsyncClient, store: StandInStore, chat_id: ChatId
) -> None:
    count = 600
    overflows = overflow_count()
    async with watching(client, chat_id, snapshot="false") as stream:
        await stream.next()
        # Much more than the buffers between the two hold, and than the mailbox holds.
        published = await publish_deltas(store, chat_id, 1, count, "y" * 10_000)
        seen = await stream.take(count)

    assert data(seen) == published
    assert overflow_count() > overflows


def overflow_count() -> float:
    return next(iter(OVERFLOWS.collect())).samples[0].value


async def test_a_filter_leaves_out_events_and_keeps_their_order(
    client: httpx2.AsyncClient, store: StandInStore, chat_id: ChatId
) -> None:
    async with (
        watching(client, chat_id, deltas="false") as without_deltas,
        watching(client, chat_id, types="chat.status") as only_status,
    ):
        first = await without_deltas.next()
        await only_status.next()
        await publish_deltas(store, chat_id, 1, 2)
        started = AttemptStarted(
            chat_id=chat_id, snapshot_version=2, history_version=1, attempt=1, model=MODEL
        )
        await store.publish(started)
        await publish_deltas(store, chat_id, 3, 3)
        status = ChatStatusChanged(
            chat_id=chat_id, snapshot_version=3, status=Status.RUNNING, history_version=1
        )
        last = await store.publish(status)

        assert [event.name for event in await without_deltas.take(2)] == [
            "attempt.started",
            "chat.status",
        ]
        seen = await only_status.next()
        assert (seen.name, seen.seq) == ("chat.status", last)

    async with watching(client, chat_id, after=first.id, types="chat.status") as again:
        assert (await again.next()).name == "stream.sync"
        assert (await again.next()).seq == last


async def test_the_preview_of_a_running_attempt_is_in_the_snapshot(
    client: httpx2.AsyncClient, store: StandInStore, chat_id: ChatId
) -> None:
    await publish_deltas(store, chat_id, 1, 4, "old")
    store.update(chat_id, status=Status.RUNNING, history_version=7, generation_attempt=1)
    store.chats[chat_id].attempt_started_at = datetime.now(UTC)
    for seq, text in enumerate(["The ", "sea", " is"], start=1):
        await store.publish(delta(chat_id, seq, text, version=7))

    async with watching(client, chat_id) as stream:
        sync = await stream.next()
        await store.publish(delta(chat_id, 4, " wide", version=7))
        after = await stream.next()

    assert sync.body["snapshot"]["preview"] == {
        "history_version": 7,
        "attempt": 1,
        "seq": 3,
        "parts": [{"type": "text", "text": "The sea is"}],
        "indexes": [0],
    }
    assert after.body["seq"] == 4


async def test_half_a_preview_is_no_preview(
    client: httpx2.AsyncClient, store: StandInStore, chat_id: ChatId
) -> None:
    store.update(chat_id, status=Status.RUNNING, generation_attempt=1)
    store.chats[chat_id].attempt_started_at = datetime.now(UTC)
    await publish_deltas(store, chat_id, 3, 5)

    async with watching(client, chat_id) as stream:
        assert "preview" not in (await stream.next()).body["snapshot"]


async def test_events_between_position_and_snapshot_are_not_lost(
    client: httpx2.AsyncClient, store: StandInStore, chat_id: ChatId
) -> None:
    published: list[bytes] = []

    async def publish() -> None:
        published.extend(await publish_deltas(store, chat_id, 1, 5))

    store.before[SNAPSHOT.name] = publish

    async with watching(client, chat_id) as stream:
        await stream.next()
        assert data(await stream.take(5)) == published


@pytest.mark.parametrize(
    ("cursor", "reason"),
    [("0.1", "epoch"), ("{epoch}.999999999", "ahead")],
)
async def test_a_cursor_that_cannot_be_resumed_gets_a_gap_and_a_snapshot(
    client: httpx2.AsyncClient, store: StandInStore, chat_id: ChatId, cursor: str, reason: str
) -> None:
    await publish_deltas(store, chat_id, 1, 2)
    async with watching(client, chat_id) as stream:
        epoch = (await stream.next()).body["epoch"]
    cursor = cursor.format(epoch=epoch)

    async with watching(client, chat_id, after=cursor) as stream:
        gap, sync = await stream.take(2)

    assert (gap.name, gap.id) == ("stream.gap", "")
    assert (gap.body["reason"], gap.body["requested"]) == (reason, cursor)
    assert sync.name == "stream.sync"
    assert sync.body["snapshot"]["chat"]["id"] == chat_id


async def test_an_expired_cursor_gets_a_gap_and_a_snapshot(own_nats: NatsServer) -> None:
    async with (
        stand_in_store(own_nats.url()) as store,
        running_gateway(own_nats.url()) as gateway,
        gateway.client(TOKEN) as client,
    ):
        ann = store.add_user(TOKEN)
        chat_id, other = store.add_chat(ann), store.add_chat(ann)
        await publish_deltas(store, chat_id, 1, 5)
        async with watching(client, chat_id) as stream:
            epoch = (await stream.next()).body["epoch"]
        await request(
            store.client,
            f"$JS.API.STREAM.PURGE.{EVENT_STREAM}",
            msgspec.json.encode({"seq": 4}),
        )
        await publish_deltas(store, other, 1, 1)

        async with watching(client, chat_id, after=f"{epoch}.2") as stream:
            gap, sync = await stream.take(2)
            assert (gap.name, gap.body["reason"]) == ("stream.gap", "expired")
            assert "snapshot" in sync.body

        # The event before the oldest one that is left: nothing is missing after it.
        async with watching(client, chat_id, after=f"{epoch}.3") as stream:
            assert [event.seq for event in await stream.take(3)] == [3, 4, 5]


async def test_a_log_made_anew_is_noticed_by_open_streams(own_nats: NatsServer) -> None:
    async with (
        stand_in_store(own_nats.url()) as store,
        running_gateway(own_nats.url()) as gateway,
        gateway.client(TOKEN) as client,
    ):
        chat_id = store.add_chat(store.add_user(TOKEN))
        await publish_deltas(store, chat_id, 1, 5)
        async with watching(client, chat_id) as stream:
            old = await stream.next()
            await request(store.client, f"$JS.API.STREAM.DELETE.{EVENT_STREAM}", b"")
            await make_log(store.client)
            published = await publish_deltas(store, chat_id, 1, 2)

            gap, sync = await stream.take(2)
            assert (gap.name, gap.body["reason"]) == ("stream.gap", "epoch")
            assert gap.body["requested"] == old.id
            assert sync.body["epoch"] != old.body["epoch"]
            rest = 2 - sync.body["position"]
            assert data(await stream.take(rest)) == published[2 - rest :]


async def test_a_restart_of_nats_is_at_most_a_pause(own_nats: NatsServer) -> None:
    async with (
        stand_in_store(own_nats.url()) as store,
        running_gateway(own_nats.url()) as gateway,
        gateway.client(TOKEN) as client,
    ):
        chat_id = store.add_chat(store.add_user(TOKEN))
        async with watching(client, chat_id, snapshot="false") as stream:
            await stream.next()
            published: list[bytes] = []
            seen: list[Received] = []
            for kill in (True, False):
                start = len(published) + 1
                published += await publish_deltas(store, chat_id, start, start + 9)
                seen += await stream.take(10)
                if kill:
                    own_nats.kill()
                    await own_nats.start_async()
                else:
                    await own_nats.restart_async()
                published += await publish_through_outage(store, chat_id, len(published) + 1)
                seen += await stream.take(10)

    assert data(seen) == published


async def publish_through_outage(store: StandInStore, chat_id: ChatId, first: int) -> list[bytes]:
    """Ten deltas while the gateway may not be connected yet: it hears some and must read some."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                published = await publish_deltas(store, chat_id, first, first)
                break
            except Exception:  # noqa: BLE001  # whatever a server that starts answers
                await asyncio.sleep(0.02)
    return published + await publish_deltas(store, chat_id, first + 1, first + 9)


async def test_two_gateways_show_the_same_and_take_over_from_each_other(
    nats: NatsServer, store: StandInStore, client: httpx2.AsyncClient, chat_id: ChatId
) -> None:
    async with (
        running_gateway(nats.url()) as second,
        second.client(TOKEN) as other,
        watching(client, chat_id, snapshot="false") as here,
        watching(other, chat_id, snapshot="false") as there,
    ):
        await here.next()
        await there.next()
        await publish_deltas(store, chat_id, 1, 5)
        seen = await here.take(5)
        assert await there.take(5) == seen

        async with watching(other, chat_id, after=seen[1].id) as resumed:
            await resumed.next()
            assert await resumed.take(3) == seen[2:]


async def test_a_gateway_that_ends_ends_its_streams_at_once(
    nats: NatsServer, chat_id: ChatId
) -> None:
    async with running_gateway(nats.url()) as gateway, gateway.client(TOKEN) as client:
        async with watching(client, chat_id) as stream:
            await stream.next()
            gateway.runtime.begin_stop()
            assert await stream.rest() == []
        refused = await client.get(f"/api/v1/chats/{chat_id}/events")
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")


async def test_a_stream_ends_with_its_chat(
    client: httpx2.AsyncClient, store: StandInStore, chat_id: ChatId
) -> None:
    async with (
        watching(client, chat_id) as stream,
        watching(client, chat_id, types="chat.status") as filtered,
    ):
        await stream.next()
        await filtered.next()
        await publish_deltas(store, chat_id, 1, 2)
        await store.publish(ChatDeleted(chat_id=chat_id, snapshot_version=2))
        await purge_subject(store.client, EVENT_STREAM, chat_events(chat_id), keep=1)

        assert [event.name for event in await stream.rest()] == [
            "part.delta",
            "part.delta",
            "chat.deleted",
        ]
        assert await filtered.rest() == []


async def test_a_stream_ends_when_its_user_may_no_longer_watch(
    nats: NatsServer, store: StandInStore
) -> None:
    chat_id = store.add_chat(store.add_user("short-lived"))
    async with (
        running_gateway(nats.url(), recheck_interval_s=0.2, ping_interval_s=0.2) as gateway,
        gateway.client("short-lived") as client,
        watching(client, chat_id) as stream,
    ):
        await stream.next()
        store.failures[GET.name] = Unavailable("restarting")  # says nothing about rights
        await becomes(lambda: len(store.asked_for(GET)) > 1)
        del store.failures[GET.name]
        del store.chats[chat_id]

        assert await stream.rest() == []


async def test_a_silent_stream_is_kept_open(nats: NatsServer, store: StandInStore) -> None:
    chat_id = store.add_chat(store.add_user(TOKEN))
    async with (
        running_gateway(nats.url(), ping_interval_s=0.1) as gateway,
        gateway.client(TOKEN) as client,
        watching(client, chat_id) as stream,
    ):
        await stream.next()
        reading = asyncio.create_task(stream.next())
        await becomes(lambda: stream.pings >= 2)
        await publish_deltas(store, chat_id, 1, 1)
        assert (await reading).name == "part.delta"


async def test_a_client_that_takes_nothing_is_dropped(
    nats: NatsServer, store: StandInStore
) -> None:
    chat_id = store.add_chat(store.add_user(TOKEN))
    async with running_gateway(nats.url(), write_timeout_s=0.3) as gateway:
        reader, writer = await raw_stream(gateway, f"/api/v1/chats/{chat_id}/events")
        await reader.readuntil(b"stream.sync")
        await publish_deltas(store, chat_id, 1, 1200, "z" * 10_000)

        await becomes(lambda: len(gateway.service.streams.feeds) == 0)
        writer.close()


async def test_the_number_of_streams_is_limited(nats: NatsServer, store: StandInStore) -> None:
    chat_id = store.add_chat(store.add_user(TOKEN))
    path = f"/api/v1/chats/{chat_id}/events"
    async with (
        running_gateway(nats.url(), max_streams_per_user=1) as gateway,
        gateway.client(TOKEN) as client,
    ):
        async with watching(client, chat_id) as stream:
            await stream.next()
            refused = await client.get(path)
            assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
            assert refused.headers["Retry-After"] == "1"
        await becomes(lambda: len(gateway.service.streams.feeds) == 0)
        async with watching(client, chat_id) as stream:
            await stream.next()


@pytest.mark.parametrize(
    ("query", "headers", "code", "field"),
    [
        ({"cursor": "nonsense"}, {}, "bad_cursor", "cursor"),
        ({}, {"Last-Event-ID": "abc.-1"}, "bad_cursor", "cursor"),
        ({"snapshot": "maybe"}, {}, "invalid_request", "snapshot"),
        ({"deltas": "some"}, {}, "invalid_request", "deltas"),
        ({"types": "chat.status,nope"}, {}, "invalid_request", "types"),
    ],
)
async def test_a_stream_refuses_what_it_does_not_know(
    client: httpx2.AsyncClient,
    chat_id: ChatId,
    query: dict[str, str],
    headers: dict[str, str],
    code: str,
    field: str,
) -> None:
    path = f"/api/v1/chats/{chat_id}/events"
    reply = await client.get(path, params=query, headers=headers)

    assert reply.status_code == 400
    assert (reply.json()["code"], reply.json()["field"]) == (code, field)


async def test_only_the_owner_may_watch(
    gateway: RunningGateways, store: StandInStore, chat_id: ChatId
) -> None:
    store.add_user("bob")
    async with gateway.client("bob") as bob, gateway.client() as nobody:
        path = f"/api/v1/chats/{chat_id}/events"
        for query in ({}, {"snapshot": "false"}, {"cursor": "0.1"}):
            assert (await bob.get(path, params=query)).status_code == 404
        assert (await nobody.get(path)).status_code == 401
        post = await bob.post(path)
        assert (post.status_code, "GET" in post.headers["Allow"]) == (405, True)
    await becomes(lambda: gateway.watched == 0)
