"""The ledger that all replicas share: it is kept by the store, and this asks it."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import structlog

from steersman_contracts.errors import (
    CallElsewhere,
    DeadlineExceeded,
    SteersmanError,
    Unavailable,
)
from steersman_contracts.rpc import ledger as rpc
from steersman_contracts.rpc.tools import CallResult
from steersman_runtime.rpc import RpcClient
from steersman_tools.ledger import CallKey

log = structlog.stdlib.get_logger()

_LONGEST_PAUSE_S: Final = 1.0


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
            patience_s: Seconds for which a result waits for the store before it is answered
                without having been written.
        """
        self._rpc = client
        self._host = host
        self._lease_s = lease_s
        self._patience_s = patience_s
        self.alive = False
        """Whether the lease was renewed in time; for readiness."""

    async def reserve(
        self, key: CallKey, fingerprint: str, *, running: bool, repeatable: bool
    ) -> CallResult | None:
        request = rpc.ReserveCall(_ref(key), self._host, fingerprint, running, repeatable)
        reservation = await self._rpc.call(rpc.RESERVE, request)
        if reservation.yours:
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
        """Write the result; it is answered only afterwards, unless the store stays away."""
        request = rpc.FinishCall(_ref(key), self._host, result)
        until = time.monotonic() + self._patience_s
        pause = 0.05
        while True:
            try:
                finished = await self._rpc.call(rpc.FINISH, request)
            except (Unavailable, DeadlineExceeded) as error:
                if time.monotonic() + pause > until:
                    log.error("call.not_written", error_code=error.code)  # noqa: TRY400  # the code says it all
                    return
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


def _ref(key: CallKey) -> rpc.CallRef:
    return rpc.CallRef(key.chat_id, key.call_id, key.epoch)


def _elsewhere(key: CallKey, host: str) -> CallElsewhere:
    return CallElsewhere(
        f"call {key.call_id!r} runs on another host", call_id=key.call_id, host=host
    )
