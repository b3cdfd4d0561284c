"""A feed hands everything on once and in order, whatever the live path loses or repeats."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from datetime import datetime

import pytest

from steersman_contracts.errors import Unavailable
from steersman_contracts.ids import ChatId, UserId
from steersman_gateway.event_log import Entry, LogState, OnEntry, Page
from steersman_gateway.feeds import Feed, Feeds, GapReason
from steersman_gateway.frames import EVERYTHING, Frame, Wanted
from steersman_gateway.order import Heard, Order
from steersman_gateway.topics import Topic, chat_topic, my_topic
from steersman_gateway.viewers import Viewer

ME = my_topic(UserId("01970000-0000-7000-8000-00000000000a"))
CHAT = chat_topic(ChatId("01970000-0000-7000-8000-000000000001"))


class FakeLog:
    """A log in memory. The live path does what a test tells it to; reads do not lie."""

    def __init__(self) -> None:
        self.epoch = "one"
        self.first = 1
        self.entries: list[Entry] = []
        self.last = 0
        self.watchers: list[OnEntry] = []
        self.reads = 0
        self.page = 3
        self.away = False
        self.topic = CHAT
        self.hidden_from = 2**62
        """Reads do not show this sequence yet, as a replica that lags."""

    def store(self, *, step: int = 1, name: bytes = b"part.delta") -> tuple[Entry, int]:
        """Append an event; returns it and its predecessor, as the live path would tell them."""
        previous = self.entries[-1].seq if self.entries else 0
        self.last += step
        entry = Entry(self.last, name, b'{"n":%d}' % self.last)
        self.entries.append(entry)
        return entry, previous

    def tell(self, entry: Entry, previous: int) -> None:
        for watcher in list(self.watchers):
            watcher(entry, previous)

    def publish(self, *, name: bytes = b"part.delta") -> None:
        self.tell(*self.store(name=name))

    def expire(self, first: int) -> None:
        self.first = first
        self.entries = [entry for entry in self.entries if entry.seq >= first]

    def make_anew(self, epoch: str) -> None:
        self.epoch, self.first, self.last, self.entries = epoch, 1, 0, []

    # -- as feeds see it -------------------------------------------------------------------------

    def watch(self, subject: str, on_entry: OnEntry) -> Callable[[], None]:
        assert subject == self.topic.subject
        self.watchers.append(on_entry)
        return lambda: self.watchers.remove(on_entry)

    def _visible(self) -> list[Entry]:
        self.reads += 1
        if self.away:
            raise Unavailable("away")
        return [entry for entry in self.entries if entry.seq < self.hidden_from]

    async def head(self, subject: str) -> int:
        assert subject == self.topic.subject
        await asyncio.sleep(0)
        visible = self._visible()
        return visible[-1].seq if visible else 0

    async def read(self, subject: str, after: int, *, since: datetime | None = None) -> Page:
        assert subject == self.topic.subject
        assert since is None
        await asyncio.sleep(0)
        found = [entry for entry in self._visible() if entry.seq > after]
        await asyncio.sleep(0)
        return Page(found[: self.page], more=len(found) > self.page)

    async def state(self) -> LogState:
        await asyncio.sleep(0)
        self._visible()
        return LogState(self.epoch, self.first, self.last)


class Witness:
    def __init__(self) -> None:
        self.seen: list[int] = []
        self.restarts: list[GapReason] = []

    def offer(self, item: Frame) -> None:
        self.seen.append(item.seq)

    def start_over(self, reason: GapReason) -> None:
        self.restarts.append(reason)


@pytest.fixture
def log() -> FakeLog:
    return FakeLog()


@pytest.fixture
async def feeds(log: FakeLog) -> AsyncGenerator[Feeds]:
    feeds = Feeds(log)
    yield feeds
    await feeds.tasks.cancel()


@pytest.fixture
async def feed(feeds: Feeds) -> Feed:
    feed = feeds.open(CHAT)
    await feed.position()
    await settled(feeds)
    return feed


@pytest.fixture
def witness(feed: Feed) -> Witness:
    witness = Witness()
    feed.watchers.add(witness)
    return witness


async def settled(feeds: Feeds) -> None:
    async with asyncio.timeout(30):
        while len(feeds.tasks):  # noqa: ASYNC110  # of another task; nothing to await
            await asyncio.sleep(0)


# -- the decision alone ------------------------------------------------------------------------


def test_every_kind_of_live_event_is_told_apart() -> None:
    order = Order()
    assert order.hear(3, 0) is Heard.MISSING  # nobody has asked yet where the log ends
    order.begin(4)
    assert order.hear(5, 4) is Heard.NEXT
    assert order.last == 5
    assert order.hear(8, 7) is Heard.MISSING
    assert not order.settled
    order.last = 9
    assert order.settled
    assert order.hear(9, 8) is Heard.KNOWN
    assert order.hear(9, 8) is Heard.ODD  # live events do not come twice
    assert order.hear(2, 0) is Heard.ODD  # nor backwards
    assert order.hear(12, 6) is Heard.ODD  # nor after an event before the one we have
    assert order.last == 9


def test_an_event_of_a_new_log_is_odd_even_when_nothing_was_heard_before() -> None:
    order = Order()
    order.begin(5)

    assert order.hear(1, 0) is Heard.ODD


# -- the feed ----------------------------------------------------------------------------------


async def test_live_events_pass_without_a_read(log: FakeLog, feed: Feed, witness: Witness) -> None:
    reads = log.reads
    for _ in range(5):
        log.publish()

    assert witness.seen == [1, 2, 3, 4, 5]
    assert log.reads == reads
    assert feed.order.last == 5


async def test_a_gap_on_the_live_path_is_read_from_the_log(
    log: FakeLog, feeds: Feeds, witness: Witness
) -> None:
    log.publish()
    for _ in range(8):
        log.store()
    log.publish()
    log.publish()
    await settled(feeds)
    log.publish()

    assert witness.seen == list(range(1, 13))


async def test_what_is_stored_while_the_feed_opens_is_neither_lost_nor_repeated(
    log: FakeLog, feeds: Feeds
) -> None:
    for _ in range(3):
        log.store()
    feed = feeds.open(CHAT)
    witness = Witness()
    feed.watchers.add(witness)
    log.publish()  # before anybody asked where the log ends
    await asyncio.sleep(0)
    log.publish()
    position = await feed.position()
    await settled(feeds)
    log.publish()

    assert witness.seen == list(range(position + 1, 7))


async def test_a_lagging_replica_delays_and_loses_nothing(
    log: FakeLog, feeds: Feeds, witness: Witness
) -> None:
    log.publish()
    log.hidden_from = 3
    log.store()
    log.publish()
    async with asyncio.timeout(20):
        while witness.seen != [1, 2]:  # noqa: ASYNC110  # of another task; nothing to await
            await asyncio.sleep(0)
    log.hidden_from = 2**62
    await settled(feeds)

    assert witness.seen == [1, 2, 3]
    assert witness.restarts == []


async def test_an_outage_of_the_log_delays_and_loses_nothing(
    log: FakeLog, feeds: Feeds, witness: Witness
) -> None:
    log.publish()
    log.away = True
    log.store()
    log.publish()
    await asyncio.sleep(0.05)
    log.away = False
    await settled(feeds)

    assert witness.seen == [1, 2, 3]


async def test_a_lost_tail_is_found_after_silence(
    log: FakeLog, feeds: Feeds, feed: Feed, witness: Witness
) -> None:
    log.publish()
    log.store()  # stored, and never heard of
    await feeds.check_silent(3600)
    await settled(feeds)
    assert witness.seen == [1]

    await feeds.check_silent(0)
    await settled(feeds)

    assert witness.seen == [1, 2]
    assert feed.checked_to == 2
    assert witness.restarts == []


async def test_silence_in_a_log_that_has_not_grown_costs_one_question_for_all(
    log: FakeLog, feeds: Feeds, feed: Feed
) -> None:
    del feed
    log.publish()
    await feeds.check_silent(0)
    await settled(feeds)
    reads = log.reads

    for _ in range(3):
        await feeds.check_silent(0)
        await settled(feeds)

    assert log.reads == reads + 3


async def test_after_a_reconnect_everything_missed_is_read(
    log: FakeLog, feeds: Feeds, witness: Witness
) -> None:
    log.publish()
    for _ in range(10):
        log.store()
    log.away = True
    feeds.reconnected()
    await asyncio.sleep(0.01)
    log.away = False
    await settled(feeds)

    assert witness.seen == list(range(1, 12))
    assert witness.restarts == []


async def test_events_that_outrun_the_check_after_a_reconnect_are_no_reason_to_restart(
    log: FakeLog, feeds: Feeds, witness: Witness
) -> None:
    log.publish()
    feeds.reconnected()
    for _ in range(20):
        log.publish()
        await asyncio.sleep(0)
    await settled(feeds)

    assert witness.seen == list(range(1, 22))
    assert witness.restarts == []


@pytest.mark.parametrize("noticed_by", ["event", "silence", "reconnect"])
async def test_a_log_made_anew_restarts_every_feed(
    log: FakeLog, feeds: Feeds, feed: Feed, witness: Witness, noticed_by: str
) -> None:
    for _ in range(3):
        log.publish()
    log.make_anew("two")
    if noticed_by == "event":
        log.publish()
    elif noticed_by == "silence":
        await feeds.check_silent(0)
    else:
        feeds.reconnected()
    await settled(feeds)

    assert witness.restarts == ["epoch"]
    assert feeds.epoch == "two"
    position = await feed.position()
    seen = len(witness.seen)
    log.publish()
    await settled(feeds)
    assert witness.seen[seen:] == [position + 1]


async def test_a_log_that_was_rolled_back_restarts_the_feed(
    log: FakeLog, feeds: Feeds, witness: Witness
) -> None:
    for _ in range(5):
        log.publish()
    del log.entries[3:]
    log.last = 3
    feeds.reconnected()
    await settled(feeds)

    assert witness.restarts == ["ahead"]


async def test_a_roll_back_is_noticed_even_when_others_have_filled_the_log_again(
    log: FakeLog, feeds: Feeds, witness: Witness
) -> None:
    for _ in range(5):
        log.publish()
    del log.entries[3:]
    log.last = 50
    feeds.reconnected()
    await settled(feeds)

    assert witness.restarts == ["ahead"]


async def test_an_idle_chat_whose_events_expired_goes_on(
    log: FakeLog, feeds: Feeds, witness: Witness
) -> None:
    log.publish()
    log.last = 90
    log.expire(80)
    log.publish()  # its predecessor is 0 now: odd, and fine
    await settled(feeds)

    assert witness.seen == [1, 91]
    assert witness.restarts == []


async def test_an_event_that_vanished_before_anybody_read_it_is_a_gap(
    log: FakeLog, feeds: Feeds, witness: Witness
) -> None:
    feeds.lag_s = 0
    log.publish()
    log.store()
    entry, previous = log.store()
    del log.entries[1:]
    log.tell(entry, previous)
    await settled(feeds)

    assert witness.restarts == ["expired"]


async def test_a_deleted_chat_ends_with_its_last_event_though_the_others_are_purged(
    log: FakeLog, feeds: Feeds, witness: Witness
) -> None:
    log.publish()
    log.store(name=b"chat.deleted")
    del log.entries[:1]
    feeds.reconnected()
    await settled(feeds)

    assert witness.seen == [1, 2]
    assert witness.restarts == []


async def test_the_last_viewer_closes_the_subscription(log: FakeLog, feeds: Feeds) -> None:
    first, second = feeds.open(CHAT), feeds.open(CHAT)
    assert first is second
    assert len(log.watchers) == 1
    feeds.release(first)
    assert len(log.watchers) == 1
    feeds.release(second)
    assert log.watchers == []
    assert len(feeds) == 0


@pytest.mark.parametrize(
    ("seq", "expected"),
    [
        (12, [13, 14]),
        (14, []),
        (9, [10, 11, 12]),  # the one before the oldest: nothing after it is gone
        (8, "expired"),
        (0, "expired"),
        (15, "ahead"),
        (99, "ahead"),
    ],
)
async def test_a_cursor_is_resumed_only_if_nothing_after_it_can_be_gone(
    log: FakeLog, feeds: Feeds, seq: int, expected: list[int] | GapReason
) -> None:
    for _ in range(14):
        log.store()
    log.expire(10)
    feed = feeds.open(CHAT)

    found = await feed.resume(seq)

    assert expected == ([e.seq for e in found.entries] if isinstance(found, Page) else found)


async def test_a_cursor_of_an_empty_log_is_resumed(log: FakeLog, feeds: Feeds) -> None:
    log.first = 0
    feed = feeds.open(CHAT)
    found = await feed.resume(0)
    assert found == Page([], more=False)
    log.first = 1
    log.store()
    found = await feed.resume(0)
    assert isinstance(found, Page)
    assert [entry.seq for entry in found.entries] == [1]


# -- a viewer on a feed ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(30))
async def test_a_viewer_sees_every_event_once_in_order_through_any_weather(
    log: FakeLog, feeds: Feeds, seed: int
) -> None:
    """Random losses on the live path, outages, a slow reader: the union is exact."""
    feeds.retry_s = feeds.lag_s = 0
    chance = random.Random(seed)
    written = bytearray()

    async def write(data: bytes) -> None:
        for _ in range(chance.choice([0, 1, 1, 30])):
            await asyncio.sleep(0)
        written.extend(data)

    async def begin(reason: GapReason, position: int) -> tuple[bytes, int]:
        raise AssertionError((reason, position))

    for _ in range(chance.randrange(4)):
        log.store()
    feed = feeds.open(CHAT)
    start = await feed.position()
    viewer = Viewer(feed, EVERYTHING, start, write=write, begin=begin)
    viewer.box.max_frames = 4
    feed.watchers.add(viewer)
    running = asyncio.create_task(viewer.run(b""))

    for _ in range(200):
        match chance.randrange(12):
            case 0:
                log.store(step=chance.randrange(1, 4))
            case 1:
                log.away = not log.away
            case 2:
                feeds.reconnected()
            case 3:
                await asyncio.sleep(0)
            case _:
                log.publish()
    log.away = False
    log.publish()
    expected = [entry.seq for entry in log.entries if entry.seq > start]
    async with asyncio.timeout(30):
        while viewer.box.sent < log.last:  # noqa: ASYNC110  # of another task; nothing to await
            await asyncio.sleep(0)
        viewer.end()
        await running

    lines = bytes(written).split(b"\n")
    seen = [int(line.rsplit(b".")[1]) for line in lines if line.startswith(b"id: ")]
    assert seen == expected


def only_status(feed: Feed, written: bytearray, position: int) -> Viewer:
    async def write(data: bytes) -> None:
        written.extend(data)

    async def begin(reason: GapReason, seq: int) -> tuple[bytes, int]:
        raise AssertionError((reason, seq))

    viewer = Viewer(
        feed, Wanted(types=frozenset({b"chat.status"})), position, write=write, begin=begin
    )
    feed.watchers.add(viewer)
    return viewer


async def turns() -> None:
    """Let everybody who has something to do do it."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("caught_up", [True, False])
