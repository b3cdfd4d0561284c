"""The plugins of this host: loads them, and calls their hooks around tool calls.

A plugin that is broken in any way is reported and skipped, whole; the others stay.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
from collections.abc import Awaitable, Callable, Collection, Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import msgspec
import structlog

from steersman_contracts.errors import InternalError, NotFound, SteersmanError
from steersman_contracts.hooks import (
    ENTRY_POINT_GROUP,
    Changed,
    Denied,
    PendingCall,
    PluginOff,
    ToolResult,
)
from steersman_contracts.ids import ChatId
from steersman_contracts.plugin import (
    BadPlugin,
    HostedTool,
    LoadedPlugin,
    off_loop,
    read_plugin,
    why,
)
from steersman_contracts.plugin_settings import Book
from steersman_contracts.rpc.caller import Caller
from steersman_contracts.rpc.tools import (
    AskPlugin,
    PluginAnswer,
    PluginPrompt,
    PluginReport,
    ToolSpec,
)
from steersman_runtime.tasks import TaskGroup
from steersman_tools.dynamic import ChatTools, DynamicPlugin, refresh_all

log = structlog.stdlib.get_logger()

GUARD_S: Final = 10.0
"""Seconds that a plugin may look at a call, or at its result."""
ANSWER_S: Final = 40.0
"""Seconds that a plugin may take for an answer."""
_NEVER_PURGED: Final = ("steersman_contracts", "steersman_runtime", "steersman_tools")


@dataclass(frozen=True, slots=True)
class PluginSource:
    """A plugin that was found: a name, a version, and how to get at it (which may fail)."""

    name: str
    version: str
    load: Callable[[], object]


def installed_plugins() -> list[PluginSource]:
    """The plugins of all installed packages, by name."""
    found = [
        PluginSource(point.name, point.dist.version if point.dist else "0", point.load)
        for point in entry_points(group=ENTRY_POINT_GROUP)
    ]
    return sorted(found, key=lambda source: source.name)


def forget_modules() -> None:
    """Let the next import read the code of all plugins anew; who has the old one keeps it."""
    importlib.invalidate_caches()
    roots = {point.module.partition(".")[0] for point in entry_points(group=ENTRY_POINT_GROUP)}
    old = [
        name
        for name in sys.modules
        if (root := name.partition(".")[0]) in roots and root not in _NEVER_PURGED
    ]
    for name in old:
        _settle(sys.modules[name])
    for name in old:
        del sys.modules[name]


def _settle(module: ModuleType) -> None:
    """Let msgspec look up what the fields of a module's structs are, while that can be found.

    It does so at the first use, by the name of the module: for one that was forgotten it would find
    the classes of the new code, and the old code would get objects of types that it does not know.
    """
    for found in list(vars(module).values()):
        if isinstance(found, type) and issubclass(found, msgspec.Struct):
            with suppress(Exception):  # a struct that cannot be decoded is not decoded later either
                msgspec.json.Decoder(found)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What plugins are loaded with."""

    environment: Mapping[str, str]
    """Of it, only what begins with `STEERSMAN_PLUGIN_`."""
    book: Book
    timeout_s: float
    """Seconds for each of a plugin's import, `settings`, `start`, `tools`, `prompt` and `stop`."""
    rpc: Caller | None = None
    """What plugins may call services with."""
    kept: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """By name of the plugin: what it keeps across reloads."""


