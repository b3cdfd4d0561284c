"""OpenAI Chat Completions, and the servers that imitate it: `POST /v1/chat/completions`, streamed.

The model's name chooses the dialect of reasoning: `gpt-…`, `o3…` and the like hide it,
`openrouter/…` and `vercel/…` stream `reasoning` with `reasoning_details`, everything else streams
`reasoning_content`. Of the latter, `deepseek…`, `kimi…` and `glm…` want it back on every assistant
message of the running turn that called tools.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from fakes.chat_request import (
    REQUEST,
    AssistantMessage,
    DeveloperMessage,
    FunctionCall,
    FunctionMessage,
    Message,
    Object,
    Part,
    RefusalPart,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
    dialect,
    viewed_tools,
)
from fakes.chat_rules import AFTER_THINKING, History, check_parameters
from fakes.faults import HttpError, StreamError
from fakes.openai import authorise, describe, error_object, openai_refusal, response_headers
from fakes.script import (
    Kind,
    Pause,
    Plan,
    Reasoning,
    Refusal,
    RequestView,
    ServerToolSearch,
    StopReason,
    Text,
    ToolCall,
    Turn,
    Usage,
    ViewedCall,
    ViewedMessage,
    ViewedResult,
)
from fakes.wire import (
    Call,
    HttpRequest,
    Ids,
    Issued,
    Refused,
    encode,
    given_bytes,
    now_s,
    problem,
    sign,
)

FINISH_REASONS: Final[Mapping[StopReason, str]] = {
    "end": "stop",
    "tool_calls": "tool_calls",
    "max_tokens": "length",
    "stop_sequence": "stop",
    "pause": "stop",
    "refusal": "stop",
    "content_filter": "content_filter",
    "context_window": "length",
    "malformed_call": "tool_calls",
    "continuation": "length",
}


class Chat:
    kind: Kind = "chat"
    content_type = "text/event-stream; charset=utf-8"

    def parse(self, request: HttpRequest, issued: Issued) -> Call:
        authorise(request)
        try:
            body = REQUEST.decode(request.raw)
        except msgspec.ValidationError as error:
            raise describe(problem(error), request.raw) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refused("We could not parse the JSON body of your request.") from error
        check_parameters(body)
        given = given_bytes(body.tools)
        tools = viewed_tools(given) if given else ()
        if body.tool_choice is not None and not tools:
            raise Refused(
                "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are "
                "specified.",
                field="tool_choice",
            )
        if isinstance(body.tool_choice, dict) and "name" in body.tool_choice:
            raise Refused(
                "Unknown parameter: 'tool_choice.name'.",
                field="tool_choice.name",
                code="unknown_parameter",
            )
        history = History(body)
        history.check()
        messages = body.messages
        view = RequestView(
            kind="chat",
            model=body.model,
            user_index=history.user_index,
            step_index=history.step_index,
            last_user_at=history.last_user_at,
            expand=lambda start: [_viewed(message) for message in messages[start:]],
            system=lambda: _system(messages),
            tools=lambda: list(tools),
        )
        options = body.stream_options
        echo: Object = {"include_usage": bool(options and options.include_usage)}
        return Call(view, len(request.raw), echo)

    def render(self, turn: Turn, call: Call, ids: Ids, issued: Issued) -> Plan:
        return _Rendering(turn, call, ids, issued).plan()

    def refusal(self, refused: Refused, request_id: str) -> bytes:
        return openai_refusal(refused)

    def error_body(self, error: HttpError, request_id: str) -> bytes:
        return encode({"error": error_object(error)})

    def error_frame(self, error: StreamError, request_id: str, sequence: int) -> bytes:
        code = error.error_type or "server_error"
        message = error.message or "fake fault: in-stream error"
        return _data({"error": {"message": message, "type": code, "param": None, "code": code}})

    def response_headers(self, request_id: str) -> Mapping[str, str]:
        return response_headers(request_id)


def _text(content: str | Sequence[Part | RefusalPart] | UnsetType | None) -> str:
    if content is None or content is UNSET:
        return ""
    if isinstance(content, str):
        return content
    return "".join(part.text for part in content if isinstance(part, TextPart))


def _system(messages: list[Message]) -> str:
    return "\n".join(
        _text(message.content)
        for message in messages
        if isinstance(message, SystemMessage | DeveloperMessage)
    )


def _viewed(message: Message) -> ViewedMessage:
    match message:
        case UserMessage():
            others = ()
            if not isinstance(message.content, str):
                others = tuple(
                    str(part.__struct_config__.tag)
                    for part in message.content
                    if not isinstance(part, TextPart)
                )
            return ViewedMessage("user", _text(message.content), others=others)
        case AssistantMessage():
            calls = tuple(
                ViewedCall(
                    call.id,
                    call.function.name,
                    msgspec.json.decode(call.function.arguments, type=Object),
                )
                for call in message.tool_calls or ()
                if isinstance(call, FunctionCall)
            )
            reasoning = message.reasoning_content or message.reasoning
            return ViewedMessage(
                "assistant",
                _text(message.content),
                reasoning if isinstance(reasoning, str) else "",
                calls,
            )
        case ToolMessage():
            result = ViewedResult(message.tool_call_id, _text(message.content))
            return ViewedMessage("user", results=(result,))
        case SystemMessage() | DeveloperMessage() | FunctionMessage():
            return ViewedMessage("system", _text(message.content))


def _data(data: object) -> bytes:
    return b"data: %b\n\n" % encode(data)


class _Rendering:
    def __init__(self, turn: Turn, call: Call, ids: Ids, issued: Issued) -> None:
        self._turn = turn
        self._call = call
        self._ids = ids
        self._issued = issued
        self._plan = Plan()
        self._dialect = dialect(call.view.model)
        self._calls = 0
        self._thoughts = 0
        self._opening: Object = {}
        self._include_usage = bool(call.echo["include_usage"])
        self._envelope: Object = {
            "id": f"chatcmpl-{ids.next()}",
            "object": "chat.completion.chunk",
            "created": now_s(),
            "model": call.view.model,
            "service_tier": "default",
            "system_fingerprint": "fp_fake",
        }
        # Everything of a delta frame around the delta itself.
        self._before = encode(self._envelope)[:-1] + b',"choices":[{"index":0,"delta":'
        self._after = b',"logprobs":null,"finish_reason":null}]%b}\n\n' % (
            b',"usage":null' if self._include_usage else b""
        )

    def plan(self) -> Plan:
        plan = self._plan
        shown = [one for one in self._turn.items if isinstance(one, Text | ToolCall | Refusal)]
        if not shown or not isinstance(shown[0], ToolCall):
            self._chunk({"role": "assistant", "content": "", "refusal": None})
        elif len(shown) == 1 and not self._shows_reasoning():
            # A single call opens in the very first chunk.
            self._opening = {"role": "assistant", "content": None}
        else:
            self._chunk({"role": "assistant", "content": None})
        for item in self._turn.items:
            match item:
                case Text():
                    self._text(item)
                case Refusal():
                    self._deltas('{"refusal":', self._turn.pieces(item.text), "}")
                case Reasoning():
                    self._reasoning(item)
                case ToolCall():
                    self._tool_call(item)
                case Pause():
                    plan.pause(item.seconds)
                case ServerToolSearch():
                    # The provider searches unseen; only citations show it.
                    pass
                case _:
                    pass
        stop = self._turn.stop
        self._chunk({}, finish=stop.raw or FINISH_REASONS[stop.reason])
        if self._include_usage:
            usage = self._turn.usage(prompt_bytes=self._call.raw_size)
            plan.event(_data({**self._envelope, "choices": [], "usage": _usage(usage)}))
        plan.event(b"data: [DONE]\n\n")
        plan.pace(self._turn.tokens_per_second)
        return plan

    def _shows_reasoning(self) -> bool:
        return self._dialect != "hidden" and any(
            isinstance(one, Reasoning) for one in self._turn.items
        )

    def _chunk(self, delta: Object, *, finish: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        chunk: Object = {**self._envelope, "choices": [choice]}
        if self._include_usage:
            chunk["usage"] = None
        self._plan.event(_data(chunk))

    def _deltas(self, head: str, texts: Sequence[str], tail: str) -> None:
        before = b"data: %b%b" % (self._before, head.encode())
        after = tail.encode() + self._after
        add = self._plan.delta
        for text in texts:
            add(b"%b%b%b" % (before, encode(text), after))

    def _text(self, item: Text) -> None:
        self._deltas('{"content":', self._turn.pieces(item.text), "}")
        if item.citations:
            annotations = [
                {
                    "type": "url_citation",
                    "url_citation": {
                        "start_index": 0,
                        "end_index": len(item.text),
                        "url": citation.url,
                        "title": citation.title,
                    },
                }
                for citation in item.citations
            ]
            self._chunk({"annotations": annotations})

    def _reasoning(self, item: Reasoning) -> None:
        self._thoughts += 1
        texts = self._turn.pieces(item.text)
        if self._dialect == "content":
            self._deltas('{"reasoning_content":', texts, "}")
        elif self._dialect == "details":
            index = self._thoughts - 1
            for text in texts:
                detail: Object = {"type": "reasoning.text", "text": text, "index": index}
                detail["format"] = "anthropic-claude-v1"
                delta: Object = {
                    "content": "",
                    "reasoning": text,
                    "reasoning_details": [detail],
                }
                self._plan.deltas.append(len(self._plan.frames))
                self._chunk(delta)
            closing: Object = {
                "type": "reasoning.text",
                "signature": item.signature or sign("chat", item.text),
                "format": "anthropic-claude-v1",
                "index": index,
            }
            self._chunk({"content": "", "reasoning_details": [closing]})

    def _tool_call(self, item: ToolCall) -> None:
        index = self._calls
        self._calls += 1
        made = f"{AFTER_THINKING if self._thoughts else 'call_N'}{self._ids.next()}"
        opening: Object = {
            "index": index,
            "id": item.id or made,
            "type": "function",
            "function": {"name": item.name, "arguments": ""},
        }
        self._chunk({**self._opening, "tool_calls": [opening]})
        self._opening = {}
        self._deltas(
            f'{{"tool_calls":[{{"index":{index},"function":{{"arguments":',
            self._turn.argument_pieces(item),
            "}}]}",
        )


def _usage(usage: Usage) -> Object:
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
