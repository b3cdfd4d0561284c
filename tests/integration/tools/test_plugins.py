"""A plugin that is broken in any way costs itself alone."""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from integration.tools.conftest import StartTools
from integration.tools.host import ECHO, Caller, NoArguments, Text, echo, plugin, text_of, tool

from steersman_contracts.hooks import (
    Denied,
    PendingCall,
    Tool,
    ToolContext,
    ToolResult,
    hookimpl,
)
from steersman_tools.plugins import PluginSource, installed_plugins


def source(load: Callable[[], object]) -> PluginSource:
    return PluginSource("broken", "1", load)


def offering(tools: Callable[[], Any]) -> PluginSource:
    return source(lambda: SimpleNamespace(tools=hookimpl(tools)))


def hooked(**functions: Callable[..., Any]) -> PluginSource:
    return source(lambda: SimpleNamespace(**functions))


class Recursive(msgspec.Struct):
    child: Recursive | None = None


class Unspeakable(msgspec.Struct):
    value: object


class AsArray(msgspec.Struct, array_like=True):
    value: int


def raising() -> list[Tool[Any]]:
    raise RuntimeError("no tools today")


def half() -> Iterator[Tool[Any]]:
    yield tool(echo, name="half")
    raise RuntimeError("lost the rest")


def endless() -> Iterator[Tool[Any]]:
    return (tool(echo, name=f"tool_{number}") for number in itertools.count())


@hookimpl
def before_everything(call: PendingCall) -> None:
    """No such hook."""


@hookimpl(specname="before_call")
def greedy(call: PendingCall, wallet: str) -> None:
    """A hook with an argument that it is never given."""


@hookimpl(specname="after_call", wrapper=True)
def wrapping(call: PendingCall, result: ToolResult) -> Generator[None, None, None]:
    yield


