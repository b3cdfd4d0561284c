"""What the real SDKs hear, with every script rendered to every wire format."""

from collections.abc import Mapping
from typing import Final

import pytest
from fakes.drivers import Driver, Heard, Native
from fakes.script import (
    Citation,
    Kind,
    Reasoning,
    Refusal,
    RequestView,
    Script,
    SearchResult,
    ServerToolSearch,
    Stop,
    StopReason,
    Text,
    ToolCall,
    Turn,
    Usage,
)
from fakes.server import FakeProviders

KINDS: Final[tuple[Kind, ...]] = ("anthropic", "responses", "chat", "gemini")
each_kind = pytest.mark.parametrize("kind", KINDS)

Sdks = Mapping[Kind, Driver]


async def hear(
    driver: Driver, model: str, history: list[Native], options: Native | None = None
) -> Heard:
    heard = Heard()
    await driver.stream(model, history, heard, options)
    return heard


@each_kind
async def test_a_turn_arrives_piece_by_piece(fakes: FakeProviders, sdks: Sdks, kind: Kind) -> None:
    fakes.script("m", [Turn([Reasoning("hm, well"), Text("Hello big\nworld! ")])])

    heard = await hear(sdks[kind], "m", sdks[kind].user("hi"))

    assert heard.reasoning == ["hm,", " well"]
    assert heard.text == ["Hello", " big", "\nworld! "]
    assert heard.stop in ("end_turn", "completed", "stop", "STOP")
    assert not heard.calls


@each_kind
async def test_pieces_may_have_a_fixed_size(fakes: FakeProviders, sdks: Sdks, kind: Kind) -> None:
    fakes.script("m", [Turn([Text("abcdefg")], chunk_chars=3)])

    heard = await hear(sdks[kind], "m", sdks[kind].user("hi"))

    assert heard.text == ["abc", "def", "g"]


@each_kind
async def test_parallel_calls_keep_their_order_and_arguments(
    fakes: FakeProviders, sdks: Sdks, kind: Kind
) -> None:
    calls = [ToolCall("add", {"a": 1, "b": [True, None, "ä"]}), ToolCall("now")]
    fakes.script("m", [Turn([Text("Let me see."), *calls])])

    heard = await hear(sdks[kind], "m", sdks[kind].user("hi"))

    assert [(call.name, call.arguments) for call in heard.calls] == [
        ("add", {"a": 1, "b": [True, None, "ä"]}),
        ("now", {}),
    ]
    assert heard.stop in ("tool_use", "completed", "tool_calls", "STOP")
    ids = [call.id for call in heard.calls]
    assert ids == [None, None] if kind == "gemini" else len(set(ids)) == 2


@each_kind
async def test_ids_come_from_the_script_if_it_has_any(
    fakes: FakeProviders, sdks: Sdks, kind: Kind
) -> None:
    fakes.script("m", [Turn([ToolCall("add", id="call_mine")])])

    heard = await hear(sdks[kind], "m", sdks[kind].user("hi"))

    assert heard.calls[0].id == "call_mine"


@pytest.mark.parametrize("model", ["m", "gemini-3-pro", "deepseek-r", "claude-opus-5"])
@each_kind
async def test_a_whole_turn_goes_back_and_forth(
    fakes: FakeProviders, sdks: Sdks, kind: Kind, model: str
) -> None:
    """What was heard is accepted as history, signatures and all."""
    driver = sdks[kind]
    fakes.script(
        model,
        [
            Turn([Reasoning("first"), ToolCall("add", {"a": 1}), ToolCall("add", {"a": 2})]),
            Turn([Reasoning("second"), Text("so"), ToolCall("add", {"a": 3})]),
            Turn([Reasoning("third"), Text("Six.")]),
            Turn([Text("You are welcome.")]),
        ],
    )
    history = driver.user("sum up")
    said: list[str] = []
    for texts in (["1", "2"], ["3"], []):
        heard = await hear(driver, model, history, _thinking(kind))
        said.append("".join(heard.text))
        history += heard.history + (driver.results(heard, texts) if texts else [])
    history += driver.user("thanks")
    heard = await hear(driver, model, history, _thinking(kind))

    assert [*said, "".join(heard.text)] == ["", "so", "Six.", "You are welcome."]
    assert not fakes.refused


