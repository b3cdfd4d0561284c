"""The event log as the gateway reads it: live, and from any position by batch direct get.

Never a JetStream consumer: one per viewer costs tens of kB and two orders of magnitude in speed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import msgspec

from steersman_contracts import subjects
from steersman_contracts.errors import DeadlineExceeded, SteersmanError, Unavailable
from steersman_contracts.events import EVENT_HEADER
from steersman_runtime.jetstream import StreamFailed, stream_info
from steersman_runtime.nats_client import NatsClient, header, status

_NAME: Final = EVENT_HEADER.encode()
_PAGE_EVENTS: Final = 200
_PAGE_BYTES: Final = 256 * 1024
"""A page is held in memory for one reader; the one event that goes over it is still sent."""
_READ_S: Final = 2.0
_END_OF_BATCH: Final = 204
_NOTHING: Final = 404
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One event of a subject. The payload is JSON and is never decoded on its way to a viewer."""

    seq: int
    name: bytes
    payload: bytes


class Page(NamedTuple):
    """Events in order, and whether there are more."""

    entries: list[Entry]
    more: bool


class LogState(NamedTuple):
    """The whole log. `epoch` changes when it was made anew; sequences mean nothing across that."""

    epoch: str
    first: int
    last: int


OnEntry: TypeAlias = Callable[[Entry, int], None]
"""Called with an event and the sequence of the event before it on its subject (0: none)."""


class EventLog(Protocol):
    """What a feed needs of the log. Reads raise `Unavailable` or `DeadlineExceeded`.

    A subject is that under which events are stored: of one chat, or of one person.
    """

    def watch(self, subject: str, on_entry: OnEntry) -> Callable[[], None]:
        """Hear every event stored from now on; returns how to stop that."""
        ...

    async def head(self, subject: str) -> int:
        """The newest sequence of a subject, 0 when it has none."""
        ...

    async def read(self, subject: str, after: int, *, since: datetime | None = None) -> Page:
        """The next events of a subject; with `since`, from that time on whatever `after` says."""
        ...

    async def state(self) -> LogState:
        """Look at the whole log."""
        ...


class NatsEventLog:
    """The log in JetStream."""

    def __init__(self, client: NatsClient) -> None:
        self._client = client
        self._waiting: set[asyncio.Future[bool]] = set()
        client.on_disconnect.append(self._on_disconnect)

    def watch(self, subject: str, on_entry: OnEntry) -> Callable[[], None]:
        """Subscribe to what the server republishes after storing it.

        A read that is sent after this call is answered after the server knows the subscription:
        it handles the commands of a connection in order. So no flush is needed before catching up.
        """

        def on_message(_: bytes, __: bytes, headers: bytes, payload: bytes) -> None:
            seq = header(headers, b"Nats-Sequence")
            if seq is not None:
                previous = header(headers, b"Nats-Last-Sequence")
                name = header(headers, _NAME) or b""
                on_entry(Entry(int(seq), name, payload), int(previous or 0))

        sid = self._client.listen(subjects.live_copy(subject), on_message)
        return lambda: self._client.unlisten(sid)

    async def head(self, subject: str) -> int:
        """Ask for the last message of the subject."""
        ask = f"$JS.API.DIRECT.GET.{subjects.EVENT_STREAM}.{subject}"
        page = await self._ask(ask, b"", single=True)
        return page.entries[0].seq if page.entries else 0

    async def read(self, subject: str, after: int, *, since: datetime | None = None) -> Page:
        """One batch direct get."""
        ask: dict[str, Any] = {
            "next_by_subj": subject,
            "batch": _PAGE_EVENTS,
            "max_bytes": _PAGE_BYTES,
        }
        if since is None:
            ask["seq"] = after + 1
        else:
            ask["start_time"] = since.astimezone(UTC).isoformat()
        where = f"$JS.API.DIRECT.GET.{subjects.EVENT_STREAM}"
        return await self._ask(where, msgspec.json.encode(ask), single=False)

    async def state(self) -> LogState:
        """Ask for the stream's information."""
        try:
            info = await stream_info(self._client, subjects.EVENT_STREAM)
        except StreamFailed as error:
            raise Unavailable("the event log does not exist yet") from error
        except (Unavailable, DeadlineExceeded):
            raise
        except SteersmanError as error:
            raise Unavailable("the event log does not answer") from error
        return LogState(epoch_of(info.created), info.first_seq, info.last_seq)

    async def _ask(self, subject: str, body: bytes, *, single: bool) -> Page:
        if not self._client.is_connected:
            raise Unavailable("NATS is not connected")
        ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        entries: list[Entry] = []

        def on_reply(_: bytes, __: bytes, headers: bytes, payload: bytes) -> None:
            if ended.done():
                return
            code = status(headers) if headers else 0
            if code == 0:
                seq = int(header(headers, b"Nats-Sequence") or 0)
                entries.append(Entry(seq, header(headers, _NAME) or b"", payload))
                if single:
                    ended.set_result(False)
            elif code == _END_OF_BATCH:
                ended.set_result(int(header(headers, b"Nats-Num-Pending") or 0) > 0)
            elif code == _NOTHING:
                ended.set_result(False)
            else:
                ended.set_exception(Unavailable("the event log does not answer", status=code))

        reply = self._client.open_reply(on_reply)
        self._waiting.add(ended)
        try:
            self._client.send(subject, body, reply=reply)
            async with asyncio.timeout(_READ_S):
                more = await ended
        except TimeoutError as error:
            raise DeadlineExceeded("the event log did not answer in time") from error
        finally:
            self._waiting.discard(ended)
            self._client.close_reply(reply)
        return Page(entries, more)

    def _on_disconnect(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_exception(Unavailable("the connection to NATS was lost"))


def epoch_of(created: str) -> str:
    """A short name for a log: the microsecond at which it was made, in base 36."""
    left = (datetime.fromisoformat(created) - _EPOCH) // timedelta(microseconds=1)
    digits = ""
    while left:
        left, digit = divmod(left, 36)
        digits = _DIGITS[digit] + digits
    return digits or "0"
