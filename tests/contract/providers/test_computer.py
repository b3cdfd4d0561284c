"""The computer tool in each provider's own form, as a plain function, and from one to the other."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from contract.providers.harness import ADD, Conversation, access, unmarked
from fakes.script import ComputerCall, Kind, Reasoning, Text, ToolCall, Turn
from fakes.server import FakeProviders

from steersman_chatloop.providers.registry import Providers
from steersman_contracts.chats import Role
from steersman_contracts.computer_calls import of_gemini, of_openai
from steersman_contracts.computer_history import screenshot_name
from steersman_contracts.computer_use import ComputerArguments, question_of
from steersman_contracts.model_options import ModelSettings
from steersman_contracts.parts import FilePart, JsonObject, TextPart, ToolResultPart
from steersman_contracts.rpc.tools import ToolSpec

SCHEMA: JsonObject = {
    "type": "object",
    "properties": {"action": {"type": "string"}},
    "required": ["action"],
}
COMPUTER = ToolSpec("computer", "See and use a desktop.", SCHEMA, "computer")
PNG = b"\x89PNG\r\n\x1a\nnot really"
SHOT = FilePart("image/png", screenshot_name(1000, 500, "abcdef0123", "image/png"), None, PNG)


def conversation(
    providers: Providers, fakes: FakeProviders, kind: Kind, model: str, form: str | None = "native"
) -> Conversation:
    settings = ModelSettings(options={} if form is None else {"computer_use": form})
    found = msgspec.structs.replace(access(kind, fakes, model), settings=settings)
    return Conversation(providers, found, (ADD, COMPUTER))


def see(talk: Conversation, call_id: str, *texts: str, is_error: bool = False) -> None:
    """Give the result of a call: words, and the screen unless there are no words."""
    content = (*(TextPart(text) for text in texts), SHOT)
    talk.add(Role.TOOL, [ToolResultPart(call_id, "computer", content, is_error)])


async def sent_to(fakes: FakeProviders, model: str) -> dict[str, Any]:
    """The body of the next request."""
    return msgspec.convert((await fakes.next_request(model)).body, dict[str, Any])


async def test_anthropics_toolset(providers: Providers, fakes: FakeProviders) -> None:
    model = "claude-opus-5-5"
    call = ToolCall("left_click", {"coordinate": [3, 4]}, toolset="computer")
    look = ToolCall("screenshot", toolset="computer")
    fakes.script(model, [Turn([Reasoning("hm"), call, look]), Turn([Text("Done.")])])
    talk = conversation(providers, fakes, "anthropic", model)

    step = await talk.say("Click.")
    assert [(c.tool, c.arguments) for c in step.calls] == [
        ("computer", {"coordinate": [3, 4], "action": "left_click"}),
        ("computer", {"action": "screenshot"}),
    ]
    talk.add(
        Role.TOOL,
        [ToolResultPart(c.call_id, c.tool, (TextPart("Clicked."), SHOT)) for c in step.calls],
    )
    assert (await talk.step()).text == "Done."

    assert "anthropic-beta" not in fakes.requests[0].headers
    first, second = await sent_to(fakes, model), await sent_to(fakes, model)
    assert [tool.get("type", tool.get("name")) for tool in first["tools"]] == [
        "add",
        "computer_toolset_20260801",
    ]
    sent = unmarked(second["messages"])
    assert [(b["name"], b["input"], b["toolset_name"]) for b in sent[1]["content"][1:]] == [
        ("left_click", {"coordinate": [3, 4]}, "computer"),
        ("screenshot", {}, "computer"),
    ]
    assert [b["toolset_name"] for b in sent[2]["content"]] == ["computer", "computer"]
    assert not fakes.refused


@pytest.mark.parametrize(
    ("model", "form", "beta"),
    [
        ("claude-opus-4-6", "computer_20251124", "computer-use-2025-11-24"),
        ("claude-sonnet-4-5-20250929", "computer_20250124", "computer-use-2025-01-24"),
        ("claude-3-5-sonnet-20241022", "computer_20241022", "computer-use-2024-10-22"),
    ],
)
async def test_anthropics_older_forms(
    providers: Providers, fakes: FakeProviders, model: str, form: str, beta: str
) -> None:
    fakes.script(
        model, [Turn([ToolCall("computer", {"action": "screenshot"})]), Turn([Text("Done.")])]
    )
    talk = conversation(providers, fakes, "anthropic", model)

    step = await talk.say("Look.")
    see(talk, step.calls[0].call_id)
    await talk.step()

    assert fakes.requests[0].headers["anthropic-beta"] == beta
    tool = [await sent_to(fakes, model) for _ in range(2)][1]["tools"][-1]
    assert (tool["type"], tool["display_width_px"], tool["display_height_px"]) == (form, 1000, 500)
    assert step.calls[0].arguments == {"action": "screenshot"}
    assert not fakes.refused


async def test_openais_batches_and_safety_checks(
    providers: Providers, fakes: FakeProviders
) -> None:
    model = "gpt-5.6"
    check: dict[str, object] = {
        "id": "sc_1",
        "code": "malicious",
        "message": "The page asks for a password.",
    }
    actions: list[dict[str, object]] = [
        {"type": "click", "button": "left", "x": 0, "y": 7},
        {"type": "type", "text": "hi"},
    ]
    fakes.script(
        model,
        [
            Turn([Reasoning("hm"), ComputerCall(actions, [check])]),
            Turn([ComputerCall([{"type": "screenshot"}])]),
            Turn([Text("Done.")]),
        ],
    )
    talk = conversation(providers, fakes, "responses", model)

    step = await talk.say("Log in.")
    (call,) = step.calls
    assert call.arguments == {
        "action": "batch",
        "actions": [
            {"action": "left_click", "coordinate": [0, 7]},
            {"action": "type", "text": "hi"},
        ],
        "confirm": "The page asks for a password.",
    }
    assert question_of(call.tool, call.arguments) == "The page asks for a password."
    see(talk, call.call_id, "Action 2 of 2 failed: no.", is_error=True)
    step = await talk.step()
    # One without a screenshot cannot be answered in that form.
    talk.add(
        Role.TOOL,
        [ToolResultPart(step.calls[0].call_id, "computer", (TextPart("no desktop"),), True)],
    )
    assert (await talk.step()).text == "Done."

    requests = [await sent_to(fakes, model) for _ in range(3)]
    assert requests[0]["tools"][-1] == {"type": "computer"}
    items = requests[2]["input"]
    kinds = [item["type"] for item in items]
    assert kinds == [
        "message",
        "reasoning",
        "computer_call",
        "computer_call_output",
        "message",
        "function_call",
        "function_call_output",
    ]
    assert items[2]["actions"] == actions
    assert items[3]["output"]["image_url"].startswith("data:image/png;base64,")
    assert items[3]["acknowledged_safety_checks"] == [check]
    assert (items[4]["role"], items[4]["content"]) == ("developer", "Action 2 of 2 failed: no.")
    assert items[6]["output"] == "no desktop"
    assert not fakes.refused


@pytest.mark.parametrize(
    ("model", "environment"),
    [
        ("gemini-3.5-flash", "ENVIRONMENT_DESKTOP"),
        ("gemini-2.5-computer-use-preview-10-2025", "ENVIRONMENT_BROWSER"),
    ],
)
async def test_geminis_functions_on_its_grid(
    providers: Providers, fakes: FakeProviders, model: str, environment: str
) -> None:
    decision = {"decision": "require_confirmation", "explanation": "It buys something."}
    name = "click" if environment == "ENVIRONMENT_DESKTOP" else "click_at"
    fakes.script(
        model,
        [
            Turn([ToolCall(name, {"x": 999, "y": 0})]),
            Turn([ToolCall(name, {"x": 500, "y": 500, "safety_decision": decision})]),
            Turn([Text("Done.")]),
        ],
    )
    talk = conversation(providers, fakes, "gemini", model, None)

    first = (await talk.say("Click.")).calls[0]
    see(talk, first.call_id, "Clicked.")
    second = (await talk.step()).calls[0]
    see(talk, second.call_id, "Clicked.")
    assert (await talk.step()).text == "Done."

    # Of a screen that was not seen yet, and of the one that was.
    entry = {"action": "left_click", "coordinate": [1279, 0]}
    assert first.arguments == {"action": "batch", "actions": [entry]}
    assert (first.tool, second.tool) == ("computer", "computer")
    entry = {"action": "left_click", "coordinate": [500, 250]}
    asked = {"confirm": "It buys something."}
    assert second.arguments == {"action": "batch", "actions": [entry]} | asked
    requests = [await sent_to(fakes, model) for _ in range(3)]
    tools: list[dict[str, Any]] = requests[0]["tools"]
    assert [f["name"] for f in tools[0]["functionDeclarations"]] == ["add"]
    assert tools[1]["computerUse"]["environment"] == environment
    contents = requests[2]["contents"]
    assert contents[3]["parts"][0]["functionCall"]["args"]["safety_decision"] == decision
    answer = contents[4]["parts"][0]["functionResponse"]
    assert (answer["name"], answer["response"]["safety_acknowledgement"]) == (name, "true")
    assert answer["parts"][0]["inlineData"]["mimeType"] == "image/png"
    assert not fakes.refused


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("anthropic", "claude-opus-5-5"),
        ("responses", "gpt-5.6"),
        ("chat", "compatible-1"),
        ("gemini", "gemini-3-pro"),
    ],
)
async def test_a_plain_function_for_everybody_else(
    providers: Providers, fakes: FakeProviders, kind: Kind, model: str
) -> None:
    given: dict[str, object] = {"action": "left_click", "coordinate": [0, 0]}
    # Where results are text alone, the picture comes as a message of the user.
    turns = [Turn([ToolCall("computer", given)], ends=kind == "chat"), Turn([Text("Done.")])]
    fakes.script(model, turns)
    talk = conversation(providers, fakes, kind, model, None)

    step = await talk.say("Click.")
    see(talk, step.calls[0].call_id, "Clicked.")
    assert (await talk.step()).text == "Done."

    assert [(call.tool, call.arguments) for call in step.calls] == [("computer", given)]
    assert not fakes.refused


@pytest.mark.parametrize("to", ["anthropic", "responses", "chat", "gemini"])
@pytest.mark.parametrize("form", ["native", "function"])
async def test_what_one_provider_did_another_goes_on_with(
    providers: Providers, fakes: FakeProviders, to: Kind, form: str
) -> None:
    models: dict[Kind, str] = {
        "anthropic": "claude-opus-5-5",
        "responses": "gpt-5.6",
        "chat": "compatible-1",
        "gemini": "gemini-3.5-flash",
    }
    calls: dict[Kind, ToolCall | ComputerCall] = {
        "anthropic": ToolCall("key", {"text": "Return"}, toolset="computer"),
        "responses": ComputerCall([{"type": "wait"}]),
        "chat": ToolCall("computer", {"action": "wait", "duration": 1}),
        "gemini": ToolCall("wait", {"seconds": 1}),
    }
    talk = conversation(providers, fakes, "chat", models["chat"], None)
    for kind, call in calls.items():
        native = None if kind == "chat" else "native"
        fakes.script(models[kind], Turn([call]))
        talk.model = conversation(providers, fakes, kind, models[kind], native).model
        step = await talk.say("Go on.")
        see(talk, step.calls[0].call_id, "Done.")
    fakes.script(models[to], Turn([Text("Seen.")]))
    talk.model = conversation(
        providers, fakes, to, models[to], None if to == "chat" else form
    ).model

    assert (await talk.say("And now?")).text == "Seen."
    assert not fakes.refused


def test_what_cannot_be_read_says_so_when_it_is_run() -> None:
    off_grid = of_gemini("click_at", {"x": 1000, "y": 0}, (1280, 800))
    unknown = of_openai({"call_id": "c", "actions": [{"type": "fly"}]})

    assert off_grid == {
        "action": "batch",
        "actions": [{"refused": "x, y is 1000; it must be a whole number from 0 to 999"}],
    }
    assert unknown["actions"][0]["refused"].startswith("type is 'fly'; it must be one of click,")
    assert of_gemini("add", {}, (1280, 800)) is None
    assert msgspec.convert(off_grid, ComputerArguments).action == "batch"
