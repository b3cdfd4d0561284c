"""What OpenAI Responses checks beyond the shape of a request."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from fakes.answer_form import check_answer_form
from fakes.openai import check_options
from fakes.responses_request import (
    CodeInterpreterCall,
    ComputerCall,
    ComputerCallOutput,
    Content,
    CustomToolCall,
    CustomToolCallOutput,
    FileSearchCall,
    FunctionCall,
    FunctionCallOutput,
    ImageGenerationCall,
    InputFile,
    InputImage,
    Item,
    ItemReference,
    McpCall,
    McpListTools,
    Message,
    Object,
    OutputRefusal,
    OutputText,
    ReasoningItem,
    Request,
    ToolSearchCall,
    WebSearchCall,
)
from fakes.script import (
    ViewedTool,
)
from fakes.wire import (
    TOOL_NAME,
    Issued,
    Refused,
    sign,
)

_INCLUDES: Final = frozenset(
    (
        "web_search_call.action.sources",
        "web_search_call.results",
        "code_interpreter_call.outputs",
        "computer_call_output.output.image_url",
        "file_search_call.results",
        "message.input_image.image_url",
        "message.output_text.logprobs",
        "reasoning.encrypted_content",
    )
)


_ANY: Final = msgspec.json.Decoder()


_OBJECTS: Final = msgspec.json.Decoder(list[Object])


_OUTPUT_OF: Final = {
    FunctionCallOutput: "function call",
    CustomToolCallOutput: "custom tool call",
    ComputerCallOutput: "computer call",
}


ASSISTANT: Final = (
    FunctionCall,
    CustomToolCall,
    ComputerCall,
    ReasoningItem,
    WebSearchCall,
    FileSearchCall,
    CodeInterpreterCall,
    ImageGenerationCall,
    McpCall,
    McpListTools,
    ToolSearchCall,
)


# Reasoning must be followed by what it led to.
_FOLLOWS: Final = (*(one for one in ASSISTANT if one is not ReasoningItem), Message)


def check_parameters(body: Request) -> None:
    if not body.stream:
        raise Refused("This server only streams.", field="stream", code="unsupported_value")
    check_options(body)
    check_answer_form((body.text or {}).get("format"), "text.format")  # pyright: ignore[reportArgumentType]  # JSON
    if body.previous_response_id is not None and body.conversation is not None:
        raise Refused(
            "Mutually exclusive parameters: 'previous_response_id' and 'conversation'.",
            field="conversation",
            code="mutually_exclusive_parameters",
        )
    for index, name in enumerate(body.include or ()):
        if name not in _INCLUDES:
            raise Refused(
                f"Invalid value: '{name}'. Supported values are: {sorted(_INCLUDES)}.",
                field=f"include[{index}]",
                code="invalid_value",
            )


def stored_items(body: Request, issued: Issued) -> list[bytes]:
    """What the request builds on: input and output of a response that was stored."""
    if body.previous_response_id is None:
        return []
    found = issued.responses.get(body.previous_response_id)
    if found is None:
        raise Refused(
            f"Previous response with id '{body.previous_response_id}' not found.",
            field="previous_response_id",
            code="previous_response_not_found",
        )
    return found


def check_tools(tools: Sequence[ViewedTool], raw: bytes) -> None:
    """Hosted tools: what the shape of their fields does not say."""
    names = [tool.name for tool in tools if not tool.hosted]
    if len(set(names)) != len(names):
        raise Refused("Duplicate function names in 'tools'.", field="tools")
    for index, tool in enumerate(_OBJECTS.decode(raw) if raw else ()):
        filters = msgspec.convert(tool.get("filters") or {}, Object)
        domains = msgspec.convert(filters.get("allowed_domains") or [], list[str])
        for number, domain in enumerate(domains):
            if "//" in domain:
                raise Refused(
                    f"Invalid domain: '{domain}'. Expected a domain without a scheme.",
                    field=f"tools[{index}].filters.allowed_domains[{number}]",
                    code="invalid_value",
                )


def check_choice(choice: str | Object | None, tools: Sequence[ViewedTool]) -> None:
    if isinstance(choice, dict) and choice.get("type") == "function":
        if "function" in choice:
            raise Refused(
                "Unknown parameter: 'tool_choice.function'.",
                field="tool_choice.function",
                code="unknown_parameter",
            )
        name = choice.get("name")
        if all(tool.name != name for tool in tools):
            raise Refused(
                f"Tool choice {name!r} not found in 'tools' parameter.", field="tool_choice"
            )
    elif choice == "required" and not tools:
        raise Refused(
            "Tool choice 'required' must be specified with 'tools' parameter.", field="tool_choice"
        )


class History:
    """The rules over `input`, checked in one pass that also finds out whose turn it is."""

    def __init__(self, items: list[Item], *, store: bool, issued: Issued) -> None:
        self.items = items
        self._store = store
        self._issued = issued
        self._open: dict[str, str] = {}
        self._called: set[str] = set()
        self._checks: dict[str, list[Object]] = {}
        self._answered: set[str] = set()
        self._ids: set[str] = set()
        # The reasoning items of the current assistant step.
        self._reasoning: set[str] = set()
        self._in_step = False
        self.user_index = -1
        self.step_index = 0
        self.last_user_at = 0

    def check(self) -> None:
        if not self.items:
            raise Refused(
                "Invalid 'input': empty array. Expected an array with minimum length 1, but got "
                "an empty array instead.",
                field="input",
                code="empty_array",
            )
        before: Item | None = None
        for at, item in enumerate(self.items):
            if (
                isinstance(before, ReasoningItem)
                and not (isinstance(item, _FOLLOWS) and self._is_assistant(item))
                and not isinstance(item, ReasoningItem)
            ):
                raise self._lonely(before)
            self._check_item(at, item)
            before = item
        if isinstance(before, ReasoningItem):
            raise self._lonely(before)
        if self._open:
            call_id, what = next(iter(self._open.items()))
            raise Refused(f"No tool output found for {what} {call_id}.", field="input")

    def _lonely(self, item: ReasoningItem) -> Refused:
        return Refused(
            f"Item '{item.id}' of type 'reasoning' was provided without its required following "
            "item.",
            field="input",
        )

    def _is_assistant(self, item: Item) -> bool:
        if isinstance(item, Message):
            return item.role == "assistant"
        return isinstance(item, ASSISTANT)

    def _check_item(self, at: int, item: Item) -> None:
        if self._is_assistant(item):
            if not self._in_step:
                self._in_step = True
                self._reasoning = set()
        elif self._in_step:
            self._in_step = False
            self.step_index += 1
        self._check_id(at, item)
        match item:
            case Message():
                self._check_message(at, item)
            case FunctionCall():
                self._check_function_call(at, item)
            case CustomToolCall():
                self._open_call(at, item.call_id, "custom tool call")
            case ComputerCall():
                self._open_call(at, item.call_id, "computer call")
                self._checks[item.call_id] = item.pending_safety_checks
            case FunctionCallOutput() | CustomToolCallOutput() | ComputerCallOutput():
                self._close_call(at, item)
            case ReasoningItem():
                self._check_reasoning(at, item)
            case ItemReference():
                if not self._store or item.id not in self._issued.items:
                    raise self._not_found(at, item.id)
            case _:
                pass

    def _check_id(self, at: int, item: Item) -> None:
        item_id = getattr(item, "id", None)
        if item_id is None:
            return
        if item_id in self._ids:
            raise Refused(
                f"Duplicate item found with id {item_id}. Remove duplicate items from your input "
                "and try again.",
                field="input",
            )
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", item_id):
            raise Refused(
                f"Invalid 'input[{at}].id': '{item_id}'. Expected an ID that contains letters, "
                "numbers, underscores, or dashes, but this value contained additional characters.",
                field=f"input[{at}].id",
                code="invalid_value",
            )
        prefix = _PREFIXES.get(type(item))
        if prefix is not None and not item_id.startswith(prefix):
            raise Refused(
                f"Invalid 'input[{at}].id': '{item_id}'. Expected an ID that begins with "
                f"'{prefix[:-1]}'.",
                field=f"input[{at}].id",
                code="invalid_value",
            )
        self._ids.add(item_id)
        # An id made after reasoning names the reasoning that must come back with it.
        if match := _AFTER_REASONING.fullmatch(item_id):
            needed = f"rs_{match[1]}"
            if needed not in self._reasoning:
                kind = item.__struct_config__.tag
                raise Refused(
                    f"Item '{item_id}' of type '{kind}' was provided without its required "
                    f"'reasoning' item: '{needed}'.",
                    field="input",
                )

    def _check_message(self, at: int, item: Message) -> None:
        if not isinstance(item.content, str):
            for index, part in enumerate(item.content):
                where = f"input[{at}].content[{index}]"
                outgoing = isinstance(part, OutputText | OutputRefusal)
                if outgoing != (item.role == "assistant"):
                    kind = part.__struct_config__.tag
                    allowed = (
                        "'output_text' and 'refusal'"
                        if item.role == "assistant"
                        else "'input_text', 'input_image' and 'input_file'"
                    )
                    raise Refused(
                        f"Invalid value: '{kind}'. Supported values are: {allowed}.",
                        field=where,
                        code="invalid_value",
                    )
                _check_media(part, where)
        if item.role == "user":
            self.user_index += 1
            self.step_index = 0
            self.last_user_at = at

    def _check_function_call(self, at: int, item: FunctionCall) -> None:
        if not TOOL_NAME.fullmatch(item.name):
            raise Refused(
                f"Invalid 'input[{at}].name': string does not match pattern. Expected a string "
                "that matches the pattern '^[a-zA-Z0-9_-]+$'.",
                field=f"input[{at}].name",
                code="invalid_value",
            )
        try:
            arguments = _ANY.decode(item.arguments)
        except msgspec.DecodeError:
            arguments = None
        if not isinstance(arguments, dict):
            raise Refused(
                f"Invalid 'input[{at}].arguments': not the JSON of an object.",
                field=f"input[{at}].arguments",
                code="invalid_value",
            )
        self._open_call(at, item.call_id, "function call")

    def _open_call(self, at: int, call_id: str, what: str) -> None:
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", call_id):
            raise Refused(
                f"Invalid 'input[{at}].call_id': '{call_id}'. Expected at most 64 letters, "
                "numbers, underscores, or dashes.",
                field=f"input[{at}].call_id",
                code="invalid_value",
            )
        if call_id in self._called:
            raise Refused(f"Duplicate call_id {call_id}.", field=f"input[{at}].call_id")
        self._called.add(call_id)
        self._open[call_id] = what

    def _close_call(
        self, at: int, item: FunctionCallOutput | CustomToolCallOutput | ComputerCallOutput
    ) -> None:
        what = _OUTPUT_OF[type(item)]
        if self._open.pop(item.call_id, None) != what:
            if item.call_id in self._answered:
                raise Refused(
                    f"Duplicate output for {what} with call_id {item.call_id}.", field="input"
                )
            raise Refused(
                f"No tool call found for {what} output with call_id {item.call_id}.", field="input"
            )
        self._answered.add(item.call_id)
        if isinstance(item, ComputerCallOutput):
            self._check_screen(at, item)
        if not isinstance(item, ComputerCallOutput) and not isinstance(item.output, str):
            for index, part in enumerate(item.output):
                _check_media(part, f"input[{at}].output[{index}]")

    def _check_screen(self, at: int, item: ComputerCallOutput) -> None:
        output = item.output
        image = output.get("image_url")
        if output.get("type") != "computer_screenshot" or not (
            output.get("file_id")
            or (isinstance(image, str) and image.startswith(("data:image/", "https://")))
        ):
            raise Refused(
                f"Invalid 'input[{at}].output': expected a computer_screenshot.",
                field=f"input[{at}].output",
                code="invalid_value",
            )
        accepted = [check.get("id") for check in item.acknowledged_safety_checks or ()]
        for check in self._checks.get(item.call_id, ()):
            if check.get("id") not in accepted:
                raise Refused(
                    f"Computer call {item.call_id} has pending safety checks that were not "
                    "acknowledged.",
                    field=f"input[{at}].acknowledged_safety_checks",
                )

    def _check_reasoning(self, at: int, item: ReasoningItem) -> None:
        self._reasoning.add(item.id)
        if item.encrypted_content is None:
            if not self._store or item.id not in self._issued.items:
                raise self._not_found(at, item.id)
            return
        known = item.encrypted_content in self._issued.signatures
        if not known and item.encrypted_content != encrypted_content(item.id):
            raise Refused(
                f"The encrypted content for item {item.id} could not be verified. Reason: "
                "Encrypted content could not be decrypted or parsed.",
                code="invalid_encrypted_content",
                field=f"input[{at}].encrypted_content",
            )

    def _not_found(self, at: int, item_id: str) -> Refused:
        why = (
            " Items are not persisted when `store` is set to false. Try again with `store` set "
            "to true, or remove this item from your input."
        )
        return Refused(
            f"Item with id '{item_id}' not found.{'' if self._store else why}",
            status=404,
            field="input",
        )


def _check_media(part: Content, where: str) -> None:
    if isinstance(part, InputImage):
        if (part.image_url is None) == (part.file_id is None):
            raise Refused(
                f"Missing required parameter: '{where}.image_url'.",
                field=f"{where}.image_url",
                code="missing_required_parameter",
            )
        url = part.image_url
        if url is not None and not url.startswith(("data:image/", "https://", "http://")):
            raise Refused(
                f"Invalid '{where}.image_url'. Expected a valid URL, but got a value with an "
                "invalid format.",
                field=f"{where}.image_url",
                code="invalid_value",
            )
    elif isinstance(part, InputFile) and not (part.file_data or part.file_id or part.file_url):
        raise Refused(
            f"Missing required parameter: '{where}.file_data'.",
            field=f"{where}.file_data",
            code="missing_required_parameter",
        )


_PREFIXES: Final[Mapping[type, str]] = {
    Message: "msg_",
    FunctionCall: "fc_",
    ReasoningItem: "rs_",
    WebSearchCall: "ws_",
    ComputerCall: "cu_",
    CustomToolCall: "ctc_",
}


_AFTER_REASONING: Final = re.compile(r"(?:msg|fc|ws|cu)_[0-9a-f]+_(?:after)_([0-9a-f]+)")


def encrypted_content(item_id: str) -> str:
    return f"gAAAA{sign('responses', item_id)}"
