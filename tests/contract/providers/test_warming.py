"""Adapters can be there before the first call needs them."""

from __future__ import annotations

from contract.providers.harness import Conversation, access
from fakes.script import Text, Turn
from fakes.server import FakeProviders

from steersman_chatloop.providers.registry import Providers


async def test_what_was_warmed_is_what_a_call_uses(
    fakes: FakeProviders, providers: Providers
) -> None:
    await providers.warm("openai-chat")
    await providers.warm("of a newer store")
    assert providers.warmed == {"openai-chat"}

    fakes.script("*", [Turn([Text("Hello")])])
    step = await Conversation(providers, access("chat", fakes)).say("hi")

    assert step.text == "Hello"
    assert providers.warmed == {"openai-chat"}
