"""Which calls were taken and how they ended: what makes a repeated request harmless."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import msgspec

from steersman_contracts.errors import Conflict
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import TextPart
from steersman_contracts.rpc.tools import CallResult


class CallKey(NamedTuple):
    """What identifies a call."""

    chat_id: ChatId
    call_id: str
    epoch: int = 0


class Ledger(Protocol):
    """Remembers calls. At most one caller is ever told to run a key.

    `Calls` asks once per key and process, also for requests at the same moment; it lets repeated
    requests attach to what runs in this process. A durable ledger decides between processes.
    """

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
        """Take a call.

        Args:
            key: The call.
            fingerprint: Of the tool and its arguments.
            running: It begins at once. Otherwise `start` says when, and until then nothing is lost
                if this host dies.
            repeatable: It may be run again if the host that runs it has died.
            first: Nobody has asked for it before: it may be taken without waiting for a disk.
            era: When it was stored, in the eras of the database; None: it was certainly not begun.

        Returns:
            None: it is the caller's to run, and to `finish`. Otherwise the result that it has.

        Raises:
            Conflict: The key was taken with another fingerprint.
            CallElsewhere: It runs on another host, which lives.
        """
        ...

    async def start(self, key: CallKey) -> None:
        """A call that was reserved begins.

        Raises:
            CallElsewhere: It is no longer the caller's.
        """
        ...

    async def finish(self, key: CallKey, result: CallResult) -> None:
        """Keep the result of a call that was reserved."""
        ...

    async def hosts(self) -> tuple[str, ...]:
        """The hosts that live, with this one."""
        ...

    async def refuse(self, key: CallKey, result: CallResult) -> None:
        """Give a call that was never taken its result: it will not run. Else, nothing happens."""
        ...


FORGOTTEN: Final = CallResult(
    (TextPart("this call has finished before; its result is no longer kept"),), is_error=True
)


@dataclass(frozen=True, slots=True)
class _Finished:
    fingerprint: str | None
    result: CallResult
    size: int
    at_s: float


class MemoryLedger:
    """A ledger that lasts as long as its process and knows only what this process ran."""

    def __init__(
        self, *, kept: int, kept_s: float, kept_bytes: int, clock: Callable[[], float]
    ) -> None:
        """Begin empty.

        Args:
            kept: Results, the newest.
            kept_s: Seconds that a result is kept.
            kept_bytes: Of results together. Above that the oldest ones lose their content but
                are remembered: their calls are not run again.
            clock: Seconds that only grow.
        """
        self._kept = kept
        self._kept_s = kept_s
        self._kept_bytes = kept_bytes
        self._clock = clock
        self._reserved: dict[CallKey, str] = {}
        self._finished: OrderedDict[CallKey, _Finished] = OrderedDict()
        self._with_content: OrderedDict[CallKey, int] = OrderedDict()
        self._bytes = 0

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
        del first, era  # nothing outlives this process
        self._expire()
        known = self._finished.get(key)
        taken_with = self._reserved.get(key) if known is None else known.fingerprint
        if taken_with is not None and taken_with != fingerprint:
            raise Conflict(
                f"call {key.call_id!r} was asked for with another tool or other arguments",
                call_id=key.call_id,
            )
        if known is not None:
            return known.result
        if taken_with is not None:
            raise Conflict(f"call {key.call_id!r} is running", call_id=key.call_id)
        self._reserved[key] = fingerprint
        return None

    async def start(self, key: CallKey) -> None:
        pass  # nobody else could have taken it

    async def finish(self, key: CallKey, result: CallResult) -> None:
        self._keep(key, self._reserved.pop(key), result)

    async def hosts(self) -> tuple[str, ...]:
        return ()  # there is no other

    async def refuse(self, key: CallKey, result: CallResult) -> None:
        if key not in self._finished and key not in self._reserved:
            self._keep(key, None, result)

    def _keep(self, key: CallKey, fingerprint: str | None, result: CallResult) -> None:
        size = len(msgspec.json.encode(result))
        self._finished[key] = _Finished(fingerprint, result, size, self._clock())
        self._with_content[key] = size
        self._bytes += size
        while self._bytes > self._kept_bytes:
            oldest, size = self._with_content.popitem(last=False)
            self._bytes -= size
            entry = self._finished[oldest]
            self._finished[oldest] = _Finished(entry.fingerprint, FORGOTTEN, 0, entry.at_s)
        self._expire()

    def _expire(self) -> None:
        until = self._clock() - self._kept_s
        while self._finished:
            oldest = next(iter(self._finished))
            if len(self._finished) <= self._kept and self._finished[oldest].at_s > until:
                return
            del self._finished[oldest]
            self._bytes -= self._with_content.pop(oldest, 0)

    def __len__(self) -> int:
        return len(self._finished)
