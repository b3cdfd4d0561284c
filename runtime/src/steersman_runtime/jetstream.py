"""JetStream as we use it: pipelined publishing, batch direct get, one durable pull consumer.

nats-py's own helpers are left aside where they lose futures with the connection (`publish_async`),
stall after an empty fetch (`fetch`), or do not exist (batch direct get); see `docs/decisions/`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
import structlog

from steersman_contracts.errors import DeadlineExceeded, SteersmanError, Unavailable
from steersman_runtime.nats_client import NatsClient, header, status

log = structlog.stdlib.get_logger()

NO_RESPONDERS: Final = 503
_NO_MESSAGES: Final = (404, 408, 409)
_END_OF_BATCH: Final = 204
_NO_SUCH_SEQUENCE: Final = 10043
_DELETIONS: Final = 64
"""Asked for at a time."""
ALREADY_SCHEDULED: Final = 10077
"""JetStream's error code for a second message on a subject that may hold one."""


class PublishRefused(SteersmanError):
    """JetStream answered a publish with an error; `err_code` in the details."""

    code = "publish_refused"


class _ApiError(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Ack(msgspec.Struct):
    seq: int = 0
    error: _ApiError | None = None


class StoredMessage(msgspec.Struct, frozen=True):
    """A message of a stream."""

    seq: int
    subject: str
    headers: bytes
    payload: bytes


_decode_ack = msgspec.json.Decoder(_Ack).decode


class Publisher:
    """Publishes to streams without waiting; each publish has a deadline of its own.

    Futures of a connection that is gone never stay open: they fail with `DeadlineExceeded`.
    """

    def __init__(self, client: NatsClient, *, deadline_s: float = 2.0) -> None:
        self._client = client
        self._deadline_s = deadline_s
        self._waiting: deque[tuple[float, str, asyncio.Future[int]]] = deque()
        self._sweep: asyncio.TimerHandle | None = None
        client.on_disconnect.append(self._on_disconnect)

    def publish(self, subject: str, payload: bytes, *, headers: bytes = b"") -> asyncio.Future[int]:
        """Publish one message.

        Returns:
            A future of the stream sequence. It fails with `PublishRefused`, `Unavailable` (no
            such stream, or no server at the moment) or `DeadlineExceeded`. Someone must look at
            it.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[int] = loop.create_future()
        reply = ""

        def on_ack(_: bytes, __: bytes, ack_headers: bytes, ack: bytes) -> None:
            self._client.close_reply(reply)
            if not future.done():
                _settle(future, ack_headers, ack)

        reply = self._client.open_reply(on_ack)
        self._waiting.append((loop.time() + self._deadline_s, reply, future))
        if self._sweep is None:
            self._sweep = loop.call_later(self._deadline_s, self._expire)
        self._client.send(subject, payload, reply=reply, headers=headers)
        return future

    def write_now(self) -> None:
        """Send what was published at once, not with the end of this turn of the event loop."""
        self._client.write_now()

    def _on_disconnect(self) -> None:
        # Acknowledgements die with the connection. Whether the message arrived is not known.
        while self._waiting:
            _, reply, future = self._waiting.popleft()
            self._client.close_reply(reply)
            if not future.done():
                future.set_exception(Unavailable("the connection was lost before the confirmation"))

    def _expire(self) -> None:
        self._sweep = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        waiting = self._waiting
        while waiting and (waiting[0][2].done() or waiting[0][0] <= now):
            _, reply, future = waiting.popleft()
            self._client.close_reply(reply)
            if not future.done():
                future.set_exception(
                    DeadlineExceeded("JetStream did not confirm a publish in time")
                )
        if waiting:
            self._sweep = loop.call_later(max(0.01, waiting[0][0] - now), self._expire)


def _settle(future: asyncio.Future[int], headers: bytes, payload: bytes) -> None:
    if headers and status(headers) == NO_RESPONDERS:
        future.set_exception(Unavailable("no stream takes this subject at the moment"))
        return
    try:
        ack = _decode_ack(payload)
    except msgspec.DecodeError:
        future.set_exception(PublishRefused("JetStream sent an unreadable acknowledgement"))
        return
    if ack.error is None:
        future.set_result(ack.seq)
    else:
        future.set_exception(PublishRefused(ack.error.description, err_code=ack.error.err_code))


async def request(
    client: NatsClient, subject: str, payload: bytes, *, deadline_s: float = 5.0
) -> tuple[bytes, bytes]:
    """One request, one answer: (headers, payload).

    Raises:
        Unavailable: Nobody listens on the subject.
        DeadlineExceeded: No answer in time.
    """
    future: asyncio.Future[tuple[bytes, bytes]] = asyncio.get_running_loop().create_future()

    def on_reply(_: bytes, __: bytes, headers: bytes, body: bytes) -> None:
        if not future.done():
            future.set_result((headers, body))

    reply = client.open_reply(on_reply)
    try:
        client.send(subject, payload, reply=reply)
        async with asyncio.timeout(deadline_s):
            headers, body = await future
    except TimeoutError as error:
        raise DeadlineExceeded(f"no answer on {subject!r} within {deadline_s} s") from error
    finally:
        client.close_reply(reply)
    if headers and status(headers) == NO_RESPONDERS:
        raise Unavailable(f"nobody answers on {subject!r}")
    return headers, body


async def _api(client: NatsClient, subject: str, body: Any) -> dict[str, Any]:
    _, payload = await request(client, f"$JS.API.{subject}", msgspec.json.encode(body))
    return msgspec.json.decode(payload, type=dict[str, Any])


class StreamFailed(SteersmanError):
    """The JetStream API refused a request; the details hold its error."""

    code = "stream_failed"


class StreamInfo(msgspec.Struct, frozen=True):
    """What we need to know of a stream."""

    created: str
    """RFC 3339; a stream that was made anew has another one."""
    first_seq: int
    last_seq: int


async def stream_info(client: NatsClient, stream: str) -> StreamInfo:
    """Look at a stream.

    Raises:
        StreamFailed: There is no such stream.
    """
    answer = await _api(client, f"STREAM.INFO.{stream}", {})
    if "error" in answer:
        raise StreamFailed(f"stream {stream!r}: {answer['error'].get('description')}")
    state: dict[str, Any] = answer["state"]
    return StreamInfo(answer["created"], state["first_seq"], state["last_seq"])


async def ensure_stream(client: NatsClient, config: Mapping[str, Any]) -> None:
    """Create a stream, or bring the one of that name to this configuration.

    Raises:
        StreamFailed: The server refuses the configuration.
    """
    name = config["name"]
    answer = await _api(client, f"STREAM.CREATE.{name}", config)
    if "error" in answer:
        answer = await _api(client, f"STREAM.UPDATE.{name}", config)
    if "error" in answer:
        raise StreamFailed(f"stream {name!r}: {answer['error'].get('description')}")


async def ensure_consumer(client: NatsClient, stream: str, config: Mapping[str, Any]) -> None:
    """Create or update a durable consumer.

    Raises:
        StreamFailed: The server refuses the configuration.
    """
    name = config["durable_name"]
    answer = await _api(
        client,
        f"CONSUMER.DURABLE.CREATE.{stream}.{name}",
        {"stream_name": stream, "config": config},
    )
    if "error" in answer:
        raise StreamFailed(f"consumer {name!r}: {answer['error'].get('description')}")


async def purge_subject(
    client: NatsClient, stream: str, subject: str, *, keep: int = 0, before: int = 0
) -> None:
    """Remove the messages of one subject from a stream.

    Args:
        client: The connection.
        stream: The stream.
        subject: Whose messages; a pattern of several works too.
        keep: How many of the newest stay. Not together with `before`.
        before: Only those with a lower sequence go; NATS takes 0 and 1 for all.
    """
    limits = {"keep": keep, "seq": before}
    ask = {"filter": subject} | {name: value for name, value in limits.items() if value}
    await _api(client, f"STREAM.PURGE.{stream}", ask)


async def delete_messages(client: NatsClient, stream: str, seqs: Sequence[int]) -> None:
    """Remove messages one by one; those that are gone already are fine.

    Raises:
        StreamFailed: The server refuses to, or could not remove one.
    """
    for start in range(0, len(seqs), _DELETIONS):
        asks = [{"seq": seq, "no_erase": True} for seq in seqs[start : start + _DELETIONS]]
        answers = await asyncio.gather(
            *(_api(client, f"STREAM.MSG.DELETE.{stream}", ask) for ask in asks)
        )
        for answer in answers:
            error: dict[str, Any] = answer.get("error", {})
            if error and error.get("err_code") != _NO_SUCH_SEQUENCE:
                raise StreamFailed(f"stream {stream!r}: {error.get('description')}")


async def last_sequence(client: NatsClient, stream: str, subject: str) -> int:
    """The newest sequence of a subject, 0 when it has none."""
    headers, _ = await request(client, f"$JS.API.DIRECT.GET.{stream}.{subject}", b"")
    found = header(headers, b"Nats-Sequence")
    return int(found) if found else 0


async def read_subject(
    client: NatsClient,
    stream: str,
    subject: str,
    *,
    after: int = 0,
    since: str | None = None,
    on_message: Callable[[StoredMessage], None],
    batch: int = 500,
    deadline_s: float = 10.0,
) -> int:
    """Hand over all stored messages of a subject, oldest first, by batch direct get.

    Args:
        client: The connection.
        stream: Must allow direct get.
        subject: Without wildcards.
        after: Only sequences above this one.
        since: Only messages stored at or after this RFC 3339 time (before `after` applies).
        on_message: Called from the read loop; must be quick, and must not raise.
        batch: Messages per request.
        deadline_s: Seconds for each batch.

    Returns:
        The last sequence that was handed over, `after` when there was nothing.

    Raises:
        Unavailable: No server or no stream.
        DeadlineExceeded: A batch did not end in time.
    """
    position = after
    while True:
        ask: dict[str, Any] = {"batch": batch, "next_by_subj": subject}
        if since is not None and position == 0:
            ask["start_time"] = since
        else:
            ask["seq"] = position + 1
        position, pending = await _read_batch(client, stream, ask, position, on_message, deadline_s)
        if not pending:
            return position


async def _read_batch(
    client: NatsClient,
    stream: str,
    ask: dict[str, Any],
    position: int,
    on_message: Callable[[StoredMessage], None],
    deadline_s: float,
) -> tuple[int, bool]:
    ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    last = position

    def on_reply(_: bytes, __: bytes, headers: bytes, payload: bytes) -> None:
        nonlocal last
        if ended.done():
            return
        code = status(headers) if headers else 0
        if code == 0:
            message = StoredMessage(
                int(header(headers, b"Nats-Sequence") or 0),
                (header(headers, b"Nats-Subject") or b"").decode(),
                headers,
                payload,
            )
            last = message.seq
            on_message(message)
        elif code == _END_OF_BATCH:
            ended.set_result(int(header(headers, b"Nats-Num-Pending") or 0) > 0)
        elif code in _NO_MESSAGES:
            ended.set_result(False)
        else:
            ended.set_exception(Unavailable(f"stream {stream!r} does not answer", status=code))

    reply = client.open_reply(on_reply)
    try:
        body = msgspec.json.encode(ask)
        client.send(f"$JS.API.DIRECT.GET.{stream}", body, reply=reply)
        async with asyncio.timeout(deadline_s):
            pending = await ended
    except TimeoutError as error:
        raise DeadlineExceeded(f"stream {stream!r} did not answer in time") from error
    finally:
        client.close_reply(reply)
    return last, pending


class PullConsumer:
    """Takes messages from a durable pull consumer, never more than there is capacity for.

    Each message is acknowledged at once (work hints only wake somebody up). Requests are renewed
    when they expire, and when the server has not sent a heartbeat for two intervals.
    """

    def __init__(
        self,
        client: NatsClient,
        stream: str,
        consumer: str,
        *,
        on_message: Callable[[str], Awaitable[None]],
        free: Callable[[], int],
    ) -> None:
        """Prepare to pull.

        Args:
            client: The connection.
            stream: The stream.
            consumer: Its durable consumer.
            on_message: Awaited for each message, with its subject; should only start the work.
            free: How many messages are welcome now.
        """
        self._client = client
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._on_message = on_message
        self._free = free
        self._arrived: asyncio.Queue[tuple[int, str, str]] = asyncio.Queue()
        self._capacity = asyncio.Event()

    def capacity_changed(self) -> None:
        """Tell the loop that `free` has grown."""
        self._capacity.set()

    async def run(self, *, expires_s: float = 30.0, heartbeat_s: float = 5.0) -> None:
        """Pull until cancelled."""
        self._client.on_reconnect.append(self._renew)
        try:
            while True:
                while (free := self._free()) <= 0:
                    self._capacity.clear()
                    await self._capacity.wait()
                await self._pull(free, expires_s, heartbeat_s)
        finally:
            self._client.on_reconnect.remove(self._renew)

    def _renew(self) -> None:
        # The server forgot the request with the connection.
        self._arrived.put_nowait((_NO_MESSAGES[1], "", ""))

    async def _pull(self, batch: int, expires_s: float, heartbeat_s: float) -> None:
        def on_reply(subject: bytes, ack: bytes, headers: bytes, _: bytes) -> None:
            code = status(headers) if headers else 0
            self._arrived.put_nowait((code, subject.decode(), ack.decode()))

        # A subscription of its own: the server delivers under the subject of the message.
        reply = self._client.new_inbox()
        sid = self._client.listen(reply, on_reply)
        ask = {
            "batch": batch,
            "expires": int(expires_s * 1e9),
            "idle_heartbeat": int(heartbeat_s * 1e9),
        }
        try:
            self._client.send(self._subject, msgspec.json.encode(ask), reply=reply)
            await self._take(batch, heartbeat_s)
        except Unavailable as error:
            log.warning("pull.failed", error=str(error))
            await asyncio.sleep(heartbeat_s)
        finally:
            self._client.unlisten(sid)
            self._give_back()

    def _give_back(self) -> None:
        """Let the server hand what has arrived and was not looked at to somebody else."""
        while not self._arrived.empty():
            code, _, ack = self._arrived.get_nowait()
            if not code:
                with suppress(Unavailable):
                    self._client.send(ack, b"-NAK")

    async def _take(self, batch: int, heartbeat_s: float) -> None:
        taken = 0
        while taken < batch:
            try:
                async with asyncio.timeout(2 * heartbeat_s):
                    code, subject, ack = await self._arrived.get()
            except TimeoutError:
                return  # no heartbeat: the request is lost; ask again
            if code == 100:  # idle heartbeat
                continue
            if code == NO_RESPONDERS:
                # A server that starts or elects; do not spin.
                await asyncio.sleep(min(0.25, heartbeat_s))
                return
            if code:
                return
            taken += 1
            with suppress(Unavailable):
                self._client.send(ack, b"+ACK")
            await self._on_message(subject)
