"""What a turn ends with when no attempt is left: silence of a provider, and its own words."""

from __future__ import annotations

import asyncio

import pytest
from fakes import FakeProviders, Fault, Hang, HttpError, Stall, StreamError, Text, Turn
from support.chat_driver import StoreDriver, words_of
from support.chatloop import KINDS, ModelSetup
from support.services import running_chatloop

from steersman.embedded.nats import NatsServer
from steersman_contracts import events
from steersman_contracts.chats import Chat, ChatError
from steersman_contracts.ids import ChatId

pytestmark = pytest.mark.one_stack

WORDS = " ".join(f"word{number}" for number in range(20))


async def ended(store: StoreDriver, name: str) -> Chat:
    """A chat with this model, once it rests."""
    return await store.at_rest((await store.create("hello", model=name)).id)


def retries(store: StoreDriver, chat_id: ChatId) -> list[tuple[str, int]]:
    found = [event for event in store.log.of(chat_id) if isinstance(event, events.RetryScheduled)]
    return [(event.kind, event.delay_ms) for event in found]


# Silence for ever, before the first event or after some: one of the two watchdogs has to bark.
SILENCES: tuple[tuple[Fault, dict[str, float]], ...] = (
    (Hang(), {"first_event_timeout_s": 0.3}),
    (Stall(), {"first_event_timeout_s": 0.3}),
    (Stall(deltas=3), {"idle_timeout_s": 0.3}),
)


async def test_silence_is_a_timeout_after_as_long_as_the_settings_say(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, nats: NatsServer
) -> None:
    names = [await models.add(provider, f"m-{provider}") for provider in KINDS]
    for fault, settings in SILENCES:
        fakes.reset()  # a busy machine may have given up before it asked
        for provider in KINDS:
            fakes.script(f"m-{provider}", Turn([Text(WORDS)]))
            fakes.fault(f"m-{provider}", fault)
        async with running_chatloop(nats.url(), max_attempts=1, **settings):
            chats = await asyncio.gather(*(ended(store, name) for name in names))
        for chat, name in zip(chats, names, strict=True):
            error = chat.last_error
            assert isinstance(error, ChatError)
            assert (error.kind, error.retryable) == ("timeout", True), (name, fault)
            assert error.provider == name.partition("/")[0]
            assert "0.3" in error.detail
            assert retries(store, chat.id) == []


async def test_after_the_last_attempt_the_error_is_what_the_provider_said(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, nats: NatsServer
) -> None:
    faults = {
        "rate_limit": HttpError(429, retry_after=2),
        "overloaded": StreamError(deltas=5, error_type="overloaded_error"),
        "generic": HttpError(500),
    }
    names = {kind: await models.add("anthropic", kind) for kind in faults}
    # Its provider counts at the end of an answer, which these have not.
    faults["timeout"] = StreamError(deltas=5, error_type="timeout")
    names["timeout"] = await models.add("chat", "timeout", prices={"input": 1, "output": 1})
    for kind, fault in faults.items():
        fakes.script(kind, Turn([Text(WORDS)]))
        fakes.fault(kind, fault, count=2)
    async with running_chatloop(nats.url(), max_attempts=2):
        chats = await asyncio.gather(*(ended(store, name) for name in names.values()))
        for kind, chat in zip(names, chats, strict=True):
            error = await store.log.until(chat.id, events.ChatErrored)
            assert isinstance(error, events.ChatErrored)
            assert error.error == chat.last_error
            assert chat.last_error is not None
            assert (chat.last_error.kind, chat.last_error.retryable) == (kind, True)
            delay_ms = 2000 if kind == "rate_limit" else 1000
            assert retries(store, chat.id) == [(kind, delay_ms)]
            assert len([request for request in fakes.requests if request.model == kind]) == 2
        # What came before the end of the last attempt stays, as people have seen it.
        partial = (await store.messages(chats[1].id))[-1]
        assert (partial.stop, words_of(partial)) == ("unknown", " ".join(WORDS.split()[:5]))
        # What the attempts have used that said something and no number is unknown, and not nothing.
        uncounted = list(zip(names, chats, strict=True))[-1][1]
        assert (uncounted.cost_micros, uncounted.cost_unknown_steps) == (0, 2)
        # There are attempts again with the next message.
        await store.send(chats[0].id, "again")
        assert (await store.at_rest(chats[0].id)).last_outcome == "completed"
