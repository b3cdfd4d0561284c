"""Anthropic Messages: `POST /v1/messages`, streamed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from fakes.anthropic_request import (
    REQUEST,
    ChoiceNone,
    ChoiceTool,
    Message,
    Object,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    refusal_of,
    viewed_tools,
)
from fakes.anthropic_rules import AFTER_THINKING, VERSION, History, check_parameters
from fakes.faults import HttpError, StreamError
from fakes.script import (
    Citation,
    Kind,
    Pause,
    Plan,
    Reasoning,
    RequestView,
    ServerToolSearch,
    Stop,
    StopReason,
    Text,
    ToolCall,
    Turn,
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
    bearer,
    encode,
    given_bytes,
    is_known_key,
    problem,
    sign,
    sse,
)

_OLD_VERSIONS: Final = ("2023-06-01", "2023-01-01")


STOP_REASONS: Final[Mapping[StopReason, str]] = {
    "end": "end_turn",
    "tool_calls": "tool_use",
    "max_tokens": "max_tokens",
    "stop_sequence": "stop_sequence",
    "pause": "pause_turn",
    "refusal": "refusal",
    "content_filter": "refusal",
    "context_window": "model_context_window_exceeded",
    "malformed_call": "end_turn",
    "continuation": "pause_turn",
}


_ERROR_TYPES: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class Anthropic:
    kind: Kind = "anthropic"
    content_type = "text/event-stream; charset=utf-8"

    def parse(self, request: HttpRequest, issued: Issued) -> Call:
        version, betas = authorise(request)
        try:
            body = REQUEST.decode(request.raw)
        except msgspec.ValidationError as error:
            raise refusal_of(problem(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refused("The request body is not valid JSON") from error
        check_parameters(body, version, betas)
        given = given_bytes(body.tools)
        tools = viewed_tools(given, betas, body.model) if given else ()
        if body.tool_choice is not None and not isinstance(body.tool_choice, ChoiceNone):
            if not tools:
                raise Refused("tool_choice may only be specified while providing tools")
            if isinstance(body.tool_choice, ChoiceTool) and all(
                tool.name != body.tool_choice.name for tool in tools
            ):
                raise Refused(f"Tool {body.tool_choice.name!r} not found in provided tools")
        history = History(body, version, betas=betas, issued=issued)
        history.check()
        view = RequestView(
            kind="anthropic",
            model=body.model,
            user_index=history.user_index,
            step_index=history.step_index,
            last_user_at=history.last_user_at,
            expand=lambda start: [_viewed(message) for message in body.messages[start:]],
            system=lambda: _system(body.system),
            tools=lambda: list(tools),
        )
        return Call(view, len(request.raw), {})

    def render(self, turn: Turn, call: Call, ids: Ids, issued: Issued) -> Plan:
        return _Rendering(turn, call, ids, issued).plan()

    def refusal(self, refused: Refused, request_id: str) -> bytes:
        kind = refused.code or _ERROR_TYPES.get(refused.status, "api_error")
        return _error(kind, refused.message, request_id)

    def error_body(self, error: HttpError, request_id: str) -> bytes:
        kind = error.error_type or _ERROR_TYPES.get(error.status, "api_error")
        return _error(kind, error.message or f"fake fault: HTTP {error.status}", request_id)

    def error_frame(self, error: StreamError, request_id: str, sequence: int) -> bytes:
        kind = error.error_type or "overloaded_error"
        return b"event: error\ndata: %b\n\n" % _error(
            kind, error.message or "Overloaded", request_id
        )

    def response_headers(self, request_id: str) -> Mapping[str, str]:
        return {"request-id": request_id, "anthropic-organization-id": "fake-organization"}


def authorise(request: HttpRequest) -> tuple[str, tuple[str, ...]]:
    """Check the headers. Returns the API version and the beta features asked for."""
    key = request.headers.get("x-api-key") or bearer(request.headers)
    if key is None:
        raise Refused(
            "authentication is required: send an `Authorization: Bearer` or `x-api-key` header",
            field="authorization",
            status=401,
        )
    if not is_known_key(key):
        raise Refused("invalid x-api-key", field="authorization", status=401)
    version = request.headers.get("anthropic-version")
    if version is None:
        raise Refused("anthropic-version: header is required", field="anthropic-version")
    if version != VERSION and version not in _OLD_VERSIONS:
        raise Refused(
            f"anthropic-version: {version!r} is not a valid version", field="anthropic-version"
        )
    betas = tuple(
        one.strip() for one in request.headers.get("anthropic-beta", "").split(",") if one
    )
    return version, betas


def _system(system: str | list[TextBlock] | None) -> str:
    if system is None or isinstance(system, str):
        return system or ""
    return "\n".join(block.text for block in system)


def _viewed(message: Message) -> ViewedMessage:
    if isinstance(message.content, str):
        return ViewedMessage(message.role, message.content)
    texts: list[str] = []
    reasoning: list[str] = []
    calls: list[ViewedCall] = []
    results: list[ViewedResult] = []
    others: list[str] = []
    for block in message.content:
        match block:
            case TextBlock():
                texts.append(block.text)
            case ThinkingBlock():
                reasoning.append(block.thinking)
            case ToolUseBlock():
                calls.append(ViewedCall(block.id, block.name, block.input))
            case ToolResultBlock():
                results.append(
                    ViewedResult(block.tool_use_id, _result_text(block), bool(block.is_error))
                )
            case _:
                others.append(str(block.__struct_config__.tag))
    return ViewedMessage(
        message.role,
        "".join(texts),
        "".join(reasoning),
        tuple(calls),
        tuple(results),
        tuple(others),
    )


def _result_text(block: ToolResultBlock) -> str:
    if block.content is None or isinstance(block.content, str):
        return block.content or ""
    return "".join(part.text for part in block.content if isinstance(part, TextBlock))


def _error(kind: str, message: str, request_id: str) -> bytes:
    return encode(
        {
            "type": "error",
            "error": {"type": kind, "message": message},
            "request_id": request_id,
        }
    )


class _Rendering:
    def __init__(self, turn: Turn, call: Call, ids: Ids, issued: Issued) -> None:
        self._turn = turn
        self._call = call
        self._ids = ids
        self._issued = issued
        self._plan = Plan()
        self._index = 0
        self._thought = False
        self._searches = 0

    def plan(self) -> Plan:
        plan = self._plan
        usage = self._turn.usage(prompt_bytes=self._call.raw_size)
        fresh = usage.input - usage.cache_read - usage.cache_write
        cache: Object = {
            "cache_creation_input_tokens": usage.cache_write,
            "cache_read_input_tokens": usage.cache_read,
        }
        start: Object = {
            "model": self._call.view.model,
            "id": f"msg_01{self._ids.next()}",
            "type": "message",
            "role": "assistant",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {
                "input_tokens": fresh,
                **cache,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": usage.cache_write,
                    "ephemeral_1h_input_tokens": 0,
                },
                "output_tokens": min(1, usage.output),
                "service_tier": "standard",
                "inference_geo": "not_available",
            },
        }
        plan.event(sse("message_start", {"type": "message_start", "message": start}))
        for item in self._turn.items:
            match item:
                case Text():
                    self._text(item)
                case Reasoning():
                    self._reasoning(item)
                case ToolCall():
                    self._tool_call(item)
                case ServerToolSearch():
                    self._search(item)
                case Pause():
                    plan.pause(item.seconds)
                case _:
                    pass
        stop = self._turn.stop
        total: Object = {"input_tokens": fresh, **cache, "output_tokens": usage.output}
        if usage.reasoning:
            total["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
        if self._searches:
            total["server_tool_use"] = {
                "web_search_requests": self._searches,
                "web_fetch_requests": 0,
            }
        plan.event(
            sse(
                "message_delta",
                {"type": "message_delta", "delta": _stop_delta(stop), "usage": total},
            )
        )
        plan.event(sse("message_stop", {"type": "message_stop"}))
        plan.pace(self._turn.tokens_per_second)
        return plan

    def _start(self, block: Object) -> None:
        self._plan.event(
            sse(
                "content_block_start",
                {"type": "content_block_start", "index": self._index, "content_block": block},
            )
        )
        if self._index == 0:
            self._plan.event(b'event: ping\ndata: {"type": "ping"}\n\n')

    def _stop(self) -> None:
        self._plan.event(
            sse("content_block_stop", {"type": "content_block_stop", "index": self._index})
        )
        self._index += 1

    def _delta(self, kind: str, key: str, texts: Sequence[str]) -> None:
        head = (
            f'event: content_block_delta\ndata: {{"type":"content_block_delta",'
            f'"index":{self._index},"delta":{{"type":"{kind}","{key}":'
        ).encode()
        add = self._plan.delta
        for text in texts:
            add(b"%b%b}}\n\n" % (head, encode(text)))

    def _text(self, item: Text) -> None:
        block: Object = {"type": "text", "text": ""}
        if item.citations:
            block["citations"] = []
        self._start(block)
        for citation in item.citations:
            self._plan.event(
                sse(
                    "content_block_delta",
                    {
                        "type": "content_block_delta",
                        "index": self._index,
                        "delta": {"type": "citations_delta", "citation": _citation(citation)},
                    },
                )
            )
        self._delta("text_delta", "text", self._turn.pieces(item.text))
        self._stop()

    def _reasoning(self, item: Reasoning) -> None:
        self._thought = True
        signature = item.signature
        if signature is not None:
            self._issued.signatures.add(signature)
        if item.redacted:
            data = signature or sign("anthropic", "redacted")
            self._start({"type": "redacted_thinking", "data": data})
            self._stop()
            return
        signature = signature or sign("anthropic", item.text)
        self._start({"type": "thinking", "thinking": "", "signature": ""})
        self._delta("thinking_delta", "thinking", self._turn.pieces(item.text))
        self._plan.event(
            sse(
                "content_block_delta",
                {
                    "type": "content_block_delta",
                    "index": self._index,
                    "delta": {"type": "signature_delta", "signature": signature},
                },
            )
        )
        self._stop()

    def _tool_call(self, item: ToolCall) -> None:
        made = f"{AFTER_THINKING if self._thought else 'toolu_01N'}{self._ids.next()}"
        block: Object = {
            "type": "tool_use",
            "id": item.id or made,
            "name": item.name,
            "input": {},
            "caller": {"type": "direct"},
        }
        if item.toolset:
            block["toolset_name"] = item.toolset
        self._start(block)
        self._arguments(self._turn.argument_pieces(item))
        self._stop()

    def _arguments(self, texts: Sequence[str]) -> None:
        self._plan.event(
            sse(
                "content_block_delta",
                {
                    "type": "content_block_delta",
                    "index": self._index,
                    "delta": {"type": "input_json_delta", "partial_json": ""},
                },
            )
        )
        if list(texts) != ["{}"]:
            self._delta("input_json_delta", "partial_json", texts)

    def _search(self, item: ServerToolSearch) -> None:
        self._searches += 1
        use = f"srvtoolu_01{self._ids.next()}"
        caller = {"type": "direct"}
        self._start(
            {
                "type": "server_tool_use",
                "id": use,
                "name": "web_search",
                "input": {},
                "caller": caller,
            }
        )
        self._arguments(self._turn.argument_pieces(ToolCall("web_search", {"query": item.query})))
        self._stop()
        content: object = [
            {
                "type": "web_search_result",
                "title": result.title,
                "url": result.url,
                "encrypted_content": result.encrypted_content
                or sign("anthropic", "search", result.url),
                "page_age": result.page_age,
            }
            for result in item.results
        ]
        if item.error is not None:
            content = {"type": "web_search_tool_result_error", "error_code": item.error}
        self._start(
            {
                "type": "web_search_tool_result",
                "tool_use_id": use,
                "content": content,
                "caller": caller,
            }
        )
        self._stop()


def _citation(citation: Citation) -> Object:
    return {
        "type": "web_search_result_location",
        "cited_text": citation.quote,
        "url": citation.url,
        "title": citation.title,
        "encrypted_index": sign("anthropic", "citation", citation.url),
    }


def _stop_delta(stop: Stop) -> Object:
    reason = stop.raw or STOP_REASONS[stop.reason]
    delta: Object = {"stop_reason": reason, "stop_sequence": None}
    if reason == "stop_sequence":
        delta["stop_sequence"] = stop.detail
    if reason == "refusal":
        delta["stop_details"] = {
            "type": "refusal",
            "category": None,
            "explanation": stop.detail,
        }
    return delta
