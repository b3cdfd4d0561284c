"""OpenAI Responses: `POST /v1/responses`, streamed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Raw

from fakes.faults import HttpError, StreamError
from fakes.openai import authorise, describe, error_object, openai_refusal, response_headers
from fakes.responses_request import (
    REQUEST,
    ComputerCallOutput,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputText,
    Item,
    Message,
    Object,
    OutputText,
    ReasoningItem,
    ResultContent,
    items_of,
    raw_items,
    viewed_tools,
)
from fakes.responses_rules import (
    ASSISTANT,
    History,
    check_choice,
    check_parameters,
    check_tools,
    encrypted_content,
    stored_items,
)
from fakes.script import (
    ComputerCall,
    Kind,
    Pause,
    Plan,
    Reasoning,
    Refusal,
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
    arguments_text,
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
)

INCOMPLETE: Final[Mapping[StopReason, str]] = {
    "max_tokens": "max_output_tokens",
    "content_filter": "content_filter",
    "context_window": "max_output_tokens",
    "pause": "steered",
}


class Responses:
    kind: Kind = "responses"
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
        check_choice(body.tool_choice, tools)
        check_tools(tools, given)
        raws = [*stored_items(body, issued), *raw_items(body)]
        history = History(items_of(raws), store=body.store is not False, issued=issued)
        history.check()
        items = history.items
        view = RequestView(
            kind="responses",
            model=body.model,
            user_index=history.user_index,
            step_index=history.step_index,
            last_user_at=history.last_user_at,
            expand=lambda start: _viewed(items[start:]),
            system=lambda: _system(body.instructions, items),
            tools=lambda: list(tools),
        )
        echo: Object = {
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "prompt_cache_key": body.prompt_cache_key,
            "reasoning": body.reasoning,
            "store": body.store is not False,
            "input": raws,
            "tools": Raw(given or b"[]"),
            "tool_choice": body.tool_choice or "auto",
            "sources": "web_search_call.action.sources" in (body.include or ()),
        }
        return Call(view, len(request.raw), echo)

    def render(self, turn: Turn, call: Call, ids: Ids, issued: Issued) -> Plan:
        return _Rendering(turn, call, ids, issued).plan()

    def refusal(self, refused: Refused, request_id: str) -> bytes:
        return openai_refusal(refused)

    def error_body(self, error: HttpError, request_id: str) -> bytes:
        return encode({"error": error_object(error)})

    def error_frame(self, error: StreamError, request_id: str, sequence: int) -> bytes:
        return _error_frame(error, sequence)

    def response_headers(self, request_id: str) -> Mapping[str, str]:
        return response_headers(request_id)


def _system(instructions: str | None, items: list[Item]) -> str:
    texts = [instructions] if instructions else []
    texts += [
        _text(item)
        for item in items
        if isinstance(item, Message) and item.role in ("system", "developer")
    ]
    return "\n".join(texts)


def _text(item: Message) -> str:
    if isinstance(item.content, str):
        return item.content
    return "".join(part.text for part in item.content if isinstance(part, InputText | OutputText))


def _viewed(items: list[Item]) -> list[ViewedMessage]:
    found: list[ViewedMessage] = []
    step: list[Item] = []

    def flush() -> None:
        if step:
            found.append(_viewed_step(step))
            step.clear()

    for item in items:
        match item:
            case Message(role="assistant"):
                step.append(item)
            case Message():
                flush()
                role = "user" if item.role == "user" else "system"
                others = (
                    ()
                    if isinstance(item.content, str)
                    else tuple(
                        str(part.__struct_config__.tag)
                        for part in item.content
                        if not isinstance(part, InputText)
                    )
                )
                found.append(ViewedMessage(role, _text(item), others=others))
            case ComputerCallOutput():
                flush()
                found.append(ViewedMessage("user", results=(ViewedResult(item.call_id, ""),)))
            case FunctionCallOutput() | CustomToolCallOutput():
                flush()
                found.append(
                    ViewedMessage(
                        "user", results=(ViewedResult(item.call_id, _output(item.output)),)
                    )
                )
            case _ if isinstance(item, ASSISTANT):
                step.append(item)
            case _:
                flush()
    flush()
    return found


def _output(output: str | list[ResultContent]) -> str:
    if isinstance(output, str):
        return output
    return "".join(part.text for part in output if isinstance(part, InputText))


def _viewed_step(step: list[Item]) -> ViewedMessage:
    text = "".join(_text(item) for item in step if isinstance(item, Message))
    reasoning = "".join(
        part.text for item in step if isinstance(item, ReasoningItem) for part in item.summary
    )
    calls = tuple(
        ViewedCall(item.call_id, item.name, msgspec.json.decode(item.arguments, type=Object))
        for item in step
        if isinstance(item, FunctionCall)
    )
    others = tuple(
        str(item.__struct_config__.tag)
        for item in step
        if not isinstance(item, Message | ReasoningItem | FunctionCall)
    )
    return ViewedMessage("assistant", text, reasoning, calls, others=others)


def _error_frame(error: StreamError, sequence: int) -> bytes:
    code = error.error_type or "server_error"
    message = error.message or "fake fault: in-stream error"
    if error.shape == "flat":
        name = "error"
        data: Object = {
            "type": "error",
            "code": code,
            "message": message,
            "param": None,
            "sequence_number": sequence,
        }
    elif error.shape == "nested":
        name = "error"
        data = {
            "type": "error",
            "sequence_number": sequence,
            "error": {"type": code, "code": code, "message": message, "param": None},
        }
    else:
        name = f"response.{error.shape}"
        failed = error.shape == "failed"
        data = {
            "type": name,
            "sequence_number": sequence,
            "response": {
                "id": "resp_fake_fault",
                "object": "response",
                "created_at": now_s(),
                "model": "fake",
                "status": error.shape,
                "output": [],
                "parallel_tool_calls": True,
                "tool_choice": "auto",
                "tools": [],
                "error": {"code": code, "message": message} if failed else None,
                "incomplete_details": (
                    None if failed else {"reason": error.error_type or "max_output_tokens"}
                ),
                "usage": None,
            },
        }
    return b"event: %b\ndata: %b\n\n" % (name.encode(), encode(data))


class _Rendering:
    def __init__(self, turn: Turn, call: Call, ids: Ids, issued: Issued) -> None:
        self._turn = turn
        self._call = call
        self._ids = ids
        self._issued = issued
        self._plan = Plan()
        self._output: list[Object] = []
        self._sequence = 0
        self._after = ""

    def plan(self) -> Plan:
        response = self._response()
        for name in ("response.created", "response.in_progress"):
            self._event(name, {"response": response})
        for item in self._turn.items:
            match item:
                case Text():
                    self._message(item)
                case Refusal():
                    self._refusal(item)
                case Reasoning():
                    self._reasoning(item)
                case ToolCall():
                    self._tool_call(item)
                case ComputerCall():
                    self._computer_call(item)
                case ServerToolSearch():
                    self._search(item)
                case Pause():
                    self._plan.pause(item.seconds)
                case _:
                    pass
        self._end(response)
        self._plan.pace(self._turn.tokens_per_second)
        return self._plan

    def _end(self, response: Object) -> None:
        stop = self._turn.stop
        reason = stop.raw or INCOMPLETE.get(stop.reason)
        status = "completed" if reason is None else "incomplete"
        usage = self._turn.usage(prompt_bytes=self._call.raw_size)
        done = {
            **response,
            "status": status,
            "completed_at": now_s() if reason is None else None,
            "output": self._output,
            "service_tier": "default",
            "incomplete_details": {"reason": reason} if reason else None,
            "usage": _usage(usage),
        }
        if self._call.echo["store"]:
            stored = msgspec.convert(self._call.echo["input"], list[bytes])
            output = [encode(item) for item in self._output]
            self._issued.responses[str(response["id"])] = [*stored, *output]
        self._event(f"response.{status}", {"response": done})

    def _response(self) -> Object:
        echo = self._call.echo
        return {
            "id": f"resp_{self._ids.next()}",
            "object": "response",
            "created_at": now_s(),
            "status": "in_progress",
            "background": False,
            "completed_at": None,
            "error": None,
            "frequency_penalty": 0.0,
            "incomplete_details": None,
            "instructions": echo["instructions"],
            "max_output_tokens": echo["max_output_tokens"],
            "max_tool_calls": None,
            "model": self._call.view.model,
            "moderation": None,
            "output": [],
            "parallel_tool_calls": echo["parallel_tool_calls"],
            "presence_penalty": 0.0,
            "previous_response_id": None,
            "prompt_cache_key": echo["prompt_cache_key"],
            "prompt_cache_retention": "in_memory",
            "reasoning": echo["reasoning"] or {"context": None, "effort": None, "summary": None},
            "safety_identifier": None,
            "service_tier": "auto",
            "store": echo["store"],
            "temperature": 1.0,
            "text": {"format": {"type": "text"}, "verbosity": "medium"},
            "tool_choice": echo["tool_choice"],
            "tools": echo["tools"],
            "top_logprobs": 0,
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": None,
            "user": None,
            "metadata": {},
        }

    def _event(self, name: str, fields: Object) -> None:
        data = {"type": name, **fields, "sequence_number": self._sequence}
        self._sequence += 1
        self._plan.event(b"event: %b\ndata: %b\n\n" % (name.encode(), encode(data)))

    def _deltas(self, name: str, texts: Sequence[str], head: str, tail: str) -> None:
        """Delta frames, put together by hand: there are many, and little differs between them."""
        before = f'event: {name}\ndata: {{"type":"{name}",{head}"delta":'.encode()
        after = f',{tail}"sequence_number":'.encode()
        add = self._plan.delta
        number = self._sequence
        for text in texts:
            add(b"%b%b%b%d}\n\n" % (before, encode(text), after, number))
            number += 1
        self._sequence = number

    def _id(self, prefix: str) -> str:
        made = f"{prefix}_{self._ids.next()}"
        item_id = f"{made}_after_{self._after}" if self._after else made
        self._issued_item(item_id)
        return item_id

    def _issued_item(self, item_id: str) -> None:
        if self._call.echo["store"]:
            self._issued.items.add(item_id)

    def _added(self, item: Object) -> int:
        index = len(self._output)
        self._event("response.output_item.added", {"item": item, "output_index": index})
        return index

    def _done(self, item: Object, index: int) -> None:
        self._event("response.output_item.done", {"item": item, "output_index": index})
        self._output.append(item)

    def _message(self, item: Text) -> None:
        item_id = self._id("msg")
        start: Object = {
            "id": item_id,
            "type": "message",
            "status": "in_progress",
            "content": [],
            "role": "assistant",
        }
        index = self._added(start)
        at: Object = {"content_index": 0, "item_id": item_id, "output_index": index}
        part: Object = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
        self._event("response.content_part.added", {**at, "part": part})
        self._deltas(
            "response.output_text.delta",
            self._turn.pieces(item.text),
            '"content_index":0,',
            f'"item_id":"{item_id}","logprobs":[],"output_index":{index},',
        )
        annotations: list[Object] = [
            {
                "type": "url_citation",
                "start_index": 0,
                "end_index": len(item.text),
                "url": citation.url,
                "title": citation.title,
            }
            for citation in item.citations
        ]
        for number, annotation in enumerate(annotations):
            self._event(
                "response.output_text.annotation.added",
                {**at, "annotation": annotation, "annotation_index": number},
            )
        self._event("response.output_text.done", {**at, "logprobs": [], "text": item.text})
        part = {**part, "annotations": annotations, "text": item.text}
        self._event("response.content_part.done", {**at, "part": part})
        self._done({**start, "status": self._final_status(item), "content": [part]}, index)

    def _final_status(self, item: Text | ToolCall) -> str:
        stop = self._turn.stop
        last = next(
            (
                one
                for one in reversed(self._turn.items)
                if not isinstance(one, Usage | Stop | Pause)
            ),
            None,
        )
        cut = item is last and (stop.raw is not None or stop.reason in INCOMPLETE)
        return "incomplete" if cut else "completed"

    def _refusal(self, item: Refusal) -> None:
        item_id = self._id("msg")
        start: Object = {
            "id": item_id,
            "type": "message",
            "status": "in_progress",
            "content": [],
            "role": "assistant",
        }
        index = self._added(start)
        at: Object = {"content_index": 0, "item_id": item_id, "output_index": index}
        self._event(
            "response.content_part.added", {**at, "part": {"type": "refusal", "refusal": ""}}
        )
        self._deltas(
            "response.refusal.delta",
            self._turn.pieces(item.text),
            '"content_index":0,',
            f'"item_id":"{item_id}","output_index":{index},',
        )
        self._event("response.refusal.done", {**at, "refusal": item.text})
        part: Object = {"type": "refusal", "refusal": item.text}
        self._event("response.content_part.done", {**at, "part": part})
        self._done({**start, "status": "completed", "content": [part]}, index)

    def _reasoning(self, item: Reasoning) -> None:
        self._after = ""
        token = self._ids.next()
        item_id = f"rs_{token}"
        self._issued_item(item_id)
        if item.signature is not None:
            self._issued.signatures.add(item.signature)
        encrypted = item.signature or encrypted_content(item_id)
        start: Object = {
            "id": item_id,
            "type": "reasoning",
            "content": [],
            # The first value is a partial one; only that of the finished item may be sent back.
            "encrypted_content": encrypted[: len(encrypted) // 2],
            "summary": [],
        }
        index = self._added(start)
        at: Object = {"item_id": item_id, "output_index": index, "summary_index": 0}
        summary: list[Object] = []
        if item.text and not item.redacted:
            part: Object = {"type": "summary_text", "text": ""}
            self._event("response.reasoning_summary_part.added", {**at, "part": part})
            self._deltas(
                "response.reasoning_summary_text.delta",
                self._turn.pieces(item.text),
                "",
                f'"item_id":"{item_id}","output_index":{index},"summary_index":0,',
            )
            self._event("response.reasoning_summary_text.done", {**at, "text": item.text})
            part = {"type": "summary_text", "text": item.text}
            self._event("response.reasoning_summary_part.done", {**at, "part": part})
            summary.append(part)
        self._done({**start, "encrypted_content": encrypted, "summary": summary}, index)
        self._after = token

    def _tool_call(self, item: ToolCall) -> None:
        item_id = self._id("fc")
        start: Object = {
            "id": item_id,
            "type": "function_call",
            "status": "in_progress",
            "arguments": "",
            "call_id": item.id or f"call_{self._ids.next()}",
            "name": item.name,
        }
        index = self._added(start)
        at: Object = {"item_id": item_id, "output_index": index}
        self._deltas(
            "response.function_call_arguments.delta",
            self._turn.argument_pieces(item),
            "",
            f'"item_id":"{item_id}","output_index":{index},',
        )
        arguments = arguments_text(item)
        self._event("response.function_call_arguments.done", {**at, "arguments": arguments})
        self._done({**start, "status": self._final_status(item), "arguments": arguments}, index)

    def _computer_call(self, item: ComputerCall) -> None:
        start: Object = {
            "id": self._id("cu"),
            "type": "computer_call",
            "status": "in_progress",
            "call_id": item.id or f"call_{self._ids.next()}",
            "actions": [],
            "pending_safety_checks": [],
        }
        index = self._added(start)
        whole: Object = {
            "status": "completed",
            "actions": list(item.actions),
            "pending_safety_checks": list(item.checks),
        }
        self._done({**start, **whole}, index)

    def _search(self, item: ServerToolSearch) -> None:
        item_id = self._id("ws")
        start: Object = {
            "id": item_id,
            "type": "web_search_call",
            "status": "in_progress",
            "action": {"type": "search", "query": item.query},
        }
        index = self._added(start)
        at: Object = {"item_id": item_id, "output_index": index}
        for state in ("in_progress", "searching", "completed"):
            self._event(f"response.web_search_call.{state}", at)
        action: Object = {"type": "search", "query": item.query, "queries": [item.query]}
        if self._call.echo["sources"]:
            action["sources"] = [{"type": "url", "url": result.url} for result in item.results]
        status = "completed" if item.error is None else "failed"
        self._done({**start, "status": status, "action": action}, index)


def _usage(usage: Usage) -> Object:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write,
        },
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }
