"""Summaries: when one is written, exactly what the model is then sent, and how it can go wrong."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Coroutine
from typing import Any

import asyncpg
import msgspec
import pytest
from fakes import FakeProviders, Text, ToolCall, Turn
from fakes.faults import HttpError
from fakes.script import RequestView, Usage
from integration.store.test_files import PNG, part, upload
from support.chat_driver import StoreDriver, words_of
from support.chatloop import ModelSetup, ToolHost, said

from steersman_chatloop.compaction import INSTRUCTION
from steersman_contracts import events
from steersman_contracts.chats import Chat, Message, Status
from steersman_contracts.computer_history import BATCH, KEEP
from steersman_contracts.ids import ModelName
from steersman_contracts.parts import FilePart, JsonPart, TextPart, ToolResultPart
from steersman_contracts.rpc import chats as people
from steersman_contracts.rpc import prompts
from steersman_contracts.rpc.tools import CallResult, CallTool

pytestmark = pytest.mark.one_stack

LIMIT = 1000
FULL = Usage(input=700, output=5)
SMALL = Usage(input=100, output=5)


def answering(*turns: Turn, summaries: list[Turn] | None = None) -> Callable[[RequestView], Turn]:
    """Answers steps with `turns` and requests for a summary with `summaries`, each in order."""
    steps = iter(turns)
    written = iter(summaries or [Turn([Text("THE SUMMARY"), SMALL])] * 10)

    def answer(view: RequestView) -> Turn:
        return next(written if INSTRUCTION in view.last_user_text else steps)

    return answer


def said_to(view: RequestView) -> list[tuple[str, str]]:
    """Roles and texts of a request, a summary by its first words."""
    return [
        (m.role, "<summary>" if "THE SUMMARY" in m.text else m.text)
        for m in view.messages
        if m.role != "system" and (m.text or not m.results)
    ]


async def requests(fakes: FakeProviders, count: int) -> list[RequestView]:
    async with asyncio.timeout(60):
        return [(await fakes.next_request("m")).view for _ in range(count)]


def reports(messages: tuple[Message, ...]) -> list[dict[str, object]]:
    """What people see of the summaries."""
    return [
        part.content[0].value
        for message in messages
        for part in message.parts
        if isinstance(part, ToolResultPart)
        and part.tool == "chat_summarized"
        and isinstance(part.content[0], JsonPart)
    ]


Begin = Callable[[str], Coroutine[Any, Any, Chat]]


@pytest.fixture
def chat_of(store: StoreDriver, models: ModelSetup) -> Begin:
    """Begins a chat with a model whose window is small."""

    async def begin(words: str) -> Chat:
        return await store.create(words, model=await models.add("chat", "m", context_limit=LIMIT))

    return begin


@pytest.mark.usefixtures("chatloops")
async def test_a_full_context_is_summarised_between_two_steps(
    store: StoreDriver, fakes: FakeProviders, chat_of: Begin, tool_host: ToolHost
) -> None:
    async def look(_: CallTool) -> CallResult:
        return said("found")

    tool_host.tools["look"] = look
    fakes.script("m", answering(Turn([ToolCall("look"), FULL]), Turn([Text("all done"), SMALL])))
    chat = await chat_of("find it")
    rested = await store.at_rest(chat.id)

    step, summary, after = await requests(fakes, 3)
    assert summary.messages[: len(step.messages)] == step.messages  # the same prefix
    assert summary.tools == step.tools
    assert said_to(summary)[-1] == ("user", INSTRUCTION)
    assert summary.messages[-2].results or summary.messages[-1].results
    assert said_to(after) == [("user", "<summary>")]
    assert rested.last_outcome == "completed"
    shown = await store.messages(chat.id)
    assert [words_of(m) for m in shown if words_of(m)] == ["find it", "all done"]
    (report,) = reports(shown)
    assert report | {"estimated_tokens_after": 0} == {
        "summary": "THE SUMMARY",
        "source": "automatic",
        "threshold_percent": 70,
        "context_limit": LIMIT,
        "usage_before": {"input_tokens": 700, "output_tokens": 5},
        "tokens_before": 700,
        "estimated_tokens_after": 0,
    }


class PrefixCache:
    """Counts prompts as a provider does that caches prefixes: a hundred tokens for each message,
    for the tools and for the system prompt."""

    def __init__(self) -> None:
        self._seen: list[list[str]] = []

    def count(self, view: RequestView) -> Usage:
        said = [repr(message) for message in view.messages if message.role != "system"]
        prompt = [repr(view.tools), view.system, *said]
        cached = max((_common(prompt, earlier) for earlier in self._seen), default=0)
        self._seen.append(prompt)
        return Usage(input=len(prompt) * 100, output=5, cache_read=cached * 100)


def _common(left: list[str], right: list[str]) -> int:
    pairs = enumerate(zip(left, right, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(left), len(right)))


@pytest.mark.usefixtures("chatloops")
async def test_a_summary_is_the_next_request_with_an_instruction_and_finds_the_cache_full(
    store: StoreDriver, fakes: FakeProviders, chat_of: Begin, tool_host: ToolHost
) -> None:
    async def look(_: CallTool) -> CallResult:
        return said("found")

    tool_host.tools["look"] = look
    cache = PrefixCache()
    calls = iter([ToolCall("look", {"n": n}, id=f"c{n}") for n in range(3)])

    def answer(view: RequestView) -> Turn:
        usage = cache.count(view)
        if INSTRUCTION in view.last_user_text:
            return Turn([Text("THE SUMMARY"), usage])
        return Turn([next(calls, Text("done")), usage])

    fakes.script("m", answer)
    chat = await chat_of("find it")
    await store.at_rest(chat.id)

    steps = [request.body for request in fakes.requests]
    messages = [
        msgspec.convert(request.body["messages"], list[dict[str, Any]])
        for request in fakes.requests
    ]
    asked = [each[-1]["content"] == INSTRUCTION for each in messages]
    assert asked == [False, False, False, True, False]
    last, summary = steps[2], steps[3]
    call = {"name": "look", "arguments": '{"n":2}'}
    assert summary == last | {
        "messages": [
            *messages[2],
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c2", "type": "function", "function": call}],
            },
            {"role": "tool", "tool_call_id": "c2", "content": "found"},
            {"role": "user", "content": INSTRUCTION},
        ],
        "tool_choice": "none",
    }
    used = [e.usage for e in store.log.of(chat.id) if isinstance(e, events.UsageRecorded)]
    # What was sent before is read from the cache: a call, its result, the instruction are new.
    assert [(u.input_tokens, u.cache_read_tokens) for u in used] == [
        (300, 0),
        (500, 300),
        (700, 500),
        (1000, 700),
        (300, 200),
    ]


@pytest.mark.usefixtures("chatloops")
async def test_a_summary_is_written_from_the_pictures_that_a_step_would_send(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, tool_host: ToolHost
) -> None:
    async def look(_: CallTool) -> CallResult:
        return CallResult((FilePart("image/png", "screen-2x2-d.png", data=PNG),))

    tool_host.tools["computer"] = look
    looks = [Turn([ToolCall("computer", {"action": "screenshot"}), SMALL])] * (KEEP + BATCH)
    fakes.script("m", answering(*looks, Turn([Text("done"), SMALL])))
    parts = (TextPart("what is it?"), part(await upload(store), "image/png"))
    name = ModelName(await models.add("anthropic", "m"))
    chat = (
        await store.rpc.call(people.CREATE, people.CreateChat(store.actor, name, parts=parts))
    ).chat
    await store.at_rest(chat.id)
    await store.compact(chat.id)
    await store.at_rest(chat.id)

    *_, last, summary = await requests(fakes, len(looks) + 2)
    # Its file with its bytes, and no older screenshot than the steps before still saw.
    assert summary.messages[: len(last.messages)] == last.messages
    *_, step, asked = [str(request.body["messages"]) for request in fakes.requests]
    picture = base64.b64encode(PNG).decode()
    assert asked.count(picture) == step.count(picture) == 1 + KEEP


@pytest.mark.usefixtures("chatloops")
async def test_a_summary_that_fails_after_an_interrupt_leaves_the_next_turn_alone(
    store: StoreDriver, fakes: FakeProviders, chat_of: Begin, database_url: str
) -> None:
    def answer(view: RequestView) -> Turn:
        if INSTRUCTION in view.last_user_text:
            tries.append(view)
            if len(tries) == 2:  # an empty answer is asked for once more
                fakes.hold("m", deltas=1)
            return Turn([Text("   "), SMALL])
        return Turn([Text(f"on {view.last_user_text}"), SMALL])

    tries: list[RequestView] = []
    fakes.script("m", answer)
    chat = await chat_of("first")
    await store.at_rest(chat.id)
    fakes.fault("m", HttpError(400, error_type="context_length_exceeded"))
    await store.send(chat.id, "too long")
    async with asyncio.timeout(40):
        await fakes.held("m")
    await store.send(chat.id, "next")
    connection = await asyncpg.connect(database_url)
    # Whoever writes the summary has not been told of it yet.
    await connection.execute("SELECT interrupt_chat($1, $2)", store.actor.user_id, chat.id)
    await connection.close()
    fakes.release("m")
    await store.log.until(chat.id, events.ChatStatusChanged, outcome="interrupted")
    rested = await store.at_rest(chat.id)

    assert (rested.status, rested.last_outcome) == (Status.WAITING, "completed")
    assert words_of((await store.messages(chat.id))[-1]) == "on next"


@pytest.mark.usefixtures("chatloops")
async def test_a_summary_that_is_refused_changes_nothing_and_starts_nothing(
    store: StoreDriver, fakes: FakeProviders, chat_of: Begin, tool_host: ToolHost
) -> None:
    begun = asyncio.Event()

    async def hang(_: CallTool) -> CallResult:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    tool_host.tools["hang"] = hang
    fakes.script("m", answering(Turn([ToolCall("hang"), SMALL]), Turn([Text("two"), SMALL])))
    chat = await chat_of("first")
    async with asyncio.timeout(40):
        await begun.wait()
    await store.interrupt(chat.id)
    before = (await store.at_rest(chat.id), await store.messages(chat.id))
    fakes.fault("m", HttpError(401, error_type="invalid_api_key"))
    await store.compact(chat.id)
    failed = await store.log.until(chat.id, events.CompactionFinished, succeeded=False)
    rested = await store.at_rest(chat.id)

    assert isinstance(failed, events.CompactionFinished)
    assert failed.error is not None
    assert failed.error.kind == "auth"
    assert (rested.status, await store.messages(chat.id)) == (Status.WAITING, before[1])
    assert len(fakes.requests) == 2, "the turn that was interrupted does not go on"
    await store.send(chat.id, "second")
    await store.at_rest(chat.id)
    *_, last = await requests(fakes, 3)
    assert said_to(last)[0] == ("user", "first")


@pytest.mark.usefixtures("chatloops")
async def test_a_context_that_is_full_at_the_end_is_summarised_and_the_model_goes_on(
    store: StoreDriver, fakes: FakeProviders, chat_of: Begin
) -> None:
    fakes.script("m", answering(Turn([Text("one"), FULL]), Turn([Text("nothing left"), SMALL])))
    chat = await chat_of("first")
    await store.at_rest(chat.id)

    _, _, after = await requests(fakes, 3)
    assert said_to(after) == [("user", "<summary>")]
    texts = [words_of(m) for m in await store.messages(chat.id)]
    assert [t for t in texts if t] == ["first", "one", "nothing left"]


@pytest.mark.usefixtures("chatloops")
async def test_the_model_is_called_again_after_its_end_three_times_at_most(
    store: StoreDriver, fakes: FakeProviders, chat_of: Begin, tool_host: ToolHost
) -> None:
    async def look(_: CallTool) -> CallResult:
        return said("found")

    tool_host.tools["look"] = look
    # Each time the model works a little, so that a summary has something new to hold.
    rounds = [Turn([ToolCall("look"), SMALL]), Turn([Text("done"), FULL])] * 4
    fakes.script("m", answering(*rounds))
    chat = await chat_of("go")
    rested = await store.at_rest(chat.id)

    assert rested.last_outcome == "completed"
    assert len(reports(await store.messages(chat.id))) == 3


@pytest.mark.usefixtures("chatloops")
async def test_a_summary_on_request_leaves_the_chat_at_rest(
    store: StoreDriver, fakes: FakeProviders, chat_of: Begin
) -> None:
    fakes.script("m", answering(Turn([Text("one"), SMALL]), Turn([Text("two"), SMALL])))
    chat = await chat_of("first")
    await store.at_rest(chat.id)
    await store.compact(chat.id)
    await store.at_rest(chat.id)
    await store.send(chat.id, "second")
    await store.at_rest(chat.id)

    _, _, after = await requests(fakes, 3)
    assert said_to(after) == [("user", "<summary>"), ("user", "second")]
    (report,) = reports(await store.messages(chat.id))
    assert report["source"] == "manual"


@pytest.mark.usefixtures("chatloops")
async def test_what_a_summary_replaced_is_read_again_when_it_is_taken_back(
    store: StoreDriver, fakes: FakeProviders, chat_of: Begin
) -> None:
    steps = [Turn([Text(words), SMALL]) for words in ("one", "two", "three")]
    fakes.script("m", answering(*steps))
    chat = await chat_of("first")
    await store.at_rest(chat.id)
    await store.clear(chat.id)
    await store.send(chat.id, "second")
    await store.at_rest(chat.id)
    await store.compact(chat.id)
    await store.at_rest(chat.id)
    await store.undo_compaction(chat.id)
    await store.send(chat.id, "third")
    await store.at_rest(chat.id)

    *_, last = await requests(fakes, 4)
    # Up to the boundary before, by the worker that had let go of it.
    assert said_to(last) == [("user", "second"), ("assistant", "two"), ("user", "third")]


@pytest.mark.usefixtures("chatloops")
async def test_the_summary_streams_as_an_episode_of_its_own(
    store: StoreDriver, fakes: FakeProviders, chat_of: Begin
) -> None:
    fakes.script("m", answering(Turn([Text("one"), SMALL])))
    chat = await chat_of("first")
    await store.at_rest(chat.id)
    await store.compact(chat.id)
    await store.log.until(chat.id, events.CompactionFinished, succeeded=True)

    started = next(e for e in store.log.of(chat.id) if isinstance(e, events.CompactionStarted))
    deltas = [
        e
        for e in store.log.of(chat.id)
        if isinstance(e, events.PartDelta)
        and (e.history_version, e.attempt) == (started.history_version, started.attempt)
    ]
    assert "".join(getattr(d, "text", "") for e in deltas for d in e.deltas) == "THE SUMMARY"


@pytest.mark.usefixtures("chatloops")
async def test_a_question_that_met_a_full_provider_is_carried_over_and_answered(
    store: StoreDriver, fakes: FakeProviders, chat_of: Begin
) -> None:
    fakes.script(
        "m", answering(Turn([Text("one"), SMALL]), *[Turn([Text("two"), SMALL])] * 2)
    )  # one is lost
    chat = await chat_of("first")
    await store.at_rest(chat.id)
    fakes.fault("m", HttpError(400, error_type="context_length_exceeded"))
    await store.send(chat.id, "the long question")
    rested = await store.at_rest(chat.id)

    assert (rested.status, rested.last_outcome) == (Status.WAITING, "completed")
    *_, after = await requests(fakes, 4)
    assert "the long question" in after.last_user_text
    assert [words_of(m) for m in await store.messages(chat.id) if words_of(m)] == [
        "first",
        "one",
        "the long question",
        "two",
    ]


@pytest.mark.own_stack  # it counts whole tables
@pytest.mark.usefixtures("chatloops")
async def test_an_empty_summary_is_told_and_paid_for_and_the_turn_goes_on(
    store: StoreDriver,
    fakes: FakeProviders,
    models: ModelSetup,
    tool_host: ToolHost,
    database_url: str,
) -> None:
    async def look(_: CallTool) -> CallResult:
        return said("found")

    tool_host.tools["look"] = look
    fakes.script(
        "m",
        answering(
            Turn([Text(" "), SMALL]),  # asked for once more
            Turn([ToolCall("look"), FULL]),
            Turn([Text("done anyway"), SMALL]),
            summaries=[Turn([Text("   "), SMALL])] * 30,
        ),
    )
    prices = {"input": 1_000_000, "output": 0}
    name = await models.add("chat", "m", context_limit=LIMIT, prices=prices)
    chat = await store.create("find it", model=name)
    rested = await store.at_rest(chat.id)

    assert rested.last_outcome == "completed"
    failed = await store.log.until(chat.id, events.CompactionFinished, succeeded=False)
    assert isinstance(failed, events.CompactionFinished)
    assert failed.error is not None
    assert reports(await store.messages(chat.id)) == []
    # An answer and two summaries came to nothing, and were paid for like the two steps.
    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch("SELECT purpose, attempt FROM side_usage ORDER BY id")
    spent = await connection.fetchrow("SELECT sum(steps)::int, sum(cost)::int FROM spending")
    await connection.close()
    assert [tuple(row) for row in rows] == [("attempt", 1), ("summary", 1), ("summary", 2)]
    assert (rested.cost_micros, rested.cost_unknown_steps) == (100 + 700 + 2 * 100 + 100, 0)
    assert tuple(spent or ()) == (2, rested.cost_micros)
    told = [e.chat.cost_micros for e in store.log.of(chat.id) if isinstance(e, events.ChatUpdated)]
    assert 100 in told  # people see it grow


@pytest.mark.usefixtures("chatloops")
async def test_a_summary_that_does_not_shrink_ends_the_turn_with_an_error(
    store: StoreDriver, fakes: FakeProviders, chat_of: Begin, tool_host: ToolHost
) -> None:
    async def look(_: CallTool) -> CallResult:
        return said("found")

    tool_host.tools["look"] = look
    fakes.script("m", answering(*[Turn([ToolCall("look"), FULL])] * 2))
    chat = await chat_of("find it")
    rested = await store.at_rest(chat.id)

    assert rested.last_error is not None
    assert rested.last_error.kind == "context_overflow"
    assert len(reports(await store.messages(chat.id))) == 1


@pytest.mark.usefixtures("chatloops")
async def test_an_interrupt_ends_a_summary_and_nothing_of_it_is_kept(
    store: StoreDriver, fakes: FakeProviders, chat_of: Begin
) -> None:
    fakes.script("m", answering(Turn([Text("one"), SMALL])))
    chat = await chat_of("first")
    await store.at_rest(chat.id)
    fakes.hold("m", deltas=1)
    await store.compact(chat.id)
    async with asyncio.timeout(60):
        await fakes.held("m")
    await store.interrupt(chat.id)
    rested = await store.at_rest(chat.id)

    assert rested.last_outcome == "interrupted"
    assert [words_of(m) for m in await store.messages(chat.id)] == ["first", "one"]


@pytest.mark.usefixtures("chatloops")
async def test_a_message_that_was_queued_meanwhile_is_answered_after_the_summary(
    store: StoreDriver, fakes: FakeProviders, chat_of: Begin
) -> None:
    fakes.script("m", answering(Turn([Text("one"), SMALL]), Turn([Text("two"), SMALL])))
    chat = await chat_of("first")
    await store.at_rest(chat.id)
    gate = fakes.hold("m", deltas=1)
    await store.compact(chat.id)
    async with asyncio.timeout(20):
        await fakes.held("m")
    queued = await store.send(chat.id, "second")
    assert queued.delivery == "queued"
    gate.release()
    await store.log.until(chat.id, events.CompactionFinished, succeeded=True)
    await store.log.until(chat.id, events.ChatStatusChanged, outcome="completed")
    async with asyncio.timeout(40):
        while (await store.chat(chat.id)).queue_size:
            await store.log.more(len(store.log.seen))
    await store.at_rest(chat.id)

    _, _, after = await requests(fakes, 3)
    assert said_to(after) == [("user", "<summary>"), ("user", "second")]
    texts = [words_of(m) for m in await store.messages(chat.id)]
    assert [t for t in texts if t] == ["first", "one", "second", "two"]


@pytest.mark.usefixtures("chatloops")
async def test_a_chat_in_error_can_be_summarised(
    store: StoreDriver, fakes: FakeProviders, chat_of: Begin
) -> None:
    # The turn of the request that fails is lost.
    fakes.script("m", answering(Turn([Text("one"), SMALL]), *[Turn([Text("two"), SMALL])] * 2))
    chat = await chat_of("first")
    await store.at_rest(chat.id)
    fakes.fault("m", HttpError(401, error_type="invalid_api_key"))
    await store.send(chat.id, "second")
    assert (await store.at_rest(chat.id)).status is Status.ERROR
    await store.compact(chat.id)
    rested = await store.at_rest(chat.id)

    # The question was never answered: it is carried over, and is answered now.
    assert (rested.status, rested.last_outcome) == (Status.WAITING, "completed")
    assert len(reports(await store.messages(chat.id))) == 1
    assert words_of((await store.messages(chat.id))[-1]) == "two"


@pytest.mark.usefixtures("chatloops")
async def test_a_worker_that_is_lost_before_it_commits_leaves_one_summary(
    store: StoreDriver, fakes: FakeProviders, chat_of: Begin, database_url: str
) -> None:
    fakes.script("m", answering(Turn([Text("one"), SMALL])))
    chat = await chat_of("first")
    await store.at_rest(chat.id)
    gate = fakes.hold("m", deltas=1)
    await store.compact(chat.id)
    async with asyncio.timeout(20):
        await fakes.held("m")
    connection = await asyncpg.connect(database_url)
    await connection.execute("DELETE FROM leases")  # as if it had died: another one takes the chat
    await connection.close()
    await store.log.until(chat.id, events.CompactionFinished, succeeded=True)
    gate.release()
    await store.at_rest(chat.id)

    assert len(reports(await store.messages(chat.id))) == 1


@pytest.mark.usefixtures("chatloops")
async def test_what_goes_on_is_said_again_beside_the_summary(
    store: StoreDriver, fakes: FakeProviders, chat_of: Begin, tool_host: ToolHost
) -> None:
    async def look(_: CallTool) -> CallResult:
        return said("found")

    async def processes(_: CallTool) -> CallResult:
        found = [
            {"process_id": "p1", "command": "make\nall", "running": True},
            {"process_id": "p2", "command": "true", "running": False},
        ]
        return CallResult((JsonPart({"processes": found}),))

    tool_host.tools |= {"look": look, "process_list": processes}
    fakes.script("m", answering(Turn([ToolCall("look"), FULL]), Turn([Text("done"), SMALL])))
    chat = await chat_of("find it")
    await store.at_rest(chat.id)

    _, _, after = await requests(fakes, 3)
    assert "These processes still run:\n- `p1`: make all\n" in after.last_user_text
    assert "p2" not in after.last_user_text


@pytest.mark.usefixtures("chatloops")
async def test_a_person_decides_when_their_chats_are_summarised(
    store: StoreDriver, fakes: FakeProviders, chat_of: Begin
) -> None:
    request = prompts.PutPrompt(store.actor, "user", "", compaction_threshold=100)
    await store.rpc.call(prompts.PUT_PROMPT, request)
    fakes.script("m", answering(Turn([Text("one"), FULL])))
    chat = await chat_of("first")
    await store.at_rest(chat.id)

    assert reports(await store.messages(chat.id)) == []
    assert len(fakes.requests) == 1
