"""What Gemini refuses, and what it takes."""

from typing import Any, Final

import pytest
from fakes.asking import Body, ask, refusal
from fakes.gemini_rules import DUMMY_SIGNATURE, call_signature

USER: Final[Body] = {"role": "user", "parts": [{"text": "hi"}]}
SAID: Final[Body] = {"role": "model", "parts": [{"text": "Hello"}]}
CALL: Final[Body] = {"functionCall": {"name": "add", "args": {"a": 1}}}
CALL_2: Final[Body] = {"functionCall": {"name": "sub", "args": {}}}
RESULT: Final[Body] = {"functionResponse": {"name": "add", "response": {"output": "2"}}}
RESULT_2: Final[Body] = {"functionResponse": {"name": "sub", "response": {"output": "0"}}}
SIGNED: Final[Body] = {**CALL, "thoughtSignature": call_signature("add", {"a": 1})}
SCHEMA: Final[Body] = {"type": "object", "properties": {"a": {"type": "integer"}}}
DECLARED: Final[Body] = {"name": "add", "parametersJsonSchema": SCHEMA}


def said(*parts: Body) -> Body:
    return {"role": "model", "parts": list(parts)}


def told(*parts: Body) -> Body:
    return {"role": "user", "parts": list(parts)}


def request(*contents: Body, **fields: Any) -> Body:
    body = {"contents": list(contents) or [USER], **fields}
    return {name: value for name, value in body.items() if value is not ...}


def functions(*declared: Body) -> list[Body]:
    return [{"functionDeclarations": list(declared)}]


