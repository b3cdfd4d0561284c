"""What Chat Completions checks beyond the shape of a request."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import UNSET

from fakes.answer_form import check_answer_form
from fakes.chat_request import (
    FOREIGN,
    AssistantMessage,
    CustomCall,
    DeveloperMessage,
    FilePart,
    FunctionCall,
    FunctionMessage,
    ImagePart,
    Part,
    Request,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
    dialect,
)
from fakes.openai import check_options
from fakes.wire import (
    TOOL_NAME,
    Refused,
)

_WANTS_BACK: Final = re.compile(r"(?:deepseek|kimi|glm)")


_FOREIGN_IN_MESSAGES: Final = ("reasoning_content", "reasoning", "reasoning_details")


_ANY: Final = msgspec.json.Decoder()


_CALL_ID: Final = re.compile(r"[a-zA-Z0-9_.:|-]{1,64}")


def check_parameters(body: Request) -> None:
    if not body.stream:
        raise Refused("This server only streams.", field="stream", code="unsupported_value")
    if not body.messages:
        raise Refused(
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got "
            "an empty array instead.",
            field="messages",
            code="empty_array",
        )
    if body.n not in (None, 1):
        raise Refused("Invalid 'n': the fakes make one choice.", field="n")
    for name in ("max_tokens", "max_completion_tokens"):
        value = getattr(body, name)
        if value is not None and value < 1:
            raise Refused(
                f"Invalid '{name}': integer below minimum value. Expected a value >= 1, but got "
                f"{value} instead.",
                field=name,
                code="integer_below_min_value",
            )
    check_answer_form(body.response_format, "response_format", nested="json_schema")
    _check_sampling(body)
    if dialect(body.model) != "hidden":
        return
    for name in FOREIGN:
        if getattr(body, name) is not UNSET:
            raise Refused(
                f"Unrecognized request argument supplied: {name}",
                field=name,
                code="unknown_parameter",
            )
    check_options(body)
    if re.match(r"o\d|gpt-5", body.model) and body.max_tokens is not None:
        raise Refused(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead.",
            field="max_tokens",
            code="unsupported_parameter",
        )


def _check_sampling(body: Request) -> None:
    if body.top_logprobs is not None and not body.logprobs:
        raise Refused(
            "You must set logprobs to true when using top_logprobs.",
            field="top_logprobs",
            code="invalid_value",
        )
    for token, bias in (body.logit_bias or {}).items():
        if not token.isdigit():
            raise Refused(
                f"Invalid key in 'logit_bias': {token}. You should only be submitting "
                "non-negative integers.",
                field="logit_bias",
                code="invalid_value",
            )
        if not -100 <= bias <= 100:
            raise Refused(
                f"Invalid 'logit_bias.{token}': {bias} is not from -100 to 100.",
                field=f"logit_bias.{token}",
                code="decimal_out_of_range",
            )


class History:
    """The rules over `messages`, checked in one pass that also finds out whose turn it is."""

    def __init__(self, body: Request) -> None:
        self._messages = body.messages
        self._dialect = dialect(body.model)
        self._wants_back = bool(_WANTS_BACK.match(body.model))
        self._open: list[str] = []
        self._opened_at = 0
        self.user_index = -1
        self.step_index = 0
        self.last_user_at = 0

    def check(self) -> None:
        for at, message in enumerate(self._messages):
            if isinstance(message, ToolMessage):
                self._check_result(at, message)
                continue
            self._check_answered(at)
            match message:
                case UserMessage():
                    self._check_user(at, message)
                case AssistantMessage():
                    self._check_assistant(at, message)
                    self.step_index += 1
                case SystemMessage() | DeveloperMessage():
                    pass
                case FunctionMessage():
                    raise Refused(
                        f"messages[{at}]: the 'function' role is gone, use 'tool'.",
                        field=f"messages[{at}].role",
                    )
        self._check_answered(len(self._messages))
        self._check_reasoning()

    def _check_answered(self, at: int) -> None:
        if self._open:
            raise Refused(
                "An assistant message with 'tool_calls' must be followed by tool messages "
                "responding to each 'tool_call_id'. The following tool_call_ids did not have "
                "response messages: " + ", ".join(self._open),
                field=f"messages.[{at}].role"
                if at < len(self._messages)
                else f"messages.[{self._opened_at}].tool_calls",
            )

    def _check_result(self, at: int, message: ToolMessage) -> None:
        before = self._messages[at - 1] if at else None
        calling = isinstance(before, AssistantMessage) and before.tool_calls
        if not calling and not isinstance(before, ToolMessage):
            raise Refused(
                "Invalid parameter: messages with role 'tool' must be a response to a preceeding "
                "message with 'tool_calls'.",
                field=f"messages.[{at}].role",
            )
        if message.tool_call_id not in self._open:
            raise Refused(
                f"Invalid parameter: 'tool_call_id' of '{message.tool_call_id}' not found in "
                "'tool_calls' of previous message.",
                field=f"messages.[{at}].tool_call_id",
            )
        self._open.remove(message.tool_call_id)

    def _check_user(self, at: int, message: UserMessage) -> None:
        real = True
        if isinstance(message.content, str):
            if not message.content and self._dialect == "hidden":
                raise Refused(f"messages[{at}].content: empty", field=f"messages[{at}].content")
        else:
            self._check_parts(at, message.content)
            # Images from tools cannot be part of a tool message, so they follow as a user message.
            after_results = at > 0 and isinstance(self._messages[at - 1], ToolMessage)
            has_text = any(isinstance(part, TextPart) for part in message.content)
            real = has_text or not after_results
        if real:
            self.user_index += 1
            self.step_index = 0
            self.last_user_at = at

    def _check_parts(self, at: int, parts: Sequence[Part]) -> None:
        if not parts:
            raise Refused(
                f"Invalid 'messages[{at}].content': empty array.",
                field=f"messages[{at}].content",
                code="empty_array",
            )
        for index, part in enumerate(parts):
            where = f"messages[{at}].content[{index}]"
            if isinstance(part, ImagePart) and not part.image_url.url.startswith(
                ("data:image/", "https://", "http://")
            ):
                raise Refused(
                    f"Invalid '{where}.image_url.url'. Expected a valid URL.",
                    field=f"{where}.image_url.url",
                    code="invalid_value",
                )
            if isinstance(part, FilePart) and not (part.file.file_data or part.file.file_id):
                raise Refused(
                    f"Missing required parameter: '{where}.file.file_data'.",
                    field=f"{where}.file.file_data",
                    code="missing_required_parameter",
                )

    def _check_assistant(self, at: int, message: AssistantMessage) -> None:
        if message.content in (None, UNSET) and message.tool_calls is None and not message.refusal:
            raise Refused(
                "Invalid value for 'content': expected a string, got null.",
                field=f"messages.[{at}].content",
            )
        if self._dialect == "hidden":
            for name in _FOREIGN_IN_MESSAGES:
                if getattr(message, name) is not UNSET:
                    raise Refused(
                        f"Unknown parameter: 'messages[{at}].{name}'.",
                        field=f"messages[{at}].{name}",
                        code="unknown_parameter",
                    )
        if message.tool_calls is None:
            return
        if not message.tool_calls:
            raise Refused(
                f"Invalid 'messages[{at}].tool_calls': empty array. Expected an array with "
                "minimum length 1, but got an empty array instead.",
                field=f"messages[{at}].tool_calls",
                code="empty_array",
            )
        self._opened_at = at
        for index, call in enumerate(message.tool_calls):
            self._check_call(f"messages[{at}].tool_calls[{index}]", call)

    def _check_call(self, where: str, call: FunctionCall | CustomCall) -> None:
        if not _CALL_ID.fullmatch(call.id):
            raise Refused(
                f"Invalid '{where}.id': string too long or with odd characters. Expected at most "
                "64 characters.",
                field=f"{where}.id",
                code="string_above_max_length",
            )
        if call.id in self._open:
            raise Refused(f"Duplicate value for '{where}.id'.", field=f"{where}.id")
        self._open.append(call.id)
        if isinstance(call, CustomCall):
            return
        if not TOOL_NAME.fullmatch(call.function.name):
            raise Refused(
                f"Invalid '{where}.function.name': string does not match pattern "
                "'^[a-zA-Z0-9_-]+$'.",
                field=f"{where}.function.name",
                code="invalid_value",
            )
        try:
            arguments = _ANY.decode(call.function.arguments)
        except msgspec.DecodeError:
            arguments = None
        if not isinstance(arguments, dict):
            raise Refused(
                f"Invalid '{where}.function.arguments': not the JSON of an object.",
                field=f"{where}.function.arguments",
                code="invalid_value",
            )

    def _check_reasoning(self) -> None:
        if not self._wants_back:
            return
        for at in range(self.last_user_at, len(self._messages)):
            message = self._messages[at]
            if isinstance(message, AssistantMessage) and message.tool_calls:
                # What was said without thinking carries an id that says so.
                thought = any(call.id.startswith(AFTER_THINKING) for call in message.tool_calls)
                if thought and not message.reasoning_content:
                    raise Refused(
                        "The `reasoning_content` in the thinking mode must be passed back to the "
                        "API.",
                        field=f"messages[{at}].reasoning_content",
                    )


AFTER_THINKING: Final = "call_T"
