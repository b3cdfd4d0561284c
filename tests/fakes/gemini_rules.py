"""What Gemini checks beyond the shape of a request."""

from __future__ import annotations

import base64
import binascii
from typing import Final

import msgspec
from msgspec import UNSET

from fakes.gemini_request import DATA, Content, FunctionCall, Object, Part, Request
from fakes.wire import (
    Issued,
    Refused,
    sign,
)

DUMMY_SIGNATURE: Final = "skip_thought_signature_validator"


def check_parameters(body: Request) -> None:
    config = body.generation_config
    if config is not None:
        if config.max_output_tokens is not None and config.max_output_tokens < 1:
            raise Refused(
                "* GenerateContentRequest.generation_config.max_output_tokens: must be positive",
                field="generationConfig.maxOutputTokens",
            )
        if config.response_json_schema is not None:
            if config.response_mime_type != "application/json":
                raise Refused(
                    "response_json_schema needs the mime type 'application/json'",
                    field="generationConfig.responseMimeType",
                )
            if body.tools:
                raise Refused(
                    "Function calling with a response mime type: 'application/json' is unsupported",
                    field="generationConfig.responseMimeType",
                )
        thinking = config.thinking_config
        if (
            thinking is not None
            and thinking.thinking_budget is not None
            and thinking.thinking_level is not None
        ):
            raise Refused(
                "You can only set one of thinking budget and thinking level.",
                field="generationConfig.thinkingConfig",
            )
    if body.system_instruction is not None and any(
        part.text is UNSET for part in body.system_instruction.parts
    ):
        raise Refused("System instructions take text only.", field="systemInstruction.parts")
    hosted = any(tool.google_search or tool.code_execution for tool in body.tools or ())
    functions = any(tool.function_declarations for tool in body.tools or ())
    mixed = body.tool_config and body.tool_config.include_server_side_tool_invocations
    if hosted and functions and not mixed:
        raise Refused(
            "Built-in tools and function declarations cannot be combined without "
            "`include_server_side_tool_invocations`.",
            field="tools",
        )


