"""Half of a surrogate pair is no character: it shows as U+FFFD, here and at every provider."""

from __future__ import annotations

from typing import Any

import pytest
from contract.providers.harness import KINDS, Conversation, access
from contract.providers.test_any_history import accepted, message, usual
from contract.providers.test_faults import CUTTABLE
from fakes.script import Kind, Text, ToolCall, Turn
from fakes.server import FakeProviders
from fakes.wire import Issued

from steersman_chatloop.providers import google_events
from steersman_chatloop.providers.base import StepEnded, StepNamed
from steersman_chatloop.providers.native import CallIds, Origin
from steersman_chatloop.providers.registry import Providers
from steersman_chatloop.providers.sse import Reader
from steersman_contracts.chats import Role
from steersman_contracts.deltas import PartsBuilder, parse_arguments
from steersman_contracts.parts import TextPart, ToolCallPart, ToolResultPart, encode_parts
from steersman_contracts.surrogates import paired

HALVES = r'{"a": "x\ud83dy\uDE00", "\udc00": ["\ud83d\ude00", "\\ud800", "\ud800"]}'
SHOWN = {"a": "x\ufffdy\ufffd", "\ufffd": ["\U0001f600", "\\ud800", "\ufffd"]}


@pytest.mark.parametrize("kind", CUTTABLE)
async def test_half_a_character_in_the_arguments_of_a_call_is_replaced_both_ways(
    kind: Kind, fakes: FakeProviders, providers: Providers
) -> None:
    fakes.script("*", [Turn([ToolCall("add", raw=HALVES)]), Turn([Text("Well.")])])
    chat = Conversation(providers, access(kind, fakes))

    step = await chat.say("hi")
    await chat.step()

    (call,) = step.calls
    assert (call.arguments, call.invalid) == (SHOWN, None)
    assert encode_parts(step.parts)
    assert not fakes.refused
    (sent,) = [c for m in fakes.requests[1].view.messages for c in m.calls]
    assert sent.arguments == SHOWN
    body: Any = fakes.requests[1].body
    assert r"\ud83dy" not in str(body)


def test_half_a_character_from_gemini_is_replaced_both_ways() -> None:
    model = usual("gemini")
    translator = google_events.Translator(Origin("google", model), CallIds())
    said = (
        r'data: {"candidates": [{"content": {"parts": [{"text": "a\ud800"}, {"functionCall":'
        r' {"name": "add", "args": %s}}]}, "finishReason": "STOP"}]}'
    )
    (event,) = Reader().feed((said % HALVES).encode() + b"\n\n")
    builder = PartsBuilder()
    for delta in translator.feed(event):
        assert not isinstance(delta, StepEnded | StepNamed)
        builder.apply(delta)
    parts = builder.parts()

    text, call = parts
    assert text == TextPart("a\ufffd")
    assert isinstance(call, ToolCallPart)
    assert call.arguments == SHOWN
    history = [
        message(Role.USER, [TextPart("hi")]),
        message(Role.ASSISTANT, parts, "tool-calls"),
        message(Role.TOOL, [ToolResultPart(call.call_id, "add", (TextPart("3"),))]),
    ]
    for kind in KINDS:  # whoever goes on
        (sent,) = [c for m in accepted(kind, history, Issued()).view.messages for c in m.calls]
        assert sent.arguments == SHOWN


@pytest.mark.parametrize("text", ['{"a": 1}', r'{"a": "\ud83d\ude00"}', r'{"a": "\\ud800"}', "{"])
def test_whole_characters_stay_as_they_came(text: str) -> None:
    assert paired(text) == text


def test_arguments_that_end_within_an_escape_are_no_object() -> None:
    for text in (r'{"a": "\ud8', r'{"a": "\ud83d', r'{"a": "\ud83d\ude'):
        assert parse_arguments(text) == ({}, text)