PARAMETERS: Final[dict[str, tuple[Body, str]]] = {
    "unknown field": (request(foo=1), "foo"),
    "no contents": (request(contents=...), "contents"),
    "empty contents": (request(contents=[]), "contents"),
    "OpenAI's messages": (request(messages=[]), "messages"),
    "unknown setting": (request(generationConfig={"effort": "low"}), "generationConfig.effort"),
    "no output": (
        request(generationConfig={"maxOutputTokens": 0}),
        "generationConfig.maxOutputTokens",
    ),
    "budget and level": (
        request(generationConfig={"thinkingConfig": {"thinkingBudget": 1, "thinkingLevel": "LOW"}}),
        "generationConfig.thinkingConfig",
    ),
    "unknown level": (
        request(generationConfig={"thinkingConfig": {"thinkingLevel": "VAST"}}),
        "generationConfig.thinkingConfig.thinkingLevel",
    ),
    "unknown mode": (
        request(toolConfig={"functionCallingConfig": {"mode": "SOME"}}),
        "toolConfig.functionCallingConfig.mode",
    ),
    "image for a system": (
        request(systemInstruction=told({"inlineData": {"mimeType": "image/png", "data": "eA=="}})),
        "systemInstruction.parts",
    ),
    "search and functions": (
        request(tools=[{"googleSearch": {}, "functionDeclarations": [DECLARED]}]),
        "tools",
    ),
    "unknown tool": (request(tools=[{"webSearch": {}}]), "tools[0].webSearch"),
    "a list of allowed domains": (
        request(tools=[{"googleSearch": {"allowedDomains": []}}]),
        "tools[0].googleSearch.allowedDomains",
    ),
    "odd function name": (
        request(tools=functions({**DECLARED, "name": "1+1"})),
        "tools[0].functionDeclarations[0].name",
    ),
    "long function name": (
        request(tools=functions({**DECLARED, "name": "a" * 65})),
        "tools[0].functionDeclarations[0].name",
    ),
    "two schemas": (
        request(tools=functions({**DECLARED, "parameters": SCHEMA})),
        "tools[0].functionDeclarations[0]",
    ),
    "schema of a string": (
        request(tools=functions({"name": "add", "parametersJsonSchema": {"type": "string"}})),
        "tools[0].functionDeclarations[0].parameters",
    ),
    "Anthropic's schema": (
        request(tools=functions({"name": "add", "inputSchema": SCHEMA})),
        "tools[0].functionDeclarations[0].inputSchema",
    ),
    "same function twice": (request(tools=functions(DECLARED, DECLARED)), "tools"),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_wrong_parameter_is_refused(name: str) -> None:
    body, field = PARAMETERS[name]

    refused = refusal("gemini", body)

    assert (refused.status, refused.field) == (400, field)


HISTORIES: Final[dict[str, tuple[list[Body], str, str]]] = {
    "unknown role": ([{"role": "assistant", "parts": [{"text": "x"}]}], "contents[0].role", "role"),
    "unknown key": ([{**USER, "name": "x"}], "contents[0].name", "Unknown name"),
    "unknown part": ([told({"image": {}})], "contents[0].parts[0].image", "Unknown name"),
    "no parts": ([{"role": "user", "parts": []}], "contents[0].parts", "must not be empty"),
    "empty part": ([told({})], "contents[0].parts[0].data", "one initialized"),
    "two things in a part": (
        [told({"text": "x", "inlineData": {"mimeType": "image/png", "data": "eA=="}})],
        "contents[0].parts[0].data",
        "one initialized",
    ),
    "blob without data": (
        [told({"inlineData": {"mimeType": "image/png", "data": ""}})],
        "contents[0].parts[0].inlineData.data",
        "must not be empty",
    ),
    "model first": ([SAID, USER], "contents[0]", "start with a user turn"),
    "model last": ([USER, SAID], "contents[1]", "end with a user turn"),
    "call without response": ([USER, said(CALL)], "contents[1]", "number of function response"),
    "call before a user": ([USER, said(CALL), USER], "contents[2]", "number of function response"),
    "call before a model": (
        [USER, said(CALL), SAID, told(RESULT)],
        "contents[2]",
        "number of function response",
    ),
    "call after a model": ([USER, SAID, said(CALL), told(RESULT)], "contents[2]", "immediately"),
    "one response missing": (
        [USER, said(CALL, CALL_2), told(RESULT)],
        "contents[2]",
        "number of function response",
    ),
    "responses apart": (
        [USER, said(CALL, CALL_2), told(RESULT), told(RESULT_2)],
        "contents[2]",
        "number of function response",
    ),
    "response without call": ([told(RESULT)], "contents[0]", "immediately after a function call"),
    "response too late": (
        [USER, said(CALL), told(RESULT), SAID, told(RESULT)],
        "contents[4]",
        "immediately after a function call",
    ),
    "wrong order": (
        [USER, said(CALL, CALL_2), told(RESULT_2, RESULT)],
        "contents[2].parts[0].functionResponse",
        "answers",
    ),
    "wrong name": (
        [USER, said(CALL), told(RESULT_2)],
        "contents[2].parts[0].functionResponse",
        "answers",
    ),
    "id made up": (
        [USER, said(CALL), told({"functionResponse": {**RESULT["functionResponse"], "id": "1"}})],
        "contents[2].parts[0].functionResponse",
        "answers",
    ),
    "id lost": (
        [USER, said({"functionCall": {**CALL["functionCall"], "id": "1"}}), told(RESULT)],
        "contents[2].parts[0].functionResponse",
        "answers",
    ),
    "call by the user": ([told(CALL)], "contents[0].parts[0]", "model role"),
    "response by the model": ([USER, said(RESULT)], "contents[1].parts[0]", "user role"),
    "response as text": (
        [USER, said(CALL), told({"functionResponse": {"name": "add", "response": "2"}})],
        "contents[2].parts[0].functionResponse.response",
        "object",
    ),
    "signature made up": (
        [USER, said({**CALL, "thoughtSignature": "bm8="}), told(RESULT)],
        "contents[1].parts[0].thoughtSignature",
        "not valid",
    ),
    "signature of another call": (
        [
            USER,
            said({**CALL_2, "thoughtSignature": SIGNED["thoughtSignature"]}),
            told(RESULT_2),
        ],
        "contents[1].parts[0].thoughtSignature",
        "not valid",
    ),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_a_wrong_history_is_refused(name: str) -> None:
    contents, field, words = HISTORIES[name]

    refused = refusal("gemini", request(*contents))

    assert (refused.status, refused.field) == (400, field)
    assert words in refused.message


def test_the_third_generation_wants_the_signatures_of_the_current_turn() -> None:
    bare, signed = said(CALL, CALL_2), said(SIGNED, CALL_2)
    answers = told(RESULT, RESULT_2)

    for model, contents in (
        ("gemini-2.5-pro", [USER, bare, answers]),
        ("gemini-3-pro", [USER, signed, answers]),
        # Turns that are over may have lost theirs.
        ("gemini-3-pro", [USER, bare, answers, SAID, USER]),
        ("gemini-3-pro", [USER, said({**CALL, "thoughtSignature": DUMMY_SIGNATURE}), told(RESULT)]),
    ):
        ask("gemini", request(*contents), model=model)
    refused = refusal("gemini", request(USER, bare, answers), model="gemini-3-pro")
    later = refusal("gemini", request(USER, signed, answers, bare, answers), model="gemini-3-pro")

    assert refused.field == "contents[1].parts[0].thoughtSignature"
    assert later.field == "contents[3].parts[0].thoughtSignature"


ACCEPTED: Final[dict[str, Body]] = {
    "several user contents": request(USER, USER),
    "snake case": {
        "contents": [
            told({"inline_data": {"mime_type": "image/png", "data": "eA=="}}, {"text": "what?"})
        ],
        "system_instruction": {"parts": [{"text": "Be brief."}]},
        "generation_config": {"thinking_config": {"include_thoughts": True}},
    },
    "mixed case": request(
        USER,
        said({"functionCall": {"name": "add", "args": {"snake_key": 1, "camelKey": 2}}}),
        told({"function_response": {"name": "add", "response": {"out_put": 1}}}),
    ),
    "base64 for URLs": request(
        USER,
        said(
            {
                **CALL,
                "thought_signature": SIGNED["thoughtSignature"].replace("+", "-").replace("/", "_"),
            }
        ),
        told(RESULT),
    ),
    "text after responses": request(USER, said(CALL), told(RESULT, {"text": "and?"})),
    "a signature alone": request(USER, said({"text": "Hello"}, {"text": ""}), USER),
    "upper-case types": request(
        tools=functions({"name": "add", "parameters": {"type": "OBJECT", "properties": {}}})
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_right_request_is_taken(name: str) -> None:
    ask("gemini", ACCEPTED[name])


def test_names_of_the_caller_keep_their_spelling() -> None:
    view = ask("gemini", ACCEPTED["mixed case"])

    assert view.messages[1].calls[0].arguments == {"snake_key": 1, "camelKey": 2}


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [({}, 403, None), ({"x-goog-api-key": "invalid"}, 400, "API_KEY_INVALID")],
)
def test_the_key_is_checked(headers: dict[str, str], status: int, code: str | None) -> None:
    refused = refusal("gemini", request(), headers=headers)

    assert (refused.status, refused.code) == (status, code)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'"x"', b"\xff"])
def test_what_is_no_request_is_refused(raw: bytes) -> None:
    assert refusal("gemini", raw).status == 400
