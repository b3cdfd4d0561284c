"""The NATS connection: nats-py with a lean path for what happens per token.

nats-py costs about 5 µs to parse a message and 10 more to hand it over through a queue and a task.
Here a subscription can have a plain function instead (`listen`), called from the read loop with
bytes, and commands are written once per turn of the event loop. This leans on private names of
nats-py 2.16.0, which is pinned; `tests/integration/runtime/test_nats_client.py` holds it to them.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, TypeAlias

import structlog
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.protocol.parser import Parser

from steersman_contracts.errors import PayloadTooLarge, Unavailable

log = structlog.stdlib.get_logger()

Listener: TypeAlias = Callable[[bytes, bytes, bytes, bytes], None]
"""Called with (subject, reply, headers, payload). Must be quick, and must not raise."""

_CRLF: Final = b"\r\n"
_HEADER_LINE: Final = b"NATS/1.0"
_MAX_CONTROL_LINE: Final = 8192
_MAX_BUFFERED_OFFLINE: Final = 8 * 2**20


class _LeanParser(Parser):
    """Splits the server's stream; hands messages of listeners over without a detour."""

    def __init__(self, client: NatsClient) -> None:
        self._client = client
        super().__init__(client)  # pyright: ignore[reportUnknownMemberType]  # untyped in nats-py

    def reset(self) -> None:
        super().reset()
        self._rest = b""
        self._generation = getattr(self, "_generation", 0) + 1

    async def parse(self, data: bytes = b"") -> None:
        buffer = self._rest + data if self._rest else data
        generation = self._generation
        position = 0
        while (end := buffer.find(_CRLF, position)) >= 0:
            kind = buffer[position]
            if kind in b"MH":
                line = buffer[position:end].split()
                size = int(line[-1])
                start = end + 2
                if len(buffer) < start + size + 2:
                    break
                await self._message(kind, line, buffer[start : start + size])
                position = start + size + 2
            else:
                await self._control(buffer[position:end])
                position = end + 2
            if generation != self._generation:
                return  # the connection was replaced meanwhile; the rest belongs to the old one
        self._rest = buffer[position:]
        if len(self._rest) > _MAX_CONTROL_LINE and self._rest[0] not in b"MH":
            raise NatsError("nats: control line too long")

    async def _message(self, kind: int, line: list[bytes], body: bytes) -> None:
        # MSG <subject> <sid> [reply] <size> / HMSG <subject> <sid> [reply] <header size> <size>
        with_headers = kind == 72  # "H"
        sid = int(line[2])
        reply = line[3] if len(line) == (6 if with_headers else 5) else b""
        split = int(line[-2]) if with_headers else 0
        listener = self._client.listeners.get(sid)
        if listener is None:
            headers = body[:split] if with_headers else None
            await self._client._process_msg(  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # pinned, see above
                sid,
                line[1],
                reply,
                body[split:],
                headers,  # pyright: ignore[reportArgumentType]  # None is none
            )
            return
        try:
            listener(line[1], reply, body[:split], body[split:])
        except Exception:  # an error here would end the read loop for good
            log.exception("nats.listener_failed", subject=line[1].decode())

    async def _control(self, line: bytes) -> None:
        client = self._client
        if line.startswith(b"PING"):
            await client._process_ping()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # pinned, see above
        elif line.startswith(b"PONG"):
            await client._process_pong()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # pinned, see above
        elif line.startswith(b"-ERR"):
            text = line[4:].strip().strip(b"'").decode().lower()
            await client._process_err(text)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # pinned, see above
        elif line.startswith(b"INFO"):
            # The base class reads INFO; it alone knows what to do with cluster changes.
            self.buf = bytearray(line + _CRLF)
            await super().parse()
            self.buf = bytearray()
        elif not line.startswith(b"+OK"):
            raise NatsError("nats: unknown protocol")


