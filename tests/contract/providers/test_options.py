"""Every option of every wire format: what it changes in the request, and where it is refused.

A row names an option and, for each way to call a model that has it, all that differs in the body.
Every other way must refuse it.
"""

from __future__ import annotations

from types import EllipsisType
from typing import Any, Final, NamedTuple

import msgspec
import pytest
from contract.providers.harness import ADD, CHAT, NOW, TYPES, Conversation, access, access_to
from fakes.script import Citation, Kind, Script, Text, Turn
from fakes.server import FakeProviders

from steersman_chatloop.prompt import prepare
from steersman_chatloop.providers import (
    anthropic_request,
    google_request,
    openai_chat_request,
    openai_responses_request,
)
from steersman_chatloop.providers.base import StepRequest
from steersman_chatloop.providers.registry import Providers, wire_format
from steersman_contracts.chats import Message, Role
from steersman_contracts.errors import InvalidRequest
from steersman_contracts.ids import MessageId
from steersman_contracts.model_options import OPTIONS
from steersman_contracts.option_rules import parse_settings
from steersman_contracts.parts import JsonObject, SourcePart, TextPart
from steersman_contracts.rpc.tools import ToolSpec
from steersman_contracts.rpc.worker import ModelAccess

EXACT: Final = ToolSpec(
    "exact",
    "All is required.",
    {
        "type": "object",
        "properties": {"x": {"type": "string"}},
        "required": ["x"],
        "additionalProperties": False,
    },
    "test",
)
TO_REQUEST: Final = {
    "anthropic": anthropic_request.to_request,
    "openai-responses": openai_responses_request.to_request,
    "openai-chat": openai_chat_request.to_request,
    "google": google_request.to_request,
}


class Way(NamedTuple):
    """A way to call a model, and the whole body of a request without any option."""

    kind: Kind
    model: str
    base_url: str
    options: JsonObject
    body: JsonObject


FUNCTIONS: Final[list[JsonObject]] = [
    {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}
    for tool in (ADD, EXACT)
]
CHAT_BODY: Final[JsonObject] = {
    "model": "gpt-5.6",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
    ],
    "stream": True,
    "stream_options": {"include_usage": True},
    "max_completion_tokens": 4000,
    "tools": [{"type": "function", "function": function} for function in FUNCTIONS],
    "prompt_cache_key": CHAT,
}
MARK: Final = {"cache_control": {"type": "ephemeral"}}
ANTHROPIC_TOOLS: Final[list[JsonObject]] = [
    {"name": t.name, "description": t.description, "input_schema": t.input_schema}
    for t in (ADD, EXACT)
]
GOOGLE_TOOLS: Final[JsonObject] = {
    "functionDeclarations": [
        {"name": t.name, "description": t.description, "parametersJsonSchema": t.input_schema}
        for t in (ADD, EXACT)
    ]
}
RESPONSES_TOOLS: Final[list[JsonObject]] = [
    {"type": "function", **function, "strict": False} for function in FUNCTIONS
]
WAYS: Final[dict[str, Way]] = {
    "responses": Way(
        "responses",
        "gpt-5.6",
        "https://api.openai.com/v1",
        {},
        {
            "model": "gpt-5.6",
            "input": [
                {
                    "type": "message",
                    "role": "user",
                    "content": [{"type": "input_text", "text": "hi"}],
                }
            ],
            "stream": True,
            "store": False,
            "include": ["reasoning.encrypted_content"],
            "max_output_tokens": 4000,
            "prompt_cache_key": CHAT,
            "instructions": "Be brief.",
            "tools": RESPONSES_TOOLS,
            "stream_options": {"include_obfuscation": False},
        },
    ),
    "completions": Way(
        "responses",
        "gpt-5.6",
        "https://api.openai.com/v1",
        {"use_responses_api": False},
        CHAT_BODY,
    ),
    "chat": Way("chat", "gpt-5.6", "https://api.openai.com/v1", {}, CHAT_BODY),
    "router": Way(
        "chat",
        "some/model",
        "https://openrouter.ai/api/v1",
        {},
        {name: value for name, value in CHAT_BODY.items() if name != "prompt_cache_key"}
        | {"model": "some/model", "max_tokens": 4000, "max_completion_tokens": ...},
    ),
    "anthropic": Way(
        "anthropic",
        "claude-sonnet-5-5",
        "https://api.anthropic.com",
        {},
        {
            "model": "claude-sonnet-5-5",
            "max_tokens": 4000,
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "hi", **MARK}]},
            ],
            "stream": True,
            "system": [{"type": "text", "text": "Be brief.", **MARK}],
            "tools": ANTHROPIC_TOOLS,
        },
    ),
    "gemini": Way(
        "gemini",
        "gemini-3-pro",
        "https://generativelanguage.googleapis.com",
        {},
        {
            "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
            "generationConfig": {
                "maxOutputTokens": 4000,
                "thinkingConfig": {"includeThoughts": True},
            },
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "tools": [GOOGLE_TOOLS],
        },
    ),
}


