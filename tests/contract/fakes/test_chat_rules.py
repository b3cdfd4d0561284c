"""What OpenAI Chat Completions and its imitators refuse, and what they take."""

from typing import Any, Final

import pytest
from fakes.asking import Body, ask, refusal

USER: Final[Body] = {"role": "user", "content": "hi"}
SAID: Final[Body] = {"role": "assistant", "content": "Hello"}
FUNCTION: Final[Body] = {"name": "add", "arguments": '{"a":1}'}
CALL: Final[Body] = {"type": "function", "id": "call_1", "function": FUNCTION}
CALL_2: Final[Body] = {**CALL, "id": "call_2"}
RESULT: Final[Body] = {"role": "tool", "tool_call_id": "call_1", "content": "2"}
RESULT_2: Final[Body] = {**RESULT, "tool_call_id": "call_2"}
SCHEMA: Final[Body] = {"type": "object", "properties": {"a": {"type": "integer"}}}
DECLARED: Final[Body] = {"name": "add", "parameters": SCHEMA}
TOOL: Final[Body] = {"type": "function", "function": DECLARED}


def called(*calls: Body, **fields: Any) -> Body:
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **fields}


def request(*messages: Body, **fields: Any) -> Body:
    body = {"model": "m", "stream": True, "messages": list(messages) or [USER], **fields}
    return {name: value for name, value in body.items() if value is not ...}


