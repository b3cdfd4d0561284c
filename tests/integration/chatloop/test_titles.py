"""A chat gets its first words at once and a title soon; a person's title stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import asyncpg
import pytest
import pytest_asyncio
from fakes import FakeProviders, HttpError, Script, Text, Turn
from support.chat_driver import StoreDriver, new_actor, words_of
from support.chatloop import ModelSetup
from support.services import running_chatloops

from steersman.embedded.nats import NatsServer
from steersman_contracts import events
from steersman_contracts.chats import Chat
from steersman_contracts.errors import Conflict, NotFound, TransitionRefused
from steersman_contracts.ids import ChatId
from steersman_contracts.model_options import Prices
from steersman_contracts.rpc import chats as people
from steersman_contracts.rpc import titles as rpc
from steersman_contracts.rpc.usage import GET_USAGE, GetUsage

pytestmark = pytest.mark.one_stack

QUESTION = "Please tell me everything that there is to know about the tides of the North Sea"


@pytest_asyncio.fixture(loop_scope="module")
async def chatloop(nats: NatsServer, store: StoreDriver) -> AsyncGenerator[None]:
    async with running_chatloops(nats.url(), generate_titles=True):
        yield


async def titled(store: StoreDriver, chat_id: ChatId, title: str) -> Chat:
    """Wait until the chat is called so."""
    async with asyncio.timeout(60):
        while True:
            count = len(store.log.seen)
            for event in store.log.of(chat_id):
                if isinstance(event, events.ChatUpdated) and event.chat.title == title:
                    return event.chat
            await store.log.more(count)


async def regenerate(store: StoreDriver, chat_id: ChatId) -> Chat:
    request = rpc.RegenerateTitle(store.actor, chat_id)
    return (await store.rpc.call(rpc.REGENERATE_TITLE, request)).chat


async def rename(store: StoreDriver, chat_id: ChatId, title: str) -> Chat:
    request = people.UpdateChat(store.actor, chat_id, title=title)
    return (await store.rpc.call(people.UPDATE, request)).chat


async def side_usage(database_url: str) -> list[tuple[str, str]]:
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch("SELECT purpose, model FROM side_usage ORDER BY id")
        return [(row["purpose"], row["model"]) for row in rows]
    finally:
        await connection.close()


@pytest.mark.own_stack  # it counts what was spent by anybody
@pytest.mark.usefixtures("chatloop")
async def test_a_cheap_model_names_a_chat_while_its_turn_is_still_running(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, database_url: str
) -> None:
    fakes.script("claude-opus", Turn([Text("They come and go.")]))
    fakes.script("claude-haiku", Turn([Text('"Tides of the North Sea"')]))
    gate = fakes.hold("claude-opus")
    await models.add("anthropic", "claude-haiku", prices=Prices(1_000_000, 1_000_000))
    chat = await store.create(QUESTION, model=await models.add("anthropic", "claude-opus"))

    named = await titled(store, chat.id, "Tides of the North Sea")
    gate.release()
    rested = await store.at_rest(chat.id)

    assert (chat.title, chat.title_source) == (
        "Please tell me everything that there is to know about the\u2026",
        "auto",
    )
    assert (named.status, named.title_source) == ("running", "generated")
    assert (rested.title, rested.last_outcome) == ("Tides of the North Sea", "completed")
    assert words_of((await store.messages(chat.id))[-1]) == "They come and go."
    assert await side_usage(database_url) == [("title", "anthropic/claude-haiku")]
    spent = await store.rpc.call(GET_USAGE, GetUsage(store.actor, group_by="model"))
    by_model = {row.key: row for row in spent.rows}
    title, answer = by_model["anthropic/claude-haiku"], by_model["anthropic/claude-opus"]
    assert (title.steps, answer.steps, spent.total.steps) == (0, 1, 1)
    assert title.input_tokens > 0
    assert title.output_tokens > 0
    assert title.cost_micros == title.input_tokens + title.output_tokens
    assert rested.cost_micros == title.cost_micros + answer.cost_micros == spent.total.cost_micros
    await store.send(chat.id, "more")
    await store.at_rest(chat.id)
    assert len([r for r in fakes.requests if r.model == "claude-haiku"]) == 1


@pytest.mark.usefixtures("chatloop")
async def test_when_the_cheap_model_fails_the_own_one_is_asked(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup
) -> None:
    fakes.script("claude-opus", Script([Turn([Text("Tides")])], repeat=True))
    fakes.script("claude-haiku", Turn([Text("never said")]))
    fakes.fault("claude-haiku", HttpError(404))
    await models.add("anthropic", "claude-haiku")
    chat = await store.create(QUESTION, model=await models.add("anthropic", "claude-opus"))

    await titled(store, chat.id, "Tides")

    assert (await store.at_rest(chat.id)).last_outcome == "completed"


@pytest.mark.usefixtures("chatloop")
async def test_a_title_of_a_person_is_replaced_only_when_they_ask(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup
) -> None:
    fakes.script("m", Script([Turn([Text("Tides")])], repeat=True))
    model = await models.add("anthropic", "m")
    mine = await store.create(QUESTION, model=model, title="Mine")
    await store.at_rest(mine.id)
    assert len(fakes.requests) == 1, "nobody looked for a title"

    await regenerate(store, mine.id)

    assert (await titled(store, mine.id, "Tides")).title_source == "generated"
    assert (await rename(store, mine.id, "Mine again")).title_source == "person"
    late = rpc.SetGeneratedTitle(mine.id, "Too late", mine.model, "generated")
    assert not (await store.rpc.call(rpc.SET_GENERATED_TITLE, late)).accepted
    sly = rpc.SetGeneratedTitle(mine.id, "Not asked for", mine.model, "person")
    assert not (await store.rpc.call(rpc.SET_GENERATED_TITLE, sly)).accepted
    assert (await store.chat(mine.id)).title == "Mine again"


async def test_a_title_that_a_person_gives_meanwhile_wins(
    store: StoreDriver, models: ModelSetup
) -> None:
    chat = await store.create(QUESTION, model=await models.add("anthropic", "m"))
    task = await store.rpc.call(rpc.TAKE_TITLE, rpc.TakeTitle(chat.id))
    await rename(store, chat.id, "Mine")

    found = rpc.SetGeneratedTitle(chat.id, "Tides", chat.model, task.replaces)

    assert task.text == QUESTION
    assert [model.name for model in task.models] == [chat.model]
    assert not (await store.rpc.call(rpc.SET_GENERATED_TITLE, found)).accepted
    assert (await store.rpc.call(rpc.TAKE_TITLE, rpc.TakeTitle(chat.id))).text == ""
    # It was paid for all the same, and its model has not said how much.
    assert (await store.chat(chat.id)).cost_unknown_steps == 1


async def test_naming_is_tried_three_times_unless_somebody_asks(
    store: StoreDriver, models: ModelSetup
) -> None:
    chat = await store.create(QUESTION, model=await models.add("anthropic", "m"))

    async def take() -> str:
        return (await store.rpc.call(rpc.TAKE_TITLE, rpc.TakeTitle(chat.id))).text

    assert [bool(await take()) for _ in range(4)] == [True, True, True, False]
    await regenerate(store, chat.id)
    assert await take() == QUESTION


async def test_who_may_ask_for_a_title(
    store: StoreDriver, models: ModelSetup, database_url: str
) -> None:
    demo = await store.create("hello")
    with pytest.raises(Conflict, match="not good at titles"):
        await regenerate(store, demo.id)
    chat = await store.create(None, model=await models.add("anthropic", "m"))
    bob = await new_actor(database_url, "bob")
    with pytest.raises(NotFound):
        await store.rpc.call(rpc.REGENERATE_TITLE, rpc.RegenerateTitle(bob, chat.id))
    await store.archive(chat.id)
    with pytest.raises(TransitionRefused):
        await regenerate(store, chat.id)
