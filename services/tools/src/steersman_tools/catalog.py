"""All tools that can be called here: those of plugins, and those of other tool hosts."""

from __future__ import annotations

import asyncio

from steersman_contracts.ids import ChatId
from steersman_contracts.rpc.tools import Catalog, PluginReport, ToolSpec
from steersman_tools.execution import LocalTool, Runnable
from steersman_tools.plugins import Registry
from steersman_tools.toolsets import Toolsets


class Tools:
    """The catalog of the deployment. Plugins come first, then hosts in the order of their start."""

    def __init__(self, registry: Registry, toolsets: Toolsets, *, patience_s: float) -> None:
        """Put the two together.

        Args:
            registry: The plugins of this process.
            toolsets: The other hosts.
            patience_s: Seconds that an unknown tool is waited for: another replica may have heard
                of its host a moment earlier.
        """
        self.registry = registry
        self._toolsets = toolsets
        self._patience_s = patience_s

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """By name."""
        local = self.registry.current.specs
        remote, _ = self._toolsets.merge(local)
        return tuple(sorted((*local, *(tool.spec for tool in remote.values())), key=_name))

    @property
    def reports(self) -> tuple[PluginReport, ...]:
        """Plugins by name, then hosts."""
        current = self.registry.current
        return (*current.reports, *self._toolsets.merge(current.specs)[1])

    async def catalog(self, host: str, chat_id: ChatId | None = None) -> Catalog:
        """What this host tells about all of it, and with a chat about what is there for it."""
        current = self.registry.current
        specs, warnings = self.specs, ()
        if chat_id is not None:
            with current.in_use():
                taken = {spec.name for spec in specs}
                found, warnings = await current.of_chat(chat_id, taken)
            specs = tuple(sorted((*specs, *(one.spec for one in found.values())), key=_name))
        return Catalog(host, specs, self.reports, current.prompts, warnings)

    def look_up(self, name: str) -> Runnable | None:
        """The tool of that name, if it is known now."""
        current = self.registry.current
        hosted = current.find(name)
        if hosted is not None:
            return LocalTool(hosted)
        return self._toolsets.merge(current.specs)[0].get(name)

    async def find(self, name: str, chat_id: ChatId) -> Runnable | None:
        """The tool of that name, if the chat may use it.

        One that is not known is waited for, for a moment.
        """
        if (tool := self.look_up(name)) is not None:
            return tool
        current = self.registry.current
        found, _ = await current.of_chat(chat_id, ())
        if name in found:
            return LocalTool(found[name])
        loop = asyncio.get_running_loop()
        until = loop.time() + self._patience_s
        while (tool := self.look_up(name)) is None:
            left = until - loop.time()
            if left <= 0:
                return None
            await self._toolsets.changed(left)
        return tool


def _name(spec: ToolSpec) -> str:
    return spec.name
