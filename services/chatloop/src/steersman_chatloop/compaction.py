"""When older history is summarised for the model, and what takes its place: plain functions.

People keep their whole history. The model sees the newest summary and what follows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec

from steersman_contracts.chats import (
    ChatError,
    CompactionSource,
    Message,
    Role,
    Usage,
    Visibility,
)
from steersman_contracts.ids import MessageId, ModelName
from steersman_contracts.parts import (
    FilePart,
    JsonPart,
    Part,
    ResultContent,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from steersman_contracts.rpc.worker import ModelAccess, NewMessage

TOOL: Final = "chat_summarized"
"""What people see of a summary is a call of this name and its result."""

INSTRUCTION: Final = """\
Your context is almost full. Write a summary of this whole conversation for yourself: it will \
replace everything above, and you will go on with nothing else. Do not call tools and do not \
continue the work now. Under short headings, state:

- Goal: what is wanted, in the user's own terms, with every constraint and preference they gave.
- Decisions: what was decided, and why; what was ruled out, and why.
- Facts: exact paths, commands, names, identifiers, values, versions and addresses that matter.
- Errors: what went wrong, and how it was mended or what is still broken.
- State: what is done, what is in progress at this moment, and what remains, in order.

Be complete and precise; leave out pleasantries and what no longer matters."""

_LEFT_OUT: Final = "\n\nThe oldest part of the conversation did not fit any more and is not shown."
_BEFORE: Final = "The conversation so far was summarised to make room. The summary:\n\n"
_NOW: Final = "\n\nAt this moment (this is from the system and not from the summary):\n"
_GO_ON: Final = (
    "\n\nGo on from here without asking for what the summary says. If nothing remains to be done, "
    "say so in one sentence."
)

NO_ROOM: Final = ChatError(
    "context_overflow",
    "This chat no longer fits the model's context, even after a summary. "
    "Clear the context, or go on with a model that takes more.",
)
EMPTY: Final = ChatError("generic", "The model did not write a summary.", retryable=True)

_CHARACTERS_PER_TOKEN: Final = 4
_LONGEST_RESULT: Final = 4_000
"""Characters of a tool result that a summary of a history that is too long still sees."""


class Window(NamedTuple):
    """How much fits."""

    limit: int
    """Tokens."""
    threshold: int
    """Percent of the limit at which a summary is written."""

    def is_full(self, usage: Usage | None) -> bool:
        """Whether a step with this usage has reached the threshold."""
        return usage is not None and context_tokens(usage) * 100 >= self.limit * self.threshold


def window_of(model: ModelAccess, own_threshold: int | None = None) -> Window | None:
    """The window of a model; None when no limit is known or summaries are switched off.

    What another model is to summarise has to fit that one as well: the stricter limit counts.

    Args:
        model: The model.
        own_threshold: What the chat's owner wants in place of the model's setting.
    """
    threshold = model.settings.compaction_threshold if own_threshold is None else own_threshold
    limits = [limit for limit in (model.context_limit, model.summary_limit) if limit is not None]
    return Window(min(limits), threshold) if limits and threshold < 100 else None


def context_tokens(usage: Usage) -> int:
    """The tokens that a step found in its context: the whole prompt, or everything if unknown."""
    return usage.input_tokens or usage.input_tokens + usage.output_tokens


def last_usage(messages: Sequence[Message]) -> Usage | None:
    """What the newest step of the model has used."""
    for message in reversed(messages):
        if message.role is Role.ASSISTANT and message.visibility is not Visibility.USER:
            return message.usage
    return None


def holds_only_a_summary(messages: Sequence[Message]) -> bool:
    """Nothing was added since the newest summary but the first step after it, with its results.

    When that step found its context full, another summary would not help: it would be as long.

    Args:
        messages: What the model sees, beginning with the boundary.
    """
    if not messages or messages[0].boundary is None or messages[0].boundary == "clear":
        return False
    written_at = messages[0].revision
    later = [
        message.role
        for message in messages
        if message.revision > written_at
        and message.visibility is not Visibility.USER
        and message.role is not Role.TOOL
        # Notes of ours, such as what is wrong with an answer, are nothing new to be summarised.
        and (message.role is Role.ASSISTANT or message.visibility is not Visibility.MODEL)
    ]
    return later in ([], [Role.ASSISTANT])


def can_be_summarised(messages: Sequence[Message]) -> bool:
    """Whether the model has said anything that a summary could hold."""
    return any(m.role is Role.ASSISTANT and m.visibility is not Visibility.USER for m in messages)


def unanswered(messages: Sequence[Message]) -> tuple[Message, ...]:
    """What people have said since the model last spoke: carried over word by word."""
    found: list[Message] = []
    for message in reversed(messages):
        if message.visibility is Visibility.USER or message.boundary is not None:
            continue
        if message.role is not Role.USER:
            break
        found.append(message)
    return tuple(reversed(found))


def asked(messages: Sequence[Message], *, shrink: int = 0) -> tuple[Message, ...]:
    """The history with the instruction after it: the same prefix as any other step.

    Args:
        messages: What the model sees.
        shrink: How often the history was found too long: its tool results are cut, and each time
            half of what is left of its oldest part is left out.
    """
    text = INSTRUCTION
    if shrink:
        messages = _newest(messages, shrink)
        text += _LEFT_OUT
    ask = Message(
        id=MessageId(0),
        role=Role.USER,
        parts=(TextPart(text),),
        revision=0,
        created_at=datetime.fromtimestamp(0, UTC),
        visibility=Visibility.MODEL,
    )
    return (*messages, ask)


def _newest(messages: Sequence[Message], shrink: int) -> list[Message]:
    cut = [_with_short_results(message) for message in messages]
    sizes = [len(msgspec.json.encode(message.parts)) for message in cut]
    room = sum(sizes) / 2**shrink
    kept: list[Message] = []
    for message, size in zip(reversed(cut), reversed(sizes), strict=True):
        if kept and size > room:
            break
        kept.append(message)
        room -= size
    return kept[::-1]


def _with_short_results(message: Message) -> Message:
    if message.role is not Role.TOOL:
        return message
    parts = tuple(_short(part) for part in message.parts)
    return msgspec.structs.replace(message, parts=parts)


def _short(part: Part) -> Part:
    if not isinstance(part, ToolResultPart):
        return part
    text = "\n".join(_in_words(item) for item in part.content)
    left = len(text) - _LONGEST_RESULT
    if left > 0:
        text = f"{text[:_LONGEST_RESULT]}\n[{left} characters are left out here]"
    elif not any(isinstance(item, FilePart) for item in part.content):
        return part
    return msgspec.structs.replace(part, content=(TextPart(text),))


def _in_words(item: ResultContent) -> str:
    match item:
        case TextPart():
            return item.text
        case JsonPart():
            return msgspec.json.encode(item.value).decode()
        case FilePart():
            return f"[a file: {item.name or item.media_type}]"
        case SourcePart():
            return f"[source: {item.url}]"


class Summary(NamedTuple):
    """A summary that the model has written."""

    text: str
    usage: Usage | None
    model: ModelName
    response_id: str | None = None


def replacement(
    summary: Summary,
    *,
    source: CompactionSource,
    window: Window | None,
    before: Usage | None,
    carried: Sequence[Message],
    at_rest: bool,
    call_id: str,
    state: str = "",
) -> tuple[NewMessage, ...]:
    """What is stored of a summary: for the model, and for people.

    Args:
        summary: The summary.
        source: Who wanted it.
        window: How much fits, if that is known.
        before: What the newest step before it has used.
        carried: Messages of people that are still to be answered.
        at_rest: The model is not to go on after it.
        call_id: Unique within the chat.
        state: What goes on outside of the history.

    Returns:
        The boundary first.
    """
    now = f"{_NOW}{state}" if state else ""
    text = _BEFORE + summary.text + now + ("" if at_rest else _GO_ON)
    size = len(text) + sum(len(msgspec.json.encode(m.parts)) for m in carried)
    report = {
        "summary": summary.text,
        "source": source,
        "threshold_percent": window.threshold if window else None,
        "context_limit": window.limit if window else None,
        "usage_before": msgspec.to_builtins(before),
        "tokens_before": context_tokens(before) if before else None,
        "estimated_tokens_after": size // _CHARACTERS_PER_TOKEN,
    }
    return (
        NewMessage(
            Role.USER,
            (TextPart(text),),
            Visibility.MODEL,
            model=summary.model,
            usage=summary.usage,
            response_id=summary.response_id,
        ),
        *(NewMessage(Role.USER, message.parts, Visibility.MODEL) for message in carried),
        NewMessage(
            Role.ASSISTANT,
            (ToolCallPart(call_id, TOOL, {"source": source}),),
            Visibility.USER,
        ),
        NewMessage(
            Role.TOOL, (ToolResultPart(call_id, TOOL, (JsonPart(report),)),), Visibility.USER
        ),
    )
