"""A whole deployment, as tests see it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Deployment:
    """One running Steersman."""

    url: str
    token: str
    data: Path
    ready_file: Path
    plugins: Path
    """A folder on the path of the services' interpreter."""

    def pids(self) -> Mapping[str, int]:
        """The processes by name; a process that was started again has another one."""
        facts: dict[str, Any] = json.loads(self.ready_file.read_text())
        return {one["name"]: one["pid"] for one in (*facts["services"], *facts["parts"])}
