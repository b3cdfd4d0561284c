"""One feed per watched topic: its events in order, without a gap, for all who watch it here.

A feed never buffers. What arrives live while it is not in order is only noted; it is in the log by
then, and is read from there.
"""

from __future__ import annotations

import asyncio
from typing import Final, Literal, Protocol, TypeAlias

import structlog

from steersman_contracts.errors import DeadlineExceeded, Unavailable
from steersman_gateway.event_log import Entry, EventLog, LogState, Page
from steersman_gateway.frames import Frame, frame
from steersman_gateway.order import Heard, Order
from steersman_gateway.topics import Topic
from steersman_runtime.tasks import TaskGroup

log = structlog.stdlib.get_logger()

GapReason: TypeAlias = Literal["epoch", "expired", "ahead"]

READY_S: Final = 5.0
"""A new viewer waits so long for the log before it is told to come back."""
LAG_TRIES: Final = 100
"""A replica of the log may answer reads a little behind its leader; after 2 s it is not that."""
_ABSENT_TRIES: Final = 25
_MAX_REPAIRS: Final = 64


class Watcher(Protocol):
    """A viewer, as its feed sees it. Both are called in the feed's turn and must not block."""

    def offer(self, item: Frame) -> None:
        """Take the next event."""
        ...

    def start_over(self, reason: GapReason) -> None:
        """The positions known so far mean nothing any more."""
        ...


class Feed:
    """The events of one topic."""

    def __init__(self, feeds: Feeds, topic: Topic) -> None:
        self._feeds = feeds
        self.topic = topic
        self.users = 0
        self.watchers: set[Watcher] = set()
        self.order = Order()
        self.checked_at = asyncio.get_running_loop().time()
        """When it last heard something, or was compared with the log."""
        self.checked_to = 0
        """The end of the whole log when it was compared."""
        self._ready: asyncio.Future[None] | None = None
        """Made when somebody waits for the first position."""
        self._task: asyncio.Task[None] | None = None
        self._doubt = False
        self._unread = False
        self._absent = 0
        self._state: LogState | None = None
        self._unwatch = feeds.log.watch(topic.subject, self._on_entry)
        self._settle()

    def close(self) -> None:
        """Nobody watches any more."""
        self._unwatch()
        if self._task is not None:
            self._task.cancel()

    # -- live ------------------------------------------------------------------------------------

    def _on_entry(self, entry: Entry, previous: int) -> None:
        self.checked_at = asyncio.get_running_loop().time()
        if self._task is not None:
            # Being read from the log right now; only what tells of another log matters.
            if entry.seq <= self.order.newest:
                self._doubt = True
            self.order.newest = max(self.order.newest, entry.seq)
            return
        match self.order.hear(entry.seq, previous):
            case Heard.NEXT:
                self._hand_on(entry)
            case Heard.KNOWN:
                pass
            case Heard.MISSING:
                self._settle()
            case Heard.ODD:
                self.doubt()

    def _hand_on(self, entry: Entry) -> None:
        self.order.last = entry.seq
        item = frame(self._feeds.epoch, entry)
        for watcher in self.watchers:
            watcher.offer(item)

    # -- from the log ----------------------------------------------------------------------------

    def doubt(self, state: LogState | None = None) -> None:
        """Compare with the log: something may be missing, or it may be another log."""
        self._doubt = True
        self._state = state
        self._settle()

    def restart(self, reason: GapReason) -> None:
        """Begin anew; every viewer gets a snapshot."""
        log.info("feed.restarted", subject=self.topic.subject, reason=reason)
        self.order = Order()
        self._doubt = self._unread = False
        self._absent = 0
        self._settle()
        for watcher in self.watchers:
            watcher.start_over(reason)

    def _settle(self) -> None:
        if self._task is None:
            self._task = self._feeds.tasks.start(self._run(), name="feed.settle")

    async def _run(self) -> None:
        idle = 0
        try:
            while self._doubt or self._unread or not self.order.settled:
                try:
                    async with self._feeds.repairs:
                        moved = await self._step()
                except (Unavailable, DeadlineExceeded):
                    await asyncio.sleep(self._feeds.retry_s)
                    continue
                idle = 0 if moved else idle + 1
                if idle > LAG_TRIES:
                    # Heard of, and not in the log: it was removed before anybody could read it.
                    self.restart("expired")
                    idle = 0
                elif idle and not self.order.settled:
                    await asyncio.sleep(self._feeds.lag_s)
        finally:
            self._task = None

    async def _step(self) -> bool:
        """Take one step towards order; says whether it got anywhere."""
        order = self.order
        if not self._feeds.epoch:
            self._feeds.learn(await self._feeds.log.state())
        if order.last is None:
            head = await self._feeds.log.head(self.topic.subject)
            if order is self.order:
                order.begin(head)
                if self._ready is not None:
                    self._ready.set_result(None)
                    self._ready = None
            return True
        if self._doubt:
            page = await self._compare(order, order.last)
        else:
            page = await self._feeds.log.read(self.topic.subject, order.last)
        if order is not self.order or page is None:
            return True
        self._unread = page.more
        moved = False
        for entry in page.entries:
            if entry.seq > order.last:
                self._hand_on(entry)
                moved = True
        return moved

    async def _compare(self, order: Order, last: int) -> Page | None:
        """Look whether the log still is the one that was read up to `last`, and read on.

        Returns:
            What follows, maybe with the event `last` before it; None when the feed began anew.
        """
        state = self._state or await self._feeds.log.state()
        self._feeds.learn(state)  # restarts every feed when the epoch is another one
        if order is not self.order:
            return None
        # If it did not expire, the event `last` itself must still be there.
        known = 0 < last >= state.first
        page = await self._feeds.log.read(self.topic.subject, last - 1 if known else last)
        if order is not self.order:
            return None
        if known and not self._continues(page, last):
            self._absent += 1
            if self._absent > _ABSENT_TRIES:
                self.restart("ahead")
                return None
            await asyncio.sleep(self._feeds.lag_s)
            return Page([], more=False)
        self._absent = 0
        self._doubt = False
        self._state = None
        self.checked_at = asyncio.get_running_loop().time()
        self.checked_to = state.last
        return page

    def _continues(self, page: Page, last: int) -> bool:
        # The one removal that is not from the log's beginning: a deleted chat keeps its last event.
        return bool(page.entries) and (
            page.entries[0].seq == last or page.entries[0].name == self.topic.ends
        )

    # -- for viewers -----------------------------------------------------------------------------

    async def position(self) -> int:
        """Where the feed stands: everything up to there is stored, and was so before this call.

        Raises:
            Unavailable: The log does not answer.
        """
        try:
            async with asyncio.timeout(READY_S):
                while (last := self.order.last) is None:
                    if self._ready is None:
                        self._ready = asyncio.get_running_loop().create_future()
                    # Shielded: the future is everybody's.
                    await asyncio.shield(self._ready)
        except TimeoutError as error:
            raise Unavailable("the event log does not answer at the moment") from error
        return last

    def reached(self, position: int) -> bool:
        """Whether a viewer at `position` has everything that this feed has handed on."""
        return self.order.last is not None and position >= self.order.last

    @property
    def epoch(self) -> str:
        """The log that the present positions belong to."""
        return self._feeds.epoch

    async def retry(self) -> None:
        """Give a log that does not answer a moment."""
        await asyncio.sleep(self._feeds.retry_s)

    async def lag(self) -> None:
        """Give a replica of the log a moment to learn what others know."""
        await asyncio.sleep(self._feeds.lag_s)

    async def read(self, after: int) -> Page:
        """The next page of the log."""
        return await self._feeds.log.read(self.topic.subject, after)

    async def resume(self, seq: int) -> GapReason | Page:
        """Look whether the log can be read on after `seq`.

        Returns:
            The first page after it, or why not. Nothing is missing if the event `seq` itself is
            still there: the log drops from its beginning only.
        """
        await self.position()
        page = await self._feeds.log.read(self.topic.subject, max(seq - 1, 0))
        if seq and page.entries and page.entries[0].seq == seq:
            return Page(page.entries[1:], page.more)
        state = await self._feeds.log.state()
        if state.first <= seq + 1 <= state.last + 1 and (seq == 0 or seq + 1 == state.first):
            return page
        head = self.order.last or 0
        return "ahead" if seq > (head or state.last) else "expired"


