"""A call belongs to the service: asked for again it is not run again, left alone it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from integration.tools.conftest import StartTools
from integration.tools.host import ECHO, Caller, NoArguments, Text, new_chat, plugin, text_of, tool

from steersman_contracts.errors import Conflict, DeadlineExceeded, TooManyRequests
from steersman_contracts.hooks import ToolContext, ToolResult
from steersman_contracts.rpc.tools import CALL_TOOL, CallProgress, CallResult, CallTool
from steersman_runtime.nats_client import NatsClient, close

CANCELLED = "cancelled: the call was stopped; what it did until then stays"


class Gate:
    """A tool that runs until the test opens it, and reports that it has begun."""

    def __init__(self) -> None:
        self.runs = 0
        self.entered = asyncio.Event()
        self.opened = asyncio.Event()
        self.ended = asyncio.Event()

    async def wait(self, context: ToolContext, args: Text) -> ToolResult:
        self.runs += 1
        context.progress(f"run {self.runs}")
        self.entered.set()
        try:
            await self.opened.wait()
        finally:
            self.ended.set()
        return ToolResult(f"{args.text} after run {self.runs}")


@pytest.fixture
def gate() -> Gate:
    return Gate()


async def test_a_repeated_request_attaches_to_the_running_call_and_its_progress(
    start_tools: StartTools, caller: Caller, gate: Gate
) -> None:
    await start_tools(plugin("p", tool(gate.wait, arguments=Text)))
    seen: list[CallProgress] = []
    attached = asyncio.Event()

    def on_progress(progress: CallProgress) -> None:
        seen.append(progress)
        attached.set()

    async with asyncio.TaskGroup() as group:
        first = group.create_task(caller.call("wait", {"text": "x"}, call_id="same"))
        await gate.entered.wait()
        second = group.create_task(
            caller.call("wait", {"text": "x"}, call_id="same", on_progress=on_progress)
        )
        await attached.wait()
        gate.opened.set()

    assert first.result() == second.result()
    assert text_of(first.result()) == "x after run 1"
    assert seen == [CallProgress(1, "run 1")]


async def test_twenty_requests_at_once_are_one_call(
    start_tools: StartTools, caller: Caller, gate: Gate
) -> None:
    await start_tools(plugin("p", tool(gate.wait, arguments=Text)))
    gate.opened.set()

    results = await asyncio.gather(*(caller.call("wait", call_id="same") for _ in range(20)))

    assert gate.runs == 1
    assert len({text_of(result) for result in results}) == 1


async def test_a_finished_call_is_answered_from_the_ledger(
    start_tools: StartTools, caller: Caller, gate: Gate
) -> None:
    await start_tools(plugin("p", tool(gate.wait, arguments=Text)))
    gate.opened.set()

    first = await caller.call("wait", {"text": "x"}, call_id="same")
    again = await caller.call("wait", {"text": "x"}, call_id="same")
    elsewhere = await caller.call("wait", {"text": "x"}, call_id="same", chat_id=new_chat())

    assert again == first
    assert text_of(elsewhere) == "x after run 2"


@pytest.mark.parametrize("running", [True, False])
async def test_one_key_with_other_arguments_is_a_conflict(
    running: bool, start_tools: StartTools, caller: Caller, gate: Gate
) -> None:
    await start_tools(plugin("p", tool(gate.wait, arguments=Text), ECHO))
    first = asyncio.create_task(caller.call("wait", {"text": "x"}, call_id="same"))
    await gate.entered.wait()
    if not running:
        gate.opened.set()
        await first

    for name, arguments in (("wait", {"text": "y"}), ("echo", {"text": "x"})):
        with pytest.raises(Conflict) as refused:
            await caller.call(name, arguments, call_id="same")
        assert refused.value.details == {"call_id": "same"}

    gate.opened.set()
    assert text_of(await first) == "x after run 1"
    assert gate.runs == 1


async def test_a_call_goes_on_when_whoever_asked_has_gone(
    start_tools: StartTools,
    caller: Caller,
    gate: Gate,
    new_client: Callable[[], Awaitable[NatsClient]],
) -> None:
    await start_tools(plugin("p", tool(gate.wait, arguments=Text)))
    gone = await new_client()
    asking = asyncio.create_task(
        Caller(gone, caller.chat_id).call("wait", {"text": "x"}, call_id="same")
    )
    await gate.entered.wait()

    asking.cancel()
    await close(gone)
    gate.opened.set()

    assert text_of(await caller.call("wait", {"text": "x"}, call_id="same")) == "x after run 1"


async def test_a_request_whose_deadline_passes_does_not_end_the_call(
    start_tools: StartTools, caller: Caller, gate: Gate
) -> None:
    await start_tools(plugin("p", tool(gate.wait, arguments=Text)))
    request = CallTool(caller.chat_id, "same", "wait", {"text": "x"})

    with pytest.raises(DeadlineExceeded):
        async for _ in caller.rpc.stream(CALL_TOOL, request, CallProgress, deadline_s=0.1):
            pass
    gate.opened.set()

    assert text_of(await caller.call("wait", {"text": "x"}, call_id="same")) == "x after run 1"


async def test_cancel_stops_the_call_and_answers_who_waits(
    start_tools: StartTools, caller: Caller, gate: Gate
) -> None:
    await start_tools(plugin("p", tool(gate.wait, arguments=Text)))
    calls = [asyncio.create_task(caller.call("wait", call_id="same")) for _ in range(2)]
    await gate.entered.wait()

    await caller.cancel("same")

    results = await asyncio.gather(*calls)
    assert {(text_of(result), result.is_error) for result in results} == {(CANCELLED, True)}
    assert gate.ended.is_set()
    assert text_of(await caller.call("wait", call_id="same")) == CANCELLED
    assert gate.runs == 1


async def test_cancel_reaches_the_replica_that_runs_the_call(
    start_tools: StartTools, caller: Caller, gate: Gate
) -> None:
    source = plugin("p", tool(gate.wait, arguments=Text))
    for _ in range(3):
        await start_tools(source)
    # By chance each replica gets some of these; a cancel goes to any of the three.
    calls: list[asyncio.Task[CallResult]] = []
    for number in range(9):
        gate.entered.clear()
        calls.append(asyncio.create_task(caller.call("wait", call_id=f"call {number}")))
        await gate.entered.wait()

    for number in range(9):
        await caller.cancel(f"call {number}")

    assert {text_of(result) for result in await asyncio.gather(*calls)} == {CANCELLED}


async def test_a_call_that_waits_for_its_turn_can_be_cancelled(
    start_tools: StartTools, caller: Caller, gate: Gate
) -> None:
    await start_tools(
        plugin("p", tool(gate.wait, arguments=Text, exclusive=True)), max_concurrent_calls=1
    )
    first = asyncio.create_task(caller.call("wait", {"text": "x"}))
    await gate.entered.wait()
    waiting = [
        asyncio.create_task(caller.call("wait", call_id="same chat")),
        asyncio.create_task(caller.call("wait", call_id="no slot", chat_id=new_chat())),
    ]
    await caller.catalog()  # whoever asks over the same connection comes after these

    await caller.cancel("same chat")

    assert text_of(await waiting[0]) == CANCELLED
    gate.opened.set()
    assert text_of(await first) == "x after run 1"
    await waiting[1]
    assert gate.runs == 2


async def test_a_cancel_that_overtakes_its_call_wins(
    start_tools: StartTools, caller: Caller, gate: Gate
) -> None:
    await start_tools(plugin("p", tool(gate.wait, arguments=Text)))

    await caller.cancel("not yet")
    # The broadcast comes back over the service's own connection, before this later request.
    await caller.catalog()

    assert text_of(await caller.call("wait", call_id="not yet")) == CANCELLED
    assert gate.runs == 0


async def test_over_the_limit_of_waiting_calls_one_is_refused_for_now(
    start_tools: StartTools, caller: Caller, gate: Gate
) -> None:
    await start_tools(
        plugin("p", tool(gate.wait, arguments=Text)), max_concurrent_calls=1, max_waiting_calls=1
    )
    taken = [asyncio.create_task(caller.call("wait", {"text": "x"})) for _ in range(2)]
    await gate.entered.wait()
    await caller.catalog()

    with pytest.raises(TooManyRequests):
        await caller.call("wait")

    gate.opened.set()
    assert [result.is_error for result in await asyncio.gather(*taken)] == [False, False]


async def test_shutdown_lets_calls_finish(
    start_tools: StartTools, caller: Caller, gate: Gate
) -> None:
    service = await start_tools(plugin("p", tool(gate.wait, arguments=Text)))
    call = asyncio.create_task(caller.call("wait", {"text": "x"}))
    await gate.entered.wait()

    stopping = asyncio.create_task(service.stop())
    await service.runtime.stopping.wait()
    gate.opened.set()

    assert text_of(await call) == "x after run 1"
    await stopping


async def test_shutdown_answers_every_call_that_does_not_finish(
    start_tools: StartTools, caller: Caller, gate: Gate
) -> None:
    async def stubborn(_: ToolContext, __: NoArguments) -> ToolResult:
        while not gate.opened.is_set():
            try:
                await gate.opened.wait()
            except asyncio.CancelledError:
                continue
        return ToolResult()

    service = await start_tools(
        plugin("p", tool(gate.wait, arguments=Text), tool(stubborn)),
        shutdown_timeout_s=0.6,
        cancel_grace_s=0.1,
        max_concurrent_calls=2,
    )
    calls = [
        asyncio.create_task(caller.call("stubborn")),
        asyncio.create_task(caller.call("wait")),
        asyncio.create_task(caller.call("wait", chat_id=new_chat())),
    ]
    await gate.entered.wait()
    await caller.catalog()

    await service.stop()

    results = await asyncio.gather(*calls)
    assert {(text_of(result), result.is_error) for result in results} == {
        ("interrupted: the tools service stopped, effect unknown", True)
    }
    gate.opened.set()
