"""Several calls of the computer tool in one step: in order, and none after one that failed."""

from __future__ import annotations

import pytest
from fakes import FakeProviders, Script, Text, ToolCall, Turn
from support.chat_driver import StoreDriver
from support.chatloop import ModelSetup, ToolHost, said

from steersman_contracts.parts import TextPart, ToolResultPart
from steersman_contracts.rpc.tools import CallResult, CallTool

pytestmark = pytest.mark.usefixtures("chatloops")


async def test_after_one_that_failed_those_on_the_screen_are_not_done_and_others_are(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, tool_host: ToolHost
) -> None:
    async def computer(request: CallTool) -> CallResult:
        if request.arguments["action"] == "key":
            return CallResult((TextPart("there is no key 'x1'"),), is_error=True)
        return said("Done.")

    async def clock(_: CallTool) -> CallResult:
        return said("noon")

    tool_host.tools |= {"computer": computer, "clock": clock}
    tool_host.facts["computer"] = {"exclusive": True}
    acts = ("left_click", "key", "type", "screenshot")
    calls = [ToolCall("computer", dict[str, object](action=act)) for act in acts]
    fakes.script("m", Script([Turn([*calls, ToolCall("clock")]), Turn([Text("I see.")])]))
    chat = await store.create("go", model=await models.add("chat", "m"))
    await store.at_rest(chat.id)

    messages = await store.messages(chat.id)
    found = [p for m in messages for p in m.parts if isinstance(p, ToolResultPart)]
    not_done = "Not executed: an earlier computer action in this turn failed."
    assert [(p.content, p.is_error) for p in found] == [
        ((TextPart("Done."),), False),
        ((TextPart("there is no key 'x1'"),), True),
        ((TextPart(not_done),), True),
        ((TextPart(not_done),), True),
        ((TextPart("noon"),), False),
    ]
    called = [tool_host.called.get_nowait() for _ in range(tool_host.called.qsize())]
    done = [call.arguments["action"] for call in called if call.tool == "computer"]
    assert done == ["left_click", "key"]