class Feeds:
    """The feeds of this process, and what it knows of the log as a whole."""

    def __init__(self, event_log: EventLog, *, retry_s: float = 0.2, lag_s: float = 0.02) -> None:
        """Begin with none.

        Args:
            event_log: The log.
            retry_s: Seconds to wait when the log does not answer.
            lag_s: Seconds to wait when it does not show yet what was heard.
        """
        self.log = event_log
        self.retry_s = retry_s
        self.lag_s = lag_s
        self.epoch = ""
        self.tasks = TaskGroup("feeds")
        self.repairs = asyncio.Semaphore(_MAX_REPAIRS)
        """After a reconnect every feed reads at once; the log answers in the order of asking."""
        self._feeds: dict[str, Feed] = {}

    def __len__(self) -> int:
        return len(self._feeds)

    def open(self, topic: Topic) -> Feed:
        """The feed of a topic, to be given back with `release`."""
        feed = self._feeds.get(topic.subject)
        if feed is None:
            feed = self._feeds[topic.subject] = Feed(self, topic)
        feed.users += 1
        return feed

    def release(self, feed: Feed) -> None:
        """A viewer is gone; with the last one the subscription ends."""
        feed.users -= 1
        if feed.users == 0:
            del self._feeds[feed.topic.subject]
            feed.close()

    def learn(self, state: LogState) -> None:
        """Take in what the log looks like; another epoch restarts every feed."""
        if state.epoch == self.epoch:
            return
        known, self.epoch = self.epoch, state.epoch
        if known:
            log.warning("log.epoch_changed", epoch=state.epoch)
            for feed in self._feeds.values():
                feed.restart("epoch")

    def reconnected(self) -> None:
        """The connection was lost for a while: what was published meanwhile was not heard."""
        if self._feeds:
            self.tasks.start(self._compare_all(), name="feeds.compare")

    async def _compare_all(self) -> None:
        while True:
            try:
                state = await self.log.state()
                break
            except (Unavailable, DeadlineExceeded):
                await asyncio.sleep(self.retry_s)
        self.learn(state)
        for feed in self._feeds.values():
            feed.doubt(state)

    async def check_silent(self, silence_s: float) -> None:
        """Compare the feeds that heard nothing for a while with the log.

        One question answers for all of them when the log has not grown since the last time.
        """
        now = asyncio.get_running_loop().time()
        silent = [feed for feed in self._feeds.values() if now - feed.checked_at >= silence_s]
        if not silent:
            return
        try:
            state = await self.log.state()
        except (Unavailable, DeadlineExceeded):
            return
        self.learn(state)
        for feed in silent:
            if state.last == feed.checked_to:
                feed.checked_at = now
            else:
                feed.doubt(state)
