"""How a call runs and ends."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from integration.tools.conftest import StartTools
from integration.tools.host import ECHO, Caller, NoArguments, Text, new_chat, plugin, text_of, tool

from steersman_contracts.errors import InvalidRequest
from steersman_contracts.hooks import ToolContext, ToolResult, room_of
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import FilePart, JsonPart, TextPart
from steersman_contracts.rpc.tools import CALL_TOOL, CallProgress, CallResult, CallTool
from steersman_runtime.rpc import last_reply
from steersman_tools.context import INTERVAL_S


class Rendezvous:
    """A tool that returns once `size` calls are in it, and counts who is in at the same time."""

    def __init__(self, size: int) -> None:
        self.inside = 0
        self.most = 0
        self._barrier = asyncio.Barrier(size)

    async def meet(self, context: ToolContext, args: Text) -> ToolResult:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self._barrier.wait()
        finally:
            self.inside -= 1
        return ToolResult(args.text)


async def test_calls_run_at_the_same_time_and_one_crash_costs_one_result(
    start_tools: StartTools, caller: Caller
) -> None:
    meeting = Rendezvous(5)

    async def crash(_: ToolContext, __: NoArguments) -> ToolResult:
        raise LookupError("lost it")

    await start_tools(plugin("p", tool(meeting.meet, arguments=Text), tool(crash)))

    results = await asyncio.gather(
        *(caller.call("meet", {"text": str(number)}) for number in range(5)), caller.call("crash")
    )

    assert [text_of(result) for result in results] == [
        *"01234",
        "tool failed: LookupError: lost it",
    ]
    assert [result.is_error for result in results] == [False] * 5 + [True]


async def exits(_: ToolContext, __: NoArguments) -> ToolResult:
    sys.exit("the whole service")


async def interrupts(_: ToolContext, __: NoArguments) -> ToolResult:
    raise KeyboardInterrupt


async def cancels_itself(_: ToolContext, __: NoArguments) -> ToolResult:
    raise asyncio.CancelledError


async def says_nothing(_: ToolContext, __: NoArguments) -> Any:
    return None


async def not_json(_: ToolContext, __: NoArguments) -> ToolResult:
    return ToolResult.json(object())


async def endless_json(_: ToolContext, __: NoArguments) -> ToolResult:
    loop: list[Any] = []
    loop.append(loop)
    return ToolResult.json(loop)


async def wrong_parts(_: ToolContext, __: NoArguments) -> ToolResult:
    return ToolResult(content=("text",))  # pyright: ignore[reportArgumentType]  # what a plugin may do


async def no_parts(_: ToolContext, __: NoArguments) -> ToolResult:
    return ToolResult("text", content=None)  # pyright: ignore[reportArgumentType]  # what a plugin may do


def not_async(_: ToolContext, __: NoArguments) -> Any:
    return ToolResult("too early")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even that")


async def unprintable(_: ToolContext, __: NoArguments) -> ToolResult:
    raise Unprintable


@pytest.mark.parametrize(
    ("handler", "text"),
    [
        (exits, "tool failed: SystemExit: the whole service"),
        (interrupts, "tool failed: KeyboardInterrupt"),
        (cancels_itself, "tool failed: CancelledError"),
        (says_nothing, "tool failed: it returned NoneType in place of a ToolResult"),
        (not_json, "tool failed: "),
        (endless_json, "tool failed: "),
        (wrong_parts, "tool failed: "),
        (no_parts, "tool failed: "),
        (not_async, "tool failed: TypeError"),
        (unprintable, "tool failed: Unprintable: (no message)"),
    ],
)
async def test_whatever_a_tool_does_is_an_error_result(
    handler: Callable[..., Any], text: str, start_tools: StartTools, caller: Caller
) -> None:
    await start_tools(plugin("p", tool(handler), ECHO))

    result = await caller.call(handler.__name__)

    assert result.is_error
    assert text_of(result).startswith(text)
    assert text_of(await caller.call("echo", {"text": "alive"})) == "alive"


class Point(msgspec.Struct, frozen=True):
    x: Annotated[int, msgspec.Meta(ge=0, le=9)]


class Shape(msgspec.Struct, frozen=True):
    name: str
    points: list[Point] = []
    fill: Point | None = None
    labels: dict[str, Point] = {}


async def draw(_: ToolContext, args: Shape) -> ToolResult:
    return ToolResult(repr(args))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, ("`name`",)),
        ({"name": 1}, ("Expected `str`", "$.name")),
        ({"name": "a", "points": [{"x": 1}, {"x": "2"}]}, ("`$.points[1].x`",)),
        ({"name": "a", "points": [{"x": 10}]}, ("<= 9", "`$.points[0].x`")),
        ({"name": "a", "colour": 1}, ("unknown field `colour`", "name, points, fill, labels")),
        ({"name": "a", "points": [{"x": 1, "y": 2}]}, ("unknown field `points[0].y`",)),
        ({"name": "a", "fill": {"x": 1, "y": 2}}, ("unknown field `fill.y`",)),
        ({"name": "a", "labels": {"any": {"x": 1, "y": 2}}}, ("unknown field `labels.any.y`",)),
    ],
)
async def test_bad_arguments_are_told_to_the_model(
    arguments: dict[str, Any], says: tuple[str, ...], start_tools: StartTools, caller: Caller
) -> None:
    await start_tools(plugin("p", tool(draw, arguments=Shape)))

    result = await caller.call("draw", arguments)

    assert result.is_error
    text = text_of(result)
    assert text.startswith("invalid arguments: ")
    assert all(part in text for part in says), text


async def test_good_arguments_arrive_typed(start_tools: StartTools, caller: Caller) -> None:
    await start_tools(plugin("p", tool(draw, arguments=Shape)))

    result = await caller.call("draw", {"name": "a", "labels": {"b": {"x": 1}}, "fill": None})

    assert text_of(result) == repr(Shape("a", labels={"b": Point(1)}))


async def test_an_unknown_tool_is_an_error_result_with_the_known_ones(
    start_tools: StartTools, caller: Caller
) -> None:
    await start_tools(plugin("p", ECHO))

    result = await caller.call("ecko")

    assert text_of(result) == "there is no tool 'ecko'; the tools are: echo"
    assert result.is_error


@pytest.mark.parametrize("chat_id", ["", "../../etc", "*", "0190A0A0-0000-7000-8000-000000000001"])
async def test_a_chat_id_that_is_none_is_refused(
    chat_id: str, start_tools: StartTools, caller: Caller
) -> None:
    await start_tools(plugin("p", ECHO))

    with pytest.raises(InvalidRequest) as refused:
        await caller.call("echo", chat_id=ChatId(chat_id))

    assert refused.value.details == {"field": "chat_id"}


async def forever(context: ToolContext, _: NoArguments) -> ToolResult:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        if not context.cancelled:
            raise RuntimeError("cancelled without being told") from None
        raise
    return ToolResult("never")


async def stubborn(_: ToolContext, __: NoArguments) -> ToolResult:
    until = time.monotonic() + 1.0
    while (left := until - time.monotonic()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            continue
    return ToolResult("late")


async def last_words(_: ToolContext, __: NoArguments) -> ToolResult:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return ToolResult("half of the output")
    return ToolResult("never")


@pytest.mark.parametrize(
    ("handler", "grace_s", "content"),
    [
        (forever, 30, []),
        (stubborn, 0.2, []),
        (last_words, 30, [TextPart("half of the output")]),
    ],
)
async def test_a_timeout_says_how_long_the_tool_ran(
    handler: Callable[[ToolContext, Any], Awaitable[ToolResult]],
    grace_s: float,
    content: list[TextPart],
    start_tools: StartTools,
    caller: Caller,
) -> None:
    await start_tools(plugin("p", tool(handler, timeout_s=60)), cancel_grace_s=grace_s)

    result = await caller.call(handler.__name__, timeout_s=0.1)

    said, *rest = result.content
    assert isinstance(said, TextPart)
    assert said.text.startswith(f"timed out: {handler.__name__} ran for ")
    assert said.text.endswith("its limit was 0.1 s")
    assert rest == content
    assert result.is_error
    assert result.duration_ms >= 100


async def test_the_tool_has_a_timeout_of_its_own(start_tools: StartTools, caller: Caller) -> None:
    limits: list[float] = []

    async def look(context: ToolContext, _: NoArguments) -> ToolResult:
        limits.append(context.timeout_s)
        await asyncio.Event().wait()
        return ToolResult()

    await start_tools(plugin("p", tool(look, timeout_s=0.05)))

    assert text_of(await caller.call("look")).endswith("its limit was 0.05 s")
    assert limits == [0.05]


async def test_an_exclusive_call_is_alone_in_its_chat_and_only_there(
    start_tools: StartTools, caller: Caller
) -> None:
    running: dict[str, int] = {}
    most: dict[str, int] = {}

    async def work(context: ToolContext, _: NoArguments) -> ToolResult:
        running[context.chat_id] = running.get(context.chat_id, 0) + 1
        most[context.chat_id] = max(most.get(context.chat_id, 0), running[context.chat_id])
        for _turn in range(5):
            await asyncio.sleep(0)
        running[context.chat_id] -= 1
        return ToolResult()

    both_chats = Rendezvous(2)
    await start_tools(
        plugin(
            "p",
            tool(work, name="alone", exclusive=True),
            tool(both_chats.meet, name="meet_alone", arguments=Text, exclusive=True),
        )
    )
    other = new_chat()

    await asyncio.gather(*(caller.call("alone") for _ in range(5)))
    await asyncio.gather(caller.call("meet_alone"), caller.call("meet_alone", chat_id=other))

    assert most[caller.chat_id] == 1
    assert both_chats.most == 2


async def test_an_exclusive_call_waits_for_the_others_of_its_chat_and_they_for_it(
    start_tools: StartTools, caller: Caller
) -> None:
    events: list[str] = []
    entered = asyncio.Event()
    leave = asyncio.Event()

    async def slow(_: ToolContext, __: NoArguments) -> ToolResult:
        events.append("slow in")
        entered.set()
        await leave.wait()
        events.append("slow out")
        return ToolResult()

    async def alone(_: ToolContext, __: NoArguments) -> ToolResult:
        events.append("alone in")
        await asyncio.sleep(0)
        events.append("alone out")
        return ToolResult()

    async def late(_: ToolContext, __: NoArguments) -> ToolResult:
        events.append("late")
        return ToolResult()

    await start_tools(plugin("p", tool(slow), tool(alone, exclusive=True), tool(late), ECHO))
    async with asyncio.TaskGroup() as group:
        group.create_task(caller.call("slow"))
        await entered.wait()
        group.create_task(caller.call("alone"))
        group.create_task(caller.call("late"))
        # Requests of one connection arrive in order: when this one is done, those have come in.
        await caller.call("echo", chat_id=new_chat())
        leave.set()

    assert events == ["slow in", "slow out", "alone in", "alone out", "late"]


async def test_no_more_calls_run_than_may(start_tools: StartTools, caller: Caller) -> None:
    meeting = Rendezvous(3)
    await start_tools(
        plugin("p", tool(meeting.meet, arguments=Text)), max_concurrent_calls=3, max_waiting_calls=6
    )

    await asyncio.gather(*(caller.call("meet", chat_id=new_chat()) for _ in range(9)))

    assert meeting.most == 3


async def test_a_huge_result_is_cut_and_says_by_how_much(
    start_tools: StartTools, caller: Caller
) -> None:
    async def shout(_: ToolContext, __: NoArguments) -> ToolResult:
        return ToolResult(
            "ä" * 5_000_000, content=(JsonPart(list(range(10_000))), TextPart("what comes last"))
        )

    await start_tools(plugin("p", tool(shout)))

    result = await caller.call("shout")

    text = text_of(result)
    assert 64 << 10 < len(text.encode()) <= 68 << 10
    assert not result.is_error
    cut = int(text.split("[… ")[1].split(" bytes")[0])
    assert text.count("ä") * 2 + cut == 10_000_000
    assert text.endswith("[… 2 more parts left out …]")


async def test_a_result_is_as_large_as_its_model_can_take(
    start_tools: StartTools, caller: Caller
) -> None:
    told: list[int] = []

    async def shout(context: ToolContext, _: NoArguments) -> ToolResult:
        told.append(room_of(context, 0))
        return ToolResult("x" * 1_000_000)

    await start_tools(plugin("p", tool(shout, read_only=True)))
    kept: list[int] = []
    for room in (16_384, None, 200_000, 10_000_000):
        request = CallTool(caller.chat_id, f"call-{room}", "shout", {}, result_bytes=room)
        stream = caller.rpc.stream(CALL_TOOL, request, CallProgress)
        kept.append(len(text_of(await last_reply(stream, CallResult, lambda _: None))))

    assert told == [16_384, 68 << 10, 200_000, 256 << 10]
    assert all(room - 128 < length <= room for room, length in zip(told, kept, strict=True))


async def test_files_pass_up_to_a_limit(start_tools: StartTools, caller: Caller) -> None:
    async def show(_: ToolContext, __: NoArguments) -> ToolResult:
        small = FilePart("image/png", "small.png", data=b"\x89PNG" * 1000)
        large = FilePart("image/png", "large.png", data=bytes(3 << 20))
        return ToolResult(content=(small, large))

    await start_tools(plugin("p", tool(show)))

    small, large = (await caller.call("show")).content

    assert small == FilePart("image/png", "small.png", data=b"\x89PNG" * 1000)
    assert large == TextPart("[large.png: image/png, 3145728 bytes, too large to show]")


async def test_what_utf8_cannot_say_becomes_a_question_mark(
    start_tools: StartTools, caller: Caller
) -> None:
    async def name(context: ToolContext, _: NoArguments) -> ToolResult:
        context.progress("caf\udce9")
        return ToolResult("caf\udce9")

    await start_tools(plugin("p", tool(name)))
    seen: list[CallProgress] = []

    assert text_of(await caller.call("name", on_progress=seen.append)) == "caf?"
    assert seen == [CallProgress(1, "caf?")]


async def test_progress_is_passed_on_but_not_faster_than_people_read(
    start_tools: StartTools, caller: Caller
) -> None:
    took_s = 0.0

    async def count(context: ToolContext, _: NoArguments) -> ToolResult:
        nonlocal took_s
        began = time.monotonic()
        number = late = 0
        while late < 10:  # also where nothing else got a turn for that long
            number += 1
            context.progress(str(number))
            await asyncio.sleep(0)
            late += time.monotonic() > began + 0.35
        took_s = time.monotonic() - began
        return ToolResult(str(number))

    await start_tools(plugin("p", tool(count)))
    seen: list[CallProgress] = []

    result = await caller.call("count", on_progress=seen.append)

    assert seen[0] == CallProgress(1, "1")
    assert [progress.seq for progress in seen] == list(range(1, len(seen) + 1))
    assert 2 <= len(seen) <= 2 + took_s / INTERVAL_S
    assert int(text_of(result)) > len(seen)


async def test_progress_may_come_from_a_thread(start_tools: StartTools, caller: Caller) -> None:
    async def work(context: ToolContext, _: NoArguments) -> ToolResult:
        await asyncio.to_thread(context.progress, "from a thread")
        await asyncio.sleep(0)
        return ToolResult("done")

    await start_tools(plugin("p", tool(work)))
    seen: list[CallProgress] = []

    await caller.call("work", on_progress=seen.append)

    assert seen == [CallProgress(1, "from a thread")]


async def test_a_tool_gets_the_workspace_of_its_chat(
    start_tools: StartTools, caller: Caller, tmp_path: Path
) -> None:
    async def leave_note(context: ToolContext, args: Text) -> ToolResult:
        note = context.workspace / "note"
        before = note.read_text() if note.exists() else "nothing"
        note.write_text(args.text)
        return ToolResult(before)

    await start_tools(plugin("p", tool(leave_note, arguments=Text)))
    other = new_chat()

    assert text_of(await caller.call("leave_note", {"text": "mine"})) == "nothing"
    assert text_of(await caller.call("leave_note", {"text": "theirs"}, chat_id=other)) == "nothing"
    assert text_of(await caller.call("leave_note")) == "mine"

    (folder,) = (tmp_path / "workspaces").glob(caller.chat_id)
    assert folder.stat().st_mode & 0o777 == 0o700
