"""What the replicas tell each other of workspaces. Nobody has to hear it: who waits looks again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import msgspec
import structlog

from steersman_contracts import subjects
from steersman_contracts.errors import SteersmanError
from steersman_contracts.workspaces import WorkspaceId
from steersman_runtime.nats_client import NatsClient

log = structlog.stdlib.get_logger()


class Notice(msgspec.Struct, frozen=True, omit_defaults=True):
    """What all replicas are told of a workspace."""

    host: str
    workspace_id: WorkspaceId
    ended: bool = False
    """End whatever runs in it, its set-up too. Otherwise its state has changed."""


_decode_notice = msgspec.json.Decoder(Notice).decode


class Notices:
    """Tells the other replicas, and hears them."""

    def __init__(self, host: str, client: NatsClient) -> None:
        self._host = host
        self._client = client
        self._changed = asyncio.Event()

    def listen(self, on_ended: Callable[[WorkspaceId], object]) -> int:
        """Hear of workspaces in which everything is to end; `unlisten` takes the number."""

        def on_notice(_: bytes, __: bytes, ___: bytes, payload: bytes) -> None:
            try:
                notice = _decode_notice(payload)
            except msgspec.DecodeError:
                log.warning("notice.unreadable")
                return
            if notice.host == self._host:
                return
            self._wake()
            if notice.ended:
                on_ended(notice.workspace_id)

        return self._client.listen(subjects.TOOL_WORKSPACES, on_notice)

    def unlisten(self, number: int) -> None:
        """Hear nothing more."""
        self._client.unlisten(number)

    def tell(self, workspace_id: WorkspaceId, *, ended: bool = False) -> None:
        """Tell everybody, this process too."""
        notice = Notice(self._host, workspace_id, ended)
        self._wake()
        try:
            self._client.send(subjects.TOOL_WORKSPACES, msgspec.json.encode(notice))
        except SteersmanError as error:
            log.warning("notice.lost", error_code=error.code)

    @property
    def next(self) -> asyncio.Event:
        """Is set with the next notice. Take it before looking at what may change."""
        return self._changed

    async def wait(self, event: asyncio.Event, timeout_s: float) -> None:
        """Wait for that notice, for so long at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await event.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
