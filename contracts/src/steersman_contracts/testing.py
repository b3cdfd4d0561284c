"""Run the tools of a plugin alone: no service, no NATS, no database.

context = LocalContext(tmp_path)
result = await run_tool(my_plugin, "word_count", {"text": "one two"}, context)
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import msgspec

from steersman_contracts.hooks import Tool, ToolResult
from steersman_contracts.parts import JsonObject


class ToolSource(Protocol):
    """A plugin as far as its tools go: a module or an object."""

    def tools(self) -> Iterable[Tool[Any]]:
        """List the tools."""
        ...


class LocalContext:
    """A `ToolContext` for one call, on a directory of the caller's.

    Args:
        workspace: An existing directory.
        chat_id: Any text.
        call_id: Any text.
        timeout_s: What the call is told; nothing here enforces it.

    Attributes:
        cancelled: Set it to tell the call that nobody waits for it.
        progressed: Every text of `progress`, oldest first.
    """

    def __init__(
        self,
        workspace: Path,
        *,
        chat_id: str = "00000000-0000-7000-8000-000000000000",
        call_id: str = "call-1",
        timeout_s: float = 60.0,
    ) -> None:
        self.workspace = workspace
        self.chat_id = chat_id
        self.call_id = call_id
        self.timeout_s = timeout_s
        self.cancelled = False
        self.settings: Any = None
        self.secrets: dict[str, str] = {}
        self.progressed: list[str] = []
        self._changed = asyncio.Event()

    def progress(self, text: str) -> None:
        """Remember `text`."""
        self.progressed.append(text)
        self._changed.set()

    async def secret(self, name: str) -> str | None:
        """Read from `secrets`."""
        return self.secrets.get(name)

    async def saw(self, text: str) -> None:
        """Wait until some progress contains `text`. Use it inside `asyncio.timeout`."""
        while not any(text in told for told in self.progressed):
            self._changed.clear()
            await self._changed.wait()


async def run_tool(
    plugin: ToolSource, name: str, arguments: JsonObject, context: LocalContext
) -> ToolResult:
    """Call one tool as the tools service does: the arguments take the way over the wire.

    Raises:
        LookupError: The plugin has no tool of that name.
        msgspec.ValidationError: The arguments do not fit; the message is what a model would read.
    """
    offered = {tool.name: tool for tool in plugin.tools()}
    if name not in offered:
        raise LookupError(f"no tool {name!r}; the plugin offers {sorted(offered)}")
    tool = offered[name]
    decoded = msgspec.json.decode(msgspec.json.encode(arguments), type=tool.arguments, strict=True)
    return await tool.handler(context, decoded)