class NatsClient(Client):
    """A connection whose subscriptions may have listeners."""

    def __init__(self) -> None:
        super().__init__()
        self.listeners: dict[int, Listener] = {}
        self._ps = _LeanParser(self)
        self._write_scheduled = False
        self._tokens = itertools.count()
        self._replies: dict[bytes, Listener] = {}
        self._reply_prefix = ""
        self.on_reconnect: list[Callable[[], None]] = []
        """Called after each reconnect, in order."""
        self.on_disconnect: list[Callable[[], None]] = []
        """Called when the connection is lost: what was asked before will never be answered."""
        self.closing = False

    # -- subscriptions ---------------------------------------------------------------------------

    def listen(self, subject: str, listener: Listener, *, queue: str = "") -> int:
        """Call `listener` for each message; survives reconnects.

        Returns:
            The subscription's number, for `unlisten`.
        """
        self._sid += 1
        sid = self._sid
        # The object is what nats-py replays after a reconnect; its queue and task are never used.
        self._subs[sid] = Subscription(self, sid, subject, queue=queue)
        self.listeners[sid] = listener
        self.write(f"SUB {subject} {queue} {sid}\r\n".encode())
        return sid

    def unlisten(self, sid: int) -> None:
        """End a subscription. Messages that are on their way are dropped."""
        self.listeners.pop(sid, None)
        if self._subs.pop(sid, None) is not None and self.is_connected:
            self.write(f"UNSUB {sid}\r\n".encode())

    async def drain_listeners(self, sids: Sequence[int]) -> None:
        """End subscriptions; what has arrived by now is still handed over."""
        for sid in sids:
            if self._subs.pop(sid, None) is not None and self.is_connected:
                self.write(f"UNSUB {sid}\r\n".encode())
        try:
            await self.flush()  # the answer stands behind the last message
        finally:
            for sid in sids:
                self.listeners.pop(sid, None)

    # -- publishing ------------------------------------------------------------------------------

    def write(self, command: bytes) -> None:
        """Send a protocol command with the next write, at the end of this turn of the loop.

        Raises:
            Unavailable: There is no connection and the buffer for that time is full.
        """
        if not self.is_connected and self._pending_data_size > _MAX_BUFFERED_OFFLINE:
            raise Unavailable("NATS is not connected and the buffer of this process is full")
        self._pending.append(command)
        self._pending_data_size += len(command)
        if not self._write_scheduled:
            self._write_scheduled = True
            asyncio.get_running_loop().call_soon(self._write_pending)

    def _write_pending(self) -> None:
        self._write_scheduled = False
        if not self._pending or not self.is_connected or self._transport is None:
            return  # while disconnected it stays; nats-py flushes after the reconnect
        pending, self._pending, self._pending_data_size = self._pending, [], 0
        self._transport.writelines(pending)

    async def close(self) -> None:
        """Close for good, whatever state the connection is in."""
        # The cancellation of nats-py's reconnect loop gets lost when a connect fails just then
        # (`asyncio.wait_for` before Python 3.12). Without a server to try it ends by itself.
        self._server_pool.clear()
        await super().close()

    async def flush(self, timeout: int = 10) -> None:
        """Wait until the server has seen everything that was written before."""
        # nats-py sends its PING ahead of what is still pending: the answer would prove nothing.
        self._write_pending()
        await super().flush(timeout)

    def write_now(self) -> None:
        """Send what is pending at once, for what somebody waits for."""
        self._write_pending()

    def send(self, subject: str, payload: bytes, *, reply: str = "", headers: bytes = b"") -> None:
        """Publish without waiting.

        Args:
            subject: Trusted: built by `steersman_contracts.subjects` or taken from a reply field.
            payload: The body.
            reply: Where an answer goes.
            headers: From `encode_headers`, or empty.

        Raises:
            PayloadTooLarge: The server would answer by closing the connection.
        """
        if len(headers) + len(payload) > self._max_payload:
            raise PayloadTooLarge(
                f"a message of {len(payload)} bytes is over the limit of NATS",
                limit=self._max_payload,
            )
        if headers:
            head = f"HPUB {subject} {reply} {len(headers)} {len(headers) + len(payload)}\r\n"
            self.write(b"".join((head.encode(), headers, payload, _CRLF)))
        else:
            head = f"PUB {subject} {reply} {len(payload)}\r\n"
            self.write(b"".join((head.encode(), payload, _CRLF)))

    # -- replies ---------------------------------------------------------------------------------

    def open_reply(self, listener: Listener) -> str:
        """A subject of this process alone; what arrives there goes to `listener` until closed."""
        if not self._reply_prefix:
            inbox = bytes(self._inbox_prefix).decode()
            self._reply_prefix = f"{inbox}.{secrets.token_hex(6)}."
            self.listen(self._reply_prefix + "*", self._on_reply)
        token = b"%x" % next(self._tokens)
        self._replies[token] = listener
        return self._reply_prefix + token.decode()

    def close_reply(self, subject: str) -> None:
        """Forget a subject from `open_reply`."""
        self._replies.pop(subject[len(self._reply_prefix) :].encode(), None)

    def _on_reply(self, subject: bytes, reply: bytes, headers: bytes, payload: bytes) -> None:
        listener = self._replies.get(subject[len(self._reply_prefix) :])
        if listener is not None:
            listener(subject, reply, headers, payload)


