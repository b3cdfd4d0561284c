"""The plugins of this host: loads them, checks what they offer, and calls their hooks.

A plugin that is broken in any way is reported and skipped, whole; the others stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from itertools import islice
from typing import Any, Final, TypeGuard, cast

import msgspec
import pluggy
import structlog
from pluggy import HookCaller, PluginManager

from steersman_contracts.hooks import (
    ENTRY_POINT_GROUP,
    PROJECT,
    Denied,
    PendingCall,
    Tool,
    ToolHooks,
    ToolResult,
)
from steersman_contracts.ids import TOOL_NAME_PATTERN
from steersman_contracts.parts import JsonObject
from steersman_contracts.rpc.tools import MAX_TIMEOUT_S, PluginReport, ToolSpec
from steersman_tools.schemas import BadSchema, input_schema

log = structlog.stdlib.get_logger()

MAX_TOOLS: Final = 500
"""Tools of one plugin."""


class BadPlugin(ValueError):
    """What is wrong with a plugin, in words for its author."""


@dataclass(frozen=True, slots=True)
class PluginSource:
    """A plugin that was found: a name, a version, and how to get at it (which may fail)."""

    name: str
    version: str
    load: Callable[[], object]


@dataclass(frozen=True, slots=True)
class HostedTool:
    """A tool that can be called."""

    tool: Tool[Any]
    spec: ToolSpec

    @property
    def schema(self) -> JsonObject:
        """Of the arguments."""
        return self.spec.input_schema


def installed_plugins() -> list[PluginSource]:
    """The plugins of all installed packages, by name."""
    found = [
        PluginSource(point.name, point.dist.version if point.dist else "0", point.load)
        for point in entry_points(group=ENTRY_POINT_GROUP)
    ]
    return sorted(found, key=lambda source: source.name)


class Plugins:
    """The plugins that are in use, and why the others are not."""

    def __init__(self, sources: Iterable[PluginSource]) -> None:
        """Load what is there. Never fails: a broken plugin is one report with an `error`."""
        self._manager = PluginManager(PROJECT)
        self._manager.add_hookspecs(ToolHooks)
        self._tools: dict[str, HostedTool] = {}
        # By name, so that a clash always has the same winner.
        self.reports = tuple(
            self._load(source) for source in sorted(sources, key=lambda source: source.name)
        )
        self.specs = tuple(self._tools[name].spec for name in sorted(self._tools))

    def find(self, name: str) -> HostedTool | None:
        """The tool of that name."""
        return self._tools.get(name)

    def before_call(self, call: PendingCall) -> Denied | None:
        """Ask the plugins, in the order of their names; the first that objects wins."""
        for plugin, hook in _each(self._manager.hook.before_call):
            try:
                answer = hook(call=call)
            except Exception as error:  # a guard that fails must not let the call through
                log.exception("plugin.failed", plugin=plugin, hook="before_call")
                return Denied(f"plugin {plugin!r} failed: {type(error).__name__}")
            if answer is None:
                continue
            if isinstance(answer, Denied):
                return answer
            log.error("plugin.failed", plugin=plugin, hook="before_call", returned=type(answer))
            return Denied(f"plugin {plugin!r} gave an answer that is neither None nor Denied")
        return None

    def after_call(self, call: PendingCall, result: ToolResult) -> None:
        """Show the plugins how a call ended."""
        for plugin, hook in _each(self._manager.hook.after_call):
            try:
                hook(call=call, result=result)
            except Exception:  # by contract it changes nothing
                log.exception("plugin.failed", plugin=plugin, hook="after_call")

    def _load(self, source: PluginSource) -> PluginReport:
        try:
            tools = self._accept(source)
        # Whatever a stranger's code does on import, the service stays up: `sys.exit` as well.
        except (Exception, SystemExit) as error:
            expected = isinstance(error, BadPlugin | pluggy.PluginValidationError)
            why = str(error) if expected else f"{type(error).__name__}: {error}"
            log.warning(
                "plugin.skipped",
                plugin=source.name,
                error=why,
                exc_info=None if expected else error,
            )
            return PluginReport(source.name, source.version, error=why)
        self._tools.update(tools)
        log.info("plugin.loaded", plugin=source.name, version=source.version, tools=len(tools))
        return PluginReport(source.name, source.version, tools=tuple(sorted(tools)))

    def _accept(self, source: PluginSource) -> dict[str, HostedTool]:
        if self._manager.has_plugin(source.name):
            raise BadPlugin(f"another plugin is named {source.name!r} as well")
        plugin = source.load()
        if self._manager.is_registered(plugin):
            raise BadPlugin("the same plugin is registered under another name as well")
        try:
            self._manager.register(plugin, name=source.name)
            self._manager.check_pending()
            return self._offered(plugin, source.name)
        except BaseException:
            if self._manager.is_registered(plugin):
                self._manager.unregister(plugin)
            raise

    def _offered(self, plugin: object, name: str) -> dict[str, HostedTool]:
        callers = self._manager.get_hookcallers(plugin)
        if not callers:
            raise BadPlugin("it has no hooks: mark its functions with @hookimpl")
        if any(
            hook.plugin is plugin and (hook.hookwrapper or hook.wrapper)
            for caller in callers
            for hook in caller.get_hookimpls()
        ):
            raise BadPlugin("hook wrappers are not supported")
        offered: dict[str, HostedTool] = {}
        for tool in _tools_of(self._manager.hook.tools, plugin):
            hosted = _host(tool, name)
            if hosted.spec.name in offered:
                raise BadPlugin(f"it offers the tool {hosted.spec.name!r} twice")
            if (other := self._tools.get(hosted.spec.name)) is not None:
                raise BadPlugin(
                    f"its tool {hosted.spec.name!r} is offered by plugin {other.spec.plugin!r}"
                )
            offered[hosted.spec.name] = hosted
        return offered


def _each(caller: HookCaller) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The implementations of a hook, one by one, so that one that raises does not hide the rest."""
    for hook in sorted(caller.get_hookimpls(), key=lambda hook: hook.plugin_name):

        def call(_hook: pluggy.HookImpl = hook, **values: Any) -> Any:
            return _hook.function(*(values[name] for name in _hook.argnames))

        yield hook.plugin_name, call