BROKEN: dict[str, tuple[PluginSource, str]] = {
    "fails at import": (
        source(lambda: importlib.import_module("no_such_module_of_a_plugin")),
        "ModuleNotFoundError: No module named 'no_such_module_of_a_plugin'",
    ),
    "exits at import": (source(lambda: sys.exit("bye")), "SystemExit: bye"),
    "has no hooks": (source(SimpleNamespace), "it has no hooks: mark its functions with @hookimpl"),
    "unknown hook": (
        hooked(before_everything=before_everything),
        "unknown hook 'before_everything'",
    ),
    "bad signature": (hooked(before_call=greedy), "wallet"),
    "hook wrapper": (hooked(after_call=wrapping), "hook wrappers are not supported"),
    "raises in tools()": (offering(raising), "RuntimeError: no tools today"),
    "raises half way": (offering(half), "RuntimeError: lost the rest"),
    "endless tools": (offering(endless), "it offers more than 500 tools"),
    "returns None": (offering(lambda: None), "tools() gave NoneType in place of a list of tools"),
    "no tool": (offering(lambda: ["echo"]), "tools() gave 'echo', which is not a Tool"),
    "bad tool name": (plugin("broken", tool(echo, name="rm -rf")), "tool 'rm -rf'"),
    "name that is no text": (plugin("broken", tool(echo, name=7)), "tool 7"),  # pyright: ignore[reportArgumentType]  # what a plugin may do
    "line break in the name": (plugin("broken", tool(echo, name="echo2\n")), "tool 'echo2\\n'"),
    "long tool name": (plugin("broken", tool(echo, name="x" * 65)), "xxx"),
    "no description": (
        plugin("broken", Tool("mute", " ", Text, echo)),
        "tool 'mute': it has no description",
    ),
    "negative timeout": (plugin("broken", tool(echo, timeout_s=-1)), "timeout_s must be above 0"),
    "endless timeout": (plugin("broken", tool(echo, timeout_s=1e9)), "at most 14400"),
    "arguments no Struct": (
        plugin("broken", tool(echo, arguments=dict)),  # pyright: ignore[reportArgumentType]  # what a plugin may do
        "must be a msgspec Struct",
    ),
    "recursive arguments": (plugin("broken", tool(echo, arguments=Recursive)), "themselves"),
    "no JSON Schema": (
        plugin("broken", tool(echo, arguments=Unspeakable)),
        "no schema can be derived from Unspeakable",
    ),
    "array arguments": (
        plugin("broken", tool(echo, arguments=AsArray)),
        "AsArray is not a JSON object",
    ),
    "no handler": (plugin("broken", tool(None, name="idle")), "cannot be called"),  # pyright: ignore[reportArgumentType]  # what a plugin may do
    "one name twice": (
        plugin("broken", tool(echo, name="same"), tool(echo, name="same")),
        "it offers the tool 'same' twice",
    ),
    "clash with another": (
        plugin("broken", tool(echo, name="fine"), ECHO),
        "its tool 'echo' is offered by plugin 'a-good-one'",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_broken_plugin_is_reported_and_skipped_whole(
    kind: str, start_tools: StartTools, caller: Caller
) -> None:
    broken, why = BROKEN[kind]

    service = await start_tools(broken, plugin("a-good-one", ECHO))

    catalog = await caller.catalog()
    good, bad = catalog.plugins
    assert (good.name, good.error, good.tools) == ("a-good-one", None, ("echo",))
    assert (bad.name, bad.tools) == ("broken", ())
    assert bad.error is not None
    assert why in bad.error
    assert [spec.name for spec in catalog.tools] == ["echo"]
    assert text_of(await caller.call("echo", {"text": "still here"})) == "still here"
    assert service.runtime.health.problems() == {}


async def test_all_kinds_at_once_leave_the_good_ones(
    start_tools: StartTools, caller: Caller
) -> None:
    sources = [
        PluginSource(f"broken-{number}", "1", broken.load)
        for number, (broken, _) in enumerate(BROKEN.values())
    ]

    await start_tools(*sources, plugin("a-good-one", ECHO), plugin("z", tool(echo, name="last")))

    catalog = await caller.catalog()
    assert [spec.name for spec in catalog.tools] == ["echo", "last"]
    assert sum(report.error is not None for report in catalog.plugins) == len(BROKEN)


async def test_a_second_plugin_of_the_same_name_is_refused(
    start_tools: StartTools, caller: Caller
) -> None:
    await start_tools(plugin("twin", ECHO), plugin("twin", tool(echo, name="other")))

    reports = (await caller.catalog()).plugins
    assert [report.error for report in reports] == [None, "another plugin is named 'twin' as well"]


async def test_the_same_module_under_two_names_is_used_once(
    start_tools: StartTools, caller: Caller
) -> None:
    module = plugin("a", ECHO).load()

    await start_tools(
        PluginSource("a", "1", lambda: module), PluginSource("b", "1", lambda: module)
    )

    errors = [report.error for report in (await caller.catalog()).plugins]
    assert errors == [None, "the same plugin is registered under another name as well"]


async def test_the_catalog_does_not_depend_on_the_order_in_which_plugins_are_found(
    start_tools: StartTools, caller: Caller
) -> None:
    clash = [plugin("b", ECHO), plugin("a", ECHO), plugin("c", tool(echo, name="aaa"))]

    for sources in (clash, clash[::-1]):
        service = await start_tools(*sources)
        catalog = await caller.catalog()
        await service.stop()

        assert [(spec.name, spec.plugin) for spec in catalog.tools] == [("aaa", "c"), ("echo", "a")]
        assert [report.name for report in catalog.plugins] == ["a", "b", "c"]


async def test_the_catalog_tells_all_facts_about_a_tool(
    start_tools: StartTools, caller: Caller
) -> None:
    facts: dict[str, Any] = {
        "timeout_s": 7.0,
        "idempotent": True,
        "exclusive": True,
        "needs_workspace": True,
        "needs_approval": True,
    }
    await start_tools(plugin("p", tool(echo, **facts)))

    (spec,) = (await caller.catalog()).tools

    assert {name: getattr(spec, name) for name in facts} == facts
    assert spec.description == "A tool of a test."
    assert spec.input_schema == {
        "type": "object",
        "properties": {},
        "required": [],
        "additionalProperties": False,
    }


async def test_the_installed_plugins_are_found(start_tools: StartTools, caller: Caller) -> None:
    await start_tools(*installed_plugins())

    names = {report.name for report in (await caller.catalog()).plugins}
    assert {"exec", "files", "web"} <= names


class Guard:
    """A plugin with hooks around calls and no tools."""

    def __init__(self, answer: Callable[[PendingCall], Any]) -> None:
        self._answer = answer
        self.seen: list[tuple[str, bool]] = []

    @hookimpl
    def before_call(self, call: PendingCall) -> Denied | None:
        return self._answer(call)

    @hookimpl
    def after_call(self, call: PendingCall, result: ToolResult) -> None:
        self.seen.append((call.tool, result.is_error))
        raise RuntimeError("after_call is not my strength")


def guards(*plugins: Guard) -> Iterable[PluginSource]:
    for number, guard in enumerate(plugins):

        def load(guard: Guard = guard) -> object:
            return guard

        yield PluginSource(f"guard-{number}", "1", load)


async def test_the_first_plugin_by_name_that_denies_wins(
    start_tools: StartTools, caller: Caller
) -> None:
    ran: list[str] = []

    async def work(context: ToolContext, _: NoArguments) -> ToolResult:
        ran.append(context.call_id)
        return ToolResult("done")

    asked: list[dict[str, Any]] = []

    def ask(call: PendingCall) -> None:
        asked.append(call.arguments)

    await start_tools(
        plugin("work", tool(work)),
        *guards(
            Guard(ask), Guard(lambda _: Denied("not on Sundays")), Guard(lambda _: Denied("never"))
        ),
    )

    result = await caller.call("work")

    assert (text_of(result), result.is_error) == ("denied: not on Sundays", True)
    assert asked == [{}]
    assert ran == []


def breaks(_: PendingCall) -> Any:
    raise ZeroDivisionError


def nods(_: PendingCall) -> Any:
    return True


@pytest.mark.parametrize("answer", [breaks, nods])
async def test_a_guard_that_fails_denies(
    answer: Callable[[PendingCall], Any], start_tools: StartTools, caller: Caller
) -> None:
    await start_tools(plugin("p", ECHO), *guards(Guard(answer)))

    result = await caller.call("echo")

    assert result.is_error
    assert text_of(result).startswith("denied: plugin 'guard-0'")


async def test_every_after_hook_sees_the_result_whatever_the_others_do(
    start_tools: StartTools, caller: Caller
) -> None:
    first, second = Guard(lambda _: None), Guard(lambda _: None)
    await start_tools(plugin("p", ECHO), *guards(first, second))

    assert text_of(await caller.call("echo", {"text": "hello"})) == "hello"
    await caller.call("echo", {"text": 1})

    assert first.seen == second.seen == [("echo", False)]