class Row(NamedTuple):
    """An option, what else must be set for it, and what it changes for whom."""

    option: str
    value: Any
    changes: dict[str, JsonObject]
    beside: JsonObject = {}  # noqa: RUF012  # nobody changes it

    def also(self, way: str, changes: JsonObject) -> Row:
        return self._replace(changes=self.changes | {way: changes})


def openai(option: str, value: Any, responses: JsonObject | None, chat: JsonObject | None) -> Row:
    changes: dict[str, JsonObject] = {}
    if responses is not None:
        changes["responses"] = responses
    if chat is not None:
        changes |= {"completions": chat, "chat": chat, "router": chat}
    return Row(option, value, changes)


def alike(option: str, value: Any) -> Row:
    """A field of both formats of OpenAI, under the name of the option."""
    return openai(option, value, {option: value}, {option: value})


def chat_tools(**more: Any) -> list[JsonObject]:
    first, second = ({"type": "function", "function": function} for function in FUNCTIONS)
    return [first, second | {"function": FUNCTIONS[1] | more}]


SAFE: Final = {"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_ONLY_HIGH"}
ROUTING: Final[JsonObject] = {
    "order": ["a", "b"],
    "only": ["a", "b", "c"],
    "ignore": ["d"],
    "allow_fallbacks": False,
    "require_parameters": True,
    "data_collection": "deny",
    "zdr": True,
    "enforce_distillable_text": True,
    "quantizations": ["fp8"],
    "sort": "throughput",
    "max_price": {"prompt": 1.0, "completion": 2.0, "request": 0.1, "image": 0.5},
}
PREDICTED: Final[JsonObject] = {"type": "content", "content": [{"type": "text", "text": "x = 1"}]}
SEARCH_OF_CLAUDE: Final = {"type": "web_search_20250305", "name": "web_search"}
SEARCH: Final[JsonObject] = {
    "tools": [*RESPONSES_TOOLS, {"type": "web_search"}],
    "include": ["reasoning.encrypted_content", "web_search_call.action.sources"],
}
SEARCHING: Final[JsonObject] = {"web_search_enabled": True}


def searching(**more: Any) -> JsonObject:
    return SEARCH | {"tools": [*RESPONSES_TOOLS, {"type": "web_search", **more}]}


def thinking(**config: Any) -> JsonObject:
    return {"generationConfig": {"maxOutputTokens": 4000, "thinkingConfig": config}}


def generating(**config: Any) -> JsonObject:
    return {
        "generationConfig": {
            "maxOutputTokens": 4000,
            "thinkingConfig": {"includeThoughts": True},
            **config,
        }
    }


HERE: Final = {"city": "Bern", "region": "BE", "country": "CH", "timezone": "Europe/Zurich"}
NEAR: Final = {"type": "approximate", **HERE}
KEPT_AN_HOUR: Final = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


