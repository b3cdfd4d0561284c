"""A provider without a network: plays conversations that are written as data.

Which step is played follows from the history alone (which user message, how many assistant messages
since), so that any process can go on with any chat. Only `flaky` counts attempts, in this process.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias, assert_never

import msgspec

from steersman_chatloop.providers.base import StepEnded, StepEvent, StepRequest
from steersman_chatloop.providers.classify import failure
from steersman_contracts.chats import ErrorKind, Message, Role, StopReason, Usage
from steersman_contracts.deltas import (
    PartClosed,
    ReasoningDelta,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
)
from steersman_contracts.parts import JsonObject, TextPart, ToolResultPart


class Text(msgspec.Struct, frozen=True):
    text: str


class Reasoning(msgspec.Struct, frozen=True):
    text: str


class ToolCall(msgspec.Struct, frozen=True):
    tool: str
    arguments: JsonObject


class Pause(msgspec.Struct, frozen=True):
    seconds: float


class Fail(msgspec.Struct, frozen=True):
    kind: ErrorKind
    retryable: bool = False


Item: TypeAlias = Text | Reasoning | ToolCall | Pause | Fail
Step: TypeAlias = Sequence[Item]


class View(msgspec.Struct, frozen=True):
    """Where in a conversation a request stands."""

    user_index: int
    """How many user messages came before the last one."""
    step_index: int
    """How many assistant messages follow the last user message."""
    user_text: str
    results: tuple[ToolResultPart, ...]
    """The results that follow the last assistant message."""
    attempt: int
    """How often this process was asked for this very step before."""


class Script(msgspec.Struct, frozen=True):
    """The steps of a turn; every turn plays them again. A step can depend on the view."""

    steps: tuple[Step | Callable[[View], Step], ...]
    tokens_per_second: float = 60.0

    def step(self, view: View) -> Step:
        """The step at the place of the view; the last one again when there are no more."""
        found = self.steps[min(view.step_index, len(self.steps) - 1)]
        return found(view) if callable(found) else found


def _result_texts(view: View) -> list[str]:
    return [
        "".join(item.text for item in result.content if isinstance(item, TextPart))
        for result in view.results
    ]


HAIKU: Final = "Grey waves fold the sand\nA gull holds the wind in place\nThe tide keeps its word\n"


def _tour_end(view: View) -> Step:
    said = "\n".join(_result_texts(view)).strip()
    if not said or any(result.is_error for result in view.results):
        return [Text(f"I could not read the file back: {said or 'it was empty'}")]
    quoted = "\n".join(f"> {line}" for line in said.splitlines())
    return [
        Text(
            f"I wrote `haiku.txt` and read it back. It says:\n\n{quoted}\n\n"
            "Write anything to see this again, or interrupt me while I speak."
        )
    ]


def _echo(view: View) -> Step:
    return [Text(view.user_text or "(nothing)")]


def _flaky(view: View) -> Step:
    if view.attempt < FLAKY_FAILURES:
        return [Text("One moment"), Fail("overloaded", retryable=True)]
    return [Text(f"It worked, after {view.attempt} attempts that failed.")]


def _parallel_end(view: View) -> Step:
    failed = sum(result.is_error for result in view.results)
    return [Text(f"{len(view.results)} results came back, {failed} of them errors.")]


FLAKY_FAILURES: Final = 2

SCRIPTS: Final[Mapping[str, Script]] = {
    "tour": Script(
        (
            [
                Reasoning("A file shows the tools best. I will write a haiku and read it back."),
                Text("Let me write a small file."),
                ToolCall("write_file", {"path": "haiku.txt", "content": HAIKU}),
            ],
            [Text("Now I read it back."), ToolCall("read_file", {"path": "haiku.txt"})],
            _tour_end,
        )
    ),
    "echo": Script((_echo,), tokens_per_second=200.0),
    "count": Script(
        ([Text(", ".join(str(number) for number in range(1, 201)) + ".")],),
        tokens_per_second=50.0,
    ),
    "flaky": Script((_flaky,)),
    "broken": Script(([Fail("config")],)),
    "tools-parallel": Script(
        (
            [
                Text("Three files at once."),
                *(
                    ToolCall("write_file", {"path": f"{name}.txt", "content": f"{name}\n"})
                    for name in ("one", "two", "three")
                ),
            ],
            _parallel_end,
        )
    ),
}
DEFAULT: Final = "tour"


class Demo:
    """The provider of the type `demo`. Unknown model ids play the tour."""

    def __init__(self, scripts: Mapping[str, Script] = SCRIPTS) -> None:
        self._scripts = scripts
        self._attempts: OrderedDict[tuple[str, int, int], int] = OrderedDict()

    async def stream(self, request: StepRequest) -> AsyncGenerator[StepEvent]:
        """See `Provider.stream`."""
        script = self._scripts.get(request.model.model_id) or self._scripts[DEFAULT]
        view = self._view(request)
        pace = _Pace(script.tokens_per_second)
        tokens = 0
        calls = 0
        for index, item in enumerate(script.step(view)):
            if isinstance(item, Pause):
                await asyncio.sleep(item.seconds)
                pace.start()
                continue
            if isinstance(item, Fail):
                raise failure(item.kind, request.model, retryable=item.retryable, detail="scripted")
            if isinstance(item, ToolCall):
                calls += 1
            for event in _events(index, item, _call_id(view, index)):
                await pace.tick()
                tokens += 1
                yield event
            yield PartClosed(index)
        self._forget(request, view)
        stop: StopReason = "tool-calls" if calls else "end"
        yield StepEnded(stop, Usage(input_tokens=_size(request), output_tokens=tokens))

    async def aclose(self) -> None:
        """Nothing is open."""

    def _view(self, request: StepRequest) -> View:
        view = view_of(request.messages)
        key = (request.chat_id, view.user_index, view.step_index)
        attempt = self._attempts.get(key, 0)
        self._attempts[key] = attempt + 1
        while len(self._attempts) > 1000:
            self._attempts.popitem(last=False)
        return msgspec.structs.replace(view, attempt=attempt)

    def _forget(self, request: StepRequest, view: View) -> None:
        self._attempts.pop((request.chat_id, view.user_index, view.step_index), None)


def view_of(messages: Sequence[Message]) -> View:
    """Read the place in the conversation off its history."""
    users = [at for at, message in enumerate(messages) if message.role is Role.USER]
    last = users[-1] if users else -1
    after = messages[last + 1 :]
    results: list[ToolResultPart] = []
    for message in after:
        if message.role is Role.ASSISTANT:
            results.clear()
        results += [part for part in message.parts if isinstance(part, ToolResultPart)]
    text = "\n".join(
        part.text for part in (messages[last].parts if users else ()) if isinstance(part, TextPart)
    )
    steps = sum(message.role is Role.ASSISTANT for message in after)
    return View(max(0, len(users) - 1), steps, text, tuple(results), 0)


_TOKEN: Final = re.compile(r"\s*\S+\s*?|\s+")


def _pieces(text: str) -> Iterator[str]:
    """Cut text before each word; nothing is lost."""
    yield from _TOKEN.findall(text)


def _events(index: int, item: Text | Reasoning | ToolCall, call_id: str) -> Iterator[StepEvent]:
    match item:
        case Text():
            yield from (TextDelta(index, piece) for piece in _pieces(item.text))
        case Reasoning():
            yield from (ReasoningDelta(index, piece) for piece in _pieces(item.text))
        case ToolCall():
            yield ToolCallStarted(index, call_id, item.tool)
            text = msgspec.json.encode(item.arguments).decode()
            yield from (
                ToolArgumentsDelta(index, text[at : at + 12]) for at in range(0, len(text), 12)
            )
        case _:
            assert_never(item)


def _call_id(view: View, index: int) -> str:
    # Unique in the chat and the same for every attempt.
    return f"demo_{view.user_index}_{view.step_index}_{index}"


def _size(request: StepRequest) -> int:
    return sum(len(msgspec.json.encode(message.parts)) for message in request.messages) // 4


class _Pace:
    """Keeps a rate over the whole stream: a late wake-up is made up for by the next token."""

    def __init__(self, tokens_per_second: float) -> None:
        self._every_s = 1 / tokens_per_second
        self._next = 0.0
        self.start()

    def start(self) -> None:
        self._next = asyncio.get_running_loop().time()

    async def tick(self) -> None:
        wait_s = self._next - asyncio.get_running_loop().time()
        self._next += self._every_s
        if wait_s > 0:
            await asyncio.sleep(wait_s)