def _thinking(kind: Kind) -> Native | None:
    return {"thinking": {"type": "adaptive"}} if kind == "anthropic" else None


@each_kind
async def test_the_position_in_a_script_follows_from_the_history_alone(
    fakes: FakeProviders, sdks: Sdks, kind: Kind
) -> None:
    driver = sdks[kind]
    fakes.script("m", [Turn([Text("one")]), Turn([Text("two")])])

    first = await hear(driver, "m", driver.user("a"))
    again = await hear(driver, "m", driver.user("a"))
    second = await hear(driver, "m", [*driver.user("a"), *first.history, *driver.user("b")])

    assert [heard.text for heard in (first, again, second)] == [["one"], ["one"], ["two"]]


@each_kind
async def test_a_script_that_ran_out_is_an_error(
    fakes: FakeProviders, sdks: Sdks, kind: Kind
) -> None:
    driver = sdks[kind]
    fakes.script("m", [Turn([Text("one")])])
    first = await hear(driver, "m", driver.user("a"))

    with pytest.raises(Exception, match="no turn for step 0 after user message 1"):
        await hear(driver, "m", [*driver.user("a"), *first.history, *driver.user("b")])


@each_kind
async def test_a_script_may_repeat(fakes: FakeProviders, sdks: Sdks, kind: Kind) -> None:
    driver = sdks[kind]
    fakes.script("m", Script([Turn([Text("one")])], repeat=True))
    first = await hear(driver, "m", driver.user("a"))

    again = await hear(driver, "m", [*driver.user("a"), *first.history, *driver.user("b")])

    assert again.text == ["one"]


@each_kind
async def test_a_function_may_answer(fakes: FakeProviders, sdks: Sdks, kind: Kind) -> None:
    def answer(view: RequestView) -> Turn:
        if view.results:
            return Turn([Text(f"{view.results[0].text} via {view.messages[1].calls[0].name}")])
        return Turn([ToolCall(view.tools[0].name, {"of": view.last_user_text})])

    driver = sdks[kind]
    fakes.script("m", answer)
    history = driver.user("spain")
    heard = await hear(driver, "m", history, _tools(kind))
    history += heard.history + driver.results(heard, ["Madrid"])

    heard = await hear(driver, "m", history, _tools(kind))

    assert "".join(heard.text) == "Madrid via capital"
    view = fakes.requests[-1].view
    assert view.kind == kind
    assert (view.user_index, view.step_index) == (0, 1)
    assert view.tools[0].schema["type"] == "object"


def _tools(kind: Kind) -> Native:
    schema = {"type": "object", "properties": {"of": {"type": "string"}}}
    named = {"name": "capital", "description": "Find a capital."}
    match kind:
        case "anthropic" | "bedrock" | "vertex":
            return {"tools": [{**named, "input_schema": schema}]}
        case "responses":
            return {"tools": [{"type": "function", **named, "parameters": schema}]}
        case "chat":
            return {"tools": [{"type": "function", "function": {**named, "parameters": schema}}]}
        case "gemini":
            declared = {**named, "parameters_json_schema": schema}
            return {"tools": [{"function_declarations": [declared]}]}
        case _:
            raise AssertionError(f"no SDK is driven for {kind}")


USAGE: Final[Mapping[Kind, Native]] = {
    "anthropic": {
        "input_tokens": 40,
        "cache_read_input_tokens": 50,
        "cache_creation_input_tokens": 10,
        "output_tokens": 30,
        "output_tokens_details": {"thinking_tokens": 20},
    },
    "responses": {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 50, "cache_write_tokens": 10},
        "output_tokens": 30,
        "output_tokens_details": {"reasoning_tokens": 20},
        "total_tokens": 130,
    },
    "chat": {
        "prompt_tokens": 100,
        "completion_tokens": 30,
        "total_tokens": 130,
    },
    "gemini": {
        "prompt_token_count": 100,
        "cached_content_token_count": 50,
        "candidates_token_count": 10,
        "thoughts_token_count": 20,
        "total_token_count": 130,
    },
}