ROWS: Final[list[Row]] = [
    # OpenAI
    openai(
        "include",
        ["file_search_call.results"],
        {"include": ["reasoning.encrypted_content", "file_search_call.results"]},
        None,
    ),
    openai(
        "instructions",
        "First.",
        {"instructions": "First.\n\nBe brief."},
        {
            "messages": [
                {"role": "system", "content": "First.\n\nBe brief."},
                {"role": "user", "content": "hi"},
            ]
        },
    ),
    openai("logit_bias", {"17": -100.0, "4": 2.5}, None, {"logit_bias": {"17": -100.0, "4": 2.5}}),
    openai(
        "logprobs",
        True,
        {"include": ["reasoning.encrypted_content", "message.output_text.logprobs"]},
        {"logprobs": True},
    ),
    openai(
        "top_logprobs",
        3,
        {
            "top_logprobs": 3,
            "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
        },
        {"top_logprobs": 3, "logprobs": True},
    ),
    openai("max_tool_calls", 4, {"max_tool_calls": 4}, None),
    alike("parallel_tool_calls", False),
    alike("user", "u"),
    openai("reasoning_effort", "xhigh", {"reasoning": {"effort": "xhigh"}}, None)._replace(
        changes={
            "responses": {"reasoning": {"effort": "xhigh"}},
            "completions": {"reasoning_effort": "xhigh"},
            "chat": {"reasoning_effort": "xhigh"},
            "router": {"reasoning": {"effort": "xhigh"}},
        }
    ),
    openai("reasoning_summary", "concise", {"reasoning": {"summary": "concise"}}, None),
    Row(
        "max_completion_tokens",
        77,
        {
            "responses": {"max_output_tokens": 77},
            "completions": {"max_completion_tokens": 77},
            "chat": {"max_completion_tokens": 77},
            "router": {"max_completion_tokens": 77, "max_tokens": ...},
        },
    ),
    openai("text_verbosity", "low", {"text": {"verbosity": "low"}}, {"verbosity": "low"}),
    openai("prediction", PREDICTED, None, {"prediction": PREDICTED}),
    alike("store", True).also("gemini", {"store": True}),
    alike("metadata", {"a": "b"}),
    alike("prompt_cache_key", "mine"),
    alike("safety_identifier", "s"),
    alike("service_tier", "flex").also("gemini", {"serviceTier": "flex"}),
    Row(
        "service_tier",
        "ultrafast",
        {way: {"service_tier": "ultrafast"} for way in ("responses", "chat", "router")},
    ),
    Row(
        "service_tier",
        "standard_only",
        {way: {"service_tier": "standard_only"} for way in ("anthropic", "chat", "router")},
    ),
    alike("prompt_cache_retention", "24h"),
    openai(
        "prompt_cache_ttl",
        "12h",
        {"prompt_cache_options": {"ttl": "12h"}},
        {"prompt_cache_options": {"ttl": "12h"}},
    ),
    openai("reasoning_mode", "pro", {"reasoning": {"mode": "pro"}}, None),
    openai("reasoning_context", "all_turns", {"reasoning": {"context": "all_turns"}}, None),
    openai("seed", 0, None, {"seed": 0}).also("gemini", generating(seed=0)),
    openai("stop", ["END"], None, {"stop": ["END"]}),
    openai(
        "strict_json_schema",
        True,
        {"tools": [RESPONSES_TOOLS[0], RESPONSES_TOOLS[1] | {"strict": True}]},
        {"tools": chat_tools(strict=True)},
    ),
    Row("use_responses_api", True, {"responses": {}}),
    Row("chain_responses", True, {"responses": {}}),  # changes what follows a stored response
    Row("search_context_size", "low", {"responses": {}, "completions": {}}),
    Row(
        "search_context_size",
        "low",
        {
            "responses": searching(search_context_size="low"),
            "completions": {"web_search_options": {"search_context_size": "low"}},
        },
        SEARCHING,
    ),
    Row(
        "allowed_domains",
        ["a.example"],
        {
            "responses": searching(filters={"allowed_domains": ["a.example"]}),
            "anthropic": {
                "tools": [
                    *ANTHROPIC_TOOLS,
                    SEARCH_OF_CLAUDE | {"allowed_domains": ["a.example"]},
                ]
            },
        },
        SEARCHING,
    ),
    Row(
        "web_search_enabled",
        True,
        {
            "responses": SEARCH,
            "completions": {"web_search_options": {}},
            "anthropic": {"tools": [*ANTHROPIC_TOOLS, SEARCH_OF_CLAUDE]},
            "gemini": {
                "tools": [GOOGLE_TOOLS, {"googleSearch": {}}],
                "toolConfig": {"includeServerSideToolInvocations": True},
            },
        },
    ),
    Row(
        "user_location",
        HERE,
        {
            "responses": searching(user_location=NEAR),
            "completions": {
                "web_search_options": {
                    "user_location": {"type": "approximate", "approximate": HERE}
                }
            },
            "anthropic": {"tools": [*ANTHROPIC_TOOLS, SEARCH_OF_CLAUDE | {"user_location": NEAR}]},
        },
        SEARCHING,
    ),
    Row(
        "external_web_access",
        False,
        {"responses": searching(external_web_access=False)},
        SEARCHING,
    ),
    # The tool is not in these requests: see `test_computer`.
    Row(
        "computer_use",
        "function",
        {"responses": {}, "completions": {}, "anthropic": {}, "gemini": {}},
    ),
    # Anthropic
    Row(
        "blocked_domains",
        ["b.example"],
        {
            "anthropic": {
                "tools": [
                    *ANTHROPIC_TOOLS,
                    SEARCH_OF_CLAUDE | {"blocked_domains": ["b.example"]},
                ]
            }
        },
        SEARCHING,
    ),
    Row("send_reasoning", False, {"anthropic": {}}),  # there is none in this history
    Row("thinking", "adaptive", {"anthropic": {"thinking": {"type": "adaptive"}}}),
    Row(
        "thinking_budget_tokens",
        2000,
        {"anthropic": {"thinking": {"type": "enabled", "budget_tokens": 2000}}},
        {"thinking": "enabled"},
    ),
    Row(
        "thinking_display",
        "omitted",
        {"anthropic": {"thinking": {"type": "adaptive", "display": "omitted"}}},
        {"thinking": "adaptive"},
    ),
    Row(
        "effort",
        "max",
        {"anthropic": {"output_config": {"effort": "max"}, "thinking": {"type": "adaptive"}}},
    ),
    Row(
        "disable_parallel_tool_use",
        True,
        {"anthropic": {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}},
    ),
    Row(
        "search_max_uses",
        3,
        {"anthropic": {"tools": [*ANTHROPIC_TOOLS, SEARCH_OF_CLAUDE | {"max_uses": 3}]}},
        SEARCHING,
    ),
    Row("thinking", "between_tools", {"anthropic": {"thinking": {"type": "between_tools"}}}),
    Row(
        "cache_ttl",
        "1h",
        {
            "anthropic": {
                "system": [{"type": "text", "text": "Be brief.", **KEPT_AN_HOUR}],
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "hi", **KEPT_AN_HOUR}]}
                ],
            }
        },
    ),
    Row(
        "stop_sequences",
        ["END"],
        {"anthropic": {"stop_sequences": ["END"]}, "gemini": generating(stopSequences=["END"])},
    ),
    Row("inference_geo", "eu", {"anthropic": {"inference_geo": "eu"}}),
    Row("speed", "fast", {"anthropic": {"speed": "fast"}}),
    Row("user_id", "u-1", {"anthropic": {"metadata": {"user_id": "u-1"}}}),
    Row("beta_headers", ["b-1"], {"anthropic": {}}),  # a header, as it says
    # Google
    Row(
        "thinking_budget",
        99,
        {"gemini": thinking(includeThoughts=True, thinkingBudget=99)},
    ),
    Row(
        "thinking_level",
        "low",
        {"gemini": thinking(includeThoughts=True, thinkingLevel="LOW")},
    ),
    Row("include_thoughts", False, {"gemini": {"generationConfig": {"maxOutputTokens": 4000}}}),
    Row(
        "cached_content",
        "cachedContents/1",
        {
            "gemini": {
                "cachedContent": "cachedContents/1",
                "systemInstruction": ...,
                "tools": ...,
            }
        },
    ),
    Row("safety_settings", [SAFE], {"gemini": {"safetySettings": [SAFE]}}),
    Row(
        "media_resolution",
        "low",
        {"gemini": generating(mediaResolution="MEDIA_RESOLUTION_LOW")},
    ),
    Row("labels", {"team": "a"}, {"gemini": {"labels": {"team": "a"}}}),
    # Servers that are compatible with OpenAI
    Row("provider", ROUTING, {way: {"provider": ROUTING} for way in ("chat", "router")}),
    Row(
        "reasoning",
        {"max_tokens": 500, "exclude": True, "enabled": True},
        {
            way: {"reasoning": {"max_tokens": 500, "exclude": True, "enabled": True}}
            for way in ("chat", "router")
        },
    ),
    Row(
        "extra_body",
        {"min_p": 0.1, "user": "me", "messages": [], "stream": False},
        {way: {"min_p": 0.1, "user": "me"} for way in ("chat", "router")},
    ),
]


