"""Several replicas, one book: whoever is asked, a call runs once, also when hosts die."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import msgspec
import pytest
from integration.toolhosts.conftest import StartTools
from integration.tools.host import Text, new_chat, plugin, tool, tools_service
from support.services import running_stores
from support.toolhosts import Replica, words, write_plugin
from support.waiting import until

from steersman.embedded.nats import NatsServer
from steersman_chatloop.toolbox import Toolbox
from steersman_contracts.hooks import ToolContext, ToolResult
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import ToolCallPart, ToolResultPart
from steersman_contracts.rpc.tools import LIST_TOOLS, ListTools
from steersman_runtime.nats_client import NatsClient
from steersman_runtime.rpc import RpcClient

pytestmark = pytest.mark.one_stack

NewToolbox = Callable[[], Awaitable[Toolbox]]


class Counting:
    """A tool that counts how often each of its texts was run, and waits until it may end."""

    def __init__(self, *, opened: bool = True) -> None:
        self.runs: Counter[str] = Counter()
        self.began = asyncio.Event()
        self.opened = asyncio.Event()
        if opened:
            self.opened.set()

    async def count(self, context: ToolContext, args: Text) -> ToolResult:
        del context
        self.runs[args.text] += 1
        self.began.set()
        await self.opened.wait()
        return ToolResult(f"{args.text} {self.runs[args.text]}")


async def run(toolbox: Toolbox, chat_id: ChatId, *calls: ToolCallPart, epoch: int = 1) -> list[str]:
    """What a chatloop does with the calls of a step; the texts in call order."""
    finished: dict[str, ToolResultPart] = {}
    await toolbox.run(
        chat_id, calls, epoch=epoch, finished=finished, on_progress=lambda _, __: None
    )
    return [words(finished[call.call_id]) for call in calls]


async def are_up(client: NatsClient) -> None:
    """Wait for a process that starts."""
    patient = RpcClient(client, wait_for_service_s=60)
    await patient.call(LIST_TOOLS, ListTools(), deadline_s=60)


async def are_done(connection: asyncpg.Connection[asyncpg.Record], *call_ids: str) -> None:
    """Wait until the book has the ends of these calls: they were answered before."""

    async def check() -> bool:
        done = "SELECT call_id FROM tool_calls WHERE state = 'done'"
        return {row["call_id"] for row in await connection.fetch(done)} == {*call_ids}

    await until(check)


async def test_each_call_runs_once_however_often_and_wherever_it_is_asked_for(
    start_tools: StartTools, new_toolbox: NewToolbox
) -> None:
    counting = Counting()
    source = plugin("p", tool(counting.count, arguments=Text))
    await start_tools(source)
    await start_tools(source)
    toolboxes = [await new_toolbox() for _ in range(3)]
    chat = new_chat()
    calls = [ToolCallPart(f"c{n}", "count", {"text": f"t{n}"}) for n in range(10)]

    async with asyncio.timeout(60):
        at_once = await asyncio.gather(*(run(box, chat, *calls) for box in toolboxes))
        later = [await run(box, chat, *calls) for box in toolboxes]

    assert at_once + later == [[f"t{n} 1" for n in range(10)]] * 6
    assert set(counting.runs.values()) == {1}


async def test_another_epoch_of_the_same_id_is_another_call(
    start_tools: StartTools, new_toolbox: NewToolbox
) -> None:
    counting = Counting()
    await start_tools(plugin("p", tool(counting.count, arguments=Text)))
    toolbox, chat = await new_toolbox(), new_chat()
    call = ToolCallPart("same", "count", {"text": "t"})

    assert await run(toolbox, chat, call, epoch=1) == ["t 1"]
    assert await run(toolbox, chat, call, epoch=2) == ["t 2"]
    assert await run(toolbox, chat, call, epoch=1) == ["t 1"]


async def test_a_successor_attaches_to_a_call_wherever_it_runs(
    start_tools: StartTools, new_toolbox: NewToolbox
) -> None:
    counting = Counting(opened=False)
    source = plugin("p", tool(counting.count, arguments=Text))
    for _ in range(3):
        await start_tools(source)
    chat, call = new_chat(), ToolCallPart("c", "count", {"text": "t"})

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        first = group.create_task(run(await new_toolbox(), chat, call))
        await counting.began.wait()
        # By chance some of these reach the host that runs it, and some another.
        others = [group.create_task(run(await new_toolbox(), chat, call)) for _ in range(8)]
        await (await new_toolbox()).catalog()
        counting.opened.set()

    assert [task.result() for task in (first, *others)] == [["t 1"]] * 9
    assert counting.runs == {"t": 1}


async def test_a_worker_that_hands_its_chat_on_leaves_the_call_to_its_successor(
    start_tools: StartTools, new_toolbox: NewToolbox
) -> None:
    counting = Counting(opened=False)
    source = plugin("p", tool(counting.count, arguments=Text))
    for _ in range(2):
        await start_tools(source)
    chat, call = new_chat(), ToolCallPart("c", "count", {"text": "t"})
    toolbox = await new_toolbox()

    async with asyncio.timeout(60):
        work = toolbox.run(
            chat,
            [call],
            epoch=1,
            finished={},
            on_progress=lambda _, __: None,
            hands_on=lambda: True,
        )
        stopped = asyncio.create_task(work)
        await counting.began.wait()
        stopped.cancel()
        await asyncio.wait((stopped,))
        await toolbox.aclose()
        successor = asyncio.create_task(run(await new_toolbox(), chat, call))
        counting.opened.set()

        assert await successor == ["t 1"]
    assert counting.runs == {"t": 1}


@pytest.mark.own_stack  # it reads the whole book
async def test_what_only_reads_is_not_booked(
    start_tools: StartTools, new_toolbox: NewToolbox, booked: str
) -> None:
    counting = Counting()
    await start_tools(
        plugin(
            "p",
            tool(counting.count, name="look", arguments=Text, read_only=True),
            tool(counting.count, arguments=Text),
        )
    )
    toolbox, chat = await new_toolbox(), new_chat()

    await run(toolbox, chat, ToolCallPart("c1", "look", {"text": "t"}))
    await run(toolbox, chat, ToolCallPart("c2", "count", {"text": "t"}))

    connection = await asyncpg.connect(booked)
    try:
        await are_done(connection, "c2")
        rows = await connection.fetch("SELECT call_id, state FROM tool_calls")
    finally:
        await connection.close()
    assert [tuple(row) for row in rows] == [("c2", "done")]


@pytest.mark.own_stack  # it reads the whole book
async def test_a_call_is_answered_before_the_book_has_its_end_and_a_stop_waits_for_that(
    start_tools: StartTools, new_toolbox: NewToolbox, booked: str
) -> None:
    counting = Counting(opened=False)
    service = await start_tools(plugin("p", tool(counting.count, arguments=Text)))
    toolbox, chat, call = await new_toolbox(), new_chat(), ToolCallPart("c", "count", {"text": "t"})
    connection = await asyncpg.connect(booked)
    try:
        async with asyncio.timeout(60):
            calling = asyncio.create_task(run(toolbox, chat, call))
            await counting.began.wait()
            async with connection.transaction():
                await connection.execute("SELECT FROM tool_calls FOR UPDATE")
                counting.opened.set()
                answers = [await calling, await run(toolbox, chat, call)]
                before = await connection.fetchval("SELECT state FROM tool_calls")
                stopping = asyncio.create_task(service.stop())
                await service.runtime.stopping.wait()
            await stopping
        after = await connection.fetchval("SELECT state FROM tool_calls")
        alive = await connection.fetchval(
            "SELECT count(*) FROM tool_hosts WHERE expires_at > now()"
        )
    finally:
        await connection.close()

    assert answers == [["t 1"]] * 2
    assert counting.runs == {"t": 1}
    assert (before, after) == ("running", "done")
    assert alive == 0, "it has given its lease up"


class Alone:
    """A tool that notes who is in it together with whom."""

    def __init__(self) -> None:
        self.inside: set[str] = set()
        self.met: list[tuple[str, frozenset[str]]] = []

    async def be(self, context: ToolContext, args: Text) -> ToolResult:
        del context
        self.met.append((args.text, frozenset(self.inside)))
        self.inside.add(args.text)
        await asyncio.sleep(0)  # let others in, if they may
        self.inside.remove(args.text)
        return ToolResult(args.text)


async def test_exclusive_calls_are_alone_over_all_hosts_and_in_call_order(
    start_tools: StartTools, new_toolbox: NewToolbox
) -> None:
    rooms = Alone()
    source = plugin(
        "p",
        tool(rooms.be, name="shared", arguments=Text),
        tool(rooms.be, name="alone", arguments=Text, exclusive=True),
    )
    for _ in range(3):
        await start_tools(source)
    order = ["shared", "shared", "alone", "shared", "alone", "alone", "shared"]
    calls = [ToolCallPart(f"c{n}", name, {"text": f"{n} {name}"}) for n, name in enumerate(order)]

    async with asyncio.timeout(60):
        results = await run(await new_toolbox(), new_chat(), *calls)

    assert results == [f"{n} {name}" for n, name in enumerate(order)]
    began = [text for text, _ in rooms.met]
    for position, (text, others) in enumerate(rooms.met):
        if text.endswith("alone"):
            assert others == frozenset()
            assert position == int(text[0]), began


@pytest.mark.own_stack  # its stores are away for a while
async def test_a_result_is_booked_when_a_store_that_was_away_is_back(
    nats: NatsServer, database_url: str, tmp_path: Path, new_toolbox: NewToolbox
) -> None:
    counting = Counting(opened=False)
    source = plugin("p", tool(counting.count, arguments=Text))
    settings = {"workspaces_dir": str(tmp_path / "workspaces")}
    chat, call = new_chat(), ToolCallPart("c", "count", {"text": "t"})
    connection = await asyncpg.connect(database_url)

    async with AsyncExitStack() as stack:
        stack.push_async_callback(connection.close)
        async with running_stores(nats.url(), database_url):
            await stack.enter_async_context(tools_service(nats.url(), [source], settings))
            toolbox = await new_toolbox()
            calling = asyncio.create_task(run(toolbox, chat, call))
            await counting.began.wait()
        counting.opened.set()
        async with asyncio.timeout(50):
            assert await calling == ["t 1"]
            assert await run(toolbox, chat, call) == ["t 1"]
            async with running_stores(nats.url(), database_url):
                await are_done(connection, "c")
    assert counting.runs == {"t": 1}


ENDING = """
    import asyncio, pathlib
    import msgspec
    from steersman_contracts.hooks import Tool, ToolResult, hookimpl

    class Where(msgspec.Struct, frozen=True):
        folder: str

    async def work(context, args):
        folder = pathlib.Path(args.folder)
        with (folder / "book").open("a") as lines:
            lines.write("run\\n")
        context.progress("began")
        while not (folder / "end").exists():
            await asyncio.sleep(0.02)
        return ToolResult("done")

    @hookimpl
    def tools():
        return [Tool("once", "Must not run twice.", Where, work)]
