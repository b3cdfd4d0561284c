"""Finding chats again: labels, pins, what was read, search; and forks."""

from __future__ import annotations

import json
from typing import Any

import asyncpg
import pytest
from support.agents import Family
from support.chat_driver import StoreDriver, assistant, summary, text, words_of
from support.chat_sql import CASES, Case, ChatSql

from steersman_contracts.chats import Chat, Role, Status
from steersman_contracts.errors import Conflict, InvalidRequest, NotFound
from steersman_contracts.ids import ChatId, MessageId, RunnerId
from steersman_contracts.parts import TextPart, ToolCallPart, ToolResultPart
from steersman_contracts.policies import Rule
from steersman_contracts.rpc import chats as people
from steersman_contracts.rpc import policies, steering
from steersman_contracts.rpc import worker as work
from steersman_contracts.terms import TurnLimits
from steersman_store.chats import check_labels

pytestmark = pytest.mark.one_stack


async def found(store: StoreDriver, **wanted: Any) -> list[str]:
    """The titles of the chats that a list shows."""
    page = await store.rpc.call(people.LIST, people.ListChats(store.actor, **wanted))
    return [chat.title for chat in page.chats]


async def answered(store: StoreDriver, question: str, answer: str) -> Chat:
    """A chat with one question and one answer."""
    chat = await store.create(question)
    await store.acquire(chat.id)
    await store.finish(await store.fence(chat.id), assistant(answer))
    return await store.chat(chat.id)


async def read(store: StoreDriver, chat_id: ChatId, message_id: int | None = None) -> Chat:
    mark = None if message_id is None else MessageId(message_id)
    request = people.MarkRead(store.actor, chat_id, mark)
    return (await store.rpc.call(people.MARK_READ, request)).chat


async def pin(store: StoreDriver, chat_id: ChatId, position: int | None) -> Chat:
    request = people.PinChat(store.actor, chat_id, position)
    return (await store.rpc.call(people.PIN, request)).chat


async def label(store: StoreDriver, chat_id: ChatId, labels: dict[str, str]) -> Chat:
    request = people.LabelChat(store.actor, chat_id, labels)
    return (await store.rpc.call(people.LABEL, request)).chat


async def test_an_answer_is_unread_until_it_was_read(store: StoreDriver) -> None:
    chat = await answered(store, "question", "answer")
    question, answer = await store.messages(chat.id)

    assert chat.has_unread
    assert (await read(store, chat.id, question.id)).has_unread
    assert not (await read(store, chat.id, answer.id)).has_unread
    assert not (await read(store, chat.id, question.id)).has_unread, "it never goes back"


async def test_pins_stay_dense_wherever_they_are_put(store: StoreDriver) -> None:
    chats = {name: await store.create(name) for name in "abcd"}
    for name, position in (("a", 1), ("b", 1), ("c", 99), ("d", 2)):
        await pin(store, chats[name].id, position)

    async def order() -> list[tuple[int | None, str]]:
        page = await store.rpc.call(people.LIST, people.ListChats(store.actor, pinned=True))
        return sorted((chat.pin_position, chat.title) for chat in page.chats)

    assert await order() == [(1, "b"), (2, "d"), (3, "a"), (4, "c")]
    await pin(store, chats["c"].id, 1)
    assert await order() == [(1, "c"), (2, "b"), (3, "d"), (4, "a")]
    await pin(store, chats["b"].id, None)
    assert await order() == [(1, "c"), (2, "d"), (3, "a")]
    assert await found(store, pinned=False) == ["b"]


async def test_labels_filter_and_are_bounded(store: StoreDriver) -> None:
    one, two = await store.create("one"), await store.create("two")
    await label(store, one.id, {"team/name": "sea", "urgent": ""})
    await label(store, two.id, {"team/name": "land"})

    assert await found(store, labels={"team/name": "sea"}) == ["one"]
    assert await found(store, labels={"team/name": "sea", "urgent": "yes"}) == []
    with pytest.raises(InvalidRequest) as refused:
        await label(store, one.id, {"-x": "y"})
    assert refused.value.details["field"] == "labels.-x"
    assert (await store.chat(one.id)).labels == {"team/name": "sea", "urgent": ""}


