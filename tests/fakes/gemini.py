"""Google Gemini: `POST /v1beta/models/{model}:streamGenerateContent?alt=sse`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import UNSET

from fakes.clouds import check_google
from fakes.faults import HttpError, StreamError
from fakes.gemini_request import (
    DATA,
    Content,
    FunctionResponse,
    Object,
    decode_request,
    viewed_tools,
)
from fakes.gemini_rules import TEXT_SIGNATURE, History, call_signature, check_parameters
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
    is_known_key,
    sign,
)

FINISH_REASONS: Final[Mapping[StopReason, str]] = {
    "end": "STOP",
    "tool_calls": "STOP",
    "max_tokens": "MAX_TOKENS",
    "stop_sequence": "STOP",
    "pause": "STOP",
    "refusal": "PROHIBITED_CONTENT",
    "content_filter": "SAFETY",
    "context_window": "MAX_TOKENS",
    "malformed_call": "MALFORMED_FUNCTION_CALL",
    "continuation": "CONTINUATION",
}


_STATUSES: Final[Mapping[int, str]] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class Gemini:
    kind: Kind = "gemini"
    content_type = "text/event-stream"

    def parse(self, request: HttpRequest, issued: Issued) -> Call:
        authorise(request)
        if request.query.get("alt") != "sse":
            raise Refused("This server only streams server-sent events.", field="alt")
        model = request.path.rpartition("/")[2].partition(":")[0]
        try:
            body = decode_request(request.raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refused("Invalid JSON payload received.") from error
        contents = body.contents
        if contents is UNSET or not contents:
            raise Refused(
                "* GenerateContentRequest.contents: contents is not specified", field="contents"
            )
        check_parameters(body)
        tools = viewed_tools(encode(body.tools)) if body.tools else ()
        history = History(contents, model, issued)
        history.check()
        view = RequestView(
            kind="gemini",
            model=model,
            user_index=history.user_index,
            step_index=history.step_index,
            last_user_at=history.last_user_at,
            expand=lambda start: [_viewed(content) for content in contents[start:]],
            system=lambda: _texts(body.system_instruction) if body.system_instruction else "",
            tools=lambda: list(tools),
        )
        thoughts = body.generation_config and body.generation_config.thinking_config
        shows = body.tool_config and body.tool_config.include_server_side_tool_invocations
        echo: Object = {
            "thoughts": bool(thoughts and thoughts.include_thoughts),
            "server_tools": bool(shows),
        }
        return Call(view, len(request.raw), echo)

    def render(self, turn: Turn, call: Call, ids: Ids, issued: Issued) -> Plan:
        return _Rendering(turn, call, ids, issued).plan()

    def refusal(self, refused: Refused, request_id: str) -> bytes:
        message = refused.message
        if refused.status == 404 and refused.field == "model":
            message = (
                f"models/{message.removeprefix('model: ')} is not found for API version v1beta, "
                "or is not supported for generateContent."
            )
        error: Object = {
            "code": refused.status,
            "message": message,
            "status": _STATUSES.get(refused.status, "UNKNOWN"),
        }
        if refused.code is not None:
            error["details"] = [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": refused.code,
                    "domain": "googleapis.com",
                }
            ]
        elif refused.field is not None and refused.status == 400:
            violation = {"field": refused.field, "description": message}
            error["details"] = [
                {
                    "@type": "type.googleapis.com/google.rpc.BadRequest",
                    "fieldViolations": [violation],
                }
            ]
        return encode({"error": error})

    def error_body(self, error: HttpError, request_id: str) -> bytes:
        body: Object = {
            "code": error.status,
            "message": error.message or f"fake fault: HTTP {error.status}",
            "status": error.error_type or _STATUSES.get(error.status, "UNKNOWN"),
        }
        if error.retry_after is not None:
            body["details"] = [
                {
                    "@type": "type.googleapis.com/google.rpc.RetryInfo",
                    "retryDelay": f"{error.retry_after:g}s",
                }
            ]
        return encode({"error": body})

    def error_frame(self, error: StreamError, request_id: str, sequence: int) -> bytes:
        status = error.error_type or "UNAVAILABLE"
        code = next((code for code, name in _STATUSES.items() if name == status), 503)
        message = error.message or "fake fault: in-stream error"
        return _data({"error": {"code": code, "message": message, "status": status}})

    def response_headers(self, request_id: str) -> Mapping[str, str]:
        return {"server": "scaffolding on HTTPServer2", "x-content-type-options": "nosniff"}


def authorise(request: HttpRequest) -> None:
    if "/projects/" in request.path:  # on Vertex AI
        check_google(request)
        return
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    key = request.headers.get("x-goog-api-key") or request.query.get("key") or token
    if not key:
        raise Refused(
            "Method doesn't allow unregistered callers (callers without established identity). "
            "Please use API Key or other form of API consumer identity to call this API.",
            status=403,
        )
    if not is_known_key(key):
        raise Refused("API key not valid. Please pass a valid API key.", code="API_KEY_INVALID")


def _texts(content: Content) -> str:
    return "".join(
        part.text for part in content.parts if part.text is not UNSET and not part.thought
    )


def _viewed(content: Content) -> ViewedMessage:
    role = "assistant" if content.role == "model" else "user"
    reasoning = "".join(
        part.text for part in content.parts if part.text is not UNSET and part.thought
    )
    calls = tuple(
        ViewedCall(part.function_call.id, part.function_call.name, part.function_call.args or {})
        for part in content.parts
        if part.function_call is not UNSET
    )
    results = tuple(
        _viewed_result(part.function_response)
        for part in content.parts
        if part.function_response is not UNSET
    )
    others = tuple(
        name for part in content.parts for name in DATA[3:] if getattr(part, name) is not UNSET
    )
    return ViewedMessage(role, _texts(content), reasoning, calls, results, others)


def _viewed_result(answer: FunctionResponse) -> ViewedResult:
    is_error = "error" in answer.response
    said = answer.response.get("error" if is_error else "output", answer.response)
    text = said if isinstance(said, str) else encode(said).decode()
    return ViewedResult(answer.id, text, is_error)


def _data(data: object) -> bytes:
    return b"data: %b\r\n\r\n" % encode(data)


class _Rendering:
    def __init__(self, turn: Turn, call: Call, ids: Ids, issued: Issued) -> None:
        self._turn = turn
        self._call = call
        self._ids = ids
        self._issued = issued
        self._plan = Plan()
        self._third = call.view.model.startswith("gemini-3")
        self._response_id = ids.next()
        self._usage = turn.usage(prompt_bytes=call.raw_size)
        self._signature: str | None = None
        self._signs = self._third
        self._called = False
        self._said = 0
        self._grounding: Object = {}
        # The last chunk waits: the finish reason of the second generation goes onto it.
        self._pending: tuple[Object, bool] | None = None

    def plan(self) -> Plan:
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
                    self._flush()
                    self._plan.pause(item.seconds)
                case _:
                    pass
        if self._is_blocked():
            self._block()
        else:
            self._end()
        self._plan.pace(self._turn.tokens_per_second)
        return self._plan

    def _is_blocked(self) -> bool:
        """Whether the provider refused the prompt itself: a refusal, and nothing said before."""
        said = any(not isinstance(item, Usage | Stop | Pause) for item in self._turn.items)
        return not said and self._turn.stop.reason in ("refusal", "content_filter")

    def _block(self) -> None:
        chunk: Object = {
            "promptFeedback": {"blockReason": self._turn.stop.raw or "PROHIBITED_CONTENT"},
            "usageMetadata": self._usage_metadata(final=True),
            "modelVersion": self._call.view.model,
            "responseId": self._response_id,
        }
        self._plan.event(_data(chunk))

    def _add(self, part: Object, *, delta: bool = True) -> None:
        self._flush()
        self._pending = part, delta

    def _flush(self) -> None:
        if self._pending is not None:
            part, delta = self._pending
            self._pending = None
            self._said += "thought" not in part
            self._write({"content": {"parts": [part], "role": "model"}, "index": 0}, delta=delta)

    def _write(self, candidate: Object, *, delta: bool, final: bool = False) -> None:
        chunk: Object = {
            "candidates": [candidate],
            "usageMetadata": self._usage_metadata(final=final),
            "modelVersion": self._call.view.model,
            "responseId": self._response_id,
        }
        (self._plan.delta if delta else self._plan.event)(_data(chunk))

    def _usage_metadata(self, *, final: bool) -> Object:
        """The running total: what is known of the prompt at once, the output as it grows."""
        usage: Usage = self._usage
        whole = usage.output - usage.reasoning
        said = whole if final else min(whole, self._said)
        found: Object = {
            "promptTokenCount": usage.input,
            "totalTokenCount": usage.input + usage.reasoning + said,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": usage.input}],
        }
        if said:
            found["candidatesTokenCount"] = said
        if usage.cache_read:
            found["cachedContentTokenCount"] = usage.cache_read
        if usage.reasoning:
            found["thoughtsTokenCount"] = usage.reasoning
        return found

    def _end(self) -> None:
        stop = self._turn.stop
        reason = stop.raw or FINISH_REASONS[stop.reason]
        part: Object | None = None
        delta = False
        if self._third and reason == "STOP":
            self._flush()
            part = {"text": ""}
            if not self._called:
                part["thoughtSignature"] = self._signature or TEXT_SIGNATURE
        elif self._pending is not None:
            part, delta = self._pending
            self._pending = None
            if part.get("text") and "thought" not in part and self._signs:
                part["thoughtSignature"] = self._signature or TEXT_SIGNATURE
        candidate: Object = {}
        if part is not None:
            candidate["content"] = {"parts": [part], "role": "model"}
        candidate |= {"finishReason": reason, "index": 0}
        if self._called and not self._third and reason == "STOP":
            candidate["finishMessage"] = "Model generated function call(s)."
        if stop.detail is not None:
            candidate["finishMessage"] = stop.detail
        candidate |= self._grounding
        self._write(candidate, delta=delta, final=True)

    def _text(self, item: Text) -> None:
        texts = self._turn.pieces(item.text)
        for text in texts:
            self._add({"text": text})
        if item.signature is not None:
            self._issued.signatures.add(item.signature)
            self._add({"text": "", "thoughtSignature": item.signature}, delta=False)
        self._ground(item)

    def _ground(self, item: Text) -> None:
        if not item.citations:
            return
        found = self._grounding.setdefault("groundingMetadata", {})
        metadata = msgspec.convert(found, Object)
        chunks = [_grounding_chunk(citation) for citation in item.citations]
        metadata["groundingChunks"] = chunks
        metadata["groundingSupports"] = [
            {
                # Indices count bytes.
                "segment": {
                    "startIndex": 0,
                    "endIndex": len(item.text.encode()),
                    "text": item.text,
                },
                "groundingChunkIndices": list(range(len(chunks))),
            }
        ]
        self._grounding["groundingMetadata"] = metadata

    def _reasoning(self, item: Reasoning) -> None:
        self._signs = True
        if item.signature is not None:
            self._issued.signatures.add(item.signature)
            self._signature = item.signature
        # Thoughts are shown to those who ask; the signature comes to all.
        if self._call.echo["thoughts"] and not item.redacted:
            for text in self._turn.pieces(item.text):
                self._add({"text": text, "thought": True})

    def _tool_call(self, item: ToolCall) -> None:
        call: Object = {"name": item.name, "args": item.arguments}
        if item.id is not None or self._third:
            call["id"] = item.id or self._ids.next()[8:]
        part: Object = {"functionCall": call}
        # Of parallel calls, only the first is signed.
        if self._signs and not self._called:
            part["thoughtSignature"] = self._signature or call_signature(item.name, item.arguments)
        self._called = True
        self._add(part)

    def _search(self, item: ServerToolSearch) -> None:
        if self._call.echo["server_tools"]:
            self._shown_search(item)
        self._grounding["groundingMetadata"] = {
            "searchEntryPoint": {"renderedContent": "<div>search</div>"},
            "webSearchQueries": [item.query],
            "groundingChunks": [
                _grounding_chunk(Citation(result.url, result.title)) for result in item.results
            ],
        }

    def _shown_search(self, item: ServerToolSearch) -> None:
        """The call and its result as parts, for those who asked for them."""
        call_id = self._ids.next()[8:]
        kind = "GOOGLE_SEARCH_WEB"
        signature = sign("gemini", "server", call_id)
        call = {"toolType": kind, "id": call_id, "args": {"queries": [item.query]}}
        self._add({"toolCall": call, "thoughtSignature": signature})
        found = {"search_suggestions": "<div>search</div>"}
        response = {"toolType": kind, "id": call_id, "response": found}
        self._add({"toolResponse": response, "thoughtSignature": signature})


def _grounding_chunk(citation: Citation) -> Object:
    return {"web": {"uri": citation.url, "title": citation.title}}
