"""A chat goes on with another model, whichever made what there is: every pair of wire formats.

What one provider has said is rendered by its strict server, kept as the loop keeps it, and sent to
the other. To itself everything goes back as it came; to anybody else what can be read by anybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, Final, Literal

import msgspec
import pytest
from contract.providers.harness import KINDS
from contract.providers.test_any_history import (
    TO_REQUEST,
    accepted,
    asked,
    message,
    objects,
    translate,
    usual,
    words,
)
from fakes.script import Item, Kind, Reasoning, SearchResult, ServerToolSearch, Text, ToolCall, Turn
from fakes.server import WIRES
from fakes.wire import Ids, Issued
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steersman_contracts.chats import Message, Role
from steersman_contracts.model_options import ModelSettings
from steersman_contracts.parts import (
    FilePart,
    FileReferencePart,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

SECRET: Final = "a secret thought"
said = st.lists(
    st.builds(Text, words)
    | st.builds(ToolCall, st.just("add"), objects)
    | st.builds(
        ServerToolSearch,
        words,
        st.lists(st.builds(SearchResult, st.just("https://a.example"), words), max_size=2),
    ),
    min_size=1,
    max_size=4,
)


def history_of(kind: Kind, items: Sequence[Item], issued: Issued) -> list[Message]:
    history = [message(Role.USER, [TextPart("hi")])]
    call = accepted(kind, history, issued)
    plan = WIRES[kind].render(Turn([Reasoning(SECRET), *items]), call, Ids(), issued)
    parts, stop = translate(kind, plan, len(plan.frames), history)
    answer = message(Role.ASSISTANT, parts, stop)
    history.append(msgspec.structs.replace(answer, model=usual(kind).name))
    results = [
        ToolResultPart(part.call_id, part.tool, (TextPart(f"result {n}"),))
        for n, part in enumerate(parts)
        if isinstance(part, ToolCallPart) and not part.provider_executed
    ]
    if results:
        history.append(message(Role.TOOL, results))
    history.append(message(Role.USER, [TextPart("and now?")]))
    return history


def secrets(value: Any) -> set[str]:
    """What only a provider can read, in the metadata of parts."""
    names = {"signature", "thoughtSignature", "encrypted_content", "encrypted_index"}
    found: set[str] = set()
    if isinstance(value, dict):
        for key, item in msgspec.convert(value, dict[str, Any]).items():
            found |= {item} if key in names and isinstance(item, str) and item else secrets(item)
    elif isinstance(value, list):
        for item in msgspec.convert(value, list[Any]):
            found |= secrets(item)
    return found


def kept(history: Sequence[Message]) -> set[str]:
    return secrets(msgspec.json.decode(msgspec.json.encode([m.parts for m in history])))


@pytest.mark.timeout(300)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(said)
def test_what_was_said_and_done_reaches_the_other_model_in_order(items: list[Item]) -> None:
    for first, second in product(KINDS, KINDS):
        issued = Issued()
        history = history_of(first, items, issued)
        view = accepted(second, history, issued).view
        body = TO_REQUEST[second](asked(history, usual(second)))
        sent = msgspec.json.encode(body).decode()
        answer = history[1]

        # Local calls and their results, paired and in order.
        local = [p for p in answer.parts if isinstance(p, ToolCallPart) and not p.provider_executed]
        assert [c.arguments for m in view.messages for c in m.calls] == [
            part.arguments for part in local
        ]
        results = [part for m in history for part in m.parts if m.role is Role.TOOL]
        assert len([r for m in view.messages for r in m.results]) == len(results)
        # What was said, word for word and in order.
        at = 0
        for part in answer.parts:
            if isinstance(part, TextPart) and part.text.strip():
                words_of = msgspec.json.encode(part.text).decode()[1:-1]
                found = sent.find(words_of.strip(), at)
                assert found >= 0, (first, second, part.text)
                at = found
        # Reasoning goes back to its own model and to nobody else, and so do secrets.
        thoughts = [p for p in answer.parts if isinstance(p, ReasoningPart)]
        assert thoughts
        if first == second:
            assert kept(history) <= secrets(body)
        else:
            assert SECRET not in sent
            assert not any(secret in sent for secret in kept(history))
            # What a provider ran itself is told in words.
            for part in answer.parts:
                if isinstance(part, ToolCallPart) and part.provider_executed:
                    assert f"[{part.tool} was called with" in sent, (first, second)
                if isinstance(part, SourcePart):
                    assert part.provider_metadata is None


ITEMS: Final[list[Item]] = [
    Text("I look it up."),
    ServerToolSearch("tides", [SearchResult("https://a.example", "Tides")]),
    Reasoning("another thought"),
    Text("I add."),
    ToolCall("add", {"a": 1, "b": 2}),
]


@pytest.mark.parametrize("rule", ["drop", "inline"])
def test_readable_reasoning_of_another_model_is_left_out_or_told_by_rule(
    rule: Literal["drop", "inline"],
) -> None:
    for first, second in product(KINDS, KINDS):
        issued = Issued()
        history = history_of(first, ITEMS, issued)
        rules = ModelSettings(foreign_reasoning=rule)
        reader = msgspec.structs.replace(usual(second), settings=rules)
        assert accepted(second, history, issued, reader)
        sent = msgspec.json.encode(TO_REQUEST[second](asked(history, reader))).decode()

        tells = rule == "inline" and first != second
        for thought, after in ((SECRET, "I look it up."), ("another thought", "I add.")):
            told = f"<earlier-reasoning>\\n{thought}\\n</earlier-reasoning>"
            assert sent.count(told) == tells, (first, second)
            if tells:
                assert sent.index(told) < sent.index(after)
        assert sent.count("earlier-reasoning") == (4 if tells else 0)
        if first != second:
            assert not any(secret in sent for secret in kept(history))
            assert (SECRET in sent) == tells


def test_what_a_model_thought_itself_is_never_told_to_it(kind: Kind) -> None:
    """Not even when it cannot be sent as it came, since the key was changed."""
    history = history_of(kind, ITEMS, Issued())
    rules = ModelSettings(foreign_reasoning="inline")
    reader = msgspec.structs.replace(usual(kind), settings=rules, account="another key")
    sent = msgspec.json.encode(TO_REQUEST[kind](asked(history, reader))).decode()
    assert SECRET not in sent


IMAGE: Final = FilePart("image/png", "a.png", data=b"\x89PNG")
SEEN: Final[list[tuple[Any, str]]] = [
    (FileReferencePart("a.py", 3, 5, "x = 1"), "a.py, lines 3 to 5:\n```\nx = 1\n```"),
    (FilePart("image/png", "gone.png", "file-1"), "[file 'gone.png', image/png]"),
    (FilePart("application/pdf", "", "file-2"), "[file, application/pdf]"),
    (FilePart("video/mp4", "a.mp4", data=b"mp4"), "[file 'a.mp4', video/mp4]"),
]


def test_files_are_shown_in_each_ones_own_form_or_named(kind: Kind) -> None:
    history = [message(Role.USER, [TextPart("look"), *(part for part, _ in SEEN), IMAGE])]
    assert accepted(kind, history, Issued())
    sent = TO_REQUEST[kind](asked(history, usual(kind)))
    forms: dict[Kind, Any] = {
        "anthropic": {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw=="},
        },
        "responses": {
            "type": "input_image",
            "image_url": "data:image/png;base64,iVBORw==",
            "detail": "auto",
        },
        "chat": {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
        "gemini": {"inlineData": {"mimeType": "image/png", "data": "iVBORw=="}},
    }
    lists = {"anthropic": "messages", "responses": "input", "chat": "messages"}
    last = sent[lists.get(kind, "contents")][-1]
    blocks = last["parts" if kind == "gemini" else "content"]
    assert [block["text"] for block in blocks[:-1]] == ["look", *(text for _, text in SEEN)]
    assert {k: v for k, v in blocks[-1].items() if k != "cache_control"} == forms[kind]