@pytest.mark.own_stack
async def test_a_list_shows_what_all_its_filters_let_through(sql: ChatSql) -> None:
    chats = {case: await sql.made(case) for case in CASES}
    await sql.call("label_chat", sql.user_id, chats[Case(Status.RUNNING)], '{"team": "sea"}')
    await sql.call("pin_chat", sql.user_id, chats[Case(Status.ERROR)], 1)

    async def shown(
        *,
        archived: bool | None = None,
        status: Status | None = None,
        labels: str | None = None,
        words: str | None = None,
        pinned: bool | None = None,
    ) -> set[str]:
        page = await sql.connection.fetchval(
            "SELECT list_chats($1, 200, NULL, NULL, $2, $3, $4, $5, $6, NULL)",
            *(sql.user_id, archived, status, labels, words, pinned),
        )
        return {chat["id"] for chat in json.loads(page)["chats"]}

    for status in (None, *Status):
        for archived in (None, True, False):
            assert await shown(archived=archived, status=status) == {
                chat_id
                for case, chat_id in chats.items()
                if status in (None, case.status) and archived in (None, case.archived)
            }
    labelled = chats[Case(Status.RUNNING)]
    assert await shown(labels='{"team": "sea"}', status=Status.RUNNING) == {labelled}
    assert await shown(labels='{"team": "sea"}', status=Status.ERROR) == set()
    assert await shown(pinned=True, words="second") == {chats[Case(Status.ERROR)]}
    assert await shown(words="done") == set(chats.values())
    # What still waits in a queue has not been said.
    assert await shown(words="queued") == set()


@pytest.mark.parametrize("key", ["a", "Z9", "a" * 64, "a.b_c/d-e", "9"])
def test_a_label_that_is_short_and_plain_is_taken(key: str) -> None:
    check_labels({key: "v" * 256})
    check_labels({key: "\u00e9" * 128})
    check_labels({f"k{n}": "" for n in range(50)})


@pytest.mark.parametrize(
    "labels",
    [
        *({key: ""} for key in ("", "a" * 65, ".a", "-a", "/a", "_a", "a b", "a\n", "\u00e9")),
        {"a": "v" * 257},
        {"a": "\u00e9" * 129},
        {f"k{n}": "" for n in range(51)},
    ],
)
def test_a_label_beyond_its_bounds_is_refused(labels: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest):
        check_labels(labels)


async def test_words_are_found_in_titles_and_messages(store: StoreDriver) -> None:
    await answered(store, "the harbour", "Ships sail at dawn.")
    await answered(store, "gardening", "Tulips NUL \x00 sail nowhere.")

    assert await found(store, words="harbour") == ["the harbour"]
    assert sorted(await found(store, words="SAIL")) == ["gardening", "the harbour"]
    assert await found(store, words='"sail at dawn"') == ["the harbour"]
    assert await found(store, words="sail -ships") == ["gardening"]
    assert await found(store, words="submarine") == []
    assert await found(store, words="sail", status=Status.ERROR) == []


async def test_a_fork_shares_the_history_up_to_a_message_and_goes_its_own_way(
    store: StoreDriver,
) -> None:
    chat = await answered(store, "first", "one")
    await store.send(chat.id, "second")
    answer = (await store.messages(chat.id))[1]

    request = people.ForkChat(store.actor, chat.id, answer.id, "a fork")
    fork = (await store.rpc.call(people.FORK, request)).chat
    await store.send(fork.id, "elsewhere")

    assert (chat.has_unread, fork.has_unread) == (True, False)
    assert (fork.status, fork.title, fork.model) == (Status.WAITING, "a fork", chat.model)
    assert [words_of(m) for m in await store.messages(fork.id)] == ["first", "one", "elsewhere"]
    assert [words_of(m) for m in await store.messages(chat.id)] == ["first", "one", "second"]
    with pytest.raises(NotFound):
        await store.rpc.call(people.FORK, people.ForkChat(store.actor, fork.id, answer.id))


async def test_a_fork_keeps_the_terms_of_its_chat(store: StoreDriver) -> None:
    terms: dict[str, Any] = {
        "plan_mode": True,
        "limits": TurnLimits(tokens=100),
        "response_schema": {"type": "object"},
    }
    chat = await store.create("first", **terms)
    message = (await store.messages(chat.id))[0]

    request = people.ForkChat(store.actor, chat.id, message.id)
    fork = (await store.rpc.call(people.FORK, request)).chat

    assert {name: getattr(fork, name) for name in terms} == terms


