"""The tools that a model is offered: the same for a whole turn, whatever comes and goes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from fakes import FakeProviders, Script, Text, ToolCall, Turn
from support.chat_driver import StoreDriver
from support.chatloop import ModelSetup, ToolHost, said

from steersman_contracts.parts import TextPart, ToolResultPart
from steersman_contracts.rpc.tools import CallResult, CallTool


@pytest.mark.usefixtures("chatloops")
async def test_tools_that_come_and_go_in_the_middle_of_a_turn_do_so_for_the_next_one(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, tool_host: ToolHost
) -> None:
    async def stay(_: CallTool) -> CallResult:
        del tool_host.tools["go"]
        tool_host.tools["come"] = stay
        tool_host.facts["stay"] = {"read_only": True, "timeout_s": 7.0}
        return said("done")

    tool_host.tools |= {"stay": stay, "go": stay}
    steps = [
        Turn([ToolCall("stay", {}, id="1")]),
        # There is none: the catalog is read anew before that is said.
        Turn([ToolCall("nowhere", {}, id="2")]),
        Turn([Text("one")]),
        Turn([Text("two")]),
    ]
    fakes.script("m", Script(steps))

    chat = await store.create("first", model=await models.add("anthropic", "m"))
    await store.at_rest(chat.id)
    await store.send(chat.id, "second")
    await store.at_rest(chat.id)

    *turn, last = [
        msgspec.convert(request.body["tools"], list[dict[str, Any]]) for request in fakes.requests
    ]
    assert len(turn) == 3
    assert turn[0] == turn[1] == turn[2], "what a provider keeps of a prompt begins with the tools"
    ours = {"come", "go", "stay"}
    assert [tool["name"] for tool in turn[0] if tool["name"] in ours] == ["go", "stay"]
    assert [tool["name"] for tool in last if tool["name"] in ours] == ["come", "stay"]
    (result,) = (
        part
        for message in await store.messages(chat.id)
        for part in message.parts
        if isinstance(part, ToolResultPart) and part.tool == "nowhere"
    )
    assert result.content == (TextPart("there is no tool 'nowhere'; there are: come, stay"),)
