"""What every scenario works with: providers, the deployment, the size of the run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from bench.chats import ChatClient
from bench.deployment import Deployment
from bench.direct import Direct
from bench.figures import Wrong
from bench.http import Address, Api
from bench.providers import FAKE, KEY, STAMPED, Providers, words
from bench.stamped import AGENT, COUNTED, PARENT, POLLER

T = TypeVar("T")

MODELS: Final[dict[str, tuple[str, ...]]] = {
    FAKE: (
        "tokens-10-at-200",
        "tokens-20",
        "tokens-200",
        "tokens-60-at-20",
        "tokens-100-at-50",
        "tokens-200-at-50",
    ),
    STAMPED: ("stamped-60-at-25", COUNTED, PARENT, POLLER, AGENT),
}
TOOL: Final = "list_files"
TOOL_MODEL: Final = f"tool-{TOOL}"
_WARM_UP_S: Final = 60.0


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured."""

    quick: bool
    rounds: int
    """Baseline and system take turns so often."""
    samples: int
    """Of single turns, in each round."""
    turns: int
    """That each of many chats takes, in each round."""
    viewers: int
    starts: int
    kills: int
    seconds: float
    """After this time every scenario that is left gets one round."""


FULL: Final = Size(
    quick=False, rounds=5, samples=12, turns=3, viewers=5_000, starts=3, kills=2, seconds=300
)
QUICK: Final = Size(
    quick=True, rounds=2, samples=20, turns=1, viewers=2_000, starts=1, kills=1, seconds=70
)


class Bench:
    """One run. The deployment starts when the first scenario wants it."""

    def __init__(self, directory: Path, providers: Providers, size: Size) -> None:
        self.directory = directory
        self.size = size
        self.providers = providers
        self.direct = Direct(providers.urls[FAKE])
        self.direct_stamped = Direct(providers.urls[STAMPED])
        self._began = time.monotonic()
        self._running: Deployment | None = None
        self._replicas: tuple[str, ...] = ()

    async def deployment(self, *replicas: str) -> Deployment:
        """The one that runs; started anew if it has other replicas."""
        if self._running is not None and self._replicas != replicas:
            await self.stop()
        if self._running is None:
            self._running = await Deployment.start(self.directory, replicas=replicas)
            self._replicas = replicas
            await self._prepare(self._running.facts.address)
        return self._running

    async def address(self) -> Address:
        return (await self.deployment()).facts.address

    async def stop(self) -> None:
        """End the deployment; its data stays for the next start."""
        if self._running is not None:
            await self._running.stop()
            self._running = None

    async def _prepare(self, address: Address) -> None:
        """Register the providers over the public API, and let everything load what it needs."""
        api = Api(address)
        for name, url in self.providers.urls.items():
            body: dict[str, object] = {"type": "openai-chat", "base_url": url, "api_key": KEY}
            await api.call("PUT", f"/providers/{name}", msgspec.Raw, body)
            for model in MODELS[name]:
                await _put_model(api, name, model)
        await _put_model(api, FAKE, TOOL_MODEL)
        api.close()
        chat = await ChatClient.create(address, f"{FAKE}/tokens-20")
        for _ in range(3):
            await chat.turn("Warm up.", words(20), timeout_s=_WARM_UP_S)
            await self.direct.turn("tokens-20", words(20))
        chat.close()

    def rounds(self, count: int, *, within_s: float) -> Iterator[int]:
        """Rounds of a scenario: at least one, and no further one once the time is over.

        A machine that is busy with other things gets fewer rounds, not a longer run.
        """
        until = time.monotonic() + (within_s / 4 if self.size.quick else within_s)
        until = min(until, self._began + self.size.seconds)
        for number in range(count):
            if number and time.monotonic() > until:
                return
            yield number

    @asynccontextmanager
    async def chats(self, count: int, model: str) -> AsyncGenerator[Sequence[ChatClient]]:
        """So many chats, all watched."""
        address = await self.address()
        gate = asyncio.Semaphore(16)

        async def create() -> ChatClient:
            async with gate:
                return await ChatClient.create(address, model)

        chats: list[ChatClient] = []
        try:
            chats += await gather([create() for _ in range(count)])
            yield chats
        finally:
            for chat in chats:
                chat.close()

    async def close(self) -> None:
        await self.stop()
        await self.direct.close()
        await self.direct_stamped.close()


async def _put_model(api: Api, provider: str, model: str) -> None:
    body: dict[str, object] = {"provider_id": provider, "model_id": model, "tools": True}
    await api.call("PUT", "/models", msgspec.Raw, body)


async def gather(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all at once; the first failure ends the others, and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    return [task.result() for task in tasks]


def expect(condition: object, reason: str) -> None:
    """Fail the scenario unless the condition holds."""
    if not condition:
        raise Wrong(reason)
