"""What Anthropic Messages refuses, and what it takes."""

from typing import Any, Final

import pytest
from fakes.asking import HEADERS, Body, ask, refusal
from fakes.wire import sign

USER: Final[Body] = {"role": "user", "content": "hi"}
SIGNED: Final[Body] = {
    "type": "thinking",
    "thinking": "hm",
    "signature": sign("anthropic", "hm"),
}
CALL: Final[Body] = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}}
CALL_2: Final[Body] = {**CALL, "id": "toolu_2"}
RESULT: Final[Body] = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "2"}
RESULT_2: Final[Body] = {**RESULT, "tool_use_id": "toolu_2"}
SEARCH: Final[Body] = {
    "type": "server_tool_use",
    "id": "srvtoolu_1",
    "name": "web_search",
    "input": {"query": "q"},
}
FOUND: Final[Body] = {
    "type": "web_search_tool_result",
    "tool_use_id": "srvtoolu_1",
    "content": [],
}
TEXT: Final[Body] = {"type": "text", "text": "Hello"}
SCHEMA: Final[Body] = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOL: Final[Body] = {"name": "add", "input_schema": SCHEMA}


def said(*blocks: Body) -> Body:
    return {"role": "assistant", "content": list(blocks)}


def told(*blocks: Body) -> Body:
    return {"role": "user", "content": list(blocks)}


def request(**fields: Any) -> Body:
    body = {"model": "m", "max_tokens": 4096, "stream": True, "messages": [USER], **fields}
    return {name: value for name, value in body.items() if value is not ...}


