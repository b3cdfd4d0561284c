"""The ledger that all replicas share: it is kept by the store, and this asks it."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
import structlog

from steersman_contracts.errors import (
    CallElsewhere,
    DeadlineExceeded,
    SteersmanError,
    Unavailable,
)
from steersman_contracts.parts import FilePart
from steersman_contracts.rpc import ledger as rpc
from steersman_contracts.rpc.tools import CallResult
from steersman_runtime.rpc import RpcClient
from steersman_tools.ledger import CallKey

log = structlog.stdlib.get_logger()

_LONGEST_PAUSE_S: Final = 1.0
_REMEMBERED_S: Final = 30.0
"""Much longer than results lie in the memory of PostgreSQL, and a crashed one takes to be back."""
_REMEMBERED_BYTES: Final = 64 << 20


_TOGETHER_S: Final = 0.05
"""How long the end of a call waits for those of others: nobody waits for it by then."""
_TOGETHER_BYTES: Final = 128 << 10


class _Batch:
    """Ends of calls that are written with one request."""

    def __init__(self) -> None:
        self.ended: list[rpc.EndedCall] = []
        self.weight = 0
        self.written = asyncio.Event()

    def takes(self, weight: int) -> bool:
        """Whether there is room; each one weighs a thousand bytes at least."""
        return self.weight + weight <= _TOGETHER_BYTES


class _Finished(NamedTuple):
    fingerprint: str
    result: CallResult
    weight: int
    at_s: float


class StoreLedger:
    """A ledger for any number of replicas, and over their deaths."""

    def __init__(
        self, client: RpcClient, host: str, *, lease_s: float, patience_s: float = 60.0
    ) -> None:
        """Use a store.

        Args:
            client: The way to it.
            host: The name of this process, which no later one has.
            lease_s: Seconds after which a silent host counts as dead.
            patience_s: Seconds for which it is tried to write a result down. Nobody waits for it:
                it was answered before.
        """
        self._rpc = client
        self._host = host
        self._lease_s = lease_s
        self._patience_s = patience_s
        self._reserved: dict[CallKey, str] = {}
        self._finished: OrderedDict[CallKey, _Finished] = OrderedDict()
        self._weight = 0
        self._batch: _Batch | None = None
        self.alive = False
        """Whether the lease was renewed in time; for readiness."""

    async def reserve(
        self,
        key: CallKey,
        fingerprint: str,
        *,
        running: bool,
        repeatable: bool,
        first: bool = False,
        era: str | None = None,
    ) -> CallResult | None:
        known = self._finished.get(key)
        if known is not None and known.fingerprint == fingerprint:
            # The book may have lost it with the last moments of a database that was killed.
            await self._write(key, known.result)
            return known.result
        request = rpc.ReserveCall(
            _ref(key), self._host, fingerprint, running, repeatable, first, era
        )
        reservation = await self._rpc.call(rpc.RESERVE, request)
        if reservation.yours:
            self._reserved[key] = fingerprint
            return None
        if reservation.host is not None:
            raise _elsewhere(key, reservation.host)
        if reservation.result is None:
            raise Unavailable("the ledger does not say whose the call is")
        return reservation.result

    async def start(self, key: CallKey) -> None:
        started = await self._rpc.call(rpc.START, rpc.StartCall(_ref(key), self._host))
        if not started.yours:
            raise _elsewhere(key, "")

    async def finish(self, key: CallKey, result: CallResult) -> None:
        """Write the result, and try for a while if the store is away or refuses it."""
        self._remember(key, result)
        await self._write(key, result)

    def _remember(self, key: CallKey, result: CallResult) -> None:
        """Keep a result until the database has certainly written it to its disk."""
        now = time.monotonic()
        kept = _Finished(self._reserved.pop(key, ""), result, _weight(result), now)
        self._finished[key] = kept
        self._weight += kept.weight
        while self._finished:
            oldest = next(iter(self._finished.values()))
            if now - oldest.at_s < _REMEMBERED_S and self._weight <= _REMEMBERED_BYTES:
                return
            self._finished.popitem(last=False)
            self._weight -= oldest.weight

    async def _write(self, key: CallKey, result: CallResult) -> None:
        """Write with what ends about now: the first one waits a little, and writes for all."""
        weight, batch = _weight(result), self._batch
        begins = batch is None or not batch.takes(weight)
        if batch is None or begins:
            batch = self._batch = _Batch()
        batch.ended.append(rpc.EndedCall(_ref(key), result))
        batch.weight += weight
        if not begins:
            await batch.written.wait()
            return
        try:
            await asyncio.sleep(_TOGETHER_S)
            if self._batch is batch:
                self._batch = None
            await self._write_all(batch.ended)
        finally:
            batch.written.set()

    async def _write_all(self, ended: Sequence[rpc.EndedCall]) -> None:
        first, *others = ended
        request = rpc.FinishCall(first.call, self._host, first.result, tuple(others))
        until = time.monotonic() + self._patience_s
        pause = 0.05
        while True:
            try:
                finished = await self._rpc.call(rpc.FINISH, request)
            except SteersmanError as error:
                if others and not isinstance(error, Unavailable | DeadlineExceeded):
                    # One of them cannot be written: that is not to be the fate of all.
                    await asyncio.gather(*(self._write_all((one,)) for one in ended))
                    return
                if time.monotonic() + pause > until:
                    log.error("call.not_written", error_code=error.code)  # noqa: TRY400  # the code says it all
                    return
                log.warning("call.not_written_yet", error_code=error.code, retry_in_s=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_S)
                continue
            if not finished.kept:
                log.warning("call.given_up")  # we were taken for dead; somebody was told so
            return

    async def hosts(self) -> tuple[str, ...]:
        return (await self._rpc.call(rpc.LIST_HOSTS, rpc.ListHosts())).hosts

    async def refuse(self, key: CallKey, result: CallResult) -> None:
        await self._rpc.call(rpc.REFUSE, rpc.RefuseCall(_ref(key), result))

    async def enlist(self) -> None:
        """Tell the store that this host lives; nothing may be reserved before."""
        await self._rpc.call(
            rpc.RENEW_HOST, rpc.RenewHost(self._host, self._lease_s), deadline_s=self._lease_s
        )
        self.alive = True

    async def leave(self) -> None:
        """Give the lease up: nothing of this host runs any more."""
        try:
            await self._rpc.call(rpc.RENEW_HOST, rpc.RenewHost(self._host, 0), deadline_s=1)
        except SteersmanError as error:
            log.info("host.not_left", error_code=error.code)  # the lease ends by itself

    async def renew(self) -> None:
        """Renew the lease, again and again, until cancelled."""
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(self._lease_s / 4)
            try:
                await self.enlist()
                renewed = time.monotonic()
            except SteersmanError as error:
                self.alive = time.monotonic() - renewed < self._lease_s
                log.warning("host.not_renewed", error_code=error.code)


def _weight(result: CallResult) -> int:
    """About how many bytes it holds."""
    return 1000 + sum(
        len(part.data or b"") if isinstance(part, FilePart) else len(msgspec.json.encode(part))
        for part in result.content
    )


def _ref(key: CallKey) -> rpc.CallRef:
    return rpc.CallRef(key.chat_id, key.call_id, key.epoch)


def _elsewhere(key: CallKey, host: str) -> CallElsewhere:
    return CallElsewhere(
        f"call {key.call_id!r} runs on another host", call_id=key.call_id, host=host
    )
