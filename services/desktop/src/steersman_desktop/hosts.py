"""Which instance of the service has the desktop of a chat: written down in JetStream, for a while.

At most one entry per chat, which its host renews; each write names the entry that it replaces, so
that of two hosts one wins. If the stream is lost, hosts write their entries again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import msgspec
import structlog

from steersman_contracts import subjects
from steersman_contracts.errors import Unavailable
from steersman_runtime.jetstream import (
    Publisher,
    PublishRefused,
    StreamFailed,
    ensure_stream,
    request,
)
from steersman_runtime.nats_client import NatsClient, encode_headers, header, status

log = structlog.stdlib.get_logger()

K = TypeVar("K")

ENTRY_S: Final = 30.0
"""An entry that nobody renews is gone after that."""
RENEW_S: Final = 10.0
_WRONG_SEQUENCE: Final = 10071
_STREAM: Final[dict[str, Any]] = {
    "name": subjects.DESKTOP_STREAM,
    "subjects": [subjects.DESKTOP_SUBJECTS],
    "storage": "memory",
    "max_msgs_per_subject": 1,
    "max_age": int(ENTRY_S * 1e9),
    "duplicate_window": int(ENTRY_S * 1e9),
    "allow_direct": True,
}


class Host(msgspec.Struct, frozen=True):
    """An instance of the desktop service."""

    name: str
    """Empty: nobody any more."""


class Entry(msgspec.Struct, frozen=True):
    """What is written down about a chat, or a server."""

    host: str
    seq: int


class Hosts(Generic[K]):
    """Reads and writes the entries for one instance: of chats, or of whatever else one has."""

    def __init__(self, client: NatsClient, host: str, subject_of: Callable[[K], str]) -> None:
        self._client = client
        self._publisher = Publisher(client, deadline_s=5.0)
        self._subject_of = subject_of
        self._mine: dict[K, int] = {}
        self.host = host

    async def find(self, key: K) -> Entry | None:
        """Who has it.

        Raises:
            Unavailable: JetStream does not answer.
        """
        subject = self._subject_of(key)
        get = f"$JS.API.DIRECT.GET.{subjects.DESKTOP_STREAM}.{subject}"
        try:
            headers, payload = await request(self._client, get, b"")
        except Unavailable:
            await self._ensure()
            headers, payload = await request(self._client, get, b"")
        if headers and status(headers):
            return None
        host = msgspec.json.decode(payload, type=Host).name
        return Entry(host, int(header(headers, b"Nats-Sequence") or 0))

    async def claim(self, key: K, over: Entry | None) -> bool:
        """Write ourselves down, in place of the entry that was found; say whether we won."""
        seq = await self._write(key, self.host, 0 if over is None else over.seq)
        if seq:
            self._mine[key] = seq
        return bool(seq)

    async def renew(self, key: K) -> bool:
        """Keep our entry; False if another host has it now."""
        seq = await self._write(key, self.host, self._mine.get(key, 0))
        if not seq:
            entry = await self.find(key)
            # Nobody's: it has expired, or the stream was lost.
            if entry is None or entry.host in {"", self.host}:
                return await self.claim(key, entry)
            self._mine.pop(key, None)
            return False
        self._mine[key] = seq
        return True

    async def leave(self, key: K) -> None:
        """Give it up, if it is still ours."""
        seq = self._mine.pop(key, 0)
        if seq:
            await self._write(key, "", seq)

    async def _write(self, key: K, host: str, over: int) -> int:
        headers = encode_headers({"Nats-Expected-Last-Subject-Sequence": str(over)})
        body = msgspec.json.encode(Host(host))
        subject = self._subject_of(key)
        for first in (True, False):
            try:
                return await self._publisher.publish(subject, body, headers=headers)
            except PublishRefused as error:
                if error.details.get("err_code") == _WRONG_SEQUENCE:
                    return 0
                raise
            except Unavailable:
                if not first:
                    raise
                await self._ensure()
        raise AssertionError("unreachable")  # the second round returns or raises

    async def _ensure(self) -> None:
        try:
            await ensure_stream(self._client, _STREAM)
        except StreamFailed as error:
            raise Unavailable(f"desktops need JetStream: {error}") from error
