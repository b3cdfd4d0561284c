"""A plugin from the outside: checks what it is, starts it, and calls its hooks.

The tools service and `steersman_contracts.testing` both load plugins with this module, so that what
passes a plugin's own tests is what a deployment takes.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeGuard, TypeVar, cast

import msgspec
import pluggy

from steersman_contracts.hooks import (
    API_ATTRIBUTE,
    API_VERSION,
    PROJECT,
    PluginOff,
    Tool,
    ToolHooks,
)
from steersman_contracts.ids import TOOL_NAME_PATTERN
from steersman_contracts.parts import JsonObject
from steersman_contracts.plugin_settings import BadPluginSettings, Book, fill, variable
from steersman_contracts.rpc.caller import Caller
from steersman_contracts.rpc.tools import MAX_TIMEOUT_S, SettingReport, ToolSpec
from steersman_contracts.tool_schema import BadSchema, declared_schema, input_schema

T = TypeVar("T")

MAX_TOOLS: Final = 500
"""Tools of one plugin."""
MAX_PROMPT: Final = 16 << 10
"""Characters of the text that a plugin has for models."""
_SPEC_FIELDS: Final = tuple(
    name for name in ToolSpec.__struct_fields__ if name not in ("input_schema", "plugin")
)


class BadPlugin(ValueError):
    """What is wrong with a plugin, in words for its author."""


@dataclass(frozen=True, slots=True)
class HostedTool:
    """A tool that can be called."""

    tool: Tool[Any]
    spec: ToolSpec
    plugin: LoadedPlugin

    @property
    def schema(self) -> JsonObject:
        """Of the arguments."""
        return self.spec.input_schema


class _Host:
    """The `PluginHost` of one plugin."""

    def __init__(
        self,
        name: str,
        settings: Any,
        secret: Callable[[str], Awaitable[str | None]],
        rpc: Caller | None,
        kept: dict[str, Any],
    ) -> None:
        self.name = name
        self.settings = settings
        self.rpc = rpc
        self.kept = kept
        self._secret = secret

    async def secret(self, name: str) -> str | None:
        return await self._secret(name)


class LoadedPlugin:
    """A plugin whose hooks can be called."""

    def __init__(self, name: str, plugin: object, hooks: Mapping[str, pluggy.HookImpl]) -> None:
        self.name = name
        self.plugin = plugin
        self._hooks = hooks
        self.settings: Any = None
        self.reports: tuple[SettingReport, ...] = ()
        self.tools: tuple[HostedTool, ...] = ()
        self.prompt: str | None = None
        self._secret: Callable[[str], Awaitable[str | None]] | None = None
        self._started = False

    def has(self, hook: str) -> bool:
        """Whether the plugin has the hook."""
        return hook in self._hooks

    def call(self, hook: str, **values: Any) -> Any:
        """Call a hook of the plugin with the arguments that it wants; may return an awaitable."""
        implementation = self._hooks[hook]
        return implementation.function(*(values[name] for name in implementation.argnames))

    async def secret(self, name: str) -> str | None:
        """Read a secret of the plugin."""
        return None if self._secret is None else await self._secret(name)

    async def start(
        self,
        *,
        environment: Mapping[str, str],
        book: Book,
        timeout_s: float,
        rpc: Caller | None = None,
        kept: dict[str, Any] | None = None,
    ) -> None:
        """Fill the settings, start the plugin, ask for tools and text.

        Args:
            environment: Where settings and secrets are looked up first.
            book: Where they are looked up then.
            timeout_s: Seconds for each hook.
            rpc: What the plugin may call services with.
            kept: What the one before it of this name has left; nothing, if there was none.

        Raises:
            BadPlugin: Something about it is wrong, or it took too long.
            PluginOff: It has nothing to offer here.
        """

        async def secret(name: str) -> str | None:
            return await _secret(self.name, name, environment, book)

        self._secret = secret
        await self._fill(environment, book, timeout_s)
        try:
            await self._start(timeout_s, rpc, {} if kept is None else kept)
            self._started = True
            await self._ask(timeout_s)
        except BaseException:
            await self.stop(timeout_s=timeout_s)
            raise

    async def _fill(self, environment: Mapping[str, str], book: Book, timeout_s: float) -> None:
        if not self.has("settings"):
            return
        kind = await off_loop(lambda: self.call("settings"), timeout_s, "settings()")
        try:
            self.settings, self.reports = await fill(kind, self.name, environment, book)
        except BadPluginSettings as error:
            self.reports = error.reports
            raise BadPlugin(str(error)) from error

    async def _start(self, timeout_s: float, rpc: Caller | None, kept: dict[str, Any]) -> None:
        if not self.has("start"):
            return
        host = _Host(self.name, self.settings, self.secret, rpc, kept)
        await self._run("start", timeout_s, host=host)

    async def _ask(self, timeout_s: float) -> None:
        if self.has("tools"):
            offered = await off_loop(lambda: _list(self.call("tools")), timeout_s, "tools()")
            self.tools = self._check(offered)
        if self.has("prompt"):
            self.prompt = _text(await off_loop(lambda: self.call("prompt"), timeout_s, "prompt()"))

    def _check(self, offered: Iterable[Any]) -> tuple[HostedTool, ...]:
        found: dict[str, HostedTool] = {}
        for tool in offered:
            hosted = host_tool(tool, self)
            if hosted.spec.name in found:
                raise BadPlugin(f"it offers the tool {hosted.spec.name!r} twice")
            found[hosted.spec.name] = hosted
        return tuple(found.values())

    async def stop(self, *, timeout_s: float) -> None:
        """Let the plugin close what it opened, if it was started.

        Raises:
            Exception: What its `stop` raises; or BadPlugin when it took too long.
        """
        if self._started and self.has("stop"):
            self._started = False
            await self._run("stop", timeout_s)

    async def _run(self, hook: str, timeout_s: float, **values: Any) -> None:
        if not inspect.iscoroutinefunction(self._hooks[hook].function):
            # In a thread: what blocks must not stop the service.
            await off_loop(lambda: self.call(hook, **values), timeout_s, f"{hook}()")
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self.call(hook, **values)
        except TimeoutError as error:
            raise BadPlugin(f"{hook}() took longer than {timeout_s:g} s") from error


def read_plugin(name: str, plugin: object) -> LoadedPlugin:
    """Check that an object is a plugin for this version, and find its hooks.

    Raises:
        BadPlugin: It is not.
    """
    wanted = getattr(plugin, API_ATTRIBUTE, 1)
    if wanted != API_VERSION:
        raise BadPlugin(
            f"it is written for version {wanted!r:.40} of the plugin API; this is {API_VERSION}"
        )
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(ToolHooks)
    try:
        manager.register(plugin, name=name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise BadPlugin(str(error)) from error
    hooks = {
        caller.name: hook
        for caller in manager.get_hookcallers(plugin) or ()
        for hook in caller.get_hookimpls()
    }
    if not hooks:
        raise BadPlugin("it has no hooks: mark its functions with @hookimpl")
    if any(hook.hookwrapper or hook.wrapper for hook in hooks.values()):
        raise BadPlugin("hook wrappers are not supported")
    return LoadedPlugin(name, plugin, hooks)


async def off_loop(work: Callable[[], T], timeout_s: float, what: str) -> T:
    """Run a stranger's function in a thread of its own, for a while.

    A thread that does not end in time is left behind: nothing can end it, and it must not take the
    service with it.

    Raises:
        BadPlugin: It took too long.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[tuple[T | None, BaseException | None]] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if not ended.done():
            ended.set_result((result, error))

    def run() -> None:
        result: T | None = None
        failure: BaseException | None = None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001  # `sys.exit` as well; raised again below
            failure = error
        with suppress(RuntimeError):  # the service has stopped meanwhile
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="plugin", daemon=True).start()
    try:
        async with asyncio.timeout(timeout_s):
            result, error = await ended
    except TimeoutError as error:
        raise BadPlugin(f"{what} took longer than {timeout_s:g} s") from error
    if isinstance(error, StopIteration):  # cannot leave a coroutine
        raise BadPlugin(f"{what} raised StopIteration")
    if error is not None:
        raise error
    return cast("T", result)


