"""Plugins that start and stop with the service, and whose tools come and go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from integration.tools.conftest import StartTools
from integration.tools.host import ECHO, Caller, echo, plugin, text_of, tool

from steersman_contracts.hooks import DynamicTools, Tool, ToolContext, ToolResult, hookimpl
from steersman_contracts.parts import JsonObject
from steersman_contracts.rpc.tools import PluginReport
from steersman_tools.plugins import PluginSource

SCHEMA: JsonObject = {
    "type": "object",
    "properties": {"n": {"$ref": "#/$defs/n"}},
    "$defs": {"n": {}},
}


async def keys(_: ToolContext, arguments: JsonObject) -> ToolResult:
    return ToolResult(",".join(sorted(arguments)))


def raw(name: str, schema: Any = SCHEMA) -> Tool[Any]:
    return Tool(name, "A tool of a stranger.", dict, keys, input_schema=schema)


class Changing:
    """A plugin that does what its test says."""

    def __init__(self, offer: Callable[[], Any], *, fails: bool = False) -> None:
        self.offer = offer
        self.fails = fails
        self.seen: list[str] = []

    def source(self, name: str = "changing") -> PluginSource:
        return PluginSource(name, "1", lambda: self)

    @hookimpl
    async def start(self) -> None:
        self.seen.append("start")
        if self.fails:
            raise OSError("no network")

    @hookimpl
    def tools(self) -> list[Tool[Any]]:
        return [tool(echo, name="fixed")]

    @hookimpl
    def dynamic_tools(self) -> DynamicTools:
        return self.offer()

    @hookimpl
    def stop(self) -> None:
        self.seen.append("stop")


async def the_report(caller: Caller, name: str = "changing") -> PluginReport:
    return next(found for found in (await caller.catalog()).plugins if found.name == name)


async def test_tools_come_and_go_and_take_any_arguments(
    start_tools: StartTools, caller: Caller
) -> None:
    offer = DynamicTools((raw("b"), raw("a")), ("c is away",))
    changing = Changing(lambda: offer)
    service = await start_tools(changing.source())

    first = await caller.catalog()
    called = await caller.call("a", {"anything": 1, "n": []})
    offer = DynamicTools((raw("c"),))
    second = await the_report(caller)
    gone = await caller.call("a")
    await service.stop()

    assert [spec.name for spec in first.tools] == ["a", "b", "fixed"]
    assert first.tools[0].input_schema == SCHEMA
    assert (first.plugins[0].tools, first.plugins[0].warnings) == (
        ("a", "b", "fixed"),
        ("c is away",),
    )
    assert text_of(called) == "anything,n"
    assert (second.tools, second.warnings) == (("c", "fixed"), ())
    assert "there is no tool 'a'" in text_of(gone)
    assert changing.seen == ["start", "stop"]


async def test_a_wrong_tool_costs_itself_alone(start_tools: StartTools, caller: Caller) -> None:
    large: JsonObject = {"type": "object", "description": "x" * 70_000}
    offer = DynamicTools(
        (
            raw("good"),
            raw("good"),
            raw("rm -rf"),
            raw("echo"),
            raw("array", {"type": "array"}),
            raw("large", large),
            raw("nothing", {"type": "object", "x": object()}),
        )
    )
    await start_tools(Changing(lambda: offer).source(), plugin("other", ECHO))

    found = await the_report(caller)

    assert found.tools == ("fixed", "good")
    told = "\n".join(found.warnings)
    for why in (
        "it offers the tool 'good' twice",
        "tool 'rm -rf'",
        "its tool 'echo' is offered by another plugin",
        "tool 'array': the input schema is not one of a JSON object",
        "tool 'large': the schema has",
        "tool 'nothing': the input schema is no JSON",
    ):
        assert why in told
    assert len(found.warnings) == 6


async def test_a_plugin_that_fails_to_answer_offers_nothing_until_it_does(
    start_tools: StartTools, caller: Caller
) -> None:
    answers: list[Any] = [None, DynamicTools((raw("back"),))]
    changing = Changing(lambda: answers[0])
    await start_tools(changing.source())

    failing = await the_report(caller)
    del answers[0]
    better = await the_report(caller)

    assert (failing.tools, failing.warnings) == (
        ("fixed",),
        ("dynamic_tools() failed: TypeError",),
    )
    assert (better.tools, better.warnings) == (("back", "fixed"), ())


async def test_a_plugin_that_cannot_start_is_left_out_whole(
    start_tools: StartTools, caller: Caller
) -> None:
    changing = Changing(lambda: DynamicTools((raw("a"),)), fails=True)
    service = await start_tools(changing.source(), plugin("other", ECHO))

    catalog = await caller.catalog()
    await service.stop()

    assert [spec.name for spec in catalog.tools] == ["echo"]
    assert catalog.plugins[0].error == "OSError: no network"
    assert catalog.plugins[0].tools == ()
    assert changing.seen == ["start"]
