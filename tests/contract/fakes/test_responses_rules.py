"""What OpenAI Responses refuses, and what it takes."""

from typing import Any, Final

import pytest
from fakes.asking import Body, ask, refusal
from fakes.responses_rules import encrypted_content
from fakes.wire import Issued

USER: Final[Body] = {"role": "user", "content": "hi"}
TOKEN: Final = "0011223344556677"
THOUGHT: Final[Body] = {
    "type": "reasoning",
    "id": f"rs_{TOKEN}",
    "summary": [],
    "encrypted_content": encrypted_content(f"rs_{TOKEN}"),
}
CALL: Final[Body] = {
    "type": "function_call",
    "id": f"fc_aa_after_{TOKEN}",
    "call_id": "call_1",
    "name": "add",
    "arguments": '{"a":1}',
}
# As another provider's call would look in this history.
FOREIGN_CALL: Final[Body] = {key: value for key, value in CALL.items() if key != "id"}
RESULT: Final[Body] = {"type": "function_call_output", "call_id": "call_1", "output": "2"}
SAID: Final[Body] = {
    "type": "message",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "Hello", "annotations": []}],
}
ANSWER: Final[Body] = {**SAID, "id": f"msg_bb_after_{TOKEN}", "status": "completed"}
SCHEMA: Final[Body] = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOL: Final[Body] = {"type": "function", "name": "add", "parameters": SCHEMA}


def request(*items: Body, **fields: Any) -> Body:
    body = {
        "model": "m",
        "stream": True,
        "store": False,
        "input": list(items) or [USER],
        **fields,
    }
    return {name: value for name, value in body.items() if value is not ...}


PARAMETERS: Final[dict[str, tuple[Body, str, str]]] = {
    "unknown field": (request(foo=1), "foo", "unknown_parameter"),
    "chat's messages": (request(messages=[USER]), "messages", "unknown_parameter"),
    "chat's limit": (request(max_tokens=5), "max_tokens", "unknown_parameter"),
    "no model": (request(model=...), "model", "missing_required_parameter"),
    "no input": (request(input=...), "input", "missing_required_parameter"),
    "empty input": (request(input=[]), "input", "empty_array"),
    "not streamed": (request(stream=False), "stream", "unsupported_value"),
    "unknown include": (request(include=["all"]), "include[0]", "invalid_value"),
    "unknown effort": (
        request(reasoning={"effort": "huge"}),
        "reasoning.effort",
        "invalid_value",
    ),
    "unknown reasoning key": (
        request(reasoning={"budget": 1}),
        "reasoning.budget",
        "unknown_parameter",
    ),
    "small limit": (request(max_output_tokens=1), "max_output_tokens", "invalid_type"),
    "unknown previous": (
        request(previous_response_id="resp_1"),
        "previous_response_id",
        "previous_response_not_found",
    ),
    "two states": (
        request(previous_response_id="resp_1", conversation="conv_1"),
        "conversation",
        "mutually_exclusive_parameters",
    ),
    "nested choice": (
        request(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "add"}}),
        "tool_choice.function",
        "unknown_parameter",
    ),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_wrong_parameter_is_refused(name: str) -> None:
    body, field, code = PARAMETERS[name]

    refused = refusal("responses", body)

    assert (refused.status, refused.field, refused.code) == (400, field, code)


TOOLS: Final[dict[str, tuple[Body, str]]] = {
    "nested": ({"type": "function", "function": TOOL}, "tools[0].function"),
    "no type": ({"name": "add", "parameters": SCHEMA}, "tools[0].type"),
    "unknown type": ({"type": "magic"}, "tools[0].type"),
    "no name": ({"type": "function", "parameters": SCHEMA}, "tools[0].name"),
    "odd name": ({**TOOL, "name": "a.b"}, "tools[0].name"),
    "long name": ({**TOOL, "name": "a" * 65}, "tools[0].name"),
    "schema a list": ({**TOOL, "parameters": []}, "tools[0].parameters"),
    "schema of a string": ({**TOOL, "parameters": {"type": "string"}}, "tools[0].parameters"),
    "Anthropic's key": (
        {"type": "function", "name": "add", "input_schema": {}},
        "tools[0].input_schema",
    ),
    "strict without closing": ({**TOOL, "strict": True}, "tools[0].parameters"),
    "strict with an option": (
        {**TOOL, "strict": True, "parameters": {**SCHEMA, "additionalProperties": False}},
        "tools[0].parameters",
    ),
    "blocked domains": (
        {"type": "web_search", "filters": {"blocked_domains": ["a.example"]}},
        "tools[0].filters.blocked_domains",
    ),
}


