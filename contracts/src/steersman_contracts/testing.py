"""Run a plugin alone: no service, no NATS, no database.

async with running_plugin(my_plugin, tmp_path, settings={"limit": 3}) as plugin:
    result = await plugin.call("word_count", {"text": "one two"})

asyncio.run(check_plugin(my_plugin))
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from steersman_contracts.hooks import (
    Changed,
    Denied,
    DynamicTools,
    PendingCall,
    Tool,
    ToolContext,
    ToolResult,
)
from steersman_contracts.parts import JsonObject, ResultContent
from steersman_contracts.plugin import (
    BadPlugin,
    HostedTool,
    LoadedPlugin,
    host_tool,
    kind_of,
    read_plugin,
)
from steersman_contracts.plugin_settings import BadPluginSettings
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc.caller import Caller
from steersman_contracts.tool_schema import unknown_fields

T = TypeVar("T")

_LEAST_DESCRIPTION = 20
"""Characters; less does not tell a model when to use a tool and what comes back."""


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
        settings: What the call is given as the settings of its plugin.
        secrets: What `secret` reads.
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
    """Call one tool without hooks around it: the arguments take the way over the wire.

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


class RunningPlugin:
    """A plugin that was started as the tools service does it."""

    def __init__(self, loaded: LoadedPlugin, workspace: Path, secrets: Mapping[str, str]) -> None:
        self._loaded = loaded
        self._workspace = workspace
        self._secrets = secrets

    @property
    def tools(self) -> tuple[str, ...]:
        """The names of its tools, with those of `dynamic_tools` as they are now."""
        return tuple(hosted.spec.name for hosted in self._hosted())

    @property
    def prompt(self) -> str | None:
        """What it has to say to models."""
        return self._loaded.prompt

    @property
    def settings(self) -> Any:
        """Its settings, filled."""
        return self._loaded.settings

    def context(self) -> LocalContext:
        """A context for one call, to look at its progress afterwards."""
        context = LocalContext(self._workspace)
        context.settings = self._loaded.settings
        context.secrets = dict(self._secrets)
        return context

    async def call(
        self, name: str, arguments: JsonObject | None = None, context: ToolContext | None = None
    ) -> ToolResult:
        """Call a tool with everything around it: the checks of its arguments, and the hooks.

        What `chat_tools` gives to the chat of `context` can be called as well. What the plugin
        raises is raised here; a deployment makes an error result of it.

        Raises:
            LookupError: There is no such tool.
            msgspec.ValidationError: The arguments do not fit.
            TypeError: The result, or what a hook gave, is none.
            TimeoutError: It took longer than the `timeout_s` of the tool.
        """
        around = context or self.context()
        hosted = await self._find(name, around.chat_id)
        pending = PendingCall(around.chat_id, around.call_id, name, dict(arguments or {}))
        _decode(hosted, pending.arguments)
        answer = await self._before_call(pending)
        if isinstance(answer, Denied):
            return ToolResult.error(f"denied: {answer.reason}")
        if isinstance(answer, Changed):
            pending = PendingCall(around.chat_id, around.call_id, name, answer.arguments)
        answered = hosted.tool.handler(around, _decode(hosted, pending.arguments))
        if not inspect.isawaitable(answered):
            raise TypeError(f"the handler of {name!r} is not async: write `async def`")
        result = await _in_time(answered, name, hosted.spec.timeout_s)
        _check_result(result, f"the tool {name!r}")
        return await self._after_call(pending, result) or result

    async def before_call(
        self, tool: str, arguments: JsonObject | None = None
    ) -> Denied | Changed | None:
        """What its `before_call` says about a call of any tool, also of other plugins.

        What it raises is raised here; a deployment denies the call.

        Raises:
            TypeError: It said something else; a deployment denies the call then as well.
        """
        return await self._before_call(self._pending(tool, arguments))

    async def after_call(
        self, tool: str, result: ToolResult, arguments: JsonObject | None = None
    ) -> ToolResult | None:
        """What its `after_call` makes of the result of any tool; None leaves it alone.

        What it raises is raised here; a deployment keeps the result as it was.

        Raises:
            TypeError: It made something else of it; a deployment keeps it as it was then as well.
        """
        return await self._after_call(self._pending(tool, arguments), result)

    async def chat_tools(self, chat_id: str) -> DynamicTools:
        """What its `chat_tools` gives to one chat; nothing, if it has no such hook."""
        if not self._loaded.has("chat_tools"):
            return DynamicTools()
        return _dynamic("chat_tools", await self._hook("chat_tools", chat_id=chat_id))

    async def answer(self, actor: Actor, question: str, body: JsonObject) -> JsonObject:
        """What its `answer` says to somebody."""
        answer = await self._hook("answer", actor=actor, question=question, body=body)
        if not isinstance(answer, dict):
            raise TypeError(f"answer() gave {kind_of(answer)} in place of a JSON object")
        return msgspec.json.decode(msgspec.json.encode(answer), type=JsonObject)

    async def workspace_stopped(self, workspace: Path) -> None:
        """Tell it that a workspace was stopped."""
        await self._hook("workspace_stopped", workspace=workspace)

    async def _before_call(self, call: PendingCall) -> Denied | Changed | None:
        answer = await self._hook("before_call", call=call)
        if answer is None or isinstance(answer, Denied | Changed):
            return answer
        raise TypeError(f"before_call() gave {kind_of(answer)} in place of None, Denied or Changed")

    async def _after_call(self, call: PendingCall, result: ToolResult) -> ToolResult | None:
        answer = await self._hook("after_call", call=call, result=result)
        if answer is not None:
            _check_result(answer, "after_call()")
        return answer

    def _pending(self, tool: str, arguments: JsonObject | None) -> PendingCall:
        around = LocalContext(self._workspace)
        return PendingCall(around.chat_id, around.call_id, tool, dict(arguments or {}))

    async def _find(self, name: str, chat_id: str) -> HostedTool:
        of_chat = (await self.chat_tools(chat_id)).tools
        offered = (*self._hosted(), *(host_tool(tool, self._loaded) for tool in of_chat))
        for hosted in offered:
            if hosted.spec.name == name:
                return hosted
        names = sorted(hosted.spec.name for hosted in offered)
        raise LookupError(f"no tool {name!r}; the plugin offers {names}")

    def _hosted(self) -> tuple[HostedTool, ...]:
        return (*self._loaded.tools, *_dynamic_tools(self._loaded))

    async def _hook(self, hook: str, **values: Any) -> Any:
        if not self._loaded.has(hook):
            return None
        answer = self._loaded.call(hook, **values)
        return await answer if inspect.isawaitable(answer) else answer