@dataclass(slots=True)
class Plugins:
    """The plugins as they were loaded at one time, and why others are not in use."""

    loaded: tuple[LoadedPlugin, ...] = ()
    _reports: tuple[PluginReport, ...] = ()
    _tools: dict[str, HostedTool] = field(default_factory=dict[str, HostedTool])
    _dynamic: dict[str, DynamicPlugin] = field(default_factory=dict[str, DynamicPlugin])
    _of_chats: ChatTools | None = None
    _calls: int = 0
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._idle.set()

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The tools that can be called now, by name."""
        tools = self._all()
        return tuple(tools[name].spec for name in sorted(tools))

    @property
    def reports(self) -> tuple[PluginReport, ...]:
        """Every plugin that was found, by name."""
        if not self._dynamic:
            return self._reports
        self._all()
        return tuple(self._now(report) for report in self._reports)

    @property
    def prompts(self) -> tuple[PluginPrompt, ...]:
        """What plugins have to say to models, by plugin name."""
        return tuple(
            PluginPrompt(plugin.name, plugin.prompt) for plugin in self.loaded if plugin.prompt
        )

    def find(self, name: str) -> HostedTool | None:
        """The tool of that name."""
        return self._tools.get(name) or self._all().get(name)

    def _all(self) -> dict[str, HostedTool]:
        if not self._dynamic:
            return self._tools
        return self._tools | refresh_all(self._dynamic.values(), self._tools)

    def _now(self, report: PluginReport) -> PluginReport:
        dynamic = self._dynamic.get(report.name)
        if dynamic is None or report.error is not None:
            return report
        return msgspec.structs.replace(
            report,
            tools=tuple(sorted((*report.tools, *dynamic.tools))),
            warnings=dynamic.warnings,
        )

    async def of_chat(
        self, chat_id: ChatId, taken: Collection[str]
    ) -> tuple[dict[str, HostedTool], tuple[str, ...]]:
        """The tools that one chat alone may use, and a line about each that is missing."""
        if not self._of_chats:
            return {}, ()
        return await self._of_chats.ask(chat_id, taken)

    async def answer(self, request: AskPlugin) -> PluginAnswer:
        """What a plugin says to a question.

        Raises:
            NotFound: There is no such plugin in use, or it answers nothing.
            SteersmanError: It refuses.
            InternalError: It failed; the log says how.
        """
        plugin = next((one for one in self.loaded if one.name == request.plugin), None)
        if plugin is None or not plugin.has("answer"):
            raise NotFound(f"the plugin {request.plugin!r} is not in use")
        try:
            body = plugin.call(
                "answer", actor=request.actor, question=request.question, body=request.body
            )
            if inspect.isawaitable(body):
                async with asyncio.timeout(ANSWER_S):
                    body = await body
        except SteersmanError:
            raise
        except Exception as error:  # a stranger's code
            log.exception("plugin.failed", plugin=plugin.name, hook="answer")
            raise InternalError(f"the plugin {plugin.name!r} failed") from error
        return PluginAnswer(body)

    @contextmanager
    def in_use(self) -> Generator[None]:
        """Keep the plugins from being stopped for the length of a call."""
        self._calls += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    async def before_call(self, call: PendingCall) -> PendingCall | Denied:
        """Ask the plugins, in the order of their names; the first that objects wins."""
        for plugin in self.loaded:
            if not plugin.has("before_call"):
                continue
            try:
                answer = await _soon(plugin.call("before_call", call=call))
            except Exception as error:  # a guard that fails must not let the call through
                log.exception("plugin.failed", plugin=plugin.name, hook="before_call")
                return Denied(f"plugin {plugin.name!r} failed: {type(error).__name__}")
            if answer is None:
                continue
            if isinstance(answer, Denied):
                return answer
            if not isinstance(answer, Changed):
                log.error(
                    "plugin.failed",
                    plugin=plugin.name,
                    hook="before_call",
                    returned=type(answer).__name__,
                )
                return Denied(
                    f"plugin {plugin.name!r} answered with neither None, Denied nor Changed"
                )
            log.info("call.changed", plugin=plugin.name)
            call = PendingCall(call.chat_id, call.call_id, call.tool, answer.arguments)
        return call

    async def after_call(self, call: PendingCall, result: ToolResult) -> ToolResult:
        """Show the plugins how a call ended; each sees what those before made of it."""
        for plugin in self.loaded:
            if not plugin.has("after_call"):
                continue
            try:
                answer = await _soon(plugin.call("after_call", call=call, result=result))
            except Exception:  # by contract it changes nothing
                log.exception("plugin.failed", plugin=plugin.name, hook="after_call")
                continue
            if isinstance(answer, ToolResult):
                result = answer
            elif answer is not None:
                log.error(
                    "plugin.failed",
                    plugin=plugin.name,
                    hook="after_call",
                    returned=type(answer).__name__,
                )
        return result

    async def workspace_stopped(self, workspace: Path) -> None:
        """Have the plugins end what they run in a workspace."""
        for plugin in self.loaded:
            if not plugin.has("workspace_stopped"):
                continue
            try:
                await _soon(plugin.call("workspace_stopped", workspace=workspace))
            except Exception:  # the workspace is stopped all the same
                log.exception("plugin.failed", plugin=plugin.name, hook="workspace_stopped")

    async def close(self, timeout_s: float) -> None:
        """Stop the plugins once no call uses them any more, the last one first."""
        await self._idle.wait()
        for plugin in reversed(self.loaded):
            await _stop(plugin, timeout_s)


async def _soon(answer: Any) -> Any:
    if not inspect.isawaitable(answer):
        return answer
    async with asyncio.timeout(GUARD_S):
        return await _as_coroutine(answer)


async def _as_coroutine(answer: Awaitable[Any]) -> Any:
    return await answer


async def _stop(plugin: LoadedPlugin, timeout_s: float) -> None:
    try:
        await plugin.stop(timeout_s=timeout_s)
    except (Exception, SystemExit):  # it is on its way out; nothing depends on it
        log.exception("plugin.failed", plugin=plugin.name, hook="stop")


class _Loading:
    """Loads one generation of plugins."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._loaded: list[LoadedPlugin] = []
        self._tools: dict[str, HostedTool] = {}

    async def load(self, sources: Iterable[PluginSource]) -> Plugins:
        # By name, so that a clash always has the same winner.
        reports = [
            await self._load(source) for source in sorted(sources, key=lambda source: source.name)
        ]
        dynamic = {
            plugin.name: DynamicPlugin(plugin)
            for plugin in self._loaded
            if plugin.has("dynamic_tools")
        }
        asked = tuple(plugin for plugin in self._loaded if plugin.has("chat_tools"))
        of_chats = ChatTools(asked) if asked else None
        return Plugins(tuple(self._loaded), tuple(reports), self._tools, dynamic, of_chats)

    async def _load(self, source: PluginSource) -> PluginReport:
        plugin: LoadedPlugin | None = None
        try:
            self._check_name(source.name)
            found = await off_loop(source.load, self._around.timeout_s, "its import")
            self._check_identity(found)
            plugin = read_plugin(source.name, found)
            await plugin.start(
                environment=self._around.environment,
                book=self._around.book,
                timeout_s=self._around.timeout_s,
                rpc=self._around.rpc,
                kept=self._around.kept.setdefault(source.name, {}),
            )
            self._check_clashes(plugin)
        # Whatever a stranger's code does on import, the service stays up: `sys.exit` as well.
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001  # reported below
            return await self._skip(source, plugin, error)
        names = tuple(sorted(hosted.spec.name for hosted in plugin.tools))
        self._loaded.append(plugin)
        self._tools |= {hosted.spec.name: hosted for hosted in plugin.tools}
        log.info("plugin.loaded", plugin=source.name, version=source.version, tools=len(names))
        return PluginReport(source.name, source.version, names, settings=plugin.reports)

    def _check_name(self, name: str) -> None:
        if any(other.name == name for other in self._loaded):
            raise BadPlugin(f"another plugin is named {name!r} as well")

    def _check_identity(self, plugin: object) -> None:
        if any(other.plugin is plugin for other in self._loaded):
            raise BadPlugin("the same plugin is registered under another name as well")

    def _check_clashes(self, plugin: LoadedPlugin) -> None:
        for hosted in plugin.tools:
            if (other := self._tools.get(hosted.spec.name)) is not None:
                raise BadPlugin(
                    f"its tool {hosted.spec.name!r} is offered by plugin {other.spec.plugin!r}"
                )

    async def _skip(
        self, source: PluginSource, plugin: LoadedPlugin | None, error: BaseException
    ) -> PluginReport:
        reason = why(error)
        settings = () if plugin is None else plugin.reports
        if plugin is not None:
            await _stop(plugin, self._around.timeout_s)
        if isinstance(error, PluginOff):
            log.info("plugin.off", plugin=source.name, reason=reason)
            return PluginReport(source.name, source.version, off=reason, settings=settings)
        expected = isinstance(error, BadPlugin)
        log.warning(
            "plugin.skipped",
            plugin=source.name,
            error=reason,
            exc_info=None if expected else error,
        )
        return PluginReport(source.name, source.version, error=reason, settings=settings)


