"""What Anthropic Messages checks beyond the shape of a request."""

from __future__ import annotations

import re
from typing import Final

from msgspec import UNSET, Raw

from fakes.answer_form import check_output_format
from fakes.anthropic_request import (
    ASSISTANT_ONLY,
    BETA_BLOCKS,
    BETA_FIELDS,
    SERVER_RESULTS,
    Block,
    CacheControl,
    Cached,
    ChoiceAny,
    ChoiceTool,
    CompactionBlock,
    DocumentBlock,
    ImageBlock,
    Message,
    RedactedThinkingBlock,
    Request,
    ServerResult,
    ServerToolUseBlock,
    TextBlock,
    ThinkingBlock,
    ThinkingDisabled,
    ThinkingEnabled,
    ToolAdditionBlock,
    ToolRemovalBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from fakes.wire import (
    TOOL_NAME,
    Issued,
    Refused,
    given_bytes,
    sign,
)

VERSION: Final = "2026-10-21"


# The families that still let a client begin the assistant's answer.
_PREFILL: Final = re.compile(
    r"claude-(3|2|instant)|claude-(opus|sonnet|haiku)-4(-[0-5])?(-\d{8})?$"
)


_TOOL_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")


_MEMBERS: Final = {
    "computer": frozenset(
        (
            *("screenshot", "zoom", "cursor_position", "wait", "mouse_move", "scroll"),
            *("left_click", "right_click", "middle_click", "double_click", "triple_click"),
            *("left_click_drag", "left_mouse_down", "left_mouse_up", "type", "key", "hold_key"),
        )
    )
}


def check_parameters(body: Request, version: str, betas: tuple[str, ...]) -> None:
    if not body.stream:
        raise Refused("stream: this server only streams", field="stream")
    if body.max_tokens <= 0:
        raise Refused("max_tokens: Input should be greater than or equal to 1", field="max_tokens")
    if not body.messages:
        raise Refused("messages: at least one message is required", field="messages")
    if version == VERSION:
        for name in ("temperature", "top_p", "top_k"):
            if getattr(body, name) is not UNSET:
                raise Refused(f"{name}: Extra inputs are not permitted", field=name)
    if not betas:
        for name in BETA_FIELDS:
            if getattr(body, name) is not UNSET:
                raise Refused(f"{name}: Extra inputs are not permitted", field=name)
    _check_budget(body)
    if body.output_config is not None and body.output_config.format is not None:
        check_output_format(body.output_config.format)


def _check_budget(body: Request) -> None:
    if isinstance(body.thinking, ThinkingEnabled):
        if body.thinking.budget_tokens < 1024:
            raise Refused(
                "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024",
                field="thinking.enabled.budget_tokens",
            )
        if body.thinking.budget_tokens >= body.max_tokens:
            raise Refused(
                "`max_tokens` must be greater than `thinking.budget_tokens`", field="max_tokens"
            )
        if isinstance(body.tool_choice, ChoiceAny | ChoiceTool):
            raise Refused("Thinking may not be enabled when tool_choice forces tool use.")


def _plain_text(content: str | list[Block]) -> str | list[Block]:
    """A message of one unadorned text block as text: long histories are mostly made of these."""
    if not isinstance(content, str) and len(content) == 1:
        block = content[0]
        if (
            isinstance(block, TextBlock)
            and block.cache_control is None
            and not block.citations
            and block.text
            and not block.text.isspace()
        ):
            return block.text
    return content


class History:
    """The rules over `messages`, checked in one pass that also finds out whose turn it is."""

    def __init__(
        self, body: Request, version: str, *, betas: tuple[str, ...], issued: Issued
    ) -> None:
        self._body = body
        self._version = version
        self._betas = betas
        self._issued = issued
        self._open: dict[str, int] = {}
        self._tool_ids: set[str] = set()
        self._toolsets: dict[str, str] = {}
        self._breakpoints = 0
        self.user_index = -1
        self.step_index = 0
        self.last_user_at = 0

    def check(self) -> None:
        messages = self._body.messages
        self._check_first(messages[0])
        for at, message in enumerate(messages):
            content = _plain_text(message.content)
            if isinstance(content, str):
                self._check_plain(at, message.role, content)
            elif message.role == "assistant":
                self._check_answered(at)
                self._check_assistant(at, content)
            elif message.role == "user":
                self._check_user(at, content)
            else:
                self._check_answered(at)
                self._check_system(at, content)
            if message.role == "assistant":
                self.step_index += 1
        self._check_answered(len(messages))
        self._check_thinking()
        self._check_end(messages[-1])
        self._check_breakpoints()

    def _check_first(self, first: Message) -> None:
        if first.role == "user":
            return
        summarised = not isinstance(first.content, str) and any(
            isinstance(block, CompactionBlock) for block in first.content[:1]
        )
        if not summarised:
            raise Refused(
                'messages: first message must use the "user" role', field="messages.0.role"
            )

    def _check_plain(self, at: int, role: str, text: str) -> None:
        self._check_answered(at)
        last_prefill = role == "assistant" and at == len(self._body.messages) - 1
        if not text and not last_prefill:
            raise Refused(
                f"messages.{at}: {role} messages must have non-empty content",
                field=f"messages.{at}.content",
            )
        if role == "user":
            self._new_user(at)

    def _new_user(self, at: int) -> None:
        self.user_index += 1
        self.step_index = 0
        self.last_user_at = at

    def _check_answered(self, at: int) -> None:
        """Nothing but the results may follow tool calls."""
        if self._open:
            first = next(iter(self._open.values()))
            missing = ", ".join(self._open)
            raise Refused(
                f"messages.{first}: `tool_use` ids were found without `tool_result` blocks "
                f"immediately after: {missing}. Each `tool_use` block must have a corresponding "
                "`tool_result` block in the next message.",
                field=f"messages.{at}" if at < len(self._body.messages) else f"messages.{first}",
            )

    def _check_system(self, at: int, content: list[Block]) -> None:
        for number, block in enumerate(content):
            where = f"messages.{at}.content.{number}"
            if isinstance(block, TextBlock):
                self._check_text(where, block)
            elif not (isinstance(block, ToolAdditionBlock | ToolRemovalBlock) and self._betas):
                raise Refused(f"{where}: system messages take text blocks only", field=where)

    def _check_text(self, where: str, block: TextBlock) -> None:
        if not block.text:
            raise Refused("messages: text content blocks must be non-empty", field=f"{where}.text")
        if block.text.isspace():
            raise Refused(
                "messages: text content blocks must contain non-whitespace text",
                field=f"{where}.text",
            )
        self._count(where, block.cache_control)

    def _count(self, where: str, cache_control: CacheControl | None) -> None:
        self._breakpoints += cache_control is not None

    def _check_user(self, at: int, content: list[Block]) -> None:
        if not content:
            raise Refused(
                f"messages.{at}: user messages must have non-empty content",
                field=f"messages.{at}.content",
            )
        answered: set[str] = set()
        results = True
        real = False
        for number, block in enumerate(content):
            where = f"messages.{at}.content.{number}"
            if isinstance(block, ToolResultBlock):
                if not results:
                    self._check_answered(at)
                self._check_result(where, block, answered)
                continue
            if results:
                results = False
                self._check_answered(at)
            if isinstance(block, TextBlock):
                real = True
                self._check_text(where, block)
                if block.citations and self._version == VERSION:
                    raise Refused(
                        f"{where}.citations: not permitted on user text", field=f"{where}.citations"
                    )
            elif isinstance(block, ASSISTANT_ONLY):
                tag = block.__struct_config__.tag
                raise Refused(
                    f"{where}: `{tag}` blocks can only be in `assistant` messages", field=where
                )
            else:
                self._check_other(where, block)
        self._check_answered(at)
        if real or not answered:
            self._new_user(at)

    def _check_result(self, where: str, block: ToolResultBlock, answered: set[str]) -> None:
        if block.tool_use_id in answered:
            raise Refused(
                f"{where}: each tool_use must have a single result. Found multiple `tool_result` "
                f"blocks with id: {block.tool_use_id}",
                field=f"{where}.tool_use_id",
            )
        if block.tool_use_id not in self._open:
            raise Refused(
                f"{where}: unexpected `tool_use_id` found in `tool_result` blocks: "
                f"{block.tool_use_id}. Each `tool_result` block must have a corresponding "
                "`tool_use` block in the previous message.",
                field=f"{where}.tool_use_id",
            )
        del self._open[block.tool_use_id]
        answered.add(block.tool_use_id)
        if self._toolsets.get(block.tool_use_id) != block.toolset_name:
            raise Refused(
                f"{where}.tool_result.toolset_name: must be that of the `tool_use` block",
                field=f"{where}.tool_result.toolset_name",
            )
        self._count(where, block.cache_control)
        if block.content and not isinstance(block.content, str):
            for inner, part in enumerate(block.content):
                if isinstance(part, TextBlock):
                    self._check_text(f"{where}.content.{inner}", part)
                elif isinstance(part, ImageBlock | DocumentBlock):
                    _check_source(f"{where}.content.{inner}", part)

    def _check_other(self, where: str, block: Block) -> None:
        if isinstance(block, BETA_BLOCKS):
            if not self._betas:
                tag = block.__struct_config__.tag
                raise Refused(
                    f"{where}: Input tag {tag!r} needs a beta header", field=f"{where}.type"
                )
            return
        if isinstance(block, ImageBlock | DocumentBlock):
            _check_source(where, block)
        if isinstance(block, Cached):
            self._count(where, block.cache_control)

    def _check_assistant(self, at: int, content: list[Block]) -> None:
        if not content and at < len(self._body.messages) - 1:
            raise Refused(
                f"messages.{at}: all messages must have non-empty content except for the optional "
                "final assistant message",
                field=f"messages.{at}.content",
            )
        searching: dict[str, int] = {}
        calling: dict[str, int] = {}
        for number, block in enumerate(content):
            where = f"messages.{at}.content.{number}"
            match block:
                case ToolUseBlock():
                    self._check_call(where, block)
                    calling[block.id] = at
                case ServerToolUseBlock():
                    searching[block.id] = number
                    self._count(where, block.cache_control)
                case _ if isinstance(block, SERVER_RESULTS):
                    if searching.pop(block.tool_use_id, None) is None:
                        raise _lonely_result(where, block)
                case _:
                    self._check_said(where, block)
        self._check_searches(at, searching, len(content) - 1)
        self._open = calling

    def _check_said(self, where: str, block: Block) -> None:
        tag = block.__struct_config__.tag
        match block:
            case TextBlock():
                self._check_text(where, block)
            case ThinkingBlock():
                self._check_signature(where, block)
            case RedactedThinkingBlock():
                if not self._is_signed(block.data, "redacted"):
                    raise Refused(
                        f"{where}: Invalid `data` in `redacted_thinking` block",
                        field=f"{where}.data",
                    )
            case ToolResultBlock():
                raise Refused(
                    f"{where}: `tool_result` blocks can only be in `user` messages", field=where
                )
            case ImageBlock() | DocumentBlock() if self._version == VERSION:
                raise Refused(
                    f"{where}: `{tag}` blocks are not permitted in `assistant` messages",
                    field=where,
                )
            case _:
                self._check_other(where, block)

    def _check_searches(self, at: int, searching: dict[str, int], last_block: int) -> None:
        # The API continues a paused turn whose last block is the unfinished use.
        paused = at == len(self._body.messages) - 1
        for use, number in searching.items():
            if not (paused and number == last_block):
                raise Refused(
                    f"messages.{at}: `server_tool_use` id {use} was found without its result block",
                    field=f"messages.{at}.content.{number}",
                )

    def _check_call(self, where: str, block: ToolUseBlock) -> None:
        if not _TOOL_ID.fullmatch(block.id):
            raise Refused(
                f"{where}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'",
                field=f"{where}.tool_use.id",
            )
        if not TOOL_NAME.fullmatch(block.name):
            raise Refused(
                f"{where}.tool_use.name: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'",
                field=f"{where}.tool_use.name",
            )
        if block.id in self._tool_ids:
            raise Refused(f"{where}: `tool_use` ids must be unique", field=f"{where}.tool_use.id")
        self._tool_ids.add(block.id)
        if block.toolset_name is not None:
            declared = bytes(self._body.tools) if isinstance(self._body.tools, Raw) else b""
            members = _MEMBERS.get(block.toolset_name, frozenset())
            if f"{block.toolset_name}_toolset_".encode() not in declared:
                raise Refused(
                    f"{where}.tool_use.toolset_name: no such toolset in `tools`",
                    field=f"{where}.tool_use.toolset_name",
                )
            if members and block.name not in members:
                raise Refused(
                    f"{where}.tool_use.name: {block.name!r} is no member of the toolset",
                    field=f"{where}.tool_use.name",
                )
            self._toolsets[block.id] = block.toolset_name
        self._count(where, block.cache_control)

    def _is_signed(self, signature: str, *what: str) -> bool:
        return signature in self._issued.signatures or signature == sign("anthropic", *what)

    def _check_signature(self, where: str, block: ThinkingBlock) -> None:
        # A shortened or omitted text still carries the signature of the whole.
        if not block.signature.strip() or not self._is_signed(block.signature, block.thinking):
            raise Refused(
                f"{where}: Invalid `signature` in `thinking` block", field=f"{where}.signature"
            )

    def _check_thinking(self) -> None:
        """A call that came after thinking must go back with it, as long as its turn lasts."""
        thinking = self._body.thinking
        if thinking is None or isinstance(thinking, ThinkingDisabled):
            return
        for at in range(self.last_user_at, len(self._body.messages)):
            message = self._body.messages[at]
            if message.role != "assistant" or isinstance(message.content, str):
                continue
            if message.content and isinstance(
                message.content[0], ThinkingBlock | RedactedThinkingBlock | CompactionBlock
            ):
                continue
            calls = [block for block in message.content if isinstance(block, ToolUseBlock)]
            strict = isinstance(thinking, ThinkingEnabled) or any(
                call.id.startswith(AFTER_THINKING) for call in calls
            )
            if calls and strict:
                tag = message.content[0].__struct_config__.tag
                raise Refused(
                    f"messages.{at}.content.0.type: Expected `thinking` or `redacted_thinking`, "
                    f"but found `{tag}`. When `thinking` is enabled, a final `assistant` message "
                    "must start with a thinking block (preceding the lastmost set of `tool_use` "
                    "and `tool_result` blocks).",
                    field=f"messages.{at}.content.0.type",
                )

    def _check_end(self, last: Message) -> None:
        if last.role != "assistant":
            return
        if not isinstance(last.content, str) and last.content:
            block = last.content[-1]
            if isinstance(block, (ServerToolUseBlock, CompactionBlock, *SERVER_RESULTS)):
                return
        if not _PREFILL.match(self._body.model):
            raise Refused(
                "This model does not support assistant message prefill. The conversation must "
                "end with a user message.",
                field="messages",
            )
        text = last.content if isinstance(last.content, str) else ""
        if not isinstance(last.content, str) and last.content:
            block = last.content[-1]
            text = block.text if isinstance(block, TextBlock) else ""
        if text != text.rstrip():
            raise Refused(
                "messages: final assistant content cannot end with trailing whitespace",
                field=f"messages.{len(self._body.messages) - 1}.content",
            )

    def _check_breakpoints(self) -> None:
        if self._body.system and not isinstance(self._body.system, str):
            for number, block in enumerate(self._body.system):
                if not block.text:
                    raise Refused(
                        "system: text content blocks must be non-empty",
                        field=f"system.{number}.text",
                    )
                self._breakpoints += block.cache_control is not None
        self._breakpoints += given_bytes(self._body.tools).count(b'"cache_control":{')
        self._breakpoints += self._body.cache_control is not None
        if self._breakpoints > 4:
            raise Refused(
                "A maximum of 4 blocks with cache_control may be provided. Found "
                f"{self._breakpoints}.",
                field="cache_control",
            )


def _lonely_result(where: str, block: ServerResult) -> Refused:
    tag = block.__struct_config__.tag
    return Refused(
        f"{where}: unexpected `tool_use_id` found in `{tag}` blocks: {block.tool_use_id}. Each "
        f"`{tag}` block must have a corresponding `server_tool_use` block before it.",
        field=f"{where}.tool_use_id",
    )


_MEDIA: Final = ("image/jpeg", "image/png", "image/gif", "image/webp")


def _check_source(where: str, block: ImageBlock | DocumentBlock) -> None:
    kind = block.source.get("type")
    if kind == "base64":
        media = block.source.get("media_type")
        allowed = _MEDIA if isinstance(block, ImageBlock) else ("application/pdf",)
        if media not in allowed:
            raise Refused(
                f"{where}.source.base64.media_type: Input should be one of {', '.join(allowed)}",
                field=f"{where}.source.base64.media_type",
            )
        if not block.source.get("data"):
            raise Refused(f"{where}.source.base64.data: Field required", field=f"{where}.source")
    elif kind not in ("url", "file", "text", "content"):
        raise Refused(
            f"{where}.source: Input tag {kind!r} is unknown", field=f"{where}.source.type"
        )


# Lets a later request show, without any memory here, that thinking was dropped in front of the
# call.
AFTER_THINKING: Final = "toolu_01T"