def _decode(hosted: HostedTool, arguments: JsonObject) -> msgspec.Struct | JsonObject:
    if hosted.tool.input_schema is not None:
        return arguments
    if unknown := unknown_fields(hosted.schema, arguments):
        raise msgspec.ValidationError(f"unknown field {', '.join(unknown)}")
    encoded = msgspec.json.encode(arguments)
    return msgspec.json.decode(encoded, type=hosted.tool.arguments, strict=True)


def _dynamic_tools(loaded: LoadedPlugin) -> tuple[HostedTool, ...]:
    if not loaded.has("dynamic_tools"):
        return ()
    now = _dynamic("dynamic_tools", loaded.call("dynamic_tools"))
    return tuple(host_tool(tool, loaded) for tool in now.tools)


def _dynamic(hook: str, answer: object) -> DynamicTools:
    if not isinstance(answer, DynamicTools):
        raise BadPlugin(f"{hook}() gave {kind_of(answer)} in place of DynamicTools")
    return answer


async def _in_time(answer: Awaitable[T], name: str, timeout_s: float) -> T:
    limit = asyncio.timeout(timeout_s)
    try:
        async with limit:
            return await answer
    finally:
        if limit.expired():
            raise TimeoutError(
                f"the tool {name!r} ran longer than its timeout_s of {timeout_s:g} s: "
                "a deployment stops it then"
            )


def _check_result(result: object, whose: str) -> None:
    if not isinstance(result, ToolResult):
        raise TypeError(f"{whose} gave {kind_of(result)} in place of a ToolResult")
    encoded = msgspec.json.encode(result.parts())
    msgspec.json.decode(encoded, type=list[ResultContent])