def encode_headers(headers: dict[str, str]) -> bytes:
    """The wire form of headers. Line breaks in values become spaces."""
    lines = [_HEADER_LINE]
    for key, value in headers.items():
        clean = value.replace("\r", " ").replace("\n", " ")
        lines.append(f"{key}: {clean}".encode())
    return _CRLF.join(lines) + b"\r\n\r\n"


def header(headers: bytes, name: bytes) -> bytes | None:
    """One value of the wire form, without parsing the rest; `name` is matched exactly."""
    at = headers.find(_CRLF + name + b":")
    if at < 0:
        return None
    start = at + len(name) + 3
    return headers[start : headers.find(_CRLF, start)].strip()


def status(headers: bytes) -> int:
    """The status of a server's control message (`NATS/1.0 503`), 0 when there is none."""
    text = headers[len(_HEADER_LINE) + 1 : len(_HEADER_LINE) + 4]
    return int(text) if text.isdigit() else 0


async def connect(
    url: str,
    *,
    name: str,
    inbox_prefix: str,
    on_closed: Callable[[], None],
    wait_s: float = 15.0,
) -> NatsClient:
    """Connect, and stay connected for as long as the process lives.

    Args:
        url: One or more URLs, separated by commas; may hold user and password.
        name: Shown in the server's connection list.
        inbox_prefix: The private inbox that this user may subscribe to.
        on_closed: Called when the client has given up for good; the process should end.
        wait_s: Seconds to wait for a server.

    Raises:
        Unavailable: No server accepted the connection in that time.
    """
    client = NatsClient()

    async def on_error(error: Exception) -> None:
        # Called inside the read loop: whatever leaves this function would end it for good.
        log.warning("nats.error", error=type(error).__name__, detail=str(error)[:200])

    async def on_disconnected() -> None:
        if not client.closing:
            log.warning("nats.disconnected")
        for callback in client.on_disconnect:
            callback()

    async def on_reconnected() -> None:
        log.info("nats.reconnected")
        for callback in client.on_reconnect:
            callback()

    async def on_client_closed() -> None:
        if not client.closing:
            log.error("nats.closed")
            on_closed()

    try:
        # nats-py itself would try for ever, also the very first time.
        async with asyncio.timeout(wait_s):
            await client.connect(
                url.split(","),
                name=name,
                inbox_prefix=inbox_prefix,
                error_cb=on_error,
                disconnected_cb=on_disconnected,
                reconnected_cb=on_reconnected,
                closed_cb=on_client_closed,
                lame_duck_mode_cb=client.force_reconnect,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.25,  # pyright: ignore[reportArgumentType]  # seconds
                connect_timeout=2,
                ping_interval=10,
                max_outstanding_pings=2,
                pending_size=_MAX_BUFFERED_OFFLINE,
            )
    except (NatsError, OSError, TimeoutError) as error:
        client.closing = True
        await client.close()
        raise Unavailable("NATS does not answer", reason=type(error).__name__) from error
    return client


async def close(client: NatsClient) -> None:
    """Close the connection on purpose. What was written before is sent."""
    client.closing = True
    with suppress(NatsError, TimeoutError, OSError):
        await client.flush(timeout=1)
    with suppress(OSError):  # without a server the rest cannot be written
        await client.close()
