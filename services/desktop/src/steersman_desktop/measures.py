"""What is counted of actions and screens. Labels come from small closed sets, never from input."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Histogram

from steersman_contracts.desktop import Action

ACTIONS: Final = Counter(
    "steersman_desktop_actions_total",
    "Actions by who wanted them (agent, person) and what came of them: done, refused, taken, "
    "cancelled, restarted, stopped, unavailable, busy.",
    ["action", "by", "outcome"],
)
SETTLE: Final = Histogram(
    "steersman_desktop_settle_seconds",
    "From the end of an action until the screen was still.",
    buckets=(0.1, 0.12, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5),
)
RESTARTS: Final = Counter(
    "steersman_desktop_restarts_total",
    "What died: a screen that was replaced or given up, a window manager.",
    ["outcome"],
)


def count_action(action: Action, *, by_person: bool, outcome: str) -> None:
    """One action more. A reply that is given again is none."""
    by = "person" if by_person else "agent"
    ACTIONS.labels(str(action.__struct_config__.tag), by, outcome).inc()
