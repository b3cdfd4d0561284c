"""Servers of a test, and the plugin that speaks to them, hosted by a real tools service."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from integration.tools.host import Caller

from steersman_contracts.rpc.tools import Catalog, PluginReport
from steersman_plugin_mcp.plugin import McpPlugin, Settings
from steersman_tools.plugins import PluginSource

SERVERS = Path(__file__).parent / "mcp_servers"
WAIT_S = 40.0


def stdio(name: str, *arguments: str, slug: str = "s", **more: Any) -> dict[str, Any]:
    command = [sys.executable, str(SERVERS / f"{name}.py"), *arguments]
    return {"slug": slug, "transport": "stdio", "command": command, **more}


def configured(
    folder: Path,
    *servers: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
    discovery_s: float = 30.0,
) -> PluginSource:
    """The plugin with these servers."""
    file = folder / "mcp.json"
    file.write_text(json.dumps({"servers": servers}))
    plugin = McpPlugin(
        {"PATH": os.environ["PATH"], **(environment or {})},
        settings=Settings(config=str(file)),
        discovery_s=discovery_s,
    )
    return PluginSource("mcp", "1", lambda: plugin)


def report(catalog: Catalog) -> PluginReport:
    return next(found for found in catalog.plugins if found.name == "mcp")


async def until(caller: Caller, fits: Callable[[PluginReport], bool]) -> Catalog:
    """The catalog once the plugin's report fits; there is no event for that, people poll it."""
    seen: PluginReport | None = None
    try:
        async with asyncio.timeout(WAIT_S):
            while True:
                catalog = await caller.catalog()
                seen = report(catalog)
                if fits(seen):
                    return catalog
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"the report never fitted: {seen}") from None


async def until_offered(caller: Caller, *names: str) -> Catalog:
    return await until(caller, lambda found: set(names) <= set(found.tools))


def _content(path: Path) -> str:
    return path.read_text() if path.exists() else ""


async def until_file(path: Path) -> str:
    async with asyncio.timeout(WAIT_S):
        while not (text := _content(path)):  # noqa: ASYNC110  # another process writes it
            await asyncio.sleep(0.02)
    return text


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@asynccontextmanager
async def listening(port: int, *command: str, path: Path | None = None) -> AsyncGenerator[None]:
    """A server as a process, once it takes connections on a loopback port.

    Args:
        port: It listens there.
        command: Starts it.
        path: Where it finds modules of its own.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env=os.environ if path is None else {**os.environ, "PYTHONPATH": str(path)},
    )
    try:
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.05)
                    continue
                writer.close()
                break
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def http_server(kind: str, port: int) -> AbstractAsyncContextManager[None]:
    """The friendly server; `both` is `http` and `sse`."""
    return listening(port, sys.executable, str(SERVERS / "friendly.py"), kind, str(port))