@each_kind
async def test_usage_is_counted_as_the_provider_counts(
    fakes: FakeProviders, sdks: Sdks, kind: Kind
) -> None:
    usage = Usage(input=100, output=30, cache_read=50, cache_write=10, reasoning=20)
    fakes.script("m", [Turn([Text("Hello"), usage])])

    heard = await hear(sdks[kind], "m", sdks[kind].user("hi"))

    assert heard.usage | USAGE[kind] == heard.usage


@each_kind
async def test_usage_is_estimated_when_the_script_has_none(
    fakes: FakeProviders, sdks: Sdks, kind: Kind
) -> None:
    fakes.script("m", [Turn([Reasoning("a b"), Text("c d e")])])

    heard = await hear(sdks[kind], "m", sdks[kind].user("hi"))

    counts = {key: value for key, value in heard.usage.items() if isinstance(value, int)}
    out = {
        "anthropic": "output_tokens",
        "responses": "output_tokens",
        "chat": "completion_tokens",
        "gemini": "candidates_token_count",
    }
    assert counts[out[kind]] == (3 if kind == "gemini" else 5)


STOPS: Final[Mapping[StopReason, tuple[str, str, str, str]]] = {
    "end": ("end_turn", "completed", "stop", "STOP"),
    "max_tokens": ("max_tokens", "max_output_tokens", "length", "MAX_TOKENS"),
    "stop_sequence": ("stop_sequence", "completed", "stop", "STOP"),
    "pause": ("pause_turn", "steered", "stop", "STOP"),
    "refusal": ("refusal", "completed", "stop", "PROHIBITED_CONTENT"),
    "content_filter": ("refusal", "content_filter", "content_filter", "SAFETY"),
    "context_window": (
        "model_context_window_exceeded",
        "max_output_tokens",
        "length",
        "MAX_TOKENS",
    ),
    "malformed_call": ("end_turn", "completed", "tool_calls", "MALFORMED_FUNCTION_CALL"),
    "tool_calls": ("tool_use", "completed", "tool_calls", "STOP"),
}


@pytest.mark.parametrize("reason", STOPS)
@each_kind
async def test_stop_reasons_are_the_providers_own(
    fakes: FakeProviders, sdks: Sdks, kind: Kind, reason: StopReason
) -> None:
    fakes.script("m", Turn([Text("So"), Stop(reason)]))

    heard = await hear(sdks[kind], "m", sdks[kind].user("hi"))

    assert heard.stop == STOPS[reason][KINDS.index(kind)]


async def test_gemini_continuation_is_left_to_the_client(fakes: FakeProviders, sdks: Sdks) -> None:
    fakes.script("m", Turn([Text("So"), Stop("continuation")]))

    heard = await hear(
        sdks["gemini"], "m", sdks["gemini"].user("hi"), {"automatic_continuation": False}
    )

    assert heard.stop == "CONTINUATION"


@each_kind
async def test_a_raw_stop_reason_passes_unchanged(
    fakes: FakeProviders, sdks: Sdks, kind: Kind
) -> None:
    raw = "LANGUAGE" if kind == "gemini" else "something_new"
    fakes.script("m", Turn([Text("So"), Stop(raw=raw)]))

    heard = await hear(sdks[kind], "m", sdks[kind].user("hi"))

    assert heard.stop == raw


async def test_refusals_have_a_place_of_their_own_in_openai_formats(
    fakes: FakeProviders, sdks: Sdks
) -> None:
    fakes.script("m", Turn([Refusal("I would rather not.")]))

    for kind in ("responses", "chat"):
        heard = await hear(sdks[kind], "m", sdks[kind].user("hi"))
        assert "".join(heard.refusal) == "I would rather not."
        assert not heard.text