"""


class Folder(msgspec.Struct, frozen=True):
    folder: str


async def never(context: ToolContext, args: Folder) -> ToolResult:
    """What the tool of `ENDING` does on the host that is left: it must not be asked."""
    del context, args
    raise AssertionError("it ran twice")


@pytest.mark.own_stack  # its stores are away for a while
async def test_a_host_that_is_killed_between_answer_and_book_leaves_the_effect_unknown(
    nats: NatsServer,
    database_url: str,
    tmp_path: Path,
    client: NatsClient,
    new_toolbox: NewToolbox,
) -> None:
    plugins = write_plugin(tmp_path, "ending", ENDING)
    toolbox, chat = await new_toolbox(), new_chat()
    call = ToolCallPart("c", "once", {"folder": str(tmp_path)})
    began = asyncio.Event()
    finished: dict[str, ToolResultPart] = {}

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(120))

        async with running_stores(nats.url(), database_url):
            killed = Replica(nats.url(), tmp_path / "workspaces", plugins)
            stack.push_async_callback(killed.end)
            await are_up(client)
            work = toolbox.run(
                chat,
                (call,),
                epoch=1,
                finished=finished,
                on_progress=lambda _, __: began.set(),
            )
            calling = asyncio.create_task(work)
            await began.wait()
        (tmp_path / "end").touch()
        await calling
        await killed.kill()
        async with running_stores(nats.url(), database_url):
            settings = {"workspaces_dir": str(tmp_path / "workspaces")}
            left = plugin("ending", tool(never, name="once", arguments=Folder))
            await stack.enter_async_context(tools_service(nats.url(), [left], settings))
            successor = await run(await new_toolbox(), chat, call)

    assert words(finished["c"]) == "done"
    assert successor == [
        "interrupted: the call was cut off before its result was kept, effect unknown"
    ]
    assert (tmp_path / "book").read_text() == "run\n", "and it was not run again"


KILLABLE = """
    import asyncio, os, pathlib
    import msgspec
    from steersman_contracts.hooks import Tool, ToolResult, hookimpl

    class Where(msgspec.Struct, frozen=True):
        book: str

    async def work(context, args):
        with pathlib.Path(args.book).open("a") as lines:
            lines.write(f"{os.getpid()}\\n")
        context.progress("began")
        await asyncio.Event().wait()

    @hookimpl
    def tools():
        return [
            Tool("once", "Must not run twice.", Where, work),
            Tool("again", "May run twice.", Where, work, idempotent=True),
        ]
