"""A host that dies in the first moment of a call: the chat goes on, and nothing runs twice."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from fakes import FakeProviders, Script, Text, ToolCall, Turn
from integration.toolhosts.test_replicas import are_up
from support.chat_driver import StoreDriver, words_of
from support.chatloop import ModelSetup
from support.services import running_chatloop
from support.toolhosts import Replica, words, write_plugin

from steersman.embedded.nats import NatsServer
from steersman_contracts.parts import ToolResultPart
from steersman_runtime.nats_client import NatsClient

pytestmark = [pytest.mark.own_stack, pytest.mark.timeout(180)]

# Nobody outside is quicker than this: the process ends before its call has said anything.
DEADLY = """
    import os, pathlib, signal
    import msgspec
    from steersman_contracts.hooks import Tool, ToolResult, hookimpl

    class Where(msgspec.Struct, frozen=True):
        book: str
        before: bool

    def die(book):
        with pathlib.Path(book).open("a") as lines:
            lines.write(f"{os.getpid()}\\n")
        os.kill(os.getpid(), signal.SIGKILL)

    async def work(context, args):
        die(args.book)

    @hookimpl
    def before_call(call):
        if call.arguments.get("before"):
            die(call.arguments["book"])

    @hookimpl
    def tools():
        return [Tool("once", "Must not run twice.", Where, work)]
"""


@pytest.mark.parametrize(
    ("before", "survivor"),
    [
        pytest.param(True, True, id="in the guard"),
        pytest.param(False, True, id="in the tool"),
        pytest.param(False, False, id="and no host is left"),
    ],
)
async def test_a_host_that_is_killed_as_its_call_begins_costs_one_result_and_no_second_run(
    nats: NatsServer,
    client: NatsClient,
    store: StoreDriver,
    tmp_path: Path,
    before: bool,
    survivor: bool,
) -> None:
    plugins = write_plugin(tmp_path, "deadly", DEADLY)
    book = tmp_path / "book"
    async with AsyncExitStack() as stack:

        def start() -> Replica:
            replica = Replica(nats.url(), tmp_path / "workspaces", plugins)
            stack.push_async_callback(replica.end)
            return replica

        replicas = [start() for _ in range(1 + survivor)]
        await are_up(client)
        fakes = await stack.enter_async_context(FakeProviders())
        await stack.enter_async_context(running_chatloop(nats.url()))
        call = ToolCall("once", {"book": str(book), "before": before})
        fakes.script("m", Script([Turn([call]), Turn([Text("I saw")])]))
        model = await ModelSetup(store, fakes).add("chat", "m")

        chat = await store.create("go", model=model)
        async with asyncio.timeout(120):
            rested = await store.at_rest(chat.id)
        messages = await store.messages(chat.id)
        died = [replica.pid for replica in replicas if replica.ended]

    assert rested.last_outcome == "completed"
    (result,) = [p for m in messages for p in m.parts if isinstance(p, ToolResultPart)]
    assert (words(result), result.is_error) == (
        "interrupted: the call was cut off before its result was kept, effect unknown",
        True,
    )
    assert words_of(messages[-1]) == "I saw"
    assert book.read_text() == "".join(f"{pid}\n" for pid in died), "it began once"
    assert len(died) == 1
