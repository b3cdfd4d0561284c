"""What a plugin may do beside listing tools: start, stop, settings, guards, prompts, limits."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import msgspec
import pytest
from integration.tools.conftest import StartTools
from integration.tools.host import (
    ECHO,
    Caller,
    NoArguments,
    Text,
    new_chat,
    plugin,
    text_of,
    tool,
)
from support.toolhosts import write_plugin

from steersman_contracts.errors import Forbidden
from steersman_contracts.hooks import (
    Changed,
    PendingCall,
    PluginHost,
    PluginOff,
    Secret,
    Tool,
    ToolContext,
    ToolResult,
    hookimpl,
)
from steersman_contracts.ids import UserId
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc.tools import (
    LIST_PLUGINS,
    RELOAD_PLUGINS,
    ListPlugins,
    PluginList,
    PluginReport,
    ReloadPlugins,
    SettingReport,
)
from steersman_tools.plugins import PluginSource

ADMIN = Actor(UserId("0190a0a0-0000-7000-8000-00000000000a"), "admin")


def made(name: str, **attributes: Any) -> PluginSource:
    """A plugin of these attributes; functions become hooks."""
    hooks = {
        key: hookimpl(value) if callable(value) and not isinstance(value, type) else value
        for key, value in attributes.items()
    }
    return PluginSource(name, "1", lambda: SimpleNamespace(**hooks))


async def reports(caller: Caller) -> dict[str, PluginReport]:
    listed = await caller.rpc.call(LIST_PLUGINS, ListPlugins(ADMIN))
    return {report.name: report for report in listed.plugins}


async def reload(caller: Caller) -> PluginList:
    return await caller.rpc.call(RELOAD_PLUGINS, ReloadPlugins(ADMIN))


class Settings(msgspec.Struct, frozen=True):
    word: Annotated[str, msgspec.Meta(description="What is said.")]
    times: int = 1
    key: Secret = Secret("")


class Unfit(msgspec.Struct, frozen=True):
    number: int


def hangs() -> Any:
    threading.Event().wait()


def blocks(host: PluginHost) -> None:
    del host
    threading.Event().wait()


async def hangs_softly(host: PluginHost) -> None:
    del host
    await asyncio.Event().wait()


def off(host: PluginHost) -> None:
    raise PluginOff(f"{host.name} has no backend")


def exits(host: PluginHost) -> None:
    sys.exit(f"{host.name} is leaving")


def offers_echo() -> list[Tool[Any]]:
    return [tool(ECHO.handler, name="never", arguments=Text)]


SKIPPED: dict[str, tuple[PluginSource, str]] = {
    "another version": (
        made("bad", tools=offers_echo, steersman_api=2),
        "it is written for version 2 of the plugin API; this is 1",
    ),
    "hangs at import": (PluginSource("bad", "1", hangs), "its import took longer than 2 s"),
    "hangs in start": (made("bad", start=hangs_softly), "start() took longer than 2 s"),
    "blocks in start": (made("bad", start=blocks), "start() took longer than 2 s"),
    "hangs in tools": (made("bad", tools=hangs), "tools() took longer than 2 s"),
    "exits in start": (made("bad", start=exits), "SystemExit: bad is leaving"),
    "settings of no type": (made("bad", settings=lambda: 7), "settings() gave 7, which is not"),
    "settings are missing": (
        made("bad", settings=lambda: Settings),
        "the setting 'word' is missing: set STEERSMAN_PLUGIN_BAD_WORD, or store it with "
        "/api/v1/plugins/bad/settings",
    ),
    "a prompt that is no text": (made("bad", prompt=lambda: 7), "prompt() gave int"),
    "an endless prompt": (made("bad", prompt=lambda: "x" * 20_000), "20000 characters"),
}


@pytest.mark.parametrize("kind", SKIPPED)
async def test_a_plugin_that_cannot_be_used_is_reported_and_skipped(
    kind: str, start_tools: StartTools, caller: Caller
) -> None:
    source, why = SKIPPED[kind]

    service = await start_tools(source, plugin("good", ECHO), plugin_timeout_s=2.0)

    found = await reports(caller)
    assert why in (found["bad"].error or "")
    assert (found["bad"].state, found["good"].state) == ("broken", "in use")
    assert text_of(await caller.call("echo", {"text": "still here"})) == "still here"
    assert service.runtime.health.problems() == {}


async def test_a_plugin_may_choose_to_be_off_and_say_why(
    start_tools: StartTools, caller: Caller
) -> None:
    await start_tools(made("web", start=off, tools=offers_echo))

    report = (await reports(caller))["web"]
    assert (report.state, report.off, report.error) == ("off", "web has no backend", None)
    assert (await caller.catalog()).tools == ()


async def test_settings_come_from_the_environment_and_secrets_never_show(
    start_tools: StartTools,
    caller: Caller,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "key").write_text("s3cret\n")
    for name, value in {
        "STEERSMAN_PLUGIN_MY_SAYER_WORD": "ahoy",
        "STEERSMAN_PLUGIN_MY_SAYER_TIMES": "2",
        "STEERSMAN_PLUGIN_MY_SAYER_KEY_FILE": str(tmp_path / "key"),
        "STEERSMAN_PLUGIN_UNFIT_NUMBER": "many",
    }.items():
        monkeypatch.setenv(name, value)

    async def say(context: ToolContext, _: NoArguments) -> ToolResult:
        settings: Settings = context.settings
        assert repr(settings.key) == "Secret('***')"
        same = settings.key.reveal() == await context.secret("key") == "s3cret"
        return ToolResult(f"{settings.word * settings.times} {same} {await context.secret('no')}")

    await start_tools(
        made("my-sayer", settings=lambda: Settings, tools=lambda: [tool(say)]),
        made("unfit", settings=lambda: Unfit),
    )

    assert text_of(await caller.call("say")) == "ahoyahoy True None"
    found = await reports(caller)
    assert found["my-sayer"].settings == (
        SettingReport("word", "environment", description="What is said."),
        SettingReport("times", "environment"),
        SettingReport("key", "environment", secret=True),
    )
    assert found["unfit"].error == "the setting 'number' (environment): Expected `int`, got `str`"


async def test_a_plugin_is_started_before_its_tools_are_asked_for_and_stopped_at_the_end(
    start_tools: StartTools, caller: Caller
) -> None:
    seen: list[str] = []

    async def start(host: PluginHost) -> None:
        seen.append(f"start {host.name}")

    def offer() -> list[Tool[Any]]:
        seen.append("tools")
        return [ECHO]

    async def stop() -> None:
        seen.append("stop")

    service = await start_tools(
        made("p", start=start, tools=offer, stop=stop, prompt=lambda: " Use echo. ")
    )
    prompts = (await caller.catalog()).prompts
    await service.stop()

    assert seen == ["start p", "tools", "stop"]
    assert [(prompt.plugin, prompt.text) for prompt in prompts] == [("p", "Use echo.")]


async def test_guards_change_arguments_and_results_one_after_the_other(
    start_tools: StartTools, caller: Caller
) -> None:
    def shout(call: PendingCall) -> Changed:
        return Changed({"text": call.arguments["text"].upper()})

    async def bracket(call: PendingCall) -> Changed:
        return Changed({"text": f"[{call.arguments['text']}]"})

    async def sign(result: ToolResult) -> ToolResult:
        return ToolResult(f"{result.text} (seen)")

    def spoil(call: PendingCall) -> Changed | None:
        return Changed({"text": 7}) if call.arguments["text"] == "[SPOIL]" else None

    await start_tools(
        plugin("echo", ECHO),
        made("a", before_call=shout),
        made("b", before_call=bracket, after_call=sign),
        made("c", before_call=spoil),
    )

    assert text_of(await caller.call("echo", {"text": "hello"})) == "[HELLO] (seen)"
    assert text_of(await caller.call("echo", {"text": "spoil"})).startswith("invalid arguments")


class Meeting:
    """A tool that counts how many calls of it run at the same time."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.entered = asyncio.Semaphore(0)
        self.opened = asyncio.Event()

    async def meet(self, context: ToolContext, _: NoArguments) -> ToolResult:
        del context
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.entered.release()
        await self.opened.wait()
        self.inside -= 1
        return ToolResult("met")


