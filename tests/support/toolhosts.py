"""Replicas of the tools service as processes of their own, with a plugin that the test writes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

from steersman_contracts.parts import TextPart, ToolResultPart


def write_plugin(folder: Path, name: str, code: str) -> Path:
    """Install a plugin as a wheel would, into a folder for `PYTHONPATH`."""
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(textwrap.dedent(code))
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[steersman.plugins]\n{name} = {module}\n")
    return folder


class Replica:
    """One process of the tools service."""

    def __init__(self, nats_url: str, workspaces: Path, plugins: Path, **settings: str) -> None:
        environment: Mapping[str, str] = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(plugins),
            "STEERSMAN_NATS_URL": nats_url,
            "STEERSMAN_WORKSPACES_DIR": str(workspaces),
            "STEERSMAN_HOST_LEASE_S": "2",
            "STEERSMAN_LOG_FORMAT": "json",
            **settings,
        }
        self._process = subprocess.Popen(
            (sys.executable, "-P", "-m", "steersman_tools"),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.pid = self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has ended, however that came."""
        return self._process.poll() is not None

    async def kill(self) -> None:
        """End it as a power cut would."""
        self._process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(self._process.wait)

    async def end(self) -> None:
        """End it however it is."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(self._process.wait, 60)
        except subprocess.TimeoutExpired:
            await self.kill()


def words(result: ToolResultPart) -> str:
    """The text of a result."""
    return "".join(part.text for part in result.content if isinstance(part, TextPart))