PARAMETERS: Final[dict[str, tuple[Body, str]]] = {
    "unknown field": (request(foo=1), "foo"),
    "Responses' input": (request(input="hi"), "input"),
    "no model": (request(model=...), "model"),
    "no messages": (request(messages=...), "messages"),
    "empty messages": (request(messages=[]), "messages"),
    "not streamed": (request(stream=False), "stream"),
    "unknown stream option": (request(stream_options={"usage": True}), "stream_options.usage"),
    "max_tokens 0": (request(max_tokens=0), "max_tokens"),
    "max_completion_tokens 0": (request(max_completion_tokens=0), "max_completion_tokens"),
    "max_tokens of gpt-5": (request(model="gpt-5", max_tokens=5), "max_tokens"),
    "OpenRouter's key for OpenAI": (request(model="gpt-5", reasoning={}), "reasoning"),
    "choice without tools": (request(tool_choice="auto"), "tool_choice"),
    "flat choice": (
        request(tools=[TOOL], tool_choice={"type": "function", "name": "add"}),
        "tool_choice.name",
    ),
    "several choices": (request(n=2), "n"),
    "top_logprobs alone": (request(top_logprobs=2), "top_logprobs"),
    "too many top_logprobs": (
        request(model="gpt-5", logprobs=True, top_logprobs=21),
        "top_logprobs",
    ),
    "a bias of words": (request(logit_bias={"hello": 1}), "logit_bias"),
    "too much bias": (request(logit_bias={"7": 101}), "logit_bias.7"),
    "another prediction": (request(prediction={"type": "text", "content": "x"}), "prediction.type"),
    "unknown tier": (request(model="gpt-5", service_tier="gold"), "service_tier"),
    "too much metadata": (
        request(model="gpt-5", metadata={str(n): "x" for n in range(17)}),
        "metadata",
    ),
    "long identifier": (request(model="gpt-5", safety_identifier="x" * 65), "safety_identifier"),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_wrong_parameter_is_refused(name: str) -> None:
    body, field = PARAMETERS[name]

    refused = refusal("chat", body)

    assert (refused.status, refused.field) == (400, field)


def test_compatible_servers_take_more() -> None:
    ask("chat", request(model="openrouter/x", reasoning={"effort": "low"}, max_tokens=5, top_k=2))


TOOLS: Final[dict[str, tuple[list[Body], str]]] = {
    "none": ([], "tools"),
    "flat": ([{"type": "function", **DECLARED}], "tools[0].name"),
    "no type": ([{"function": DECLARED}], "tools[0].type"),
    "hosted": ([{"type": "web_search"}], "tools[0].type"),
    "no name": ([{"type": "function", "function": {}}], "tools[0].function.name"),
    "odd name": (
        [{"type": "function", "function": {**DECLARED, "name": "a.b"}}],
        "tools[0].function.name",
    ),
    "long name": (
        [{"type": "function", "function": {**DECLARED, "name": "a" * 65}}],
        "tools[0].function.name",
    ),
    "schema a list": (
        [{"type": "function", "function": {**DECLARED, "parameters": []}}],
        "tools[0].function.parameters",
    ),
    "schema of a string": (
        [{"type": "function", "function": {**DECLARED, "parameters": {"type": "string"}}}],
        "tools[0].function.parameters",
    ),
    "strict with an option": (
        [{"type": "function", "function": {**DECLARED, "strict": True}}],
        "tools[0].function.parameters",
    ),
}


@pytest.mark.parametrize("name", TOOLS)
def test_a_wrong_tool_is_refused(name: str) -> None:
    tools, field = TOOLS[name]

    refused = refusal("chat", request(tools=tools))

    assert (refused.status, refused.field) == (400, field)


HISTORIES: Final[dict[str, tuple[list[Body], str, str]]] = {
    "unknown role": ([{"role": "bot", "content": "x"}], "messages[0].role", "bot"),
    "function role": (
        [USER, {"role": "function", "name": "add", "content": "x"}],
        "messages[1].role",
        "function",
    ),
    "unknown key": ([{**USER, "id": "x"}], "messages[0].id", "Unknown parameter"),
    "unknown part": (
        [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}],
        "messages[0].content[0].type",
        "input_text",
    ),
    "no parts": ([{"role": "user", "content": []}], "messages[0].content", "empty array"),
    "user null": ([{"role": "user", "content": None}], "messages[0].content", "null"),
    "assistant null": (
        [USER, {"role": "assistant", "content": None}],
        "messages.[1].content",
        "null",
    ),
    "assistant without content": ([USER, {"role": "assistant"}], "messages.[1].content", "null"),
    "no calls": ([USER, called()], "messages[1].tool_calls", "empty array"),
    "call without result": ([USER, called(CALL)], "messages.[1].tool_calls", "call_1"),
    "call before a user": ([USER, called(CALL), USER], "messages.[2].role", "call_1"),
    "one result missing": (
        [USER, called(CALL, CALL_2), RESULT],
        "messages.[1].tool_calls",
        "call_2",
    ),
    "user between results": (
        [USER, called(CALL, CALL_2), RESULT, USER, RESULT_2],
        "messages.[3].role",
        "call_2",
    ),
    "result without call": ([USER, RESULT], "messages.[1].role", "preceeding message"),
    "result after an answer": ([USER, SAID, RESULT], "messages.[2].role", "preceeding message"),
    "result of another id": (
        [USER, called(CALL), RESULT_2],
        "messages.[2].tool_call_id",
        "call_2",
    ),
    "two results": (
        [USER, called(CALL), RESULT, RESULT],
        "messages.[3].tool_call_id",
        "call_1",
    ),
    "same id twice": (
        [USER, called(CALL, CALL), RESULT],
        "messages[1].tool_calls[1].id",
        "Duplicate",
    ),
    "no id": (
        [USER, called({"type": "function", "function": FUNCTION}), RESULT],
        "messages[1].tool_calls[0].id",
        "Missing",
    ),
    "long id": (
        [USER, called({**CALL, "id": "c" * 65}), RESULT],
        "messages[1].tool_calls[0].id",
        "64",
    ),
    "odd id": (
        [USER, called({**CALL, "id": "call 1"}), RESULT],
        "messages[1].tool_calls[0].id",
        "odd",
    ),
    "odd name": (
        [USER, called({**CALL, "function": {**FUNCTION, "name": "a.b"}}), RESULT],
        "messages[1].tool_calls[0].function.name",
        "pattern",
    ),
    "arguments an object": (
        [USER, called({**CALL, "function": {**FUNCTION, "arguments": {}}}), RESULT],
        "messages[1].tool_calls[0].function.arguments",
        "str",
    ),
    "arguments no JSON": (
        [USER, called({**CALL, "function": {**FUNCTION, "arguments": "{"}}), RESULT],
        "messages[1].tool_calls[0].function.arguments",
        "JSON",
    ),
    "empty arguments": (
        [USER, called({**CALL, "function": {**FUNCTION, "arguments": ""}}), RESULT],
        "messages[1].tool_calls[0].function.arguments",
        "JSON",
    ),
    "image in a result": (
        [
            USER,
            called(CALL),
            {**RESULT, "content": [{"type": "image_url", "image_url": {"url": "https://a"}}]},
        ],
        "messages[2].content[0].type",
        "image_url",
    ),
    "Anthropic's image": (
        [{"role": "user", "content": [{"type": "image", "source": {}}]}],
        "messages[0].content[0].type",
        "image",
    ),
    "file without data": (
        [{"role": "user", "content": [{"type": "file", "file": {"filename": "a.pdf"}}]}],
        "messages[0].content[0].file.file_data",
        "file_data",
    ),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_a_wrong_history_is_refused(name: str) -> None:
    messages, field, words = HISTORIES[name]

    refused = refusal("chat", request(*messages))

    assert (refused.status, refused.field) == (400, field)
    assert words in refused.message


def test_openai_itself_does_not_know_reasoning_in_messages() -> None:
    thought = {**SAID, "reasoning_content": "hm"}

    ask("chat", request(USER, thought, USER))
    refused = refusal("chat", request(USER, thought, USER, model="gpt-5"))

    assert refused.field == "messages[1].reasoning_content"


def test_some_servers_want_reasoning_back_with_its_calls() -> None:
    call, result = {**CALL, "id": "call_T1"}, {**RESULT, "tool_call_id": "call_T1"}

    ask("chat", request(USER, called(call, reasoning_content="hm"), result, model="deepseek-r"))
    ask("chat", request(USER, called(call), result, model="llama"))
    refused = refusal("chat", request(USER, called(call), result, model="deepseek-r"))

    assert refused.field == "messages[1].reasoning_content"


ACCEPTED: Final[dict[str, list[Body]]] = {
    "several user messages": [USER, USER],
    "a developer": [{"role": "developer", "content": "Be brief."}, USER],
    "a late system message": [USER, SAID, {"role": "system", "content": "Be brief."}, USER],
    "calls and text": [USER, {**called(CALL), "content": "Let me see."}, RESULT],
    "results in any order": [USER, called(CALL, CALL_2), RESULT_2, RESULT],
    "an image after results": [
        USER,
        called(CALL),
        RESULT,
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,eA=="}}],
        },
    ],
    "a refusal": [USER, {"role": "assistant", "refusal": "No."}, USER],
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_right_history_is_taken(name: str) -> None:
    ask("chat", request(*ACCEPTED[name]))


def test_an_image_after_results_is_no_new_user_message() -> None:
    view = ask("chat", request(*ACCEPTED["an image after results"]))

    assert (view.user_index, view.step_index) == (0, 1)


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer invalid"}])
def test_the_key_is_checked(headers: dict[str, str]) -> None:
    assert refusal("chat", request(), headers=headers).status == 401


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'"x"', b"\xff"])
def test_what_is_no_request_is_refused(raw: bytes) -> None:
    assert refusal("chat", raw).status == 400