class Registry:
    """The plugins that are in use now; loading them anew leaves running calls with the old ones."""

    def __init__(self, find: Callable[[], Iterable[PluginSource]], around: Surroundings) -> None:
        """Begin without plugins.

        Args:
            find: Finds what is there to load; asked at every load.
            around: What plugins are loaded with.
        """
        self._find = find
        self._around = around
        self._loading = asyncio.Lock()
        self._old = TaskGroup("old-plugins")
        self.current = Plugins()

    async def load(self) -> Plugins:
        """Load what is there, and use it from now on. A broken plugin is one report."""
        async with self._loading:
            return await self._load()

    async def reload(self) -> Plugins:
        """Load the code of installed plugins anew, and those that were installed meanwhile."""
        async with self._loading:
            # Not before it is our turn: an import that is under way fails without its modules.
            forget_modules()
            plugins = await self._load()
        log.info("plugins.reloaded", plugins=len(plugins.loaded))
        return plugins

    async def _load(self) -> Plugins:
        old = self.current
        self.current = await _Loading(self._around).load(self._find())
        # The new ones are in use before the old ones end: no call finds its tool missing.
        self._old.start(old.close(self._around.timeout_s))
        return self.current

    async def close(self) -> None:
        """Stop all plugins; calls that still run are not waited for."""
        self._old.start(self.current.close(self._around.timeout_s))
        await self._old.finish(self._around.timeout_s)
        await self._old.cancel()
