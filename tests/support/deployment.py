"""A whole deployment, as tests see it."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Deployment:
    """One running Steersman, with two of each service that is asked about."""

    url: str
    token: str
    data: Path
    ready_file: Path
    plugins: Path
    """A folder on the path of the services' interpreter."""

    def pids(self, kind: str) -> list[int]:
        """The processes of a service; one that was started again has another number."""
        return [one["pid"] for one in self._services(kind)]

    def gateway(self) -> str:
        """The address of any of the gateways."""
        return random.choice([one["url"] for one in self._services("gateway")])

    @contextmanager
    def stopped(self, kind: str) -> Generator[Callable[[], None]]:
        """No process of a service does anything, until the function that this gives is called."""
        self.signal(kind, signal.SIGSTOP)
        try:
            yield lambda: self.signal(kind, signal.SIGCONT)
        finally:
            self.signal(kind, signal.SIGCONT)

    def signal(self, kind: str, number: signal.Signals) -> None:
        """Send a signal to every process of a service."""
        for pid in self.pids(kind):
            os.kill(pid, number)

    def _services(self, kind: str) -> list[dict[str, Any]]:
        facts: dict[str, Any] = json.loads(self.ready_file.read_text())
        return [one for one in facts["services"] if one["name"].rpartition("-")[0] == kind]