@pytest.mark.parametrize(("topic", "ends"), [(CHAT, True), (ME, False)])
async def test_a_deleted_chat_ends_its_own_streams_alone(
    log: FakeLog, feeds: Feeds, topic: Topic, ends: bool, caught_up: bool
) -> None:
    log.topic = topic
    feed = feeds.open(topic)
    viewer = only_status(feed, bytearray(), await feed.position())
    if caught_up:
        running = asyncio.create_task(viewer.run(b""))
        await turns()
        log.publish(name=b"chat.deleted")
    else:
        log.publish(name=b"chat.deleted")
        running = asyncio.create_task(viewer.run(b""))
    await turns()

    assert viewer.ended is ends
    assert running.done() is ends
    viewer.end()
    await running


async def test_a_feed_of_chats_is_not_cut_short_by_a_deleted_one(
    log: FakeLog, feeds: Feeds
) -> None:
    """Unlike a chat's own: nothing of it is purged, so what is absent was rolled back."""
    log.topic = ME
    feed = feeds.open(ME)
    witness = Witness()
    feed.watchers.add(witness)
    await feed.position()
    await settled(feeds)
    log.publish()
    log.store(name=b"chat.deleted")
    del log.entries[:1]
    feeds.lag_s = 0
    feeds.reconnected()
    await settled(feeds)

    assert witness.restarts == ["ahead"]