async def test_a_fork_stays_where_its_chat_was_and_under_the_same_rules(
    store: StoreDriver, database_url: str
) -> None:
    """Also one of an agent, which had all of that by the chat above it."""
    family = await Family.begin(store)
    agent = await family.spawn()
    await store.acquire(agent, "runner-2")
    asked = ToolCallPart("p-1", "propose_plan", {"plan": "# Plan"})
    committed = await store.commit(await store.fence(agent, "runner-2"), assistant("hm", asked))
    proposed = committed.messages[-1].id
    plan = steering.ProposePlan(agent, RunnerId("runner-2"), f"{proposed}:p-1", "# Plan")
    await store.rpc.call(steering.PROPOSE_PLAN, plan)
    rules = (Rule("deny", "drop"),)
    put = policies.PutPolicy(store.actor, "chat", rules, family.parent.id)
    await store.rpc.call(policies.PUT, put)
    connection = await asyncpg.connect(database_url)
    workspace = await connection.fetchval(
        "INSERT INTO workspaces "
        "(id, owner_id, name, template, driver, parameters, environment, state, host) "
        "VALUES (gen_random_uuid(), $1, 'w', 't', 'directory', '{}', '{}', 'running', 'h') "
        "RETURNING id::text",
        store.actor.user_id,
    )
    await connection.execute(
        "UPDATE chats SET workspace_id = $1::uuid WHERE id = $2", workspace, family.parent.id
    )
    await connection.close()

    request = people.ForkChat(store.actor, agent, proposed)
    fork = (await store.rpc.call(people.FORK, request)).chat

    assert (fork.parent_id, fork.workspace_id) == (None, workspace)
    get = policies.GetPolicy(store.actor, "chat", fork.id)
    assert (await store.rpc.call(policies.GET, get)).rules == rules
    shared = next(m.id for m in await store.messages(fork.id) if asked in m.parts)
    assert fork.plan is not None
    assert (fork.plan.text, fork.plan.call_id) == ("# Plan", f"{shared}:p-1")
    await store.edit(fork.id, (await store.messages(fork.id))[0].id, "another")
    assert (await store.chat(fork.id)).plan is None
    early = (await store.messages(agent))[0].id
    before = people.ForkChat(store.actor, agent, early)
    assert (await store.rpc.call(people.FORK, before)).chat.plan is None


async def test_a_fork_never_parts_calls_from_their_results(store: StoreDriver) -> None:
    chat = await store.create("first")
    await store.acquire(chat.id)
    call = ToolCallPart("call-1", "read_file", {})
    await store.commit(await store.fence(chat.id), assistant(call))
    result = ToolResultPart("call-1", "read_file", text("content"))  # pyright: ignore[reportArgumentType]  # text parts
    await store.commit(await store.fence(chat.id), work.NewMessage(Role.TOOL, (result,)))
    asked = (await store.messages(chat.id))[1]

    request = people.ForkChat(store.actor, chat.id, asked.id)
    fork = (await store.rpc.call(people.FORK, request)).chat

    roles = [message.role for message in await store.messages(fork.id)]
    assert roles == [Role.USER, Role.ASSISTANT, Role.TOOL]


async def test_a_fork_of_a_step_whose_calls_still_run_leaves_none_of_them_open(
    store: StoreDriver,
) -> None:
    chat = await store.create("first")
    await store.acquire(chat.id)
    ran = ToolCallPart("call-1", "web_search", {}, provider_executed=True)
    found = ToolResultPart("call-1", "web_search", provider_executed=True)
    call = ToolCallPart("call-2", "read_file", {})
    await store.commit(await store.fence(chat.id), assistant(ran, found, call))
    asked = (await store.messages(chat.id))[1]

    request = people.ForkChat(store.actor, chat.id, asked.id)
    fork = (await store.rpc.call(people.FORK, request)).chat

    missing = TextPart("interrupted before it produced a result")
    assert [message.parts for message in (await store.messages(fork.id))[2:]] == [
        (ToolResultPart("call-2", "read_file", (missing,), is_error=True),)
    ]
    assert len(await store.messages(chat.id)) == 2


async def test_a_summary_that_was_followed_cannot_be_taken_back_in_a_fork(
    store: StoreDriver,
) -> None:
    chat = await answered(store, "first", "one")
    await store.compact(chat.id)
    await store.acquire(chat.id)
    await store.commit_compaction(await store.fence(chat.id), summary("so far"))
    await store.finish(await store.fence(chat.id), assistant("two"))
    last = (await store.messages(chat.id))[-1]

    fork = (await store.rpc.call(people.FORK, people.ForkChat(store.actor, chat.id, last.id))).chat

    with pytest.raises(Conflict, match="nothing has followed"):
        await store.undo_compaction(fork.id)


@pytest.mark.parametrize("what", ["edit", "fork"])
async def test_a_message_for_the_model_alone_is_not_there_for_people(
    store: StoreDriver, what: str
) -> None:
    chat = await answered(store, "first", "one")
    await store.compact(chat.id)
    await store.acquire(chat.id)
    written = await store.commit_compaction(await store.fence(chat.id), summary("so far"))
    hidden = written.messages[0].id

    fork = people.ForkChat(store.actor, chat.id, hidden)
    asked = (
        store.edit(chat.id, hidden, "words")
        if what == "edit"
        else store.rpc.call(people.FORK, fork)
    )

    with pytest.raises(NotFound):
        await asked
