"""Summaries that meet something else: calls that wait, plans, edits, other boundaries, a queue."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from fakes import FakeProviders, Text, ToolCall, Turn
from fakes.faults import HttpError
from fakes.script import Pause, RequestView
from integration.chatloop.test_compaction import FULL, LIMIT, SMALL, answering, reports, said_to
from support.chat_driver import StoreDriver, words_of
from support.chatloop import ModelSetup, ToolHost, said
from support.services import running_chatloop
from support.waiting import until

from steersman.embedded.nats import NatsServer
from steersman_chatloop.compaction import INSTRUCTION, NO_ROOM
from steersman_contracts import events
from steersman_contracts.chats import Chat, ClientTool, Message, Status
from steersman_contracts.errors import Conflict, TransitionRefused
from steersman_contracts.rpc.tools import CallResult, CallTool

RULES = '[{"decision": "ask", "tool": "drop"}]'


async def requests(fakes: FakeProviders, model: str, count: int) -> list[RequestView]:
    async with asyncio.timeout(60):
        return [(await fakes.next_request(model)).view for _ in range(count)]


def words(messages: tuple[Message, ...]) -> list[str]:
    return [words_of(message) for message in messages if words_of(message)]


def steps(*texts: str) -> list[Turn]:
    return [Turn([Text(one), SMALL]) for one in texts]


async def echo(call: CallTool) -> CallResult:
    return said(f"{call.tool} done")


@pytest.mark.usefixtures("chatloops")
async def test_a_summary_waits_for_a_client_and_a_person_who_were_asked_before(
    store: StoreDriver,
    fakes: FakeProviders,
    models: ModelSetup,
    tool_host: ToolHost,
    database_url: str,
) -> None:
    tool_host.tools["drop"] = echo
    connection = await asyncpg.connect(database_url)
    await connection.execute("INSERT INTO policies (level, rules) VALUES ('system', $1)", RULES)
    await connection.close()
    asks = [Text("let me"), ToolCall("measure", id="m1"), ToolCall("drop", id="d1"), SMALL]
    fakes.script("m", answering(*steps("one"), Turn(asks), *steps("two")))
    tools = (ClientTool("measure", "Measure.", {"type": "object", "properties": {}}),)
    chat = await store.create("first", model=await models.add("chat", "m"), client_tools=tools)
    await store.at_rest(chat.id)
    gate = fakes.hold("m", deltas=1)
    await store.send(chat.id, "second")
    async with asyncio.timeout(60):
        await fakes.held("m")
    assert (await store.compact(chat.id)).status is Status.RUNNING
    gate.release()

    asked = await store.log.until(chat.id, events.ActionRequired)
    assert isinstance(asked, events.ActionRequired)
    assert [call.call_id for call in asked.action.calls] == ["m1"]
    assert [approval.call_id for approval in asked.action.approvals] == ["d1"]
    with pytest.raises(TransitionRefused):  # the wish stands already
        await store.compact(chat.id)
    half = await store.submit(chat.id, {"m1": "3 m"})
    assert (half.status, half.queue_size) == (Status.REQUIRES_ACTION, 0)
    assert not [e for e in store.log.of(chat.id) if isinstance(e, events.CompactionStarted)]
    await store.resolve(chat.id, "d1")
    rested = await store.at_rest(chat.id)

    assert rested.last_outcome == "completed"
    _, step, summary, after = await requests(fakes, "m", 4)
    assert summary.messages[: len(step.messages)] == step.messages
    said_since = summary.messages[len(step.messages) :]
    answers = [text for m in said_since for text in map(str, m.results)]
    assert ["3 m" in "".join(answers), "drop done" in "".join(answers)] == [True, True]
    assert said_to(summary)[-1] == ("user", INSTRUCTION)
    assert summary.tools == step.tools
    # In the middle of its turn: the model goes on, and nothing is left to be answered.
    assert said_to(after) == [("user", "<summary>")]
    shown = await store.messages(chat.id)
    assert words(shown) == ["first", "one", "second", "let me", "two"]
    assert [report["source"] for report in reports(shown)] == ["manual"]


@pytest.mark.usefixtures("chatloops")
async def test_a_plan_is_carried_out_as_it_was_proposed_whatever_the_model_has_forgotten(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, tool_host: ToolHost
) -> None:
    tool_host.tools["drop"] = echo
    plan = "# Plan\n\n1. `drop` it"

    async def proposed(model: str, *, full: bool = False) -> Chat:
        call = ToolCall("propose_plan", {"plan": plan}, id="p1")
        proposes = Turn([call, FULL if full else SMALL], ends=True)
        fakes.script(model, answering(proposes, *steps("carried out")))
        name = await models.add("chat", model, context_limit=LIMIT)
        chat = await store.create("make a plan", model=name, plan_mode=True)
        rested = await store.at_rest(chat.id)
        assert (rested.last_outcome, rested.plan and rested.plan.state) == ("completed", "proposed")
        return rested

    async def approved(chat: Chat) -> None:
        await store.decide_plan(chat.id, approved=True)
        done = await store.at_rest(chat.id)
        assert (done.plan_mode, words(await store.messages(chat.id))[-1]) == (False, "carried out")

    # A full context does not keep a plan from ending its turn; the next one begins with a summary.
    chat = await proposed("full", full=True)
    assert len(fakes.requests) == 1
    await approved(chat)
    _, summary, after = await requests(fakes, "full", 3)
    assert said_to(summary)[-2:] == [
        ("user", "The plan is approved. Carry it out."),
        ("user", INSTRUCTION),
    ]
    assert said_to(after)[0] == ("user", "<summary>")
    assert "The plan is approved. Carry it out." in after.last_user_text
    assert plan in "".join(m.text for m in after.messages)

    # One that was asked for is written by a model that is still in plan mode.
    chat = await proposed("asked")
    await store.compact(chat.id)
    rested = await store.at_rest(chat.id)
    assert (rested.plan_mode, rested.plan and rested.plan.state) == (True, "proposed")
    await approved(chat)
    step, summary, after = await requests(fakes, "asked", 3)
    assert (summary.tools, summary.system) == (step.tools, step.system)
    assert "propose_plan" in {tool.name for tool in summary.tools}
    assert "propose_plan" not in {tool.name for tool in after.tools}
    assert plan in "".join(m.text for m in after.messages)

    # Who clears the context means the model to begin with the plan alone.
    chat = await proposed("cleared")
    await store.clear(chat.id)
    await approved(chat)
    _, after = await requests(fakes, "cleared", 2)
    assert said_to(after) == [
        ("user", f"The plan is approved. Carry it out.\n\nThe plan:\n\n{plan}")
    ]


@pytest.mark.usefixtures("chatloops")
async def test_what_is_edited_taken_back_or_cleared_decides_what_the_model_still_sees(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup
) -> None:
    async def talked(model: str, *later: str) -> Chat:
        fakes.script(model, answering(*steps("one", *later)))
        chat = await store.create("first", model=await models.add("chat", model))
        return await store.at_rest(chat.id)

    async def compacted(chat: Chat) -> None:
        await store.compact(chat.id)
        assert (await store.at_rest(chat.id)).status is Status.WAITING

    # Below a summary: it goes, and the model sees again what it had replaced.
    chat = await talked("edited", "two", "three", "other two", "four", "other four")
    await store.send(chat.id, "second")
    await store.at_rest(chat.id)
    second = (await store.messages(chat.id))[-2]
    await compacted(chat)
    await store.send(chat.id, "third")
    await store.at_rest(chat.id)
    await store.edit(chat.id, second.id, "other second")
    await store.at_rest(chat.id)
    shown = await store.messages(chat.id)
    assert (words(shown), reports(shown)) == (["first", "one", "other second", "other two"], [])
    # Above one: it stays.
    await compacted(chat)
    await store.send(chat.id, "fourth")
    await store.at_rest(chat.id)
    fourth = (await store.messages(chat.id))[-2]
    await store.edit(chat.id, fourth.id, "other fourth")
    await store.at_rest(chat.id)
    views = await requests(fakes, "edited", 8)
    assert said_to(views[3]) == [("user", "<summary>"), ("user", "third")]
    assert said_to(views[4]) == [("user", "first"), ("assistant", "one"), ("user", "other second")]
    assert said_to(views[5])[-2:] == [("assistant", "other two"), ("user", INSTRUCTION)]
    assert said_to(views[7]) == [("user", "<summary>"), ("user", "other fourth")]
    assert len(reports(await store.messages(chat.id))) == 1

    # A second boundary: the summary below it is not the last one any more.
    chat = await talked("cleared", "two")
    await compacted(chat)
    await store.clear(chat.id)
    with pytest.raises(Conflict, match="nothing has followed"):
        await store.undo_compaction(chat.id)
    with pytest.raises(Conflict, match="nothing to summarise"):
        await store.compact(chat.id)
    await store.send(chat.id, "second")
    await store.at_rest(chat.id)
    assert said_to((await requests(fakes, "cleared", 3))[2]) == [("user", "second")]

    # Taken back twice: the second time there is nothing.
    chat = await talked("undone", "two")
    await compacted(chat)
    await store.undo_compaction(chat.id)
    with pytest.raises(Conflict, match="nothing has followed"):
        await store.undo_compaction(chat.id)
    await compacted(chat)
    await store.undo_compaction(chat.id)
    await store.send(chat.id, "second")
    await store.at_rest(chat.id)
    *_, summary, last = await requests(fakes, "undone", 4)
    assert said_to(summary) == [("user", "first"), ("assistant", "one"), ("user", INSTRUCTION)]
    assert said_to(last) == [("user", "first"), ("assistant", "one"), ("user", "second")]

    # Queued while it is written, and deleted again: the chat rests.
    chat = await talked("queued", "two")
    gate = fakes.hold("queued", deltas=1)
    await store.compact(chat.id)
    async with asyncio.timeout(60):
        await fakes.held("queued")
    for text in ("second", "third"):
        assert (await store.send(chat.id, text)).delivery == "queued"
    for queued in await store.queued_ids(chat.id):
        await store.delete_queued(chat.id, queued)
    gate.release()
    rested = await store.at_rest(chat.id)
    assert (rested.status, rested.queue_size) == (Status.WAITING, 0)
    assert words(await store.messages(chat.id)) == ["first", "one"]
    await store.send(chat.id, "fourth")
    await store.at_rest(chat.id)
    assert said_to((await requests(fakes, "queued", 3))[2]) == [
        ("user", "<summary>"),
        ("user", "fourth"),
    ]


@pytest.mark.usefixtures("chatloops")
async def test_a_summary_that_an_interrupt_throws_away_is_paid_for(
    store: StoreDriver,
    fakes: FakeProviders,
    models: ModelSetup,
    tool_host: ToolHost,
    database_url: str,
) -> None:
    go_on = asyncio.Event()

    async def processes(_: CallTool) -> CallResult:
        await go_on.wait()
        return said("none")

    connection = await asyncpg.connect(database_url)
    tool_host.tools["process_list"] = processes  # asked once a summary is written
    for number, told in enumerate((True, False)):
        fakes.script(f"m{number}", answering(*steps("one")))
        chat = await store.create("first", model=await models.add("chat", f"m{number}"))
        await store.at_rest(chat.id)
        await store.compact(chat.id)
        async with asyncio.timeout(40):
            await tool_host.called.get()
        if told:
            await store.interrupt(chat.id)
        else:  # the worker does not hear of it, and finds that it comes too late
            await connection.execute("SELECT interrupt_chat($1, $2)", store.actor.user_id, chat.id)
            go_on.set()
        rested = await store.at_rest(chat.id)

        assert (rested.status, rested.last_outcome) == (Status.WAITING, "interrupted")
        assert words(await store.messages(chat.id)) == ["first", "one"]

        async def is_counted(chat: Chat = chat) -> bool:
            count = "SELECT count(*) FROM side_usage WHERE chat_id = $1 AND purpose = 'summary'"
            return await connection.fetchval(count, chat.id) == 1

        await until(is_counted)
    await connection.close()


async def test_a_summary_that_takes_too_long_is_given_up_and_the_turn_goes_on(
    nats: NatsServer,
    store: StoreDriver,
    fakes: FakeProviders,
    models: ModelSetup,
    tool_host: ToolHost,
) -> None:
    tool_host.tools["drop"] = echo

    def answer(view: RequestView) -> Turn:
        if INSTRUCTION in view.last_user_text:
            return Turn([Text("THE"), Pause(600), Text(" SUMMARY")])
        return Turn([Text("done"), SMALL] if view.step_index else [ToolCall("drop"), FULL])

    fakes.script("m", answer)
    async with running_chatloop(nats.url(), compaction_timeout_s=0.5):
        name = await models.add("chat", "m", context_limit=LIMIT)
        chat = await store.create("find it", model=name)
        failed = await store.log.until(chat.id, events.CompactionFinished)
        rested = await store.at_rest(chat.id)

    assert isinstance(failed, events.CompactionFinished)
    assert (failed.succeeded, failed.error and failed.error.kind) == (False, "timeout")
    assert (rested.last_outcome, reports(await store.messages(chat.id))) == ("completed", [])
    assert words(await store.messages(chat.id)) == ["find it", "done"]


@pytest.mark.usefixtures("chatloops")
async def test_a_step_after_a_summary_that_the_provider_finds_too_long_ends_the_turn(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, tool_host: ToolHost
) -> None:
    too_long = HttpError(400, error_type="context_length_exceeded")

    async def look(_: CallTool) -> CallResult:
        fakes.fault("m", too_long)
        return said("found a lot")

    tool_host.tools["look"] = look
    looks = [Turn([ToolCall("look"), SMALL])] * 9  # which would go on and on
    fakes.script("m", answering(*looks))
    chat = await store.create("find it", model=await models.add("chat", "m"))
    rested = await store.at_rest(chat.id)

    assert (rested.status, rested.last_error) == (Status.ERROR, NO_ROOM)
    assert len(reports(await store.messages(chat.id))) == 1