def why(error: BaseException) -> str:
    """An error of a plugin in one line."""
    if isinstance(error, BadPlugin | PluginOff):
        return str(error)
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001  # a stranger's class; its name has to do
        return type(error).__name__


async def _secret(plugin: str, name: str, environment: Mapping[str, str], book: Book) -> str | None:
    found = environment.get(variable(plugin, name))
    return await book.secret(plugin, name) if found is None else found


def _list(offered: Any) -> list[Any]:
    if not isinstance(offered, Iterable):
        raise BadPlugin(f"tools() gave {kind_of(offered)} in place of a list of tools")
    tools = list(islice(cast("Iterable[Any]", offered), MAX_TOOLS + 1))
    if len(tools) > MAX_TOOLS:
        raise BadPlugin(f"it offers more than {MAX_TOOLS} tools")
    return tools


def _text(prompt: Any) -> str | None:
    if prompt is None:
        return None
    if not isinstance(prompt, str):
        raise BadPlugin(f"prompt() gave {kind_of(prompt)} in place of text")
    if len(prompt) > MAX_PROMPT:
        raise BadPlugin(f"prompt() gave {len(prompt)} characters, more than {MAX_PROMPT}")
    return prompt.strip() or None


def kind_of(answer: Any) -> str:
    """What a hook gave that it must not give, in words for the author."""
    if inspect.iscoroutine(answer):
        answer.close()
        return "a coroutine (this hook must not be async)"
    return type(answer).__name__