async def test_gemini_may_block_the_prompt_itself(fakes: FakeProviders, sdks: Sdks) -> None:
    fakes.script("m", Turn([Stop("refusal")]))

    heard = await hear(sdks["gemini"], "m", sdks["gemini"].user("hi"))

    (chunk,) = heard.events
    assert chunk["prompt_feedback"]["block_reason"] == "PROHIBITED_CONTENT"
    assert "candidates" not in chunk


SEARCH: Final = Turn(
    [
        ServerToolSearch("tokyo", [SearchResult("https://a.example", "A", "secret", "1 day")]),
        Text("36 million", [Citation("https://a.example", "A", "It has 36 million.")]),
        Text(" people."),
    ]
)


async def test_anthropic_search_stays_within_the_message(fakes: FakeProviders, sdks: Sdks) -> None:
    fakes.script("m", [SEARCH, Turn([Text("Yes.")])])
    driver = sdks["anthropic"]

    heard = await hear(driver, "m", driver.user("hi"))

    content = heard.history[0]["content"]
    assert [block["type"] for block in content] == [
        "server_tool_use",
        "web_search_tool_result",
        "text",
        "text",
    ]
    assert content[0]["input"] == {"query": "tokyo"}
    assert content[1]["tool_use_id"] == content[0]["id"]
    assert content[1]["content"][0]["encrypted_content"] == "secret"
    assert content[2]["citations"][0]["cited_text"] == "It has 36 million."
    assert heard.usage["server_tool_use"]["web_search_requests"] == 1
    again = await hear(driver, "m", driver.user("hi") + heard.history + driver.user("sure?"))
    assert again.text == ["Yes."]


async def test_anthropic_search_errors_are_an_object(fakes: FakeProviders, sdks: Sdks) -> None:
    fakes.script("m", Turn([ServerToolSearch("tokyo", error="max_uses_exceeded"), Text("Sorry.")]))

    heard = await hear(sdks["anthropic"], "m", sdks["anthropic"].user("hi"))

    assert heard.history[0]["content"][1]["content"]["error_code"] == "max_uses_exceeded"


async def test_responses_search_is_an_item_and_citations_are_annotations(
    fakes: FakeProviders, sdks: Sdks
) -> None:
    fakes.script("m", [SEARCH, Turn([Text("Yes.")])])
    driver = sdks["responses"]

    options = {"include": ["web_search_call.action.sources"]}
    heard = await hear(driver, "m", driver.user("hi"), options)

    search, text, _ = heard.history
    assert search["action"] == {
        "type": "search",
        "query": "tokyo",
        "queries": ["tokyo"],
        "sources": [{"type": "url", "url": "https://a.example"}],
    }
    assert text["content"][0]["annotations"] == [
        {
            "type": "url_citation",
            "start_index": 0,
            "end_index": 10,
            "url": "https://a.example",
            "title": "A",
        }
    ]
    again = await hear(driver, "m", driver.user("hi") + heard.history + driver.user("sure?"))
    assert again.text == ["Yes."]


async def test_chat_search_shows_in_annotations_alone(fakes: FakeProviders, sdks: Sdks) -> None:
    fakes.script("m", [SEARCH])

    heard = await hear(sdks["chat"], "m", sdks["chat"].user("hi"))

    annotations = [
        choice["delta"]["annotations"]
        for chunk in heard.events
        for choice in chunk["choices"]
        if "annotations" in choice["delta"]
    ]
    assert annotations[0][0]["url_citation"]["url"] == "https://a.example"


async def test_gemini_search_is_grounding_on_the_last_chunk(
    fakes: FakeProviders, sdks: Sdks
) -> None:
    fakes.script("m", [SEARCH])

    heard = await hear(sdks["gemini"], "m", sdks["gemini"].user("hi"))

    grounding = heard.events[-1]["candidates"][0]["grounding_metadata"]
    assert grounding["web_search_queries"] == ["tokyo"]
    assert grounding["grounding_chunks"][0]["web"]["uri"] == "https://a.example"
    assert grounding["grounding_supports"][0]["segment"]["end_index"] == 10


