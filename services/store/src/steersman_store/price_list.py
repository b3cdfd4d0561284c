"""What models cost, from the list of the package `genai-prices`.

The list and what it needs take 70 MB and a second of work, for a question that is asked when a
model is added. So a process of its own answers, and ends when nothing has been asked for a while.
"""

from __future__ import annotations

import asyncio
import ipaddress
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec
import structlog

from steersman_contracts.model_options import Prices, PriceTier
from steersman_contracts.rpc.models import ProviderType

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice, Tier

log = structlog.stdlib.get_logger()

_LIMIT: Final = 2**20
"""Bytes of one answer: a thousand models take a tenth of it."""
_ANSWER_S: Final = 15.0
_LARGEST: Final = 10**12
_HOSTED: Final[dict[ProviderType, str]] = {
    "anthropic": "anthropic",
    "openai-responses": "openai",
    "google": "google",
    "anthropic-bedrock": "aws",
    "anthropic-vertex": "google",
    "google-vertex": "google",
}
"""How the list calls the providers that need no base URL."""


class PriceQuery(msgspec.Struct, frozen=True, array_like=True):
    """Which model of which provider."""

    type: ProviderType
    base_url: str | None
    model_id: str

    def may_be_listed(self) -> bool:
        """Whether it is worth asking: nobody lists what runs at home."""
        if self.base_url is None:
            return self.type in _HOSTED
        host = urlsplit(self.base_url).hostname or ""
        with suppress(ValueError):
            ipaddress.ip_address(host)
            return False
        return "." in host and not host.endswith((".local", ".internal", ".lan"))


class PriceList:
    """Asks the process with the list, and starts it when it is not there.

    Args:
        idle_s: After how many seconds without a question the process ends.
        answer_s: Seconds that it has for an answer, its start included.
    """

    def __init__(self, *, idle_s: float = 30.0, answer_s: float = _ANSWER_S) -> None:
        self._idle_s = idle_s
        self._answer_s = answer_s
        self._lock = asyncio.Lock()
        self._process: Process | None = None
        self._closing: asyncio.TimerHandle | None = None

    async def look_up(self, queries: Sequence[PriceQuery]) -> Sequence[Prices | None] | None:
        """The prices of each model, None for one that is not listed; None when nothing answers."""
        asked = [query for query in queries if query.may_be_listed()]
        if not asked:
            return [None] * len(queries)
        async with self._lock:
            self._keep()
            try:
                async with asyncio.timeout(self._answer_s):
                    found = await self._ask(asked)
            except (OSError, TimeoutError, ValueError, msgspec.DecodeError) as error:
                # A model without prices works; its costs are then unknown.
                log.warning("prices.unknown", error=type(error).__name__)
                await self._stop()
                return None
            except asyncio.CancelledError:
                # Its answer would be taken for that to the next question.
                await self._stop()
                raise
            else:
                self._closing = asyncio.get_running_loop().call_later(self._idle_s, self._hang_up)
        answers = dict(zip(asked, found, strict=True))
        return [answers.get(query) for query in queries]

    async def aclose(self) -> None:
        """End the process."""
        async with self._lock:
            self._keep()
            await self._stop()

    async def _ask(self, queries: Sequence[PriceQuery]) -> list[Prices | None]:
        process = self._process
        if process is None or process.returncode is not None:
            # It needs nothing of our environment, and there are secrets in that.
            process = self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "steersman_store.price_list"),
                stdin=PIPE,
                stdout=PIPE,
                env={},
                limit=_LIMIT,
            )
        assert process.stdin is not None  # piped, as stdout
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(queries) + b"\n")
        await process.stdin.drain()
        found = msgspec.json.decode(await process.stdout.readline(), type=list[Prices | None])
        if len(found) != len(queries):
            raise ValueError("another number of answers than of questions")
        return found

    def _keep(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None

    def _hang_up(self) -> None:
        """Close its input: it ends by itself, as it would if we died."""
        self._closing = None
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def find_prices(query: PriceQuery, now: datetime) -> Prices | None:
    """Look into the list; in the process of its own, because of what the import brings along."""
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    try:
        _, model = snapshot.find_provider_model(
            query.model_id, None, None if query.base_url else _HOSTED[query.type], query.base_url
        )
    except LookupError:
        return None
    return to_prices(model.get_prices(now))


def to_prices(listed: ModelPrice) -> Prices | None:
    """The listed prices as ours; None if the two that matter are not both there."""
    base: dict[str, Any] = {name: _micros(listed, kind, 0) for name, kind in _KINDS.items()}
    prices = Prices(**base)
    if prices.input is None or prices.output is None:
        return None
    starts = {
        tier.start for kind in _KINDS.values() for tier in _tiers(getattr(listed, kind, None))
    }
    tiers: list[PriceTier] = []
    for start in sorted(starts):
        found: dict[str, Any] = {
            name: _micros(listed, kind, start) for name, kind in _KINDS.items()
        }
        if found["input"] is None or found["output"] is None:
            return None
        tiers.append(PriceTier(above=start, **found))
    return msgspec.structs.replace(prices, tiers=tuple(tiers))


_KINDS: Final = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
}


def _tiers(value: object) -> Sequence[Tier]:
    return getattr(value, "tiers", ())


def _micros(listed: ModelPrice, kind: str, start: int) -> int | None:
    """Dollars for a million tokens as micro-units, rounded up, in the tier of that start."""
    found: object = getattr(listed, kind, None)
    value: object = getattr(found, "base", found)
    for tier in _tiers(found):  # in order
        if tier.start <= start:
            value = tier.price
    if not isinstance(value, Decimal) or value < 0:
        return None
    return min(int((value * 1_000_000).to_integral_value(ROUND_CEILING)), _LARGEST)


def main() -> None:
    """Answer one line of questions after the other, until there are no more."""
    for line in sys.stdin.buffer:
        queries = msgspec.json.decode(line, type=list[PriceQuery])
        now = datetime.now(UTC)
        answers = [find_prices(query, now) for query in queries]
        sys.stdout.buffer.write(msgspec.json.encode(answers) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
