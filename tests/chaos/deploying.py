"""A deployment with two of everything, whose processes get killed; and a provider beside it."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg
import psutil
import pytest

from steersman.client import Client
from steersman_contracts.rest import PutModelBody, PutProviderBody
from steersman_contracts.rpc.models import ProviderType

_START_S: Final = 90.0
_STOP_S: Final = 40.0
_TESTS: Final = Path(__file__).parents[1]
# Everything in a lease derives from this: a shorter one makes the same take-over happen sooner.
LEASE_S: Final = 3.0
SETTINGS: Final = {
    "STEERSMAN_CHATLOOP_LEASE_S": str(LEASE_S),
    "STEERSMAN_STORE_SWEEP_S": "1",
    "STEERSMAN_CHATLOOP_GENERATE_TITLES": "false",
}
# Nobody looks at the desktop here, and each start of a service costs a second of CPU.
KINDS: Final = ("store", "gateway", "chatloop", "tools")
REPLICAS: Final = (*(f"{kind}=2" for kind in KINDS), "desktop=0")

PROVIDERS: Final[dict[str, tuple[ProviderType, str]]] = {
    "chat": ("openai-chat", "chat"),
    "responses": ("openai-responses", "responses"),
    "anthropic": ("anthropic", "anthropic"),
    "google": ("google", "gemini"),
}
"""Provider id → its type, and what the fakes call the wire format."""


async def until(check: Callable[[], bool | Awaitable[bool]], timeout_s: float) -> None:
    """Wait for what nobody announces: the state of a process, or of a table."""
    async with asyncio.timeout(timeout_s):
        while True:
            found = check()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(0.05)


@dataclass(frozen=True)
class Process:
    """One process under the supervisor, at this moment."""

    name: str
    pid: int
    starts: int
    url: str = ""


class Child:
    """A process of ours, with the last lines that it wrote."""

    def __init__(self, argv: Sequence[str | Path], env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=os.environ | env,
        )
        self.lines: deque[str] = deque(maxlen=20_000)
        self._wrote = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._wrote:
                self.lines.append(line.rstrip())
                self._wrote.notify_all()
        with self._wrote:
            self._wrote.notify_all()

    def line(self, has: Callable[[str], bool]) -> str:
        """Wait for a line."""

        def found() -> str | None:
            return next((line for line in self.lines if has(line)), None)

        with self._wrote:
            self._wrote.wait_for(
                lambda: found() is not None or not self._thread.is_alive(), timeout=_START_S
            )
            line = found()
        if line is None:
            pytest.fail("it does not start:\n" + "\n".join(list(self.lines)[-40:]))
        return line

    def stop(self, timeout_s: float) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._thread.join()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@dataclass
class Deployment:
    """Everything up, and how to break it."""

    child: Child
    data: Path
    ready_file: Path
    fakes_port: int
    killed: list[str] = field(default_factory=list[str])

    @property
    def facts(self) -> dict[str, Any]:
        return json.loads(self.ready_file.read_text())

    def processes(self) -> dict[str, Process]:
        facts = self.facts
        return {
            one["name"]: Process(one["name"], one["pid"], one["starts"], one.get("url", ""))
            for one in (*facts["services"], *facts["parts"])
        }

    @property
    def gateways(self) -> list[str]:
        return [p.url for name, p in self.processes().items() if name.startswith("gateway")]

    def client(self, number: int = 0) -> Client:
        """A person at one of the gateways, who tries again for as long as it takes."""
        urls = self.gateways
        return Client(urls[number % len(urls)], self.facts["token"], patience_s=40.0)

    def is_up(self, name: str) -> bool:
        """Whether it was started again since it was last killed."""
        return self.processes()[name].starts == 1 + self.killed.count(name)

    def kill(self, name: str) -> Process:
        """SIGKILL; the supervisor starts it again."""
        process = self.processes()[name]
        os.kill(process.pid, signal.SIGKILL)
        self.killed.append(name)
        return process

    def break_postgres(self) -> Process:
        """SIGKILL, and every start fails until `mend_postgres`."""
        self._postgres_settings.write_text("no_such_setting = on\n")
        self._postgres_settings.chmod(0o644)  # as root, the server is somebody else
        return self.kill("postgres")

    def mend_postgres(self) -> None:
        """Let it start again."""
        self._postgres_settings.unlink()

    @property
    def _postgres_settings(self) -> Path:
        return self.data / "postgres" / "data" / "postgresql.local.conf"

    def wipe_nats(self) -> Process:
        """SIGKILL, and its store is gone when it is started again."""
        supervisor = self.child.process.pid
        os.kill(supervisor, signal.SIGSTOP)  # or it would be as fast as we are
        try:
            process = self.kill("nats")
            victim = psutil.Process(process.pid)
            while victim.status() != psutil.STATUS_ZOMBIE:  # until then it may still write
                time.sleep(0.01)
            shutil.rmtree(self.data / "nats" / "jetstream")
        finally:
            os.kill(supervisor, signal.SIGCONT)
        return process

    async def back(self, former: Process, timeout_s: float = 60.0) -> None:
        """Wait until the supervisor has started it again; a service says then that it is ready."""
        await until(lambda: self.processes()[former.name].starts > former.starts, timeout_s)
        if former.url:
            await until(lambda: self.ready(former.name), timeout_s)

    async def ready(self, name: str) -> bool:
        """What the service says about itself."""
        url = self.processes()[name].url + "/readyz"
        return await asyncio.to_thread(_answers, url)

    async def all_ready(self, timeout_s: float = 60.0) -> None:
        for name, process in self.processes().items():
            if process.url:
                await until(functools.partial(self.ready, name), timeout_s)

    async def database(self) -> asyncpg.Connection:
        """For what nothing public shows."""
        return await asyncpg.connect(self.facts["database_url"])

    def log(self, *events: str) -> list[dict[str, Any]]:
        """What services logged under these names."""
        found: list[dict[str, Any]] = []
        for line in list(self.child.lines):
            if any(f'"{event}"' in line for event in events):
                try:
                    found.append(json.loads(line))
                except ValueError:
                    continue
        return found

    async def add_model(self, provider: str, model: str) -> str:
        """Make a model of the fakes known.

        Returns:
            Its name.
        """
        kind, fake = PROVIDERS[provider]
        path = "/v1" if fake in ("responses", "chat") else ""
        url = f"http://127.0.0.1:{self.fakes_port}{path}"
        async with self.client() as client:
            await client.put_provider(
                provider, PutProviderBody(type=kind, base_url=url, api_key="test-key")
            )
            return (await client.put_model(PutModelBody(provider, model))).name

    def fell_over(self) -> list[str]:
        """Processes that ended without our doing."""
        return [
            f"{name} was started {process.starts} times and killed {self.killed.count(name)} times"
            for name, process in self.processes().items()
            if not self.is_up(name)
        ]

    def refusals(self) -> list[str]:
        """Requests that a real provider would have refused."""
        url = f"http://127.0.0.1:{self.fakes_port}/__fakes__/requests"
        with urllib.request.urlopen(url, timeout=10) as answer:
            requests = json.load(answer)["requests"]
        return [one["refusal"] for one in requests if one["refusal"]]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status == 200
    except OSError:  # refused, cut, or 503: `HTTPError` is one too
        return False


@contextmanager
def deployed() -> Generator[Deployment]:
    """Start it all, on free ports, in a data directory of its own."""
    # Not below pytest's own folder: as root, PostgreSQL runs as somebody who may not pass there.
    root = Path(tempfile.mkdtemp(prefix="steersman-chaos-"))
    root.chmod(0o711)
    fakes = Child(
        [sys.executable, "-u", "-m", "fakes.serve", "--keep-requests", "2000"],
        {"PYTHONPATH": str(_TESTS)},
    )
    steersman = Path(sys.executable).with_name("steersman")
    ready_file = root / "ready.json"
    argv: list[str | Path] = [steersman, "up", "--no-local-model", "--port", "0", "--log", "json"]
    argv += ["--data", root / "data", "--ready-file", ready_file]
    for replicas in REPLICAS:
        argv += ["--replicas", replicas]
    child = Child(argv, SETTINGS)
    try:
        port = json.loads(fakes.line(lambda line: '"port"' in line))["port"]
        child.line(lambda line: '"event": "steersman.ready"' in line)
        until = time.monotonic() + 30
        while not ready_file.exists() and time.monotonic() < until:
            time.sleep(0.02)
        yield Deployment(child, root / "data", ready_file, port)
    finally:
        child.stop(_STOP_S)
        fakes.stop(5)
        keep = os.environ.get("STEERSMAN_CHAOS_LOG")
        if keep:
            Path(keep).write_text("\n".join(child.lines))
        shutil.rmtree(root, ignore_errors=True)
