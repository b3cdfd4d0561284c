"""Tools that come and go while a plugin is in use."""

from __future__ import annotations

import asyncio
import inspect
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any, Final

import structlog

from steersman_contracts.hooks import DynamicTools
from steersman_contracts.ids import ChatId
from steersman_contracts.plugin import HostedTool, LoadedPlugin, host_tool

log = structlog.stdlib.get_logger()

MAX_DYNAMIC_TOOLS: Final = 2_000
"""Tools of one plugin at one time."""
MAX_WARNINGS: Final = 100
_MAX_WARNING: Final = 500
_MAX_CHATS: Final = 2_000
"""Offers that are remembered; those of other chats are checked anew."""
CHAT_TOOLS_S: Final = 12.0
"""Seconds that a plugin has to say what a chat may use."""


class Offer:
    """What one plugin offers, checked once for each new offer."""

    def __init__(self, plugin: LoadedPlugin) -> None:
        self._plugin = plugin
        self._offer: object = None
        self._checked: dict[str, HostedTool] = {}
        self._refused: tuple[str, ...] = ()
        self.tools: dict[str, HostedTool] = {}
        self.warnings: tuple[str, ...] = ()

    def take(self, answer: Any, taken: Collection[str]) -> None:
        """Use what the plugin has answered.

        Args:
            answer: Of its hook.
            taken: Names that others have; a tool of that name is left out.

        Raises:
            TypeError: It is no `DynamicTools`.
        """
        offer = _offer(answer)
        if offer is not self._offer:
            self._check(offer)
        self._settle(taken)

    def fail(self, why: str) -> None:
        """Offer nothing, until the plugin answers again."""
        self._offer, self._checked, self._refused = None, {}, (why,)
        self._settle(())

    def _settle(self, taken: Collection[str]) -> None:
        clashes = sorted(self._checked.keys() & set(taken))
        self.tools = {name: tool for name, tool in self._checked.items() if name not in clashes}
        self.warnings = (
            *self._refused,
            *(f"its tool {name!r} is offered by another plugin" for name in clashes),
        )

    def _check(self, offer: DynamicTools) -> None:
        refused = [str(warning)[:_MAX_WARNING] for warning in offer.warnings]
        checked: dict[str, HostedTool] = {}
        if len(offer.tools) > MAX_DYNAMIC_TOOLS:
            refused.append(f"only the first {MAX_DYNAMIC_TOOLS} of its tools are used")
        for tool in offer.tools[:MAX_DYNAMIC_TOOLS]:
            try:
                hosted = host_tool(tool, self._plugin)
            except ValueError as error:
                refused.append(str(error)[:_MAX_WARNING])
                continue
            if hosted.spec.name in checked:
                refused.append(f"it offers the tool {hosted.spec.name!r} twice")
            else:
                checked[hosted.spec.name] = hosted
        before, self._checked = self._checked, checked
        self._offer, self._refused = offer, tuple(refused[:MAX_WARNINGS])
        if before.keys() == checked.keys() and not refused:
            return
        log.info(
            "plugin.tools_changed",
            plugin=self._plugin.name,
            tools=len(checked),
            warnings=len(self._refused),
        )


class DynamicPlugin:
    """A plugin with the hook `dynamic_tools`, as it was when it was last asked."""

    def __init__(self, plugin: LoadedPlugin) -> None:
        """Begin without tools."""
        self._name = plugin.name
        self._ask: Callable[[], Any] = partial(plugin.call, "dynamic_tools")
        self._offer = Offer(plugin)

    @property
    def tools(self) -> dict[str, HostedTool]:
        """By name."""
        return self._offer.tools

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is missing."""
        return self._offer.warnings

    def refresh(self, taken: Collection[str]) -> None:
        """Ask the plugin. One that fails offers nothing, until it answers again."""
        try:
            self._offer.take(self._ask(), taken)
        except Exception as error:  # a stranger's code, asked for every catalog
            log.exception("plugin.failed", plugin=self._name, hook="dynamic_tools")
            self._offer.fail(f"dynamic_tools() failed: {type(error).__name__}")


class ChatTools:
    """The plugins with the hook `chat_tools`, and what they offered lately, chat by chat."""

    def __init__(self, plugins: Iterable[LoadedPlugin]) -> None:
        """Begin with nothing known."""
        self._plugins = tuple(plugins)
        self._known: OrderedDict[tuple[str, ChatId], Offer] = OrderedDict()

    async def ask(
        self, chat_id: ChatId, taken: Collection[str]
    ) -> tuple[dict[str, HostedTool], tuple[str, ...]]:
        """The tools of a chat by name; of two with one name, that of the first plugin stays."""
        tools: dict[str, HostedTool] = {}
        warnings: tuple[str, ...] = ()
        for plugin in self._plugins:
            offer = await self._ask(plugin, chat_id, {*taken, *tools})
            tools |= offer.tools
            warnings += offer.warnings
        return tools, warnings

    async def _ask(self, plugin: LoadedPlugin, chat_id: ChatId, taken: Collection[str]) -> Offer:
        key = (plugin.name, chat_id)
        offer = self._known.setdefault(key, Offer(plugin))
        self._known.move_to_end(key)
        while len(self._known) > _MAX_CHATS:
            self._known.popitem(last=False)
        try:
            answer = plugin.call("chat_tools", chat_id=chat_id)
            if inspect.isawaitable(answer):
                async with asyncio.timeout(CHAT_TOOLS_S):
                    answer = await answer
            offer.take(answer, taken)
        except Exception as error:  # a stranger's code
            log.exception("plugin.failed", plugin=plugin.name, hook="chat_tools")
            offer.fail(f"chat_tools() of {plugin.name!r} failed: {type(error).__name__}")
        return offer


def _offer(answer: Any) -> DynamicTools:
    if not isinstance(answer, DynamicTools):
        raise TypeError(f"the hook gave {type(answer).__name__}")
    return answer


def refresh_all(plugins: Iterable[DynamicPlugin], fixed: Collection[str]) -> dict[str, HostedTool]:
    """The tools of all these plugins; of two with one name, that of the first plugin stays."""
    found: dict[str, HostedTool] = {}
    for plugin in plugins:
        plugin.refresh({*fixed, *found})
        found |= plugin.tools
    return found