async def test_a_viewer_of_little_is_told_how_far_it_is_with_the_keep_alive(
    log: FakeLog, feeds: Feeds
) -> None:
    written = bytearray()
    feed = feeds.open(CHAT)
    viewer = only_status(feed, written, await feed.position())
    running = asyncio.create_task(viewer.run(b""))
    await turns()

    async def pinged() -> bytes:
        written.clear()
        viewer.ping()
        await turns()
        return bytes(written)

    assert await pinged() == b": ping\n\n"
    for _ in range(5):
        log.publish()
    assert await pinged() == b": ping\nid: one.5\n\n"
    assert await pinged() == b": ping\n\n"
    log.publish(name=b"chat.status")
    await turns()
    assert await pinged() == b": ping\n\n"
    viewer.end()
    await running


async def test_a_position_is_never_told_across_logs(log: FakeLog, feeds: Feeds) -> None:
    written = bytearray()
    feed = feeds.open(CHAT)
    begun = asyncio.Event()

    async def write(data: bytes) -> None:
        written.extend(data)

    async def begin(reason: GapReason, seq: int) -> tuple[bytes, int]:
        assert (reason, seq) == ("epoch", 3)
        begun.set()
        return b"sync", await feed.position()

    viewer = Viewer(
        feed, Wanted(types=frozenset()), await feed.position(), write=write, begin=begin
    )
    feed.watchers.add(viewer)
    running = asyncio.create_task(viewer.run(b""))
    for _ in range(3):
        log.publish()
    await turns()
    log.make_anew("two")
    viewer.ping()
    feeds.reconnected()
    async with asyncio.timeout(30):
        await begun.wait()
    await settled(feeds)
    await turns()

    assert b"id: two" not in written
    viewer.end()
    await running