class History:
    """The rules over `contents`, checked in one pass that also finds out whose turn it is."""

    def __init__(self, contents: list[Content], model: str, issued: Issued) -> None:
        self._contents = contents
        self._third = model.startswith("gemini-3")
        self._issued = issued
        self._open: list[FunctionCall] = []
        self.user_index = -1
        self.step_index = 0
        self.last_user_at = 0

    def check(self) -> None:
        if self._contents[0].role == "model":
            raise Refused(
                "Please ensure that multiturn requests start with a user turn.", field="contents[0]"
            )
        before: str | None = None
        for at, content in enumerate(self._contents):
            role = content.role or "user"
            if role not in ("user", "model"):
                raise Refused("Please use a valid role: user, model.", field=f"contents[{at}].role")
            if not content.parts:
                raise Refused(
                    f"* GenerateContentRequest.contents[{at}].parts: contents.parts must not be "
                    "empty.",
                    field=f"contents[{at}].parts",
                )
            for number, part in enumerate(content.parts):
                self._check_part(f"contents[{at}].parts[{number}]", part, role)
            if role == "user":
                self._check_user(at, content)
            else:
                self._check_model(at, content, before)
                self.step_index += 1
            before = role
        self._check_answered(len(self._contents) - 1)
        if before == "model":
            raise Refused(
                "Please ensure that multiturn requests end with a user turn or a function "
                "response turn.",
                field=f"contents[{len(self._contents) - 1}]",
            )
        if self._third:
            self._check_signatures()

    def _check_part(self, where: str, part: Part, role: str) -> None:
        given = [name for name in DATA if getattr(part, name) is not UNSET]
        if len(given) != 1 and not (not given and part.thought_signature):
            raise Refused(
                f"* GenerateContentRequest.{where}.data: required oneof field 'data' must have "
                "one initialized field",
                field=f"{where}.data",
            )
        if part.function_call is not UNSET and role != "model":
            raise Refused("Function calls must come from the model role.", field=where)
        if part.function_response is not UNSET and role != "user":
            raise Refused("Function responses must come from the user role.", field=where)
        if part.inline_data is not UNSET and not part.inline_data.data:
            raise Refused(
                f"* GenerateContentRequest.{where}.inline_data.data: must not be empty",
                field=f"{where}.inlineData.data",
            )
        if part.thought_signature is not None and not self._is_signed(part):
            raise Refused("Thought signature is not valid.", field=f"{where}.thoughtSignature")

    def _is_signed(self, part: Part) -> bool:
        given = part.thought_signature or ""
        found = decoded(given)
        if DUMMY_SIGNATURE in (given, found.decode("latin-1")):
            return True
        if any(found == decoded(issued) for issued in self._issued.signatures):
            return True
        server = part.tool_call if part.tool_call is not UNSET else part.tool_response
        if server is not UNSET:
            return found == decoded(sign("gemini", "server", str(server.get("id"))))
        if part.function_call is not UNSET:
            call = part.function_call
            return found == decoded(call_signature(call.name, call.args or {}))
        return found == decoded(TEXT_SIGNATURE)

    def _check_answered(self, at: int) -> None:
        if self._open:
            raise Refused(
                "Please ensure that the number of function response parts is equal to the number "
                "of function call parts of the function call turn.",
                field=f"contents[{at}]",
            )

    def _check_user(self, at: int, content: Content) -> None:
        answers = [
            part.function_response for part in content.parts if part.function_response is not UNSET
        ]
        if answers and not self._open:
            raise Refused(
                "Please ensure that function response turn comes immediately after a function "
                "call turn.",
                field=f"contents[{at}]",
            )
        if len(answers) != len(self._open):
            self._check_answered(at)
        for number, (call, answer) in enumerate(zip(self._open, answers, strict=False)):
            if call.name != answer.name or call.id != answer.id:
                raise Refused(
                    f"Please ensure that function response {number} ({answer.name!r}, id "
                    f"{answer.id!r}) answers function call {number} ({call.name!r}, id "
                    f"{call.id!r}).",
                    field=f"contents[{at}].parts[{number}].functionResponse",
                )
        self._open = []
        if not answers or any(part.text is not UNSET and part.text for part in content.parts):
            self.user_index += 1
            self.step_index = 0
            self.last_user_at = at

    def _check_model(self, at: int, content: Content, before: str | None) -> None:
        self._check_answered(at)
        calls = [part.function_call for part in content.parts if part.function_call is not UNSET]
        if calls and before != "user":
            raise Refused(
                "Please ensure that function call turn comes immediately after a user turn or "
                "after a function response turn.",
                field=f"contents[{at}]",
            )
        self._open = calls
        self._check_server_tools(at, content)

    def _check_server_tools(self, at: int, content: Content) -> None:
        """Tools that Google runs: each call directly before its response, both signed."""
        waiting: str | None = None
        for number, part in enumerate(content.parts):
            where = f"contents[{at}].parts[{number}]"
            server = part.tool_call if part.tool_call is not UNSET else part.tool_response
            if server is UNSET:
                continue
            if not part.thought_signature:
                raise Refused("Server-side tool is missing a thought_signature.", field=where)
            found = str(server.get("id"))
            if (part.tool_call is not UNSET) != (waiting is None):
                raise Refused("Server-side tool calls and responses must alternate.", field=where)
            if waiting is not None and waiting != found:
                raise Refused("A tool response must answer the call before it.", field=where)
            waiting = found if waiting is None else None
        if waiting is not None:
            raise Refused("A server-side tool call has no response.", field=f"contents[{at}]")

    def _check_signatures(self) -> None:
        for at in range(self.last_user_at, len(self._contents)):
            for number, part in enumerate(self._contents[at].parts):
                if part.function_call is UNSET:
                    continue
                if not part.thought_signature:
                    raise Refused(
                        "Function call is missing a thought_signature in functionCall parts. "
                        "This is required for tools to work correctly, and missing "
                        "thought_signature may lead to degraded model performance. Additional "
                        f"data, function call `default_api:{part.function_call.name}` , position "
                        f"{at + 1}.",
                        field=f"contents[{at}].parts[{number}].thoughtSignature",
                    )
                break


def decoded(signature: str) -> bytes:
    """The bytes of a signature, in either base64 alphabet, padded or not; none if it is none."""
    plain = signature.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


TEXT_SIGNATURE: Final = sign("gemini", "text")


def call_signature(name: str, arguments: Object) -> str:
    return sign("gemini", name, msgspec.json.encode(arguments, order="deterministic").decode())
