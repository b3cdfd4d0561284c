"""Agents in the store: who may spawn and reach them, how waits end, and what a family shares."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from support.agents import WAIT, Family, end
from support.chat_driver import StoreDriver, assistant, new_actor, text
from support.services import running_store
from support.waiting import until
from support.work import hints

from steersman.embedded.nats import NatsServer
from steersman_contracts import events, subjects
from steersman_contracts.chats import Chat, Role, Status, Usage
from steersman_contracts.errors import (
    Conflict,
    NotFound,
    QueueFull,
    StaleFence,
    TransitionRefused,
    UnknownModel,
)
from steersman_contracts.ids import ChatId, ModelName, RunnerId
from steersman_contracts.parts import (
    FilePart,
    JsonPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from steersman_contracts.policies import PendingApproval
from steersman_contracts.rpc import agents as rpc
from steersman_contracts.rpc import chats as people
from steersman_contracts.rpc import worker as work
from steersman_runtime.nats_client import NatsClient

pytestmark = pytest.mark.one_stack

OTHER = ToolCallPart("call-other", "pick", {})
ASKED = ToolCallPart("call-asked", "drop", {})


_ANY_SERVER = """
INSERT INTO mcp_servers (slug, name, transport, url, command, auth, header, header_names,
        env_names, allow, deny, availability, needs_approval, call_timeout_s, enabled)
    VALUES ('any', 'any', 'http', 'http://host', '{}', 'none', '', '{}', '{}', '{}', '{}',
        'default_on', false, 9, true)