def _is_tool(value: Any) -> TypeGuard[Tool[Any]]:
    return isinstance(value, Tool)


def host_tool(tool: Any, plugin: LoadedPlugin) -> HostedTool:
    """Check a tool that a plugin offers.

    Raises:
        BadPlugin: Something is wrong with it.
    """
    if not _is_tool(tool):
        raise BadPlugin(f"tools() gave {tool!r:.100}, which is not a Tool")
    _check_name(tool.name)
    try:
        schema = (
            input_schema(tool.arguments)
            if tool.input_schema is None
            else declared_schema(tool.input_schema)
        )
    except BadSchema as error:
        raise BadPlugin(f"tool {tool.name!r}: {error}") from error
    if not callable(tool.handler):
        raise BadPlugin(f"tool {tool.name!r}: the handler cannot be called")
    if not _takes_two(tool.handler):
        raise BadPlugin(f"tool {tool.name!r}: the handler has to take two arguments, context, args")
    values = {name: getattr(tool, name) for name in _SPEC_FIELDS}
    try:
        spec = msgspec.convert(
            values | {"plugin": plugin.name, "input_schema": schema}, ToolSpec, strict=True
        )
    except msgspec.ValidationError as error:
        raise BadPlugin(f"tool {tool.name!r}: {error}") from error
    check_spec(spec)
    return HostedTool(tool, spec, plugin)


def check_spec(spec: ToolSpec) -> None:
    """Check what types cannot say about a tool.

    Raises:
        BadPlugin: Something is wrong with it.
    """
    _check_name(spec.name)
    if not spec.description.strip():
        raise BadPlugin(f"tool {spec.name!r}: it has no description")
    if not 0 < spec.timeout_s <= MAX_TIMEOUT_S:
        raise BadPlugin(
            f"tool {spec.name!r}: timeout_s must be above 0 and at most {MAX_TIMEOUT_S:g}"
        )


def _check_name(name: object) -> None:
    # msgspec lets a last line break pass.
    if not isinstance(name, str) or not re.fullmatch(TOOL_NAME_PATTERN, name):
        raise BadPlugin(f"tool {name!r:.100}: the name has to be 1 to 64 of a-z, A-Z, 0-9, _ and -")


def _takes_two(handler: Callable[..., Any]) -> bool:
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):  # written in C: nobody knows
        return True
    try:
        signature.bind(None, None)
    except TypeError:
        return False
    return True
