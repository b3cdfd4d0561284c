"""Processes that were started before a reload: the code that started them goes on answering.

A reload gives this plugin new modules. What runs already is held by objects of the old ones, so
calls about it go to the old functions. Generations know nothing of each other but what is here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from steersman_contracts.hooks import ToolContext, ToolResult
from steersman_plugin_exec.processes import Processes, processes
from steersman_plugin_exec.steering import (
    ProcessList,
    one_list,
    process_input,
    process_list,
    process_output,
    process_signal,
)

Handler: TypeAlias = Callable[[ToolContext, Any], Awaitable[ToolResult]]

REMEMBERED: Final = 3
"""Generations that can still be asked about processes that have ended."""
_KEY: Final = "generations"
"""To be changed with what a `Generation` looks like: it is read by the code of another one."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One load of this plugin, as the ones after it see it."""

    processes: Processes
    handlers: Mapping[str, Handler]


class Generations:
    """Those before this one that may still be asked about something."""

    def __init__(self) -> None:
        self._before: tuple[Generation, ...] = ()

    def follow(self, kept: dict[str, Any]) -> None:
        """Take over from those before, and leave word for those after.

        Args:
            kept: What outlives a reload.
        """
        known: list[Generation] = kept.get(_KEY, [])
        mine = processes()
        # The same code may be started twice: it is not one that came before itself.
        known = [one for one in known if one.processes is not mine]
        oldest = len(known) - REMEMBERED
        self._before = tuple(
            one for place, one in enumerate(known) if place >= oldest or not one.processes.idle
        )
        kept[_KEY] = [*self._before, Generation(mine, _HANDLERS)]

    async def ask(self, tool: str, context: ToolContext, args: Any) -> ToolResult:
        """Ask the generation that holds a process; this one, if none does."""
        for one in self._before:
            if one.processes.holds(context.chat_id, args.process_id):
                return await one.handlers[tool](context, args)
        return await _HANDLERS[tool](context, args)

    async def list_all(self, context: ToolContext, args: ProcessList) -> ToolResult:
        """The processes of all generations."""
        lists = [await one.handlers["process_list"](context, args) for one in self._before]
        return one_list([*lists, await process_list(context, args)])

    async def end_in(self, workspace: Path, because: str) -> None:
        """End everything that those before this one run in a workspace."""
        await asyncio.gather(*(one.processes.end_in(workspace, because) for one in self._before))


_HANDLERS: Final[Mapping[str, Handler]] = {
    "process_output": process_output,
    "process_list": process_list,
    "process_signal": process_signal,
    "process_input": process_input,
}
