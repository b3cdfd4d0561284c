"""What a model is told, from wherever people have written it; and how skills are read."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from fakes import FakeProviders, Script, Text, ToolCall, Turn
from support.chat_driver import StoreDriver, words_of
from support.chatloop import ModelSetup, ToolHost, said

from steersman_contracts.errors import NotFound
from steersman_contracts.parts import TextPart, ToolResultPart
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc import prompts as rpc
from steersman_contracts.rpc.context import (
    READ_CONTEXT,
    READ_SKILL,
    InstructionFile,
    ReadContext,
    ReadSkill,
    SkillText,
    WorkspaceContext,
)
from steersman_contracts.rpc.tools import CallResult, CallTool
from steersman_contracts.terms import SkillSummary
from steersman_runtime.nats_client import NatsClient
from steersman_runtime.rpc import RpcServer


@pytest_asyncio.fixture(loop_scope="module")
async def workspace(client: NatsClient, tool_host: ToolHost) -> AsyncGenerator[None]:
    """A tool that acts on a workspace with an instruction file and a skill."""

    async def look(_: CallTool) -> CallResult:
        return said("seen")

    async def context(_: ReadContext) -> WorkspaceContext:
        file = InstructionFile("AGENTS.md", "Use tabs.<!-- not seen -->", 9)
        return WorkspaceContext(True, (file,), (SkillSummary("charts", "For charts."),))

    async def skill(request: ReadSkill) -> SkillText:
        return SkillText(f"{request.name} in {request.path}", files=("a.csv",))

    tool_host.tools["look"] = look
    tool_host.facts["look"] = {"needs_workspace": True}
    server = RpcServer(client, "tools", version="0.0.1")
    server.add(READ_CONTEXT, context)
    server.add(READ_SKILL, skill)
    await server.start()
    yield
    await server.drain(0.1)


@pytest.mark.usefixtures("chatloops", "workspace")
async def test_every_step_and_turn_begins_with_the_same_prompt(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup
) -> None:
    admin = Actor(store.actor.user_id, "admin")
    await store.rpc.call(rpc.PUT_PROMPT, rpc.PutPrompt(admin, "system", "We run a harbour."))
    await store.rpc.call(rpc.PUT_PROMPT, rpc.PutPrompt(store.actor, "user", "Be brief."))
    await store.rpc.call(
        rpc.PUT_SKILL, rpc.PutSkill(admin, "tides", "For tides.", "Look.", {"b.csv": "1,2"})
    )
    fakes.script(
        "m",
        Script(
            [
                Turn(
                    [
                        ToolCall("read_skill", {"name": "tides"}, id="1"),
                        ToolCall("read_skill_file", {"name": "tides", "path": "b.csv"}, id="2"),
                        ToolCall("read_skill", {"name": "charts"}, id="3"),
                        ToolCall("read_skill", {"name": "../x"}, id="4"),
                    ]
                ),
                Turn([Text("one")]),
                Turn([Text("two")]),
            ]
        ),
    )
    chat = await store.create("go", model=await models.add("anthropic", "m"), system_prompt="Log.")
    await store.at_rest(chat.id)
    await store.send(chat.id, "more")
    await store.at_rest(chat.id)

    views = [(await fakes.next_request("m")).view for _ in range(3)]
    assert len({view.system for view in views}) == 1
    assert all(view.tools == views[0].tools for view in views)
    wanted = ["We run a harbour.", "Log.", "Be brief.", "Use tabs.\n</instr", "`charts`", "`tides`"]
    places = [views[0].system.index(words) for words in wanted]
    assert places == sorted(places)
    assert "not seen" not in views[0].system
    messages = await store.messages(chat.id)
    texts = [
        p.content[0].text
        for m in messages
        for p in m.parts
        if isinstance(p, ToolResultPart) and isinstance(p.content[0], TextPart)
    ]
    assert texts[:2] == ["Look.\n\nFiles of this skill, for `read_skill_file`:\n- b.csv", "1,2"]
    assert texts[2].startswith("charts in SKILL.md")
    assert texts[3].startswith("the arguments do not fit")
    assert words_of(messages[-1]) == "two"

    shown = await store.rpc.call(rpc.PREVIEW_PROMPT, rpc.PreviewPrompt(store.actor, chat.id))
    assert shown.text == views[0].system
    assert sorted(shown.tools) == sorted(tool.name for tool in views[0].tools)
    stranger = Actor(chat.id, "admin")  # pyright: ignore[reportArgumentType]  # anybody else
    with pytest.raises(NotFound):
        await store.rpc.call(rpc.PREVIEW_PROMPT, rpc.PreviewPrompt(stranger, chat.id))


@pytest.mark.usefixtures("chatloops", "tool_host")
async def test_without_tools_and_skills_only_the_chat_speaks(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup
) -> None:
    fakes.script("m", Script([Turn([Text("one")])]))
    chat = await store.create("go", model=await models.add("chat", "m"), system_prompt="Log.")
    await store.at_rest(chat.id)

    view = (await fakes.next_request("m")).view
    assert view.system == "Log."
    assert not [tool for tool in view.tools if "skill" in tool.name]