def changed(body: JsonObject, *changes: JsonObject) -> JsonObject:
    for one in changes:
        body = body | one
    return {name: value for name, value in body.items() if not isinstance(value, EllipsisType)}


def model_of(way: Way, options: JsonObject) -> ModelAccess:
    plain = access_to(way.kind, way.base_url, way.model)
    settings = parse_settings(plain.provider_type, {"options": way.options | options})
    return msgspec.structs.replace(plain, settings=settings)


def body_of(way: Way, options: JsonObject) -> JsonObject:
    model = model_of(way, options)
    said = Message(MessageId(1), Role.USER, (TextPart("hi"),), 1, NOW)
    request = StepRequest(CHAT, model, "Be brief.", prepare([said]), (EXACT, ADD))
    sent = msgspec.json.encode(TO_REQUEST[wire_format(model)](request))
    return msgspec.json.decode(sent, type=JsonObject)


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
def test_a_request_without_options(way: Way) -> None:
    assert body_of(way, {}) == changed(way.body)


@pytest.mark.parametrize("row", ROWS, ids=[row.option for row in ROWS])
def test_an_option_changes_its_fields_and_nothing_else_or_is_refused(row: Row) -> None:
    for name, way in WAYS.items():
        options = row.beside | {row.option: row.value}
        if name in row.changes:
            assert body_of(way, options) == changed(way.body, row.changes[name]), name
            continue
        if row.option == "use_responses_api" and name == "completions":
            continue  # it is the other of the two
        known = OPTIONS[TYPES[way.kind]].__struct_fields__
        beside = {key: value for key, value in row.beside.items() if key in known}
        with pytest.raises(InvalidRequest) as refused:
            body_of(way, beside | {row.option: row.value})
        assert refused.value.details["field"] == f"settings.options.{row.option}", name


