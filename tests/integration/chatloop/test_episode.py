"""What a model streams reaches the log joined, in order, and without what is internal."""

from __future__ import annotations

import asyncio

import pytest
from support.chat_driver import StoreDriver

from steersman_chatloop.episode import Episode
from steersman_contracts import events
from steersman_contracts.deltas import Delta, PartAdded, PartsBuilder, TextDelta
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import ProviderMetadata, TextPart, ToolResultPart
from steersman_runtime.jetstream import Publisher
from steersman_runtime.nats_client import NatsClient

pytestmark = pytest.mark.one_stack

CHAT = ChatId("01a20790-c4a1-752e-9bd0-89178dd93b09")


async def published(store: StoreDriver, client: NatsClient, deltas: list[Delta]) -> list[Delta]:
    """Send deltas through an episode; what the log holds afterwards."""
    episode = Episode(Publisher(client), CHAT, history_version=1, attempt=1, interval_s=0.005)
    episode.name("msg_1")
    for delta in deltas:
        episode.add(delta)
    await episode.flush()
    async with asyncio.timeout(60):
        while sum(_length(e) for e in store.log.of(CHAT)) < sum(_size(d) for d in deltas):
            await store.log.more(len(store.log.seen))
    seen = [event for event in store.log.of(CHAT) if isinstance(event, events.PartDelta)]
    assert [event.seq for event in seen] == list(range(1, len(seen) + 1))
    assert [event.response_id for event in seen] == ["msg_1", *[None] * (len(seen) - 1)]
    return [delta for event in seen for delta in event.deltas]


def _size(delta: Delta) -> int:
    return len(delta.text) if isinstance(delta, TextDelta) else 1


def _length(event: events.Event) -> int:
    return sum(map(_size, event.deltas)) if isinstance(event, events.PartDelta) else 0


async def test_words_are_joined_and_add_up(store: StoreDriver, client: NatsClient) -> None:
    words = [TextDelta(0, f"word{number} ") for number in range(500)]

    seen = await published(store, client, [*words])

    assert len(seen) < len(words)
    builder = PartsBuilder()
    for delta in seen:
        builder.apply(delta)
    assert builder.parts() == (TextPart("".join(word.text for word in words)),)


async def test_a_huge_delta_is_sent_in_pieces(store: StoreDriver, client: NatsClient) -> None:
    seen = await published(store, client, [TextDelta(0, "é" * 350_000)])

    assert max(map(_size, seen)) == 100_000
    assert sum(map(_size, seen)) == 350_000


async def test_provider_blocks_never_reach_the_log(store: StoreDriver, client: NatsClient) -> None:
    secret = ProviderMetadata("anthropic", native={"encrypted_content": "planted secret"})
    part = ToolResultPart("1", "web_search", provider_executed=True, provider_metadata=secret)

    seen = await published(store, client, [PartAdded(0, part)])

    assert seen == [PartAdded(0, ToolResultPart("1", "web_search", provider_executed=True))]
