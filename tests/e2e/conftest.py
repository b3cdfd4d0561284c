"""Everything up, as `steersman up` starts it. Tests see it from the outside alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from support.deployment import Deployment

REPLICATED = ("store", "gateway", "chatloop", "tools")
_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 30.0


class _Log:
    """Reads what the supervisor writes, so that it never waits for us."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.lines: deque[str] = deque(maxlen=200)
        self.ended_or_ready = threading.Event()
        self.ready = False
        self.thread = threading.Thread(target=self._read, name="steersman-up", daemon=True)
        self.thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip())
            if '"event": "steersman.ready"' in line:
                self.ready = True
                self.ended_or_ready.set()
        self.ended_or_ready.set()


@pytest.fixture(scope="package")
def deployment() -> Generator[Deployment]:
    """Everything but the local model, on free ports, in a data directory of its own."""
    # Not below pytest's own folder: as root, PostgreSQL runs as somebody who may not pass there.
    root = Path(tempfile.mkdtemp(prefix="steersman-e2e-"))
    root.chmod(0o711)
    data, ready_file = root / "data", root / "ready.json"
    # Where a test can install plugins while everything runs.
    plugins = root / "plugins"
    plugins.mkdir(mode=0o755)
    steersman = Path(sys.executable).with_name("steersman")
    process = subprocess.Popen(
        [
            *(steersman, "up", "--no-local-model", "--port", "0", "--log", "json"),
            *("--data", data, "--ready-file", ready_file),
            *(word for kind in REPLICATED for word in ("--replicas", f"{kind}=2")),
        ],
        env={**os.environ, "PYTHONPATH": str(plugins)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    log = _Log(process)
    try:
        log.ended_or_ready.wait(_START_TIMEOUT_S)
        if not log.ready:
            pytest.fail("steersman up is not ready:\n" + "\n".join(log.lines))
        facts: dict[str, Any] = json.loads(ready_file.read_text())
        yield Deployment(facts["url"], facts["token"], data, ready_file, plugins)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.thread.join()
        if process.stdout is not None:
            process.stdout.close()
        shutil.rmtree(root, ignore_errors=True)