async def test_chat_reasoning_comes_in_the_dialect_of_the_model(
    fakes: FakeProviders, sdks: Sdks
) -> None:
    fakes.script("*", Turn([Reasoning("hm"), Text("Hi")]))
    keys: dict[str, set[str]] = {}
    for model in ("gpt-5", "openrouter/claude", "llama"):
        heard = await hear(sdks["chat"], model, sdks["chat"].user("hi"))
        deltas = [choice["delta"] for chunk in heard.events for choice in chunk["choices"]]
        keys[model] = {key for delta in deltas for key in delta} - {"role", "content", "refusal"}

    assert keys == {
        "gpt-5": set(),
        "openrouter/claude": {"reasoning", "reasoning_details"},
        "llama": {"reasoning_content"},
    }


async def test_redacted_thinking_goes_back_too(fakes: FakeProviders, sdks: Sdks) -> None:
    driver = sdks["anthropic"]
    fakes.script("m", [Turn([Reasoning(redacted=True), ToolCall("add")]), Turn([Text("Done")])])
    history = driver.user("hi")
    heard = await hear(driver, "m", history, _thinking("anthropic"))
    assert heard.history[0]["content"][0]["type"] == "redacted_thinking"

    history += heard.history + driver.results(heard, ["1"])
    assert (await hear(driver, "m", history, _thinking("anthropic"))).text == ["Done"]


async def test_scripted_signatures_are_accepted(fakes: FakeProviders, sdks: Sdks) -> None:
    turn = Turn([Reasoning("hm", signature="bXktc2lnbmF0dXJl"), ToolCall("add", {"a": 1})])
    for kind, driver in sdks.items():
        fakes.script("gemini-3-x", [turn, Turn([Text("Done")])])
        history = driver.user("hi")
        heard = await hear(driver, "gemini-3-x", history)
        history += heard.history + driver.results(heard, ["1"])
        assert (await hear(driver, "gemini-3-x", history)).text == ["Done"], kind


async def test_arguments_may_be_broken_json(fakes: FakeProviders, sdks: Sdks) -> None:
    fakes.script("m", Turn([ToolCall("add", raw='{"a": ')]))
    for kind in ("anthropic", "responses", "chat"):
        heard = Heard()
        # The driver itself trips over it when the block is complete.
        try:
            await sdks[kind].stream("m", sdks[kind].user("hi"), heard)
        except ValueError:
            assert kind == "anthropic"
        assert "".join(heard.calls[0].pieces) == '{"a": '


@each_kind
async def test_echo_needs_no_script(sdks: Sdks, kind: Kind) -> None:
    heard = await hear(sdks[kind], "echo", sdks[kind].user("say after me"))

    assert "".join(heard.text) == "say after me"


@each_kind
async def test_tokens_need_no_script(sdks: Sdks, kind: Kind) -> None:
    heard = await hear(sdks[kind], "tokens-3", sdks[kind].user("go"))
    paced = await hear(sdks[kind], "tokens-3-at-1000", sdks[kind].user("go"))

    assert heard.text == paced.text == ["w1", " w2", " w3"]


@each_kind
async def test_tool_models_call_what_they_are_told(sdks: Sdks, kind: Kind) -> None:
    driver = sdks[kind]
    history = driver.user('[{"tool": "add", "arguments": {"a": 1}}, {"tool": "now"}]')
    heard = await hear(driver, "tool-x", history)
    assert [(call.name, call.arguments) for call in heard.calls] == [("add", {"a": 1}), ("now", {})]

    history += heard.history + driver.results(heard, ["two", "noon"])
    said = await hear(driver, "tool-x", history)
    assert "".join(said.text) == "two\nnoon"

    alone = await hear(driver, "tool-clock", driver.user("what time is it?"))
    assert alone.calls[0].name == "clock"