"""


class Where(msgspec.Struct, frozen=True):
    book: str


async def finish(context: ToolContext, args: Where) -> ToolResult:
    """What the tools of `KILLABLE` do on the host that is left."""
    del context
    with Path(args.book).open("a") as lines:  # noqa: ASYNC230  # a few bytes
        lines.write("here\n")
    return ToolResult("done by the second")


@pytest.mark.own_stack  # its host dies, and the book has it for a while
async def test_a_host_that_is_killed_costs_one_result_and_nothing_runs_twice_that_must_not(
    nats: NatsServer,
    client: NatsClient,
    start_tools: StartTools,
    new_toolbox: NewToolbox,
    tmp_path: Path,
) -> None:
    plugins = write_plugin(tmp_path, "killable", KILLABLE)
    replica = Replica(nats.url(), tmp_path / "workspaces", plugins)
    toolbox, chat = await new_toolbox(), new_chat()
    books = {name: tmp_path / name for name in ("once", "again")}
    calls = [ToolCallPart(name, name, {"book": str(book)}) for name, book in books.items()]
    running: asyncio.Queue[str] = asyncio.Queue()
    finished: dict[str, ToolResultPart] = {}

    async with AsyncExitStack() as stack:
        stack.push_async_callback(replica.end)
        await stack.enter_async_context(asyncio.timeout(120))
        await are_up(client)
        work = toolbox.run(
            chat,
            calls,
            epoch=1,
            finished=finished,
            on_progress=lambda call, _: running.put_nowait(call.tool),
        )
        calling = asyncio.create_task(work)
        assert {await running.get(), await running.get()} == {"once", "again"}
        await start_tools(
            plugin(
                "killable",
                tool(finish, name="once", arguments=Where),
                tool(finish, name="again", arguments=Where, idempotent=True),
            )
        )
        await replica.kill()
        await calling
        later = await run(await new_toolbox(), chat, *calls)

    lost = "interrupted: the call was cut off before its result was kept, effect unknown"
    assert {name: (words(one), one.is_error) for name, one in finished.items()} == {
        "once": (lost, True),
        "again": ("done by the second", False),
    }
    assert later == [lost, "done by the second"], "and so it stays"
    assert books["once"].read_text() == f"{replica.pid}\n"
    assert books["again"].read_text() == f"{replica.pid}\nhere\n"


@pytest.mark.own_stack  # it writes the whole book
async def test_a_result_that_the_database_lost_with_its_last_moments_is_still_there(
    start_tools: StartTools, new_toolbox: NewToolbox, booked: str
) -> None:
    counting = Counting()
    source = plugin("p", tool(counting.count, arguments=Text))
    await start_tools(source)
    toolbox, chat, call = await new_toolbox(), new_chat(), ToolCallPart("c", "count", {"text": "t"})
    first = await run(toolbox, chat, call)
    connection = await asyncpg.connect(booked)
    try:
        await are_done(connection, "c")
        # As after a crash: the reservation was on the disk before the tool began, the end was not.
        lost = await connection.execute(
            "UPDATE tool_calls SET state = 'running', result = NULL, finished_at = NULL"
        )
        await start_tools(source)
        again = [await run(toolbox, chat, call) for _ in range(4)]
        state = await connection.fetchval("SELECT state FROM tool_calls")
    finally:
        await connection.close()

    assert lost == "UPDATE 1"
    assert [first, *again] == [["t 1"]] * 5
    assert state == "done"
