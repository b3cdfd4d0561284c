"""Recorded traffic of real providers, replayed: next to the repository, or somewhere else.

The recordings are no part of the repository; without them these tests are skipped. Beside their
folder there is `replay/replay_server.py`, which answers with them.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import msgspec
import pytest
from contract.providers.harness import Conversation, Step, access_to
from fakes.script import Kind

from steersman_chatloop.providers.registry import Providers
from steersman_contracts.chats import StopReason, Usage

NEXT_TO_US: Final = Path(__file__).parents[4] / "shared" / "cassettes"
CASSETTES: Final = Path(os.environ.get("STEERSMAN_CASSETTES") or NEXT_TO_US)
SERVER: Final = CASSETTES.parent / "replay" / "replay_server.py"

KINDS: Final[dict[str, Kind]] = {
    "anthropic-messages": "anthropic",
    "openai-responses": "responses",
    "openai-chat": "chat",
    "gemini": "gemini",
    "anthropic-bedrock": "bedrock",
    "anthropic-vertex": "vertex",
}
STOPS: Final[dict[str, StopReason]] = {
    "end_turn": "end",
    "stop": "end",
    "STOP": "end",
    "completed": "end",
    "tool_use": "tool-calls",
    "tool_calls": "tool-calls",
}


def recordings() -> Iterator[Any]:
    if not ((CASSETTES / "expected.json").exists() and SERVER.exists()):
        reason = "no recorded traffic: neither next to the repository nor at STEERSMAN_CASSETTES"
        yield pytest.param("none", marks=pytest.mark.skip(reason=reason))
        return
    expected = msgspec.json.decode((CASSETTES / "expected.json").read_bytes())["cassettes"]
    for slug, cassette in expected.items():
        if cassette["api"] in KINDS:
            yield pytest.param(cassette, id=slug)


def replay_server() -> ModuleType:
    name = "steersman_test_replay_server"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, SERVER)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.mark.parametrize("cassette", list(recordings()))
async def test_a_recorded_conversation_says_what_was_recorded(
    cassette: dict[str, Any], providers: Providers
) -> None:
    pytest.importorskip("yaml", reason="the recordings are in YAML")
    kind = KINDS[cassette["api"]]
    async with replay_server().ReplayServer([CASSETTES / cassette["file"]]) as server:
        (slug,) = server.cassettes
        url = server.url(slug) + ("/v1" if kind in ("responses", "chat") else "")
        model = access_to(kind, url, cassette["model"])
        if kind in ("bedrock", "vertex"):  # with keys that are as they are
            place = {"region": "us-east5", "project": "p" if kind == "vertex" else None}
            model = msgspec.structs.replace(model, **place)
        chat = Conversation(providers, model)
        step = None
        for turn, stream in enumerate(cassette["streams"]):
            if step is not None and step.calls:
                step = await chat.answer(step, *("40 C" for _ in step.calls))
            else:
                step = await chat.say(f"message {turn}")
            check(step, stream)
        recorded = [interaction.request for interaction in server.cassettes[slug].interactions]
        sent = [row["body"] for row in server.log_rows if row["kind"] == "request"]
        for theirs, ours in zip(recorded, sent, strict=True):
            assert secrets(theirs) <= secrets(ours), "what the provider wants back goes back"


SECRETS: Final = {
    "signature",
    "thoughtSignature",
    "thought_signature",
    "encrypted_content",
    "encrypted_index",
    "data",
}


def secrets(value: Any) -> set[str]:
    """Every value in a request that only its provider can read."""
    found: set[str] = set()
    if isinstance(value, list):
        for item in msgspec.convert(value, list[Any]):
            found |= secrets(item)
    elif isinstance(value, dict):
        for key, item in msgspec.convert(value, dict[str, Any]).items():
            if key in SECRETS and isinstance(item, str) and "media_type" not in value:
                found.add(item.replace("-", "+").replace("_", "/"))
            else:
                found |= secrets(item)
    return found


def check(step: Step, stream: dict[str, Any]) -> None:
    assert step.text == stream["text"]
    assert [(call.tool, call.arguments) for call in step.calls] == [
        (call["name"], call["arguments"]) for call in stream["tool_calls"]
    ]
    ids = [call["id"] for call in stream["tool_calls"]]
    assert all(call.call_id == wire for call, wire in zip(step.calls, ids, strict=True) if wire)
    assert all(call.call_id and call.invalid is None for call in step.calls)
    # Summaries are paragraphs for us, and run on in what was recorded.
    assert step.reasoning.replace("\n\n", "") == stream["reasoning"]["text"].replace("\n\n", "")
    assert step.ended.usage == usage(stream["usage"])
    stop = "tool-calls" if step.calls else STOPS[stream["stop_reason"]]
    assert step.stop == stop
    assert step.ended.response_id == stream["response_id"]


def usage(counted: dict[str, Any]) -> Usage:
    output, reasoning = counted["output_total"], counted["reasoning"] or 0
    # xAI, and Gemini behind a gateway, count reasoning beside the completion; we count it as
    # part of the output, as everybody else does.
    beside = counted["raw"].get("total_tokens") == counted["input_total"] + output + reasoning
    if "completion_tokens" in counted["raw"] and (beside or reasoning > output):
        output += reasoning
    return Usage(
        input_tokens=counted["input_total"],
        output_tokens=output,
        reasoning_tokens=reasoning,
        cache_read_tokens=counted["cache_read"] or 0,
        cache_write_tokens=counted["cache_write"] or 0,
    )
