"""A provider that refuses its own signatures gets the history without them, and answers."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest
from contract.providers.harness import Conversation, access
from fakes.script import Kind, Reasoning, Text, ToolCall, Turn
from fakes.server import FakeProviders

from steersman_chatloop.providers.base import ProviderFailed
from steersman_chatloop.providers.registry import Providers
from steersman_contracts.parts import decode_parts, encode_parts

SIGNED: Final[list[Kind]] = ["anthropic", "responses", "gemini"]
NAMES: Final = frozenset({"signature", "encrypted_content", "thoughtSignature"})


def spoiled(value: Any) -> Any:
    """The same with every signature replaced by one that was never given."""
    if isinstance(value, dict):
        items = msgspec.convert(value, dict[str, Any]).items()
        return {k: "bm90IGdpdmVu" if k in NAMES else spoiled(v) for k, v in items}
    if isinstance(value, list):
        return [spoiled(item) for item in msgspec.convert(value, list[Any])]
    return value


@pytest.mark.parametrize("kind", SIGNED)
async def test_a_chat_goes_on_without_what_its_provider_refuses_to_read(
    kind: Kind, fakes: FakeProviders, providers: Providers
) -> None:
    items = [Reasoning("a secret thought"), Text("Adding."), ToolCall("add", {"a": 1})]
    fakes.script("*", [Turn(items), Turn([Text("One.")]), Turn([Text("Bye.")])])
    chat = Conversation(providers, access(kind, fakes))
    step = await chat.say("add")
    said = chat.messages[1]
    stored = msgspec.json.decode(encode_parts(said.parts))
    parts = decode_parts(msgspec.json.encode(spoiled(stored)))
    chat.messages[1] = msgspec.structs.replace(said, parts=parts)

    step = await chat.answer(step, "1")

    assert step.text == "One."
    assert [request.refusal is not None for request in fakes.requests] == [False, True, False]
    view = fakes.requests[2].view
    assert "secret" not in fakes.requests[2].raw.decode()
    assert [c.arguments for message in view.messages for c in message.calls] == [{"a": 1}]
    assert [result.text for result in view.results] == ["1"]


async def test_what_is_refused_for_another_reason_is_not_sent_again(
    kind: Kind, fakes: FakeProviders, providers: Providers
) -> None:
    fakes.script("*", [Turn([Reasoning("Hm."), Text("Yes.")]), Turn([Text("Bye.")])])
    chat = Conversation(providers, access(kind, fakes))
    await chat.say("hi")
    fakes.fail("*", 400)
    with pytest.raises(ProviderFailed):
        await chat.say("and?")
    assert len(fakes.requests) == 2
