"""Whether a service lives and whether it is ready for work."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Check: TypeAlias = Callable[[], str | None]
"""Says why the service is not ready, or None. Must not block: it looks at what is known."""


class Health:
    """The checks of one process. Not ready before `started`, nor once `draining`."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}
        self.started = False
        self.draining = False

    def add(self, name: str, check: Check) -> None:
        """Add something that readiness depends on."""
        self._checks[name] = check

    def problems(self) -> dict[str, str]:
        """What keeps the service from being ready, by name; empty when it is ready."""
        found = {name: why for name, check in self._checks.items() if (why := check()) is not None}
        if not self.started:
            found["lifecycle"] = "starting"
        elif self.draining:
            found["lifecycle"] = "draining"
        return found
