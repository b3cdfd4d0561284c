"""What goes on outside of the history, said again beside a summary: a summary may forget it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import structlog

from steersman_chatloop.instructions import clean
from steersman_chatloop.surroundings import Surroundings
from steersman_contracts.chats import Message
from steersman_contracts.parts import JsonPart, ResultContent, ToolCallPart, ToolResultPart
from steersman_contracts.rpc.desktop import Desktop
from steersman_contracts.rpc.tools import CallProgress
from steersman_contracts.rpc.worker import OwnedChat

log = structlog.stdlib.get_logger()

_BUDGET_S: Final = 5.0
_PROCESSES: Final = "process_list"
_COMPUTER: Final = "computer"
_MOST_LINES: Final = 16
_SHOWN: Final = 200
_PLAN: Final = "propose_plan"
_LONGEST_PLAN: Final = 20_000
"""Characters of a plan that are said again."""


class _Process(msgspec.Struct):
    """As `process_list` tells it."""

    process_id: str
    command: str
    running: bool = False
    left_running: bool = False


class _Processes(msgspec.Struct):
    processes: list[_Process] = []


async def restate(around: Surroundings, chat: OwnedChat) -> str:
    """Ask what runs for a chat; empty when nothing does, or nobody can say within five seconds."""
    names = {tool.name: tool for tool in await around.toolbox.catalog()}
    lines: list[str] = []
    try:
        async with asyncio.timeout(_BUDGET_S):
            if _PROCESSES in names:
                lines += running(await _ask(around, chat))
            if any(tool.needs_workspace for tool in names.values()):
                context = await around.contexts.read(chat.chat_id)
                if context.attached:
                    lines.append("The workspace is as you left it.")
            if _COMPUTER in names:
                desktop = await around.contexts.desktop(chat.chat_id, chat.owner_id)
                lines += desktop_lines(desktop)
    except TimeoutError:
        log.warning("state.slow", budget_s=_BUDGET_S)
    return "\n".join(lines)


async def _ask(around: Surroundings, chat: OwnedChat) -> tuple[ResultContent, ...]:
    call = ToolCallPart(f"state-{chat.history_version}", _PROCESSES, {})
    found: dict[str, ToolResultPart] = {}

    def ignore(_: ToolCallPart, __: CallProgress) -> None:
        """Nobody watches."""

    await around.toolbox.run(chat.chat_id, [call], finished=found, on_progress=ignore)
    result = found.get(call.call_id)
    return () if result is None or result.is_error else result.content


def plan_in(messages: Sequence[Message]) -> str:
    """The newest plan that was proposed in a history, in words for the model; empty without one.

    A person approves what they have read: a summary of it is not that.
    """
    proposed = {
        part.call_id
        for message in messages
        for part in message.parts
        if isinstance(part, ToolResultPart) and part.ends_turn and not part.is_error
    }
    for message in reversed(messages):
        for part in message.parts:
            if isinstance(part, ToolCallPart) and part.tool == _PLAN and part.call_id in proposed:
                plan = str(part.arguments.get("plan", ""))
                cut = "\n[the rest is left out here]" if len(plan) > _LONGEST_PLAN else ""
                return f"The newest plan that you proposed:\n\n{plan[:_LONGEST_PLAN]}{cut}"
    return ""


def running(content: Sequence[ResultContent]) -> list[str]:
    """The processes that still run, in lines for the model."""
    values: list[Any] = [item.value for item in content if isinstance(item, JsonPart)]
    try:
        found = msgspec.convert(values[0], _Processes) if values else _Processes()
    except msgspec.ValidationError:
        return []  # a tool of another plugin that is called the same
    alive = [one for one in found.processes if one.running or one.left_running]
    lines = [
        f"- `{clean(one.process_id)}`: {' '.join(clean(one.command).split())[:_SHOWN]}"
        for one in alive[:_MOST_LINES]
    ]
    return ["These processes still run:", *lines] if lines else []


def desktop_lines(desktop: Desktop | None) -> list[str]:
    """What there is to say about the desktop."""
    if desktop is None or desktop.state != "ready":
        return []
    held = " A person has its controls now." if desktop.control.holder is not None else ""
    return [f"The desktop is running; its windows are as you left them.{held}"]