@pytest.mark.parametrize("name", TOOLS)
def test_a_wrong_tool_is_refused(name: str) -> None:
    tool, field = TOOLS[name]

    refused = refusal("responses", request(tools=[tool]))

    assert (refused.status, refused.field) == (400, field)


HISTORIES: Final[dict[str, tuple[list[Body], int, str]]] = {
    "unknown item": ([{"type": "thought"}], 400, "Invalid value: 'thought'"),
    "unknown key": ([{**USER, "name": "x"}], 400, "Unknown parameter: 'input[0].name'"),
    "unknown role": ([{"role": "tool", "content": "x"}], 400, "Invalid value: 'tool'"),
    "text of the wrong side": (
        [{"role": "user", "content": [{"type": "output_text", "text": "x"}]}],
        400,
        "Supported values are: 'input_text'",
    ),
    "input text of the assistant": (
        [USER, {"role": "assistant", "content": [{"type": "input_text", "text": "x"}]}],
        400,
        "Supported values are: 'output_text'",
    ),
    "chat's text": (
        [{"role": "user", "content": [{"type": "text", "text": "x"}]}],
        400,
        "Invalid value: 'text'",
    ),
    "call without output": (
        [USER, FOREIGN_CALL],
        400,
        "No tool output found for function call call_1",
    ),
    "call answered by a user": ([USER, FOREIGN_CALL, USER], 400, "No tool output found"),
    "output without call": ([USER, RESULT], 400, "No tool call found for function call output"),
    "output before the call": ([USER, RESULT, FOREIGN_CALL], 400, "No tool call found"),
    "two outputs": ([USER, FOREIGN_CALL, RESULT, RESULT], 400, "Duplicate output"),
    "two calls with one id": (
        [USER, FOREIGN_CALL, FOREIGN_CALL, RESULT],
        400,
        "Duplicate call_id",
    ),
    "item id instead of the call's": (
        [USER, THOUGHT, CALL, {**RESULT, "call_id": CALL["id"]}],
        400,
        "No tool call found",
    ),
    "odd call id": (
        [USER, {**FOREIGN_CALL, "call_id": "call:1"}, {**RESULT, "call_id": "call:1"}],
        400,
        "call_id",
    ),
    "long call id": (
        [USER, {**FOREIGN_CALL, "call_id": "c" * 65}, {**RESULT, "call_id": "c" * 65}],
        400,
        "call_id",
    ),
    "odd name": ([USER, {**FOREIGN_CALL, "name": "a.b"}, RESULT], 400, "input[1].name"),
    "arguments an object": (
        [USER, {**FOREIGN_CALL, "arguments": {}}, RESULT],
        400,
        "input[1].arguments",
    ),
    "arguments no JSON": (
        [USER, {**FOREIGN_CALL, "arguments": "{"}, RESULT],
        400,
        "input[1].arguments",
    ),
    "arguments no object": (
        [USER, {**FOREIGN_CALL, "arguments": "[]"}, RESULT],
        400,
        "input[1].arguments",
    ),
    "reasoning alone": ([USER, THOUGHT], 400, "without its required following item"),
    "reasoning before a user": ([USER, THOUGHT, USER], 400, "without its required following"),
    "reasoning before an output": (
        [USER, FOREIGN_CALL, THOUGHT, RESULT],
        400,
        "without its required following item",
    ),
    "call without its reasoning": (
        [USER, CALL, RESULT],
        400,
        f"without its required 'reasoning' item: 'rs_{TOKEN}'",
    ),
    "message without its reasoning": ([USER, ANSWER], 400, "without its required 'reasoning'"),
    "reasoning of another turn": (
        [USER, THOUGHT, SAID, USER, CALL, RESULT],
        400,
        "without its required 'reasoning' item",
    ),
    "reasoning by id alone": (
        [USER, {"type": "reasoning", "id": f"rs_{TOKEN}", "summary": []}, CALL, RESULT],
        404,
        "not persisted when `store` is set to false",
    ),
    "reference": ([USER, {"type": "item_reference", "id": "msg_1"}], 404, "not found"),
    "reasoning made up": (
        [USER, {**THOUGHT, "encrypted_content": "gAAAAx"}, CALL, RESULT],
        400,
        "could not be verified",
    ),
    "reasoning without summary": (
        [USER, {"type": "reasoning", "id": "rs_1", "encrypted_content": "x"}, SAID],
        400,
        "Missing required parameter: 'input[1].summary'",
    ),
    "same item twice": ([USER, THOUGHT, ANSWER, USER, THOUGHT, ANSWER], 400, "Duplicate item"),
    "id of another kind": ([USER, {**SAID, "id": "toolu_1"}], 400, "begins with 'msg'"),
    "odd item id": ([USER, {**SAID, "id": "msg:1"}], 400, "input[1].id"),
    "image without a source": (
        [{"role": "user", "content": [{"type": "input_image"}]}],
        400,
        "image_url",
    ),
    "chat's image": (
        [{"role": "user", "content": [{"type": "input_image", "image_url": {"url": "x"}}]}],
        400,
        "image_url",
    ),
    "file without data": (
        [{"role": "user", "content": [{"type": "input_file", "filename": "a.pdf"}]}],
        400,
        "file_data",
    ),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_a_wrong_history_is_refused(name: str) -> None:
    items, status, words = HISTORIES[name]

    refused = refusal("responses", request(*items))

    assert refused.status == status
    assert words in refused.message
    assert refused.field is not None
    assert refused.field.startswith("input")


ACCEPTED: Final[dict[str, list[Body]]] = {
    "a whole turn": [USER, THOUGHT, CALL, RESULT, SAID, USER],
    "reasoning and an answer": [USER, THOUGHT, ANSWER, USER],
    "a foreign call": [USER, FOREIGN_CALL, RESULT],
    "parallel calls": [
        USER,
        FOREIGN_CALL,
        {**FOREIGN_CALL, "call_id": "call_2"},
        {**RESULT, "call_id": "call_2"},
        RESULT,
    ],
    "an image as output": [
        USER,
        FOREIGN_CALL,
        {**RESULT, "output": [{"type": "input_image", "image_url": "data:image/png;base64,eA"}]},
    ],
    "a developer": [{"role": "developer", "content": "Be brief."}, USER],
    "an easy answer": [USER, {"role": "assistant", "content": "Hello"}, USER],
    "a phase": [USER, {**SAID, "phase": "final_answer"}, USER],
    "a search": [
        USER,
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {}},
        SAID,
        USER,
    ],
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_right_history_is_taken(name: str) -> None:
    ask("responses", request(*ACCEPTED[name]))


def test_plain_text_is_an_input() -> None:
    assert ask("responses", request(input="hello")).last_user_text == "hello"


def test_stored_items_may_be_named_by_id() -> None:
    issued = Issued(items={f"rs_{TOKEN}", "msg_1"})
    plain: Body = {"type": "reasoning", "id": f"rs_{TOKEN}", "summary": []}
    body = request(USER, plain, CALL, RESULT, {"type": "item_reference", "id": "msg_1"}, store=True)

    ask("responses", body, issued=issued)


@pytest.mark.parametrize(
    ("headers", "words"),
    [({}, "You didn't provide an API key"), ({"authorization": "Bearer invalid"}, "Incorrect")],
)
def test_the_key_is_checked(headers: dict[str, str], words: str) -> None:
    refused = refusal("responses", request(), headers=headers)

    assert refused.status == 401
    assert words in refused.message


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'"x"', b"\xff"])
def test_what_is_no_request_is_refused(raw: bytes) -> None:
    assert refusal("responses", raw).status == 400
