"""What authors get wrong, and what the kit tells them before a deployment does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import msgspec
import pytest

from steersman_contracts.hooks import (
    Changed,
    Denied,
    DynamicTools,
    PendingCall,
    Secret,
    Tool,
    ToolContext,
    ToolResult,
    hookimpl,
)
from steersman_contracts.ids import UserId
from steersman_contracts.plugin import BadPlugin
from steersman_contracts.rpc import Actor
from steersman_contracts.testing import check_plugin, running_plugin

DESCRIPTION = "Says the number again; use it to hear it."


class Number(msgspec.Struct, frozen=True):
    number: Annotated[int, msgspec.Meta(description="What is said.")] = 1


class Bare(msgspec.Struct, frozen=True):
    number: int


class Needs(msgspec.Struct, frozen=True):
    limit: int
    key: Secret


async def say(context: ToolContext, args: Number) -> ToolResult:
    del context
    return ToolResult(str(args.number))


def tool(
    handler: Callable[..., Any] = say,
    name: str = "say",
    description: str = DESCRIPTION,
    arguments: type[msgspec.Struct] = Number,
) -> Tool[Any]:
    return Tool(name, description, arguments, handler)


def plugin(*tools: Tool[Any], **answers: Any) -> SimpleNamespace:
    """With these tools, and hooks that give these answers."""
    hooks = {"tools": list(tools)} | answers

    def gives(name: str, answer: Any) -> Any:
        def hook() -> Any:
            return answer

        return hookimpl(specname=name)(hook)

    return SimpleNamespace(**{name: gives(name, answer) for name, answer in hooks.items()})


def plain(context: ToolContext, args: Number) -> ToolResult:
    del context, args
    return ToolResult("said")


async def text(context: ToolContext, args: Number) -> str:
    del context, args
    return "said"


async def lonely(context: ToolContext) -> ToolResult:
    del context
    return ToolResult("said")


async def later() -> list[Tool[Any]]:
    return []


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: plugin(tools=None), "tools() gave NoneType in place of a list of tools"),
        (lambda: plugin(tools=tool()), "tools() gave Tool in place of a list of tools"),
        (
            lambda: plugin(tools=later()),
            "tools() gave a coroutine (this hook must not be async) in place of a list of tools",
        ),
        (
            lambda: plugin(prompt=later()),
            "prompt() gave a coroutine (this hook must not be async) in place of text",
        ),
        (
            lambda: plugin(dynamic_tools=[tool()]),
            "dynamic_tools() gave list in place of DynamicTools",
        ),
        (
            lambda: plugin(tool(name="two words")),
            "tool 'two words': the name has to be 1 to 64 of a-z, A-Z, 0-9, _ and -",
        ),
        (
            lambda: plugin(tool(lonely)),
            "tool 'say': the handler has to take two arguments, context, args",
        ),
    ],
)
async def test_what_a_deployment_would_skip_is_told_with_what_to_do(
    wrong: Callable[[], object], told: str
) -> None:
    with pytest.raises(BadPlugin) as found:
        await check_plugin(wrong())

    assert str(found.value) == told


async def test_what_a_model_would_not_understand_is_told_all_at_once() -> None:
    loud = tool(name="shout", description="Shouts.")
    with pytest.raises(AssertionError) as found:
        await check_plugin(plugin(tool(arguments=Bare), dynamic_tools=DynamicTools((loud,))))

    assert str(found.value).split("; ") == [
        "say: the argument 'number' has no description: "
        'Annotated[…, msgspec.Meta(description="…")]',
        "shout: its description has to say what it does, when to use it and what comes back",
    ]


async def test_settings_that_are_missing_are_told_with_where_a_test_gives_them(
    tmp_path: Path,
) -> None:
    needy = plugin(tool(), settings=Needs)

    with pytest.raises(BadPlugin, match=r"'limit' is missing.*'key' is missing") as found:
        await check_plugin(needy)

    assert found.value.__notes__ == ["in a test, they are given as settings={…} and secrets={…}"]
    async with running_plugin(
        needy, tmp_path, settings={"limit": 1}, secrets={"key": "k"}
    ) as running:
        assert running.settings == Needs(1, Secret("k"))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: plugin(tool(plain)), "the handler of 'say' is not async: write `async def`"),
        (lambda: plugin(tool(text)), "the tool 'say' gave str in place of a ToolResult"),
        (
            lambda: plugin(tool(), before_call=False),
            "before_call() gave bool in place of None, Denied or Changed",
        ),
        (
            lambda: plugin(tool(), after_call="other"),
            "after_call() gave str in place of a ToolResult",
        ),
    ],
)
async def test_what_goes_wrong_in_a_call_says_whose_answer_it_was(
    wrong: Callable[[], object], told: str, tmp_path: Path
) -> None:
    async with running_plugin(wrong(), tmp_path) as running:
        with pytest.raises(TypeError) as found:
            await running.call("say")

    assert str(found.value) == told


@pytest.mark.parametrize("stubborn", [False, True])
async def test_a_tool_that_takes_too_long_is_stopped_as_a_deployment_would(
    stubborn: bool, tmp_path: Path
) -> None:
    ended: list[str] = []

    async def wait(context: ToolContext, args: Number) -> ToolResult:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append(context.chat_id)
            if stubborn:
                return ToolResult("what there was")
            raise
        return ToolResult("never")

    slow = Tool("wait", "Waits for ever; never use it.", Number, wait, timeout_s=0.01)
    async with running_plugin(plugin(slow), tmp_path) as running:
        context = running.context()
        with pytest.raises(TimeoutError) as late:
            await running.call("wait", {"number": 1}, context)

    assert "'wait' ran longer than its timeout_s of 0.01 s" in str(late.value)
    assert ended == [context.chat_id]


class Whole:
    """A plugin with the hooks that only deployments with chats and people call."""

    def __init__(self) -> None:
        self.stopped: list[Path] = []

    @hookimpl
    async def chat_tools(self, chat_id: str) -> DynamicTools:
        return DynamicTools((tool(),)) if chat_id == "theirs" else DynamicTools()

    @hookimpl
    async def answer(self, actor: Actor, question: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"who": actor.user_id, "asked": question, **body}

    @hookimpl
    def workspace_stopped(self, workspace: Path) -> None:
        self.stopped.append(workspace)

    @hookimpl
    def before_call(self, call: PendingCall) -> Changed | Denied | None:
        match call.arguments.get("number"):
            case 2:
                return Denied("no twos")
            case 3:
                return Changed({"number": 33})
            case _:
                return None


async def test_every_hook_can_be_tried_alone(tmp_path: Path) -> None:
    whole = Whole()
    async with running_plugin(whole, tmp_path) as running:
        theirs = running.context()
        theirs.chat_id = "theirs"

        said = [(await running.call("say", {"number": n}, theirs)).text for n in (1, 2, 3)]
        with pytest.raises(LookupError, match="no tool 'say'; the plugin offers"):
            await running.call("say")
        answer = await running.answer(Actor(UserId("ada")), "when", {"now": True})
        await running.workspace_stopped(tmp_path)

        assert [one.name for one in (await running.chat_tools("theirs")).tools] == ["say"]
        assert await running.chat_tools("mine") == DynamicTools()
    assert said == ["1", "denied: no twos", "33"]
    assert answer == {"who": "ada", "asked": "when", "now": True}
    assert whole.stopped == [tmp_path]
