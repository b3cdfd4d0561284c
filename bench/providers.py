"""The provider: the project's strict fakes, and a second one that stamps its tokens with the time.

Both are processes of their own, so that their cost falls neither on us nor on the system.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from bench.children import REPOSITORY, Child, clean_environment
from bench.figures import Wrong

KEY: Final = "sk-bench-0123456789"
FAKE: Final = "fake"
STAMPED: Final = "stamped"
_READY_S: Final = 30.0


class _Ready(msgspec.Struct):
    port: int


class Providers(msgspec.Struct, frozen=True):
    """Where the providers are, by their id."""

    urls: dict[str, str]
    pids: tuple[int, ...]


@asynccontextmanager
async def run_providers(logs: Path) -> AsyncGenerator[Providers]:
    """Run both until the block ends."""
    tests = str(REPOSITORY / "tests")
    env = clean_environment() | {"PYTHONPATH": tests, "PYTHONUNBUFFERED": "1"}
    commands = {
        # The requests are kept for tests; with 10,000 messages in each they would be gigabytes.
        FAKE: [sys.executable, "-m", "fakes.serve", "--port", "0", "--keep-requests", "10"],
        STAMPED: [sys.executable, "-m", "bench.stamped"],
    }
    children: dict[str, Child] = {}
    try:
        for name, argv in commands.items():
            children[name] = Child(
                argv, log=logs / f"provider-{name}.log", env=env, stdout=subprocess.PIPE
            )
        urls = {
            name: f"http://127.0.0.1:{await _port(child)}/v1" for name, child in children.items()
        }
        yield Providers(urls, tuple(child.pid for child in children.values()))
    finally:
        for child in children.values():
            await child.stop()


async def _port(child: Child) -> int:
    try:
        async with asyncio.timeout(_READY_S):
            line = await asyncio.to_thread(child.stdout.readline)
        return msgspec.json.decode(line, type=_Ready).port
    except (TimeoutError, msgspec.DecodeError) as error:
        raise Wrong(f"a provider did not start:\n{child.last_words()}") from error


def words(count: int) -> str:
    """What the fake's models `tokens-N` and `tokens-N-at-R` say."""
    return " ".join(f"w{number}" for number in range(1, count + 1))
