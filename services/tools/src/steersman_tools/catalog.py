"""All tools that can be called here: those of plugins, and those of other tool hosts."""

from __future__ import annotations

import asyncio

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
        return tuple(
            sorted((*local, *(tool.spec for tool in remote.values())), key=lambda spec: spec.name)
        )

    @property
    def reports(self) -> tuple[PluginReport, ...]:
        """Plugins by name, then hosts."""
        current = self.registry.current
        return (*current.reports, *self._toolsets.merge(current.specs)[1])

    def catalog(self, host: str) -> Catalog:
        """What this host tells about all of it."""
        return Catalog(host, self.specs, self.reports, self.registry.current.prompts)

    def look_up(self, name: str) -> Runnable | None:
        """The tool of that name, if it is known now."""
        current = self.registry.current
        hosted = current.find(name)
        if hosted is not None:
            return LocalTool(hosted)
        return self._toolsets.merge(current.specs)[0].get(name)

    async def find(self, name: str) -> Runnable | None:
        """The tool of that name; one that is not known is waited for, for a moment."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._patience_s
        while (tool := self.look_up(name)) is None:
            left = until - loop.time()
            if left <= 0:
                return None
            await self._toolsets.changed(left)
        return tool
