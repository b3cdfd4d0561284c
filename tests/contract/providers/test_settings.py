"""What an administrator sets for a model arrives at its provider, in the provider's own words."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest
from contract.providers.harness import ADD, CHAT, NOW, Conversation, access, access_to, collect
from fakes.script import Kind, SearchResult, ServerToolSearch, Text, ToolCall, Turn
from fakes.server import FakeProviders
from structlog.testing import capture_logs

from steersman_chatloop.prompt import prepare
from steersman_chatloop.providers import (
    anthropic_request,
    google_request,
    openai_chat_request,
    openai_responses_request,
)
from steersman_chatloop.providers.base import StepRequest
from steersman_chatloop.providers.registry import Providers
from steersman_contracts.chats import Message, Role
from steersman_contracts.ids import MessageId, ModelName
from steersman_contracts.model_options import EFFORTS, Effort, ModelSettings
from steersman_contracts.option_rules import parse_settings
from steersman_contracts.parts import (
    JsonObject,
    ProviderMetadata,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from steersman_contracts.rpc.tools import ToolSpec
from steersman_contracts.rpc.worker import ModelAccess

OFFICIAL = {
    "anthropic": "https://api.anthropic.com",
    "responses": "https://api.openai.com/v1",
    "chat": "https://api.openai.com/v1",
    "gemini": "https://generativelanguage.googleapis.com",
}
BUILDERS = {
    "anthropic": anthropic_request,
    "responses": openai_responses_request,
    "chat": openai_chat_request,
    "gemini": google_request,
}


def model_of(
    kind: Kind,
    model: str | None = None,
    base_url: str | None = None,
    **settings: Any,
) -> ModelAccess:
    plain = access_to(kind, base_url or OFFICIAL[kind], model)
    parsed = parse_settings(plain.provider_type, settings)
    return msgspec.structs.replace(plain, settings=parsed)


def body_of(
    model: ModelAccess,
    *,
    effort: Effort | None = None,
    tools: tuple[ToolSpec, ...] = (ADD,),
    tool_choice: Literal["auto", "none"] = "auto",
) -> JsonObject:
    kind = {
        "anthropic": "anthropic",
        "openai-responses": "responses",
        "openai-chat": "chat",
        "google": "gemini",
    }[model.provider_type]
    said = Message(MessageId(1), Role.USER, (TextPart("hi"),), 1, NOW)
    request = StepRequest(CHAT, model, "Be brief.", prepare([said]), tools, effort, tool_choice)
    return BUILDERS[kind].to_request(request)


SAMPLING: JsonObject = {
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 40,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.2,
}
NAMES = set(SAMPLING)


def test_sampling_goes_where_it_is_taken() -> None:
    assert body_of(model_of("gemini", **SAMPLING))["generationConfig"] == {
        "maxOutputTokens": 4000,
        "temperature": 0.5,
        "topP": 0.9,
        "topK": 40,
        "presencePenalty": 0.1,
        "frequencyPenalty": 0.2,
        "thinkingConfig": {"includeThoughts": True},
    }
    chat = body_of(model_of("chat", base_url="http://localhost:8000/v1", **SAMPLING))
    assert {name: chat[name] for name in NAMES} == SAMPLING
    openai = body_of(model_of("chat", **SAMPLING))
    assert NAMES & openai.keys() == NAMES - {"top_k"}
    assert NAMES & body_of(model_of("responses", **SAMPLING)).keys() == {"temperature", "top_p"}
    assert not NAMES & body_of(model_of("anthropic", **SAMPLING)).keys()
    other = body_of(model_of("anthropic", base_url="http://localhost:8000", **SAMPLING))
    assert NAMES & other.keys() == {"temperature", "top_p", "top_k"}


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("anthropic", "tool_choice", {"type": "none"}),
        ("responses", "tool_choice", "none"),
        ("chat", "tool_choice", "none"),
        ("gemini", "toolConfig", {"functionCallingConfig": {"mode": "NONE"}}),
    ],
)
def test_tools_can_be_sent_and_not_be_called(kind: Kind, field: str, value: object) -> None:
    asked = body_of(model_of(kind), tool_choice="none")
    usual = body_of(model_of(kind))

    assert asked == usual | {field: value}
    assert not body_of(model_of(kind), tools=(), tool_choice="none").keys() & {field}


async def test_what_an_api_does_not_take_is_said_once(
    fakes: FakeProviders, providers: Providers
) -> None:
    fakes.script("*", Turn([Text("Hello")]))
    model = msgspec.structs.replace(
        access("responses", fakes),
        name=ModelName("said/once"),
        settings=ModelSettings(top_k=3, presence_penalty=1.0),
    )
    with capture_logs() as logs:
        for _ in range(2):
            await Conversation(providers, model).say("hi")
    said = [entry["setting"] for entry in logs if entry["event"] == "setting.not_sent"]
    assert said == ["top_k", "presence_penalty"]
    assert not fakes.refused


EFFORT: list[tuple[Kind, str, Effort, JsonObject]] = [
    ("responses", "gpt-5.6", "max", {"reasoning": {"effort": "max"}}),
    ("responses", "gpt-5.4", "max", {"reasoning": {"effort": "xhigh"}}),
    ("responses", "gpt-5", "none", {"reasoning": {"effort": "minimal"}}),
    ("responses", "o4-mini", "minimal", {"reasoning": {"effort": "low"}}),
    ("responses", "gpt-4o", "high", {}),
    ("chat", "gpt-5.1", "xhigh", {"reasoning_effort": "high"}),
    ("anthropic", "claude-opus-4-7", "xhigh", {"output_config": {"effort": "xhigh"}}),
    ("anthropic", "claude-sonnet-4-6", "max", {"output_config": {"effort": "high"}}),
    ("anthropic", "claude-sonnet-5-5", "minimal", {"output_config": {"effort": "low"}}),
    ("anthropic", "claude-sonnet-5-5", "none", {"thinking": {"type": "disabled"}}),
    (
        "anthropic",
        "claude-sonnet-4-5-20250929",
        "high",
        {"thinking": {"type": "enabled", "budget_tokens": 3999}},
    ),
    ("anthropic", "claude-3-5-haiku-20241022", "high", {}),
]


@pytest.mark.parametrize(("kind", "model", "effort", "expected"), EFFORT)
def test_effort_is_the_nearest_that_the_model_knows(
    kind: Kind, model: str, effort: Effort, expected: JsonObject
) -> None:
    body = body_of(model_of(kind, model, reasoning_effort=effort))
    names = {"reasoning", "reasoning_effort", "output_config", "thinking"}
    found = {name: body[name] for name in names & body.keys()}
    if "output_config" in expected:
        assert found.pop("thinking") == {"type": "adaptive"}
    assert found == expected


GOOGLE: list[tuple[str, JsonObject, Effort | None, JsonObject]] = [
    ("gemini-3-pro", {}, "max", {"includeThoughts": True, "thinkingLevel": "XHIGH"}),
    ("gemini-3-pro", {}, "none", {"includeThoughts": True, "thinkingLevel": "MINIMAL"}),
    ("gemini-2.5-flash", {}, "none", {"thinkingBudget": 0}),
    ("gemini-2.5-pro", {}, "none", {"includeThoughts": True, "thinkingBudget": 128}),
    (
        "gemini-2.5-flash",
        {"thinking_budget": -1},
        None,
        {"includeThoughts": True, "thinkingBudget": -1},
    ),
    (
        "gemini-3-pro",
        {"thinking_level": "low", "include_thoughts": False},
        None,
        {"thinkingLevel": "LOW"},
    ),
    ("gemini-2.0-flash", {}, "high", {}),
]


@pytest.mark.parametrize(("model", "options", "effort", "expected"), GOOGLE)
def test_google_thinks_by_level_or_by_budget(
    model: str, options: JsonObject, effort: Effort | None, expected: JsonObject
) -> None:
    body = body_of(model_of("gemini", model, reasoning_effort=effort, options=options))
    assert body["generationConfig"].get("thinkingConfig", {}) == expected


def test_a_chat_may_ask_for_less_or_for_more_up_to_a_limit() -> None:
    model = model_of("responses", reasoning_effort="low", max_reasoning_effort="medium")
    efforts = {effort: body_of(model, effort=effort)["reasoning"]["effort"] for effort in EFFORTS}
    assert efforts == {
        "none": "none",
        "minimal": "minimal",
        "low": "low",
        "medium": "medium",
        "high": "medium",
        "xhigh": "medium",
        "max": "medium",
    }
    assert body_of(model)["reasoning"] == {"effort": "low"}


@pytest.mark.parametrize(
    ("context_limit", "settings", "limit"),
    [
        (None, {}, 32_000),
        (200_000, {}, 32_000),
        (32_768, {}, 9_830),  # what is left where a summary is written: 30 %
        (32_768, {"compaction_threshold": 90}, 3_276),
        (32_768, {"compaction_threshold": 100}, 3_276),  # never: a tenth
        (1, {}, 1),
    ],
)
def test_an_answer_is_never_given_the_room_of_its_prompt(
    context_limit: int | None, settings: dict[str, Any], limit: int
) -> None:
    model = model_of("chat", base_url="http://localhost:8000/v1", **settings)
    model = msgspec.structs.replace(model, context_limit=context_limit, max_output_tokens=32_000)

    assert body_of(model)["max_tokens"] == limit


def test_a_compatible_server_gets_further_fields_and_the_effort_in_its_own_words() -> None:
    extra: JsonObject = {
        "provider": {"order": ["x"]},
        "reasoning": {"max_tokens": 5},
        "messages": [],
    }
    router = "https://openrouter.ai/api/v1"
    options: JsonObject = {"extra_body": extra}
    body = body_of(model_of("chat", base_url=router, reasoning_effort="high", options=options))
    assert (body["provider"], body["reasoning"]) == ({"order": ["x"]}, {"max_tokens": 5})
    assert body["messages"], "there is no conversation without them"
    assert "reasoning_effort" not in body
    wrapped = body_of(model_of("chat", base_url=router, reasoning_effort="high"))
    assert wrapped["reasoning"] == {"effort": "high"}
    own = {"reasoning_effort": "turbo"}
    written = body_of(model_of("chat", base_url="http://x", options=own, reasoning_effort="low"))
    assert written["reasoning_effort"] == "turbo"


def test_features_of_anthropic_are_asked_for_by_header() -> None:
    model = model_of("anthropic", options={"beta_headers": ["one-2026-01-01", "two-2026-01-01"]})
    assert anthropic_request.betas(model) == ("one-2026-01-01", "two-2026-01-01")


def test_search_beside_tools_is_left_out_where_google_cannot_have_both() -> None:
    options = {"web_search_enabled": True}
    vertex = "https://aiplatform.googleapis.com/v1/projects/p/locations/global"
    for model in (
        model_of("gemini", "gemini-2.5-pro", options=options),
        model_of("gemini", base_url=vertex, options=options),
    ):
        assert "googleSearch" not in str(body_of(model)["tools"])
        assert list(google_request.unsent(model)) == ["options.web_search_enabled"]
        assert body_of(model, tools=())["tools"] == [{"googleSearch": {}}]


async def test_extra_headers_and_features_go_along(
    kind: Kind, fakes: FakeProviders, providers: Providers
) -> None:
    fakes.script("*", Turn([Text("Hello")]))
    plain = access(kind, fakes)
    options: JsonObject = {"beta_headers": ["b-1"]} if kind == "anthropic" else {}
    model = msgspec.structs.replace(
        plain,
        headers={"X-Team": "blue", "anthropic-beta": "a-1"},
        settings=ModelSettings(options=options),
    )
    await Conversation(providers, model).say("hi")
    await Conversation(providers, plain).say("hi")
    first, second = (request.headers for request in fakes.requests)
    assert first["x-team"] == "blue"
    assert "x-team" not in second, "the clients are shared, the headers are not"
    assert first["anthropic-beta"] == ("a-1,b-1" if kind == "anthropic" else "a-1")
    assert first["content-type"] == "application/json"


@pytest.mark.parametrize("name", ["api-key", "Authorization"])
async def test_a_key_in_an_extra_header_is_the_only_one(
    kind: Kind, fakes: FakeProviders, providers: Providers, name: str
) -> None:
    fakes.script("*", Turn([Text("Hello")]))
    model = msgspec.structs.replace(
        access(kind, fakes), api_key=None, headers={name: "Bearer of-the-header"}
    )
    chat = Conversation(providers, model)
    if name == "api-key":  # nobody but Azure takes that alone
        with pytest.raises(Exception, match="did not accept the API key"):
            await chat.say("hi")
    else:
        await chat.say("hi")
    sent = fakes.requests[0].headers
    assert sent[name.lower()] == "Bearer of-the-header"
    keys = {"authorization", "api-key", "x-api-key", "x-goog-api-key"}
    assert keys & set(sent) == {name.lower()}


async def test_a_bad_option_is_a_matter_of_configuration(
    kind: Kind, fakes: FakeProviders, providers: Providers
) -> None:
    fakes.script("*", Turn([Text("Hello")]))
    bad: dict[Kind, JsonObject] = {
        "anthropic": {"beta_headers": ["x"], "thinking": "adaptive"},
        "responses": {"include": ["what_is_this"]},
        "chat": {"extra_body": {"n": 5}},
        "gemini": {"thinking_budget": 1, "thinking_level": "low"},
    }
    model = msgspec.structs.replace(
        access(kind, fakes, "claude-3-opus" if kind == "anthropic" else None),
        settings=ModelSettings(options=bad[kind]),
    )
    chat = Conversation(providers, model)
    if kind in ("anthropic", "gemini"):
        # Nothing of ours is refused there: the thinking level wins, the feature is unknown.
        await chat.say("hi")
        return
    with pytest.raises(Exception, match="did not accept the request"):
        await chat.say("hi")
    fixed = msgspec.structs.replace(model, settings=ModelSettings())
    assert await collect(
        providers, Conversation(providers, fixed, messages=chat.messages).request()
    )


SEARCHING: list[tuple[Kind, JsonObject]] = [
    ("anthropic", {"web_search_enabled": True, "allowed_domains": ["a.example"]}),
    ("responses", {"web_search_enabled": True, "allowed_domains": ["a.example"]}),
    ("gemini", {"web_search_enabled": True}),
]


@pytest.mark.parametrize(("kind", "options"), SEARCHING)
async def test_a_search_of_the_provider_stays_in_its_place_and_goes_back(
    kind: Kind, options: JsonObject, fakes: FakeProviders, providers: Providers
) -> None:
    """Call, result and sources stand where they came, before the local call that followed them."""
    found = [SearchResult("https://a.example", "A"), SearchResult("https://b.example", "B")]
    fakes.script(
        "*",
        [
            Turn(
                [Text("Looking."), ServerToolSearch("is it so", found), ToolCall("add", {"a": 1})]
            ),
            Turn([Text("It is so.")]),
            Turn([Text("Bye.")]),
        ],
    )
    model = msgspec.structs.replace(access(kind, fakes), settings=ModelSettings(options=options))
    web = ToolSpec("web_search", "Ours.", {"type": "object", "properties": {}}, "web")
    chat = Conversation(providers, model, tools=(web, ADD) if kind == "anthropic" else (ADD,))

    step = await chat.say("is it so?")
    await chat.answer(step, "2")
    await chat.say("thanks")

    kinds = [
        (type(part).__name__, getattr(part, "provider_executed", False))
        for part in step.parts
        if not isinstance(part, SourcePart)
    ]
    assert kinds == [
        ("TextPart", False),
        ("ToolCallPart", True),
        ("ToolResultPart", True),
        ("ToolCallPart", False),
    ]
    urls = [part.url for part in step.parts if isinstance(part, SourcePart)]
    assert urls == ["https://a.example", "https://b.example"]
    assert isinstance(step.parts[3], SourcePart)
    assert [call.tool for call in step.calls] == ["add"]
    assert not fakes.refused
    names = [tool.name for tool in fakes.requests[0].view.tools]
    assert len(names) == len(set(names)) == 2


def test_no_search_is_offered_unless_it_is_enabled() -> None:
    for kind in ("anthropic", "responses", "gemini"):
        assert "search" not in str(body_of(model_of(kind)).get("tools"))


def test_tools_stand_in_one_order() -> None:
    other = ToolSpec("zebra", "Z", {"type": "object", "properties": {}}, "p")
    for kind in BUILDERS:
        model = model_of(kind)  # pyright: ignore[reportArgumentType]  # its keys are the kinds
        assert body_of(model, tools=(other, ADD)) == body_of(model, tools=(ADD, other))


def test_reasoning_can_be_kept_back_from_anthropic() -> None:
    for sends in (True, False):
        model = model_of("anthropic", options={"send_reasoning": sends})
        native = {"type": "thinking", "thinking": "", "signature": "s"}
        metadata = ProviderMetadata("anthropic", model.account, model.model_id, native)
        history = [
            Message(MessageId(1), Role.USER, (TextPart("hi"),), 1, NOW),
            Message(
                MessageId(2),
                Role.ASSISTANT,
                (ReasoningPart("Hm", metadata), TextPart("Yes")),
                2,
                NOW,
                model=model.name,
            ),
            Message(MessageId(3), Role.USER, (TextPart("so"),), 3, NOW),
        ]
        body = anthropic_request.to_request(StepRequest(CHAT, model, "", tuple(history), ()))
        kinds = [block["type"] for block in body["messages"][1]["content"]]
        assert kinds == (["thinking", "text"] if sends else ["text"])


def test_a_running_turn_without_thinking_goes_on_without_it() -> None:
    """As after a switch of models: with a budget such a turn would be refused."""
    model = model_of("anthropic", options={"thinking": "enabled"})
    call = ToolCallPart("c1", "add", {})
    history = (
        Message(MessageId(1), Role.USER, (TextPart("hi"),), 1, NOW),
        Message(MessageId(2), Role.ASSISTANT, (call,), 2, NOW),
        Message(MessageId(3), Role.TOOL, (ToolResultPart("c1", "add"),), 3, NOW),
    )
    running = anthropic_request.to_request(StepRequest(CHAT, model, "", history, (ADD,)))
    assert "thinking" not in running
    told = (*history, Message(MessageId(4), Role.SYSTEM, (TextPart("Be kind."),), 4, NOW))
    still = anthropic_request.to_request(StepRequest(CHAT, model, "", told, (ADD,)))
    assert "thinking" not in still, "an instruction does not end a turn"
    later = (
        *history,
        Message(MessageId(4), Role.ASSISTANT, (TextPart("2"),), 4, NOW),
        Message(MessageId(5), Role.USER, (TextPart("so"),), 5, NOW),
    )
    rested = anthropic_request.to_request(StepRequest(CHAT, model, "", later, (ADD,)))
    assert rested["thinking"]["type"] == "enabled"