def test_every_option_is_in_the_table() -> None:
    for way in WAYS.values():
        names = {row.option for row in ROWS}
        assert set(OPTIONS[TYPES[way.kind]].__struct_fields__) <= names


@pytest.mark.parametrize("name", WAYS)
async def test_the_strict_servers_take_every_option(
    name: str, fakes: FakeProviders, providers: Providers
) -> None:
    way = WAYS[name]
    kind: Kind = "chat" if name == "completions" else way.kind
    fakes.script("*", Script([Turn([Text("Hello")])], repeat=True))
    for row in (row for row in ROWS if name in row.changes):
        if row.option in ("extra_body", "provider", "reasoning") and name == "chat":
            continue  # OpenAI itself refuses what it does not know
        if row.value in ("ultrafast", "standard_only") and name == "chat":
            continue  # so it does here; other servers have words of their own
        model = model_of(way, row.beside | {row.option: row.value})
        # A model of OpenAI that takes the older name of the limit, which other hosts get.
        model_id = "gpt-4.1" if kind == "chat" and name != "router" else way.model
        model = msgspec.structs.replace(model, base_url=fakes.base_url(kind), model_id=model_id)
        step = await Conversation(providers, model).say("hi")
        assert step.text == "Hello"
    assert not fakes.refused


async def test_pages_that_a_searching_model_cites_become_sources(
    fakes: FakeProviders, providers: Providers
) -> None:
    cited = Text("So it is.", [Citation("https://a.example", "A")])
    fakes.script("*", [Turn([cited]), Turn([Text("Bye.")])])
    chat = Conversation(providers, access("chat", fakes, "openrouter/x"))

    step = await chat.say("is it so?")
    await chat.say("thanks")

    assert step.parts == (
        TextPart("So it is."),
        SourcePart("https://a.example", "A", cited=((0, 9),)),
    )
    assert not fakes.refused