@pytest.mark.parametrize(
    ("facts", "settings", "one_chat"),
    [
        ({"max_concurrent": 2}, {}, False),
        ({"max_per_chat": 2}, {}, True),
        ({}, {"max_calls_per_chat": 2}, True),
        ({}, {"max_concurrent_calls": 2}, False),
    ],
)
async def test_no_more_calls_run_at_the_same_time_than_may(
    facts: dict[str, Any],
    settings: dict[str, Any],
    one_chat: bool,
    start_tools: StartTools,
    caller: Caller,
) -> None:
    meeting = Meeting()
    await start_tools(plugin("p", tool(meeting.meet, **facts)), **settings)
    chat = new_chat()

    calls = [
        asyncio.create_task(caller.call("meet", chat_id=chat if one_chat else new_chat()))
        for _ in range(5)
    ]
    for _ in range(2):
        await meeting.entered.acquire()
    await caller.catalog()  # asked after the calls, answered while they wait
    meeting.opened.set()
    await asyncio.gather(*calls)

    assert meeting.most == 2


async def test_a_result_ends_the_turn_only_if_the_tool_says_so_and_it_is_no_error(
    start_tools: StartTools, caller: Caller
) -> None:
    await start_tools(
        plugin("p", tool(ECHO.handler, name="last", arguments=Text, ends_turn=True), ECHO)
    )

    results = [
        await caller.call("last", {"text": "x"}),
        await caller.call("last", {"text": 1}),
        await caller.call("echo", {"text": "x"}),
    ]

    assert [result.ends_turn for result in results] == [True, False, False]