"""


@pytest_asyncio.fixture(loop_scope="module")
async def database(database_url: str) -> AsyncGenerator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def until_hinted(client: NatsClient, chat_id: ChatId) -> None:
    """Wait until a worker is called for a chat; the sweep repeats hints of others meanwhile."""
    async with asyncio.timeout(40):
        while await hints(client, 1) != [chat_id]:
            pass


async def waits(database: asyncpg.Connection) -> int:
    return await database.fetchval("SELECT count(*) FROM waits")


# -- spawning --------------------------------------------------------------------------------------


async def test_one_call_spawns_one_agent_which_takes_after_its_parent(
    store: StoreDriver, client: NatsClient
) -> None:
    family = await Family.begin(store)
    first = await family.spawn(title="look", kind="explore", effort="low")
    again = await family.spawn(title="look", kind="explore", effort="low")
    other = await family.spawn("s-2", detached=True)

    assert (again, other != first) == (first, True)
    await until_hinted(client, first)
    await until_hinted(client, other)
    agent = await store.chat(first)
    assert (agent.parent_id, agent.root_id, agent.owner_id, agent.model) == (
        family.parent.id,
        family.parent.id,
        family.parent.owner_id,
        family.parent.model,
    )
    assert (agent.title, agent.agent_kind, agent.status) == ("look", "explore", Status.RUNNING)
    context = await store.acquire(first, "runner-2")
    owned = context.chat
    assert (owned.parent_id, owned.agent_kind, owned.effort, owned.may_spawn) == (
        family.parent.id,
        "explore",
        "low",
        False,
    )
    assert [m.parts for m in context.messages] == [text("do s-1")]
    created = await store.log.until(first, events.ChatCreated)
    assert isinstance(created, events.ChatCreated)
    assert created.parent_id == family.parent.id


async def test_only_the_worker_of_a_running_chat_spawns_within_the_limits(
    store: StoreDriver,
) -> None:
    family = await Family.begin(store)
    with pytest.raises(StaleFence):
        await family.spawn(caller=family.caller("runner-2"))
    with pytest.raises(UnknownModel, match="demo/none"):
        await family.spawn(model=ModelName("demo/none"))
    agent = await family.spawn()
    await store.acquire(agent, "runner-2")
    with pytest.raises(Conflict, match="agents go 1 deep at most"):
        await family.spawn(caller=rpc.Caller(agent, RunnerId("runner-2")))
    before = {agent, *[await family.spawn(f"s-{number}") for number in range(2, 61)]}
    # Two stores answer, all at once, and each call is made twice: four more, and not one beyond.
    wanted = [f"s-{number}" for number in range(61, 69)]
    found = await asyncio.gather(*map(family.spawn, wanted * 2), return_exceptions=True)
    refused = [one for one in found if isinstance(one, BaseException)]
    assert {type(one) for one in refused} == {Conflict}
    assert {str(one) for one in refused} == {
        "64 agents of this chat are at work, and no more may be: wait for one of them, or "
        "interrupt one"
    }
    spawned = {one for one in found if not isinstance(one, BaseException)}
    listed = {state.agent_id for state in (await family.look()).agents}
    assert (len(spawned), len(listed)) == (4, 64)
    assert listed == before | spawned
    # What was spawned stays so, however full it is by now.
    calls = dict(zip(wanted * 2, found, strict=True))
    there = next(call for call, one in calls.items() if not isinstance(one, BaseException))
    assert await family.spawn(there) == calls[there]

    await store.interrupt(family.parent.id)
    with pytest.raises(StaleFence):
        await family.spawn("s-66")


async def test_lists_leave_agents_out_and_show_those_of_one_chat(store: StoreDriver) -> None:
    family = await Family.begin(store)
    agent = await family.spawn()

    async def listed(parent: ChatId | None) -> list[ChatId]:
        request = people.ListChats(store.actor, parent_id=parent)
        return [chat.id for chat in (await store.rpc.call(people.LIST, request)).chats]

    assert await listed(None) == [family.parent.id]
    assert await listed(family.parent.id) == [agent]
    assert await listed(agent) == []


async def test_rules_and_grants_of_the_parent_hold_for_its_agents(
    store: StoreDriver, database: asyncpg.Connection
) -> None:
    family = await Family.begin(store)
    rules = '[{"decision": "deny", "tool": "drop"}]'
    await database.execute(
        "INSERT INTO policies (level, subject, rules) VALUES ('chat', $1, $2)",
        family.parent.id,
        rules,
    )
    await database.execute(
        "INSERT INTO grants (user_id, chat_id, tool) VALUES ($1, $2, 'look')",
        store.actor.user_id,
        family.parent.id,
    )

    owned = (await store.acquire(await family.spawn(), "runner-2")).chat

    assert [rule.tool for level in owned.policies for rule in level.rules] == ["drop"]
    assert owned.grants == ("look",)


@pytest.mark.own_stack
async def test_rules_outlive_the_chat_that_they_were_made_for_only_where_they_hold(
    store: StoreDriver, database: asyncpg.Connection
) -> None:
    family = await Family.begin(store)
    free = await family.spawn("free", detached=True)
    await family.spawn("taken-along")
    await database.execute(
        "INSERT INTO policies (level, subject, rules) VALUES ('chat', $1, $2)",
        family.parent.id,
        '[{"decision": "deny", "tool": "drop"}]',
    )

    await store.delete(family.parent.id)

    owned = (await store.acquire(free, "runner-2")).chat
    assert [rule.tool for level in owned.policies for rule in level.rules] == ["drop"]
    subjects_left = await database.fetch("SELECT subject::text FROM policies")
    assert [row["subject"] for row in subjects_left] == [free]


# -- messages --------------------------------------------------------------------------------------


async def test_messages_reach_agents_below_once_and_a_full_queue_says_so(
    store: StoreDriver,
) -> None:
    family = await Family.begin(store)
    agent = await family.spawn()
    await store.acquire(agent, "runner-2")
    stranger = await store.create("somebody else's")

    assert await family.message(agent, "and that", "m-0") == "queued"
    assert await family.message(agent, "and that", "m-0") == "queued"
    assert (await store.chat(agent)).queue_size == 1
    for target in (stranger.id, family.parent.id, ChatId(str(stranger.id)[:-4] + "0000")):
        with pytest.raises(NotFound, match="this chat has no agent"):
            await family.message(target, "hello", "m-1")
        with pytest.raises(NotFound, match="this chat has no agent"):
            await family.look(agent, target)
    for number in range(1, 20):
        await family.message(agent, "more", f"q-{number}")
    with pytest.raises(QueueFull):
        await family.message(agent, "too much", "q-20")

    request = rpc.InterruptAgent(family.caller(), family.call("i-1"), agent)
    assert (await store.rpc.call(rpc.INTERRUPT_AGENT, request)).status is Status.INTERRUPTING
    await store.finish_interruption(await store.fence(agent, "runner-2"))
    again = await store.rpc.call(rpc.INTERRUPT_AGENT, request)
    assert again.status is Status.INTERRUPTING
    # The next of the queue had begun by then: it is another turn, and goes on.
    assert (await store.chat(agent)).status is Status.RUNNING


# -- waiting ---------------------------------------------------------------------------------------


async def test_a_wait_ends_with_the_last_report_and_calls_a_worker(
    store: StoreDriver, client: NatsClient, database: asyncpg.Connection
) -> None:
    family = await Family.begin(store)
    one, two = await family.spawn("s-1"), await family.spawn("s-2")
    await until_hinted(client, family.parent.id)  # from its beginning

    chat = await family.wait(one, two)
    assert chat.action is not None
    (pending,) = chat.action.waits
    assert (pending.agent_ids, chat.action.needs_client) == ((one, two), False)
    await end(store, two, "second \x00 report")
    assert (await store.chat(family.parent.id)).status is Status.REQUIRES_ACTION
    await store.acquire(one, "runner-2")
    await store.finish_error(await store.fence(one, "runner-2"), assistant("half of it"))

    told = await family.told()
    assert [(a["agent_id"], a["status"], a["report"]) for a in told["agents"]] == [
        (one, "error", "half of it"),
        (two, "completed", "second \x00 report"),
    ]
    assert told["agents"][0]["error"] == "it broke"
    assert "timed_out" not in told
    await until_hinted(client, family.parent.id)
    assert await waits(database) == 0
    calls = [m.role for m in await store.messages(family.parent.id)]
    assert calls == [Role.USER, Role.ASSISTANT, Role.TOOL]


async def test_agents_that_were_faster_than_the_wait_end_it_at_once(store: StoreDriver) -> None:
    family = await Family.begin(store)
    agent = await family.spawn()
    await end(store, agent, "done already")

    await family.wait(agent)

    (told,) = (await family.told())["agents"]
    assert told["report"] == "done already"


async def test_an_agent_with_a_desktop_shows_what_it_saw_last(store: StoreDriver) -> None:
    family = await Family.begin(store)
    agent = await family.spawn(kind="computer_use")
    look = ToolCallPart("c-1", "computer", {"action": "screenshot"})
    seen = [FilePart("image/png", data=bytes([n]) * 9) for n in (1, 2)]
    await family.wait(agent)
    await store.acquire(agent, "runner-2")
    await store.commit(await store.fence(agent, "runner-2"), assistant(look))
    screens = ToolResultPart(look.call_id, look.tool, (TextPart("two"), *seen))
    await store.commit(await store.fence(agent, "runner-2"), work.NewMessage(Role.TOOL, (screens,)))
    await end(store, agent, "It is done.")

    said, screen = await family.answered()
    assert isinstance(said, JsonPart)
    assert said.value["agents"][0]["report"] == "It is done."
    assert screen == seen[1]


async def test_one_of_several_can_be_enough_and_the_others_tell_how_far_they_are(
    store: StoreDriver,
) -> None:
    family = await Family.begin(store)
    one, two = await family.spawn("s-1"), await family.spawn("s-2")
    await family.wait(one, two, any_of=True)
    await end(store, two, "first to come")

    told = await family.told()

    assert [a["status"] for a in told["agents"]] == ["running", "completed"]


async def test_the_time_that_was_given_ends_a_wait_and_not_the_turn(store: StoreDriver) -> None:
    family = await Family.begin(store)
    agent = await family.spawn()
    await family.wait(agent, timeout_s=0.1)

    told = await family.told()

    assert told["timed_out"] is True
    assert [a["status"] for a in told["agents"]] == ["running"]
    assert "report" not in told["agents"][0]


async def test_a_wait_goes_together_with_a_client_and_a_person(store: StoreDriver) -> None:
    calls = (OTHER, WAIT, ASKED)
    family = await Family.begin(store, *calls)
    agent = await family.spawn()
    ask = PendingApproval(ASKED.call_id, ASKED.tool, {})
    chat = await family.wait(agent, calls=calls, approvals=(ask,))
    assert chat.action is not None
    assert [call.call_id for call in chat.action.calls] == [OTHER.call_id]
    assert chat.action.needs_client

    await store.submit(chat.id, {OTHER.call_id: "picked"})
    await end(store, agent, "report")

    async def is_answered() -> bool:
        action = (await store.chat(chat.id)).action
        return action is not None and not action.waits

    await until(is_answered)
    assert (await store.chat(chat.id)).status is Status.REQUIRES_ACTION
    await store.resolve(chat.id, ASKED.call_id, approved=False)

    assert (await store.chat(chat.id)).status is Status.RUNNING
    results = await family.results()
    assert [(r.call_id, r.is_error) for r in results] == [
        (OTHER.call_id, False),
        (WAIT.call_id, False),
        (ASKED.call_id, True),
    ]


async def _interrupt(store: StoreDriver, chat: Chat) -> None:
    await store.interrupt(chat.id)


async def _send(store: StoreDriver, chat: Chat) -> None:
    await store.send(chat.id, "now", busy_behavior="interrupt")


async def _promote(store: StoreDriver, chat: Chat) -> None:
    await store.send(chat.id, "now")
    await store.promote_queued(chat.id, (await store.queued_ids(chat.id))[0])


async def _edit(store: StoreDriver, chat: Chat) -> None:
    await store.edit(chat.id, (await store.messages(chat.id))[0].id, "another")


async def _delete(store: StoreDriver, chat: Chat) -> None:
    await store.delete(chat.id)


@pytest.mark.parametrize("way", [_interrupt, _send, _promote, _edit, _delete])
async def test_every_way_out_of_a_wait_leaves_no_call_open_and_stops_the_agents(
    store: StoreDriver,
    database: asyncpg.Connection,
    way: Callable[[StoreDriver, Chat], Awaitable[None]],
) -> None:
    family = await Family.begin(store)
    agent = await family.spawn()
    await store.acquire(agent, "runner-2")
    chat = await family.wait(agent)
    with pytest.raises(TransitionRefused):
        await store.archive(chat.id)
    with pytest.raises(Exception, match="must be those of the pending calls"):
        await store.submit(chat.id, {WAIT.call_id: "a forged report"})
    assert await waits(database) == 1

    await way(store, chat)

    assert await waits(database) == 0
    if way is _delete:
        await store.log.until(agent, events.ChatDeleted)
        return
    await store.log.until(agent, events.ChatStatusChanged, status=Status.INTERRUPTING)
    results = await family.results()
    assert [(r.call_id, r.is_error) for r in results] == (
        [] if way is _edit else [(WAIT.call_id, True)]
    )
    before = len(await store.messages(chat.id))
    await store.finish_interruption(await store.fence(agent, "runner-2"), assistant("late"))
    if way is _edit:  # nothing of the history has spawned it
        await store.log.until(agent, events.ChatArchived)
    assert len(await store.messages(chat.id)) == before


async def test_the_sweep_ends_what_nobody_told_of(
    store: StoreDriver, database: asyncpg.Connection
) -> None:
    family = await Family.begin(store)
    agent = await family.spawn()
    await family.wait(agent)

    # As if the process had died right after its commit.
    await database.execute("UPDATE chats SET status = 'waiting' WHERE id = $1", agent)

    assert [a["status"] for a in (await family.told())["agents"]] == ["idle"]


async def test_parents_in_a_circle_end_every_walk(
    store: StoreDriver, database: asyncpg.Connection
) -> None:
    """No transition makes one; whatever does must not hang the store."""
    family = await Family.begin(store)
    agent = await family.spawn()
    stranger = await store.create("somebody else's")
    await database.execute(_ANY_SERVER)
    await database.execute("UPDATE chats SET parent_id = $1 WHERE id = $2", agent, family.parent.id)

    async with asyncio.timeout(20):
        owned = (await store.acquire(agent, "runner-2")).chat
        await store.commit(await store.fence(agent, "runner-2"), assistant("a step"))
        for target in (family.parent.id, stranger.id):
            with pytest.raises(NotFound, match="this chat has no agent"):
                await family.message(target, "hello", "m-1")
        assert (await family.look(agent)).agents[0].agent_id == agent
        await store.interrupt(family.parent.id)
    assert not owned.may_spawn


# -- what a family shares --------------------------------------------------------------------------


@pytest.mark.own_stack
async def test_an_interrupt_reaches_every_agent_but_the_detached_and_empties_their_queues(
    nats: NatsServer, database_url: str, client: NatsClient
) -> None:
    controls: asyncio.Queue[ChatId] = asyncio.Queue()
    client.listen(
        subjects.control(RunnerId("runner-2")),
        lambda _, __, ___, payload: controls.put_nowait(json.loads(payload)["chat_id"]),
    )
    # Nothing is left to the sweep, which would find it in the end.
    async with running_store(nats.url(), database_url, max_agent_depth=2, sweep_s=3600.0):
        store = StoreDriver(client, await new_actor(database_url))
        family = await Family.begin(store)
        child, free = await family.spawn("s-1"), await family.spawn("s-2", detached=True)
        for chat_id in (child, free):
            await store.acquire(chat_id, "runner-2")
        grandchild = await family.spawn(caller=rpc.Caller(child, RunnerId("runner-2")))
        await store.acquire(grandchild, "runner-2")
        await family.message(child, "and then", "m-1")

        await store.interrupt(family.parent.id)

        for chat_id in (child, grandchild):
            await store.log.until(chat_id, events.ChatStatusChanged, status=Status.INTERRUPTING)
        async with asyncio.timeout(20):
            assert {await controls.get(), await controls.get()} == {child, grandchild}
        await store.finish_interruption(await store.fence(child, "runner-2"))
        assert (await store.chat(child)).status is Status.WAITING
        assert (await store.chat(free)).status is Status.RUNNING

        # What is told again is not interrupted by what is over.
        await store.finish_interruption(await store.fence(family.parent.id))
        await store.send(child, "again")
        assert (await store.chat(child)).status is Status.RUNNING

        # The same without a sweep: reports wake their parent, and agents are put away with it.
        other = await Family.begin(store)
        agent = await other.spawn()
        await other.wait(agent)
        await end(store, agent, "report")
        assert (await other.told())["agents"][0]["report"] == "report"
        await store.acquire(other.parent.id)
        await store.finish(await store.fence(other.parent.id), assistant("bye"))
        await store.archive(other.parent.id)
        await store.log.until(agent, events.ChatArchived)
        await store.delete(other.parent.id)
        await store.log.until(agent, events.ChatDeleted)


async def test_what_is_put_away_or_deleted_takes_its_agents_along(
    store: StoreDriver, database: asyncpg.Connection
) -> None:
    family = await Family.begin(store)
    busy, idle, free = [
        await family.spawn(name, detached=name == "free") for name in ("busy", "idle", "free")
    ]
    await end(store, idle, "done")
    await store.acquire(busy, "runner-2")
    await store.finish(await store.fence(family.parent.id), assistant("bye"))

    await store.archive(family.parent.id)
    await store.log.until(busy, events.ChatStatusChanged, status=Status.INTERRUPTING)
    await store.finish_interruption(await store.fence(busy, "runner-2"))
    for agent in (busy, idle):
        await store.log.until(agent, events.ChatArchived)
    assert not (await store.chat(free)).archived
    server = uuid4()
    await database.execute(
        "UPDATE chats SET mcp_server_ids = $2 WHERE id = $1", family.parent.id, [server]
    )

    await store.delete(family.parent.id)

    for agent in (busy, idle):
        await store.log.until(agent, events.ChatDeleted, parent_id=family.parent.id)
    survivor = await store.chat(free)
    assert (survivor.parent_id, survivor.root_id, survivor.status) == (None, None, Status.RUNNING)
    assert survivor.mcp_server_ids == (str(server),)  # as it had them by its parent
    await until(lambda: _none_left(database))


async def _none_left(database: asyncpg.Connection) -> bool:
    return await database.fetchval("SELECT count(*) FROM cascades") == 0


async def test_only_agents_of_what_was_edited_away_are_put_away(store: StoreDriver) -> None:
    family = await Family.begin(store)
    kept = await family.spawn("kept")
    await store.finish(
        await store.fence(family.parent.id), work.NewMessage(Role.TOOL, (_answer(WAIT),))
    )
    second = await store.send(family.parent.id, "and now")
    await store.acquire(family.parent.id)
    committed = await store.commit(await store.fence(family.parent.id), assistant(OTHER))
    family.message_id = committed.messages[-1].id
    orphan = await family.spawn("orphan")
    assert second.message is not None

    await store.edit(family.parent.id, second.message.id, "rather")

    # Nobody had begun to work on it: a worker ends it, as any other.
    await store.log.until(orphan, events.ChatStatusChanged, status=Status.INTERRUPTING)
    await store.acquire(orphan, "runner-2")
    await store.finish_interruption(await store.fence(orphan, "runner-2"))
    await store.log.until(orphan, events.ChatArchived)
    assert (await store.chat(kept)).status is Status.RUNNING


def _answer(call: ToolCallPart) -> ToolResultPart:
    return ToolResultPart(call.call_id, call.tool)


async def test_an_agent_that_is_deleted_need_not_be_waited_for(store: StoreDriver) -> None:
    family = await Family.begin(store)
    agent = await family.spawn()
    await family.wait(agent)

    await store.delete(agent)

    assert (await family.told())["agents"] == [{"agent_id": agent, "status": "gone"}]


async def test_the_cost_of_a_tree_is_the_sum_of_its_chats_also_of_deleted_ones(
    store: StoreDriver, database: asyncpg.Connection
) -> None:
    prices = json.dumps({"prices": {"input": 1_000_000, "output": 1_000_000}})
    await database.execute("UPDATE models SET settings = $1 WHERE name = 'demo/echo'", prices)
    family = await Family.begin(store, WAIT)
    agents = [await family.spawn(name) for name in ("one", "two")]
    for number, agent in enumerate(agents, start=1):
        await store.acquire(agent, "runner-2")
        step = work.NewMessage(
            Role.ASSISTANT,
            text("report"),
            model=ModelName("demo/echo"),
            usage=Usage(input_tokens=number * 10, output_tokens=5),
            stop="end",
        )
        await store.finish(await store.fence(agent, "runner-2"), step)

    costs = [(await store.chat(agent)).cost_micros for agent in agents]
    assert costs == [15, 25]
    root = await store.chat(family.parent.id)
    assert (root.cost_micros, root.tree_cost_micros) == (0, 40)
    assert [a.cost_micros for a in (await family.look(*agents)).agents] == costs
    await store.delete(agents[0])
    assert (await store.chat(family.parent.id)).tree_cost_micros == 40