class _Book:
    def __init__(self, settings: Mapping[str, Any], secrets: Mapping[str, str]) -> None:
        self._settings = settings
        self._secrets = secrets

    async def settings(self, plugin: str) -> Mapping[str, Any]:
        del plugin
        return self._settings

    async def secret(self, plugin: str, name: str) -> str | None:
        del plugin
        return self._secrets.get(name)


async def _start(
    loaded: LoadedPlugin,
    settings: Mapping[str, Any],
    secrets: Mapping[str, str],
    *,
    timeout_s: float,
    kept: dict[str, Any] | None = None,
    rpc: Caller | None = None,
) -> None:
    """Start a plugin; of settings that are missing say where a test gives them."""
    book = _Book(settings, secrets)
    try:
        await loaded.start(environment={}, book=book, timeout_s=timeout_s, rpc=rpc, kept=kept)
    except BadPlugin as error:
        if isinstance(error.__cause__, BadPluginSettings):
            error.add_note("in a test, they are given as settings={…} and secrets={…}")
        raise


@asynccontextmanager
async def running_plugin(
    plugin: object,
    workspace: Path,
    *,
    name: str = "plugin",
    settings: Mapping[str, Any] | None = None,
    secrets: Mapping[str, str] | None = None,
    kept: dict[str, Any] | None = None,
    rpc: Caller | None = None,
    timeout_s: float = 10.0,
) -> AsyncGenerator[RunningPlugin]:
    """Start a plugin for the length of the block, as the tools service would.

    Args:
        plugin: The module or object that the entry point names.
        workspace: An existing directory, which its tools may use.
        name: Under which it is registered.
        settings: As an administrator would store them; of secrets, see `secrets`.
        secrets: The stored secrets by name.
        kept: What is `host.kept`: the same dict once more, and it is a reload.
        rpc: What is `host.rpc`; None as where a host may call no service.
        timeout_s: Seconds for each of its hooks.

    Raises:
        steersman_contracts.plugin.BadPlugin: A deployment would skip it; the text says why.
        steersman_contracts.hooks.PluginOff: It has nothing to offer with these settings.
    """
    loaded = read_plugin(name, plugin)
    stored = dict(secrets or {})
    await _start(loaded, settings or {}, stored, timeout_s=timeout_s, kept=kept, rpc=rpc)
    try:
        yield RunningPlugin(loaded, workspace, stored)
    finally:
        await loaded.stop(timeout_s=timeout_s)


async def check_plugin(
    plugin: object,
    *,
    settings: Mapping[str, Any] | None = None,
    secrets: Mapping[str, str] | None = None,
) -> None:
    """Hold a plugin to what every deployment expects of one: the conformance test.

    It is loaded, started and stopped twice, as a reload does, and its tools have to explain
    themselves to a model.

    Raises:
        AssertionError: Something is missing; the text lists all of it.
        steersman_contracts.plugin.BadPlugin: A deployment would skip it.
        steersman_contracts.hooks.PluginOff: With these settings it offers nothing to look at.
    """
    offered: list[tuple[str, ...]] = []
    problems: list[str] = []
    for _ in range(2):
        loaded = read_plugin("plugin", plugin)
        await _start(loaded, settings or {}, secrets or {}, timeout_s=10.0)
        try:
            hosted = (*loaded.tools, *_dynamic_tools(loaded))
        finally:
            await loaded.stop(timeout_s=10.0)
        problems = [line for one in hosted for line in _unexplained(one)]
        offered.append(tuple(one.spec.name for one in loaded.tools))
    if offered[0] != offered[1]:
        problems.append(f"its tools differ from one load to the next: {offered}")
    if problems:
        raise AssertionError("; ".join(problems))


def _unexplained(hosted: HostedTool) -> list[str]:
    name = hosted.spec.name
    problems: list[str] = []
    if len(hosted.spec.description) < _LEAST_DESCRIPTION:
        problems.append(
            f"{name}: its description has to say what it does, when to use it and what comes back"
        )
    fields: dict[str, JsonObject] = hosted.schema.get("properties", {})
    problems += [
        f"{name}: the argument {field!r} has no description: "
        'Annotated[…, msgspec.Meta(description="…")]'
        for field, schema in fields.items()
        if not schema.get("description")
    ]
    return problems