RELOADED = """
    import asyncio
    import msgspec
    from steersman_contracts.hooks import Tool, ToolResult, hookimpl

    class NoArguments(msgspec.Struct):
        pass

    opened = asyncio.Event()
    stopped = asyncio.Event()

    async def version(context, args):
        context.progress("{number}")
        if {number} == 1:
            await opened.wait()
        return ToolResult("version {number}")

    @hookimpl
    def tools():
        return [Tool("version", "Which code is this?", NoArguments, version)]

    @hookimpl
    async def stop():
        stopped.set()
"""


async def test_a_reload_takes_the_new_code_and_leaves_running_calls_with_the_old(
    start_tools: StartTools,
    caller: Caller,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # both versions in the same second
    write_plugin(tmp_path, "reloaded-once", RELOADED.format(number=1))
    await start_tools(installed=True)
    began = asyncio.Event()
    old_call = asyncio.create_task(caller.call("version", on_progress=lambda _: began.set()))
    await began.wait()
    old = sys.modules["reloaded_once"]

    write_plugin(tmp_path, "reloaded-once", RELOADED.format(number=2))
    after = {report.name: report for report in (await reload(caller)).plugins}

    assert after["reloaded-once"].tools == ("version",)
    assert text_of(await caller.call("version")) == "version 2"
    assert not old.stopped.is_set()
    old.opened.set()
    assert text_of(await old_call) == "version 1"
    async with asyncio.timeout(60):
        await old.stopped.wait()

    write_plugin(tmp_path, "reloaded-once", "syntax error")
    broken = {report.name: report for report in (await reload(caller)).plugins}
    assert (broken["reloaded-once"].error or "").startswith("SyntaxError: ")
    assert broken["files"].state == "in use"
    sys.modules.pop("reloaded_once", None)


async def test_only_admins_see_and_reload_plugins(start_tools: StartTools, caller: Caller) -> None:
    await start_tools(plugin("p", ECHO))
    member = Actor(ADMIN.user_id)

    with pytest.raises(Forbidden):
        await caller.rpc.call(LIST_PLUGINS, ListPlugins(member))
    with pytest.raises(Forbidden):
        await caller.rpc.call(RELOAD_PLUGINS, ReloadPlugins(member))