PARAMETERS: Final[dict[str, tuple[Body, str, str]]] = {
    "unknown field": (request(foo=1), "foo", "Extra inputs are not permitted"),
    "no max_tokens": (request(max_tokens=...), "max_tokens", "Field required"),
    "max_tokens 0": (request(max_tokens=0), "max_tokens", "greater than or equal to 1"),
    "max_tokens -1": (request(max_tokens=-1), "max_tokens", "greater than or equal to 1"),
    "max_tokens as text": (request(max_tokens="1"), "max_tokens", "int"),
    "no model": (request(model=...), "model", "Field required"),
    "no messages": (request(messages=...), "messages", "Field required"),
    "empty messages": (request(messages=[]), "messages", "at least one message"),
    "not streamed": (request(stream=False), "stream", "only streams"),
    "temperature": (request(temperature=0.5), "temperature", "not permitted"),
    "top_p": (request(top_p=0.5), "top_p", "not permitted"),
    "top_k": (request(top_k=5), "top_k", "not permitted"),
    "beta field": (request(context_management={}), "context_management", "not permitted"),
    "small budget": (
        request(thinking={"type": "enabled", "budget_tokens": 100}),
        "thinking.enabled.budget_tokens",
        "1024",
    ),
    "large budget": (
        request(thinking={"type": "enabled", "budget_tokens": 4096}),
        "max_tokens",
        "greater than",
    ),
    "unknown thinking": (request(thinking={"type": "deep"}), "thinking.type", "deep"),
    "unknown effort": (request(output_config={"effort": "huge"}), "output_config.effort", "huge"),
    "choice without tools": (request(tool_choice={"type": "auto"}), "", "tool_choice"),
    "choice of a stranger": (
        request(tools=[TOOL], tool_choice={"type": "tool", "name": "sub"}),
        "",
        "not found",
    ),
    "unknown choice": (request(tool_choice={"type": "some"}), "tool_choice.type", "some"),
    "forced tool and thinking": (
        request(
            tools=[TOOL],
            tool_choice={"type": "any"},
            thinking={"type": "enabled", "budget_tokens": 2000},
        ),
        "",
        "forces tool use",
    ),
    "cache_control unknown": (
        request(cache_control={"type": "for-ever"}),
        "cache_control.type",
        "for-ever",
    ),
    "five breakpoints": (
        request(
            messages=[told(*[{**TEXT, "cache_control": {"type": "ephemeral"}} for _ in range(5)])]
        ),
        "cache_control",
        "maximum of 4",
    ),
    "empty system block": (
        request(system=[{"type": "text", "text": ""}]),
        "system.0.text",
        "non-empty",
    ),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_wrong_parameter_is_refused(name: str) -> None:
    body, field, words = PARAMETERS[name]

    refused = refusal("anthropic", body)

    assert (refused.status, refused.field or "") == (400, field)
    assert words in refused.message


TOOLS: Final[dict[str, tuple[Any, str]]] = {
    "no name": ({"input_schema": SCHEMA}, "tools.0.name"),
    "odd name": ({**TOOL, "name": "a.b"}, "tools.0.name"),
    "empty name": ({**TOOL, "name": ""}, "tools.0.name"),
    "long name": ({**TOOL, "name": "a" * 65}, "tools.0.name"),
    "no schema": ({"name": "add"}, "tools.0.input_schema"),
    "schema null": ({**TOOL, "input_schema": None}, "tools.0.custom.input_schema"),
    "schema a list": ({**TOOL, "input_schema": []}, "tools.0.custom.input_schema"),
    "schema of a string": (
        {**TOOL, "input_schema": {"type": "string"}},
        "tools.0.custom.input_schema",
    ),
    "no type": ({**TOOL, "input_schema": {"properties": {}}}, "tools.0.custom.input_schema"),
    "properties a list": (
        {**TOOL, "input_schema": {"type": "object", "properties": []}},
        "tools.0.custom.input_schema",
    ),
    "unknown type inside": (
        {**TOOL, "input_schema": {"type": "object", "properties": {"a": {"type": "int"}}}},
        "tools.0.custom.input_schema",
    ),
    "required not names": (
        {**TOOL, "input_schema": {"type": "object", "required": [1]}},
        "tools.0.custom.input_schema",
    ),
    "nested": ({"type": "function", "function": TOOL}, "tools.0.type"),
    "OpenAI's key": ({"name": "add", "parameters": SCHEMA}, "tools.0.parameters"),
    "old computer": (
        {"type": "computer_20250124", "name": "computer", "display_width_px": 1},
        "tools.0.type",
    ),
    "search under another name": (
        {"type": "web_search_20250305", "name": "search"},
        "tools.0.name",
    ),
    "search with both lists": (
        {
            "type": "web_search_20250305",
            "name": "web_search",
            "allowed_domains": ["a.example"],
            "blocked_domains": ["b.example"],
        },
        "tools.0.blocked_domains",
    ),
    "toolset with a name": (
        {"type": "computer_toolset_20260801", "name": "computer"},
        "tools.0.name",
    ),
}


@pytest.mark.parametrize("name", TOOLS)
def test_a_wrong_tool_is_refused(name: str) -> None:
    tool, field = TOOLS[name]

    refused = refusal("anthropic", request(tools=[tool]))

    assert (refused.status, refused.field) == (400, field)


def test_tool_names_are_unique() -> None:
    assert "unique" in refusal("anthropic", request(tools=[TOOL, TOOL])).message


HISTORIES: Final[dict[str, tuple[list[Body], str, str]]] = {
    "assistant first": ([said(TEXT), USER], "messages.0.role", "first message"),
    "unknown role": ([{"role": "tool", "content": "x"}], "messages.0.role", "tool"),
    "developer role": ([{"role": "developer", "content": "x"}], "messages.0.role", "developer"),
    "unknown key": ([{**USER, "name": "x"}], "messages.0.name", "Extra inputs"),
    "no content": ([{"role": "user"}], "messages.0.content", "Field required"),
    "content null": ([{"role": "user", "content": None}], "messages.0.content", "null"),
    "empty content": ([{"role": "user", "content": ""}], "messages.0.content", "non-empty"),
    "no blocks": ([told()], "messages.0.content", "non-empty"),
    "unknown block": ([told({"type": "video"})], "messages.0.content.0.type", "video"),
    "unknown key in a block": (
        [told({**TEXT, "foo": 1})],
        "messages.0.content.0.foo",
        "Extra inputs",
    ),
    "empty text": ([told({"type": "text", "text": ""})], "messages.0.content.0.text", "non-empty"),
    "blank text": (
        [told({"type": "text", "text": " \n"})],
        "messages.0.content.0.text",
        "non-whitespace",
    ),
    "empty assistant": ([USER, said(), USER], "messages.1.content", "non-empty"),
    "use without result": ([USER, said(CALL), USER], "messages.2", "without `tool_result`"),
    "use without anything": ([USER, said(CALL)], "messages.1", "without `tool_result`"),
    "one result missing": (
        [USER, said(CALL, CALL_2), told(RESULT)],
        "messages.2",
        "toolu_2",
    ),
    "results in two messages": (
        [USER, said(CALL, CALL_2), told(RESULT), told(RESULT_2)],
        "messages.2",
        "toolu_2",
    ),
    "text before the result": ([USER, said(CALL), told(TEXT, RESULT)], "messages.2", "toolu_1"),
    "text between results": (
        [USER, said(CALL, CALL_2), told(RESULT, TEXT, RESULT_2)],
        "messages.2",
        "toolu_2",
    ),
    "assistant between": (
        [USER, said(CALL), said(TEXT), told(RESULT)],
        "messages.2",
        "without `tool_result`",
    ),
    "system between": (
        [USER, said(CALL), {"role": "system", "content": "x"}, told(RESULT)],
        "messages.2",
        "without `tool_result`",
    ),
    "result without use": ([told(RESULT)], "messages.0.content.0.tool_use_id", "unexpected"),
    "result too late": (
        [USER, said(CALL), told(RESULT), said(TEXT), told(RESULT)],
        "messages.4.content.0.tool_use_id",
        "unexpected",
    ),
    "two results": (
        [USER, said(CALL), told(RESULT, RESULT)],
        "messages.2.content.1.tool_use_id",
        "single result",
    ),
    "result in the assistant": ([USER, said(RESULT), USER], "messages.1.content.0", "`user`"),
    "use in the user": ([told(CALL)], "messages.0.content.0", "`assistant`"),
    "thinking in the user": ([told(SIGNED)], "messages.0.content.0", "`assistant`"),
    "same id twice": (
        [USER, said(CALL), told(RESULT), said(CALL), told(RESULT)],
        "messages.3.content.0.tool_use.id",
        "unique",
    ),
    "odd id": (
        [USER, said({**CALL, "id": "call:1"}), told({**RESULT, "tool_use_id": "call:1"})],
        "messages.1.content.0.tool_use.id",
        "pattern",
    ),
    "long id": (
        [USER, said({**CALL, "id": "a" * 65}), told({**RESULT, "tool_use_id": "a" * 65})],
        "messages.1.content.0.tool_use.id",
        "pattern",
    ),
    "odd tool name": (
        [USER, said({**CALL, "name": "a b"}), told(RESULT)],
        "messages.1.content.0.tool_use.name",
        "pattern",
    ),
    "arguments as text": (
        [USER, said({**CALL, "input": "{}"}), told(RESULT)],
        "messages.1.content.0.input",
        "object",
    ),
    "empty text in a result": (
        [USER, said(CALL), told({**RESULT, "content": [{"type": "text", "text": ""}]})],
        "messages.2.content.0.content.0.text",
        "non-empty",
    ),
    "unknown block in a result": (
        [USER, said(CALL), told({**RESULT, "content": [{"type": "audio"}]})],
        "messages.2.content.0.content.0.type",
        "audio",
    ),
    "blank signature": (
        [USER, said({**SIGNED, "signature": ""}, TEXT), USER],
        "messages.1.content.0.signature",
        "Invalid `signature`",
    ),
    "another's signature": (
        [USER, said({**SIGNED, "signature": "bm8="}, TEXT), USER],
        "messages.1.content.0.signature",
        "Invalid `signature`",
    ),
    "changed thinking": (
        [USER, said({**SIGNED, "thinking": "hmm"}, TEXT), USER],
        "messages.1.content.0.signature",
        "Invalid `signature`",
    ),
    "no signature": (
        [USER, said({"type": "thinking", "thinking": "hm"}, TEXT), USER],
        "messages.1.content.0.signature",
        "Field required",
    ),
    "cached thinking": (
        [USER, said({**SIGNED, "cache_control": {"type": "ephemeral"}}, TEXT), USER],
        "messages.1.content.0.cache_control",
        "Extra inputs",
    ),
    "redacted thinking made up": (
        [USER, said({"type": "redacted_thinking", "data": "x"}, TEXT), USER],
        "messages.1.content.0.data",
        "redacted_thinking",
    ),
    "search without result": (
        [USER, said(SEARCH, TEXT), USER],
        "messages.1.content.0",
        "srvtoolu_1",
    ),
    "search result alone": (
        [USER, said(FOUND, TEXT), USER],
        "messages.1.content.0.tool_use_id",
        "unexpected",
    ),
    "search result first": (
        [USER, said(FOUND, SEARCH, TEXT), USER],
        "messages.1.content.0.tool_use_id",
        "unexpected",
    ),
    "search answered by the client": (
        [USER, said(SEARCH, FOUND), told({**RESULT, "tool_use_id": "srvtoolu_1"})],
        "messages.2.content.0.tool_use_id",
        "unexpected",
    ),
    "prefill": ([USER, said(TEXT)], "messages", "prefill"),
    "citations on user text": (
        [told({**TEXT, "citations": [{"type": "char_location"}]})],
        "messages.0.content.0.citations",
        "user text",
    ),
    "document in the assistant": (
        [USER, said({"type": "document", "source": {"type": "text"}}), USER],
        "messages.1.content.0",
        "`assistant`",
    ),
    "image of another type": (
        [
            told(
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/bmp", "data": "eA=="},
                }
            )
        ],
        "messages.0.content.0.source.base64.media_type",
        "image/png",
    ),
    "OpenAI's image": (
        [told({"type": "image_url", "image_url": {"url": "https://a.example"}})],
        "messages.0.content.0.type",
        "image_url",
    ),
    "beta block": ([told({"type": "compaction"}), USER], "messages.0.content.0.type", "beta"),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_a_wrong_history_is_refused(name: str) -> None:
    messages, field, words = HISTORIES[name]

    refused = refusal("anthropic", request(messages=messages))

    assert (refused.status, refused.field) == (400, field)
    assert words in refused.message


@pytest.mark.parametrize("kind", ["enabled", "adaptive"])
def test_thinking_may_not_be_dropped_in_front_of_its_call(kind: str) -> None:
    call = {**CALL, "id": "toolu_01T0"}
    result = {**RESULT, "tool_use_id": "toolu_01T0"}
    thinking = {"type": kind} | ({"budget_tokens": 1024} if kind == "enabled" else {})

    kept = request(messages=[USER, said(SIGNED, call), told(result)], thinking=thinking)
    ask("anthropic", kept)
    dropped = request(messages=[USER, said(call), told(result)], thinking=thinking)
    refused = refusal("anthropic", dropped)

    assert refused.field == "messages.1.content.0.type"
    # Without thinking, or once the turn is over, it may.
    ask("anthropic", request(messages=[USER, said(call), told(result)]))
    over = [USER, said(call), told(result), said(TEXT), USER]
    ask("anthropic", request(messages=over, thinking=thinking))


def test_adaptive_thinking_need_not_have_thought() -> None:
    ask(
        "anthropic",
        request(messages=[USER, said(CALL), told(RESULT)], thinking={"type": "adaptive"}),
    )


ACCEPTED: Final[dict[str, list[Body]]] = {
    "several user messages": [USER, USER],
    "system in between": [USER, {"role": "system", "content": "Be brief."}, USER],
    "text after results": [USER, said(CALL), told(RESULT, TEXT)],
    "an image after results": [
        USER,
        said(CALL),
        told(RESULT, {"type": "image", "source": {"type": "url", "url": "https://a.example"}}),
    ],
    "results in any order": [USER, said(CALL, CALL_2), told(RESULT_2, RESULT)],
    "an empty result": [USER, said(CALL), told({"type": "tool_result", "tool_use_id": "toolu_1"})],
    "a search": [USER, said(SEARCH, FOUND, TEXT), USER],
    "a paused search": [USER, said(SEARCH, FOUND, {**SEARCH, "id": "srvtoolu_2"})],
    "thinking": [USER, said(SIGNED, TEXT), USER],
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_right_history_is_taken(name: str) -> None:
    ask("anthropic", request(messages=ACCEPTED[name]))


def test_old_models_take_a_prefill_without_trailing_space() -> None:
    ask("anthropic", request(model="claude-sonnet-4-20250514", messages=[USER, said(TEXT)]))

    spaced = said({"type": "text", "text": "Hello "})
    refused = refusal("anthropic", request(model="claude-3-haiku", messages=[USER, spaced]))

    assert "trailing whitespace" in refused.message


def test_the_old_version_takes_sampling_parameters() -> None:
    headers = {**HEADERS["anthropic"], "anthropic-version": "2023-06-01"}

    ask("anthropic", request(temperature=0.5, top_p=0.9, top_k=5), headers=headers)


def test_beta_fields_need_the_header() -> None:
    headers = {**HEADERS["anthropic"], "anthropic-beta": "compact-2026-09-04"}
    body = request(
        compaction={"type": "summarize"},
        messages=[said({"type": "compaction", "content": "so far"}), USER],
    )

    ask("anthropic", body, headers=headers)


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [
        ({"anthropic-version": "2026-10-21"}, 401, "authentication is required"),
        ({"authorization": "Basic x", "anthropic-version": "2026-10-21"}, 401, "required"),
        ({"x-api-key": "invalid", "anthropic-version": "2026-10-21"}, 401, "invalid"),
        ({"x-api-key": "k"}, 400, "anthropic-version"),
        ({"x-api-key": "k", "anthropic-version": "2020-01-01"}, 400, "2020-01-01"),
    ],
)
def test_headers_are_checked(headers: dict[str, str], status: int, words: str) -> None:
    refused = refusal("anthropic", request(), headers=headers)

    assert refused.status == status
    assert words in refused.message


def test_either_key_header_will_do() -> None:
    ask("anthropic", request(), headers={"x-api-key": "k", "anthropic-version": "2026-10-21"})


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'"x"', b"\xff"])
def test_what_is_no_request_is_refused(raw: bytes) -> None:
    assert refusal("anthropic", raw).status == 400