def _tools_of(caller: HookCaller, plugin: object) -> list[Any]:
    for hook in caller.get_hookimpls():
        if hook.plugin is plugin:
            offered = cast("Iterable[Any]", hook.function())  # iterating tells whether it is
            tools = list(islice(offered, MAX_TOOLS + 1))
            if len(tools) > MAX_TOOLS:
                raise BadPlugin(f"it offers more than {MAX_TOOLS} tools")
            return tools
    return []


def _is_tool(value: Any) -> TypeGuard[Tool[Any]]:
    return isinstance(value, Tool)


def _host(tool: Any, plugin: str) -> HostedTool:
    if not _is_tool(tool):
        raise BadPlugin(f"tools() gave {tool!r:.100}, which is not a Tool")
    try:
        schema = input_schema(tool.arguments)
    except BadSchema as error:
        raise BadPlugin(f"tool {tool.name!r}: {error}") from error
    if not callable(tool.handler):
        raise BadPlugin(f"tool {tool.name!r}: the handler cannot be called")
    values = {name: getattr(tool, name) for name in _SPEC_FIELDS}
    try:
        spec = msgspec.convert(
            values | {"plugin": plugin, "input_schema": schema}, ToolSpec, strict=True
        )
    except msgspec.ValidationError as error:
        raise BadPlugin(f"tool {tool.name!r}: {error}") from error
    if not re.fullmatch(TOOL_NAME_PATTERN, spec.name):  # msgspec lets a last line break pass
        raise BadPlugin(f"tool {spec.name!r}: the name does not match {TOOL_NAME_PATTERN}")
    if not spec.description.strip():
        raise BadPlugin(f"tool {spec.name!r}: it has no description")
    if not 0 < spec.timeout_s <= MAX_TIMEOUT_S:
        raise BadPlugin(
            f"tool {spec.name!r}: timeout_s must be above 0 and at most {MAX_TIMEOUT_S:g}"
        )
    return HostedTool(tool, spec)


_SPEC_FIELDS: Final = (
    "name",
    "description",
    "timeout_s",
    "idempotent",
    "exclusive",
    "needs_workspace",
    "needs_approval",
)
