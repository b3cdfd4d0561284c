"""The scenarios by name, in the order in which they run.

Those that need another deployment than the plain one come last.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

from bench.context import Bench
from bench.figures import Row
from bench.scenarios import (
    adapters,
    deltas,
    desktop,
    desktop_views,
    files,
    first_token,
    history,
    many_chats,
    new_chat,
    restart,
    resume,
    short_turns,
    subagent,
    take_over,
    tool_calls,
    tool_turn,
    viewers,
    whole_turn,
)

Scenario: TypeAlias = Callable[[Bench], Awaitable[list[Row]]]

SCENARIOS: Final[Mapping[str, Scenario]] = {
    "ttft": first_token.measure,
    "adapters": adapters.measure,
    "turn": whole_turn.measure,
    "delta": deltas.measure,
    "full": many_chats.at_full_speed,
    "paced64": many_chats.paced_64,
    "paced256": many_chats.paced_256,
    "short": short_turns.measure,
    "desktop": desktop.measure,
    "views": desktop_views.measure,
    "tool": tool_turn.measure,
    "subagent": subagent.measure,
    "calls": tool_calls.measure,
    "history": history.measure,
    "files": files.measure,
    "chat": new_chat.measure,
    "resume": resume.measure,
    "viewers": viewers.measure,
    "restart": restart.measure,
    "takeover": take_over.measure,
}
