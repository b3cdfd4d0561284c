"""A whole deployment as `steersman up` starts it, in a directory of its own."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg
import msgspec

from bench import noop, processes
from bench.children import Child, clean_environment
from bench.figures import Wrong
from bench.http import Address

_READY_S: Final = 120.0
_MAX_VIEWERS: Final = 20_000


class Process(msgspec.Struct, frozen=True):
    """One process of the deployment."""

    name: str
    pid: int
    service: str = ""


class Facts(msgspec.Struct, frozen=True):
    """The ready file."""

    url: str
    token: str
    services: tuple[Process, ...]
    parts: tuple[Process, ...]
    database_url: str

    @property
    def address(self) -> Address:
        split = urlsplit(self.url)
        return Address(split.hostname or "", split.port or 80, self.token)

    def pid_of(self, name: str) -> int:
        found = [one.pid for one in (*self.services, *self.parts) if one.name == name]
        if not found:
            raise Wrong(f"the deployment has no process {name!r}")
        return found[0]


class Deployment:
    """One start of everything."""

    def __init__(self, child: Child, ready_file: Path, start_s: float) -> None:
        self._child = child
        self._ready_file = ready_file
        self.start_s = start_s

    @classmethod
    async def start(cls, directory: Path, *, replicas: Sequence[str] = ()) -> Deployment:
        """Start on the data in `directory`, made anew when there is none.

        Raises:
            Wrong: It did not become ready; the text holds the end of its log.
        """
        ready_file = directory / "ready.json"
        ready_file.unlink(missing_ok=True)
        argv = [sys.executable, "-c", "from steersman.main import main; main()", "up"]
        argv += ["--data", str(directory / "data"), "--port", "0", "--no-local-model"]
        argv += ["--ready-file", str(ready_file)]
        for replica in replicas:
            argv += ["--replicas", replica]
        env = clean_environment() | {
            # A title would be a second request to the provider, in the middle of what is measured.
            "STEERSMAN_CHATLOOP_GENERATE_TITLES": "false",
            "STEERSMAN_GATEWAY_MAX_STREAMS_PER_USER": str(_MAX_VIEWERS),
            "PYTHONPATH": str(noop.install(directory / "plugins")),
        }
        began = time.monotonic()
        child = Child(argv, log=directory / "up.log", env=env)
        while not ready_file.exists():
            if child.popen.poll() is not None or time.monotonic() - began > _READY_S:
                await child.stop()
                raise Wrong(f"`steersman up` is not ready:\n{child.last_words(30)}")
            await asyncio.sleep(0.01)
        return cls(child, ready_file, time.monotonic() - began)

    async def stop(self) -> None:
        await self._child.stop()

    @property
    def facts(self) -> Facts:
        """As they are now: a process that was started again has another pid."""
        return msgspec.json.decode(self._ready_file.read_bytes(), type=Facts)

    async def database(self) -> asyncpg.Connection:
        """A connection of our own, for what the public API cannot do or show."""
        return await asyncpg.connect(self.facts.database_url)

    def cpu(self) -> processes.Cpu:
        """What each service has used so far; replicas are added up."""
        facts = self.facts
        used: dict[str, float] = {}
        for one in facts.services:
            used[one.service] = used.get(one.service, 0.0) + processes.cpu_s(one.pid)
        used["postgres"] = processes.tree_cpu_s(facts.pid_of("postgres"))
        used["nats"] = processes.cpu_s(facts.pid_of("nats"))
        return processes.Cpu(used)

    def last_words(self) -> str:
        return self._child.last_words()
