"""The thin shell around every SDK stream: watchdogs, translation, classified failures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Any, Final, Protocol, TypeVar

import msgspec

from steersman_chatloop.providers.base import ProviderFailed, StepEvent, StepNamed
from steersman_chatloop.providers.classify import classify
from steersman_chatloop.providers.signals import StreamFault
from steersman_contracts.chats import StopReason, Usage
from steersman_contracts.deltas import (
    PartAdded,
    ReasoningDelta,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
)
from steersman_contracts.parts import FilePart, SourcePart, TextPart, ToolResultPart
from steersman_contracts.rpc.worker import ModelAccess

E_contra = TypeVar("E_contra", contravariant=True)
E = TypeVar("E")

TAIL_S: Final = 5.0
"""How long to wait for usage once the answer is whole."""
DRAIN_S: Final = 0.1
"""How long to wait for the end of the body, so that the connection can be used again."""

_MOST_TOKENS: Final = 10**12
_MISSHAPEN: Final = (LookupError, TypeError, AttributeError, ValueError, OverflowError)
"""What reading an event raises that does not look as it should."""
_ODD_EVENT: Final = "an event that cannot be understood"

NONE: Final[Sequence[StepEvent]] = ()


class Limits(msgspec.Struct, frozen=True):
    """When a silent stream counts as dead."""

    first_event_s: float = 60.0
    idle_s: float = 600.0


class Translator(Protocol[E_contra]):
    """Folds the events of one wire format into step events. Pure."""

    finished: bool
    """The answer is whole; at most usage may follow."""
    complete: bool
    """Nothing follows."""
    response_id: str
    """What the provider calls the answer, once it has said so."""

    def feed(self, event: E_contra, /) -> Sequence[StepEvent]:
        """Translate one event.

        Raises:
            StreamFault: The event reports a failure.
        """
        ...

    def end(self) -> Sequence[StepEvent]:
        """Close what is open and end with `StepEnded`.

        Raises:
            StreamFault: The stream was cut, or there is no answer in it.
        """
        ...

    def used(self) -> Usage | None:
        """What the provider has counted so far; None if it has not said so."""
        ...


async def run(
    source: AsyncGenerator[Sequence[E]],
    translator: Translator[E],
    access: ModelAccess,
    limits: Limits,
) -> AsyncGenerator[StepEvent]:
    """Translate a stream.

    Args:
        source: Opens the request when it is first asked, and closes it when it is closed. Yields
            the events that arrived together.
        translator: A new one.
        access: Names the provider in errors.
        limits: For the watchdog.

    Raises:
        ProviderFailed: For every failure.
    """
    watchdog = _Watchdog(limits.first_event_s)
    feed = translator.feed
    named = False
    async with aclosing(source):
        try:
            while True:
                try:
                    with watchdog:
                        batch = await anext(source)
                except StopAsyncIteration:
                    break
                for step_event in _translated(feed, batch):
                    if not named and translator.response_id:
                        named = True
                        yield StepNamed(translator.response_id)
                    yield step_event
                if translator.complete:
                    break
                watchdog.limit_s = TAIL_S if translator.finished else limits.idle_s
        except Exception as error:  # SDKs let through whatever their transport raises
            if not translator.finished:
                raise _failed(error, translator, access) from error
        finally:
            watchdog.stop()
        try:
            closing = list(_translated(lambda _: translator.end(), (None,)))
        except StreamFault as fault:
            raise _failed(fault, translator, access) from fault
        for step_event in closing:
            yield step_event
        if translator.complete:
            await _drain(source)


def _failed(error: Exception, translator: Translator[Any], access: ModelAccess) -> ProviderFailed:
    failed = classify(error, access)
    with suppress(*_MISSHAPEN):
        failed.usage = translator.used()
    return failed


def _translated(
    feed: Callable[[E], Sequence[StepEvent]], batch: Sequence[E]
) -> Iterator[StepEvent]:
    """The step events of all events of a batch, those before a broken one included."""
    for event in batch:
        try:
            step_events = feed(event)
        except _MISSHAPEN as error:
            raise StreamFault("malformed_response", _ODD_EVENT) from error
        for step_event in step_events:
            yield sound(step_event)


def sound(event: StepEvent) -> StepEvent:
    """The event itself, if its texts are texts: servers may send anything in their place.

    Raises:
        StreamFault: It could be neither shown nor stored.
    """
    for text in _texts(event):
        if type(text) is not str:
            raise StreamFault("malformed_response", _ODD_EVENT)
    return event


def _texts(event: StepEvent) -> tuple[object, ...]:
    match event:
        case TextDelta() | ReasoningDelta() | ToolArgumentsDelta():
            return (event.text,)
        case ToolCallStarted():
            return event.call_id, event.tool
        case PartAdded(part=SourcePart() as part):
            return part.url, part.title
        case PartAdded(part=FilePart() as part):
            return (part.media_type,)
        case PartAdded(part=ToolResultPart() as part):
            texts = (item.text for item in part.content if isinstance(item, TextPart))
            return part.call_id, part.tool, *texts
        case _:
            return ()


async def _drain(source: AsyncGenerator[Sequence[E]]) -> None:
    try:
        async with asyncio.timeout(DRAIN_S):
            async for _ in source:
                pass
    except Exception:  # noqa: BLE001  # the answer is whole: nothing here can matter any more
        pass


class _Watchdog:
    """Cancels the wait for one event after `limit_s`, as `StreamFault`.

    `asyncio.timeout` costs several microseconds for each event, because it makes a timer each time;
    here one timer lives as long as the stream and looks at the clock when it fires.
    """

    __slots__ = (
        "_armed_s",
        "_cancelling",
        "_expired",
        "_loop",
        "_since",
        "_task",
        "_timer",
        "limit_s",
    )

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._loop = asyncio.get_running_loop()
        self._since = 0.0
        self._armed_s = 0.0
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._timer: asyncio.TimerHandle | None = None
        self._expired = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a stream is read outside a task")
        self._since = self._loop.time()
        self._task = task
        self._cancelling = task.cancelling()
        if self._timer is None or self._armed_s > self.limit_s:
            self._arm(self.limit_s)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        if not self._expired or task is None:
            return
        self._expired = False
        # More cancellations than our own: somebody else wants the task to end.
        if task.uncancel() <= self._cancelling and isinstance(error, asyncio.CancelledError):
            raise StreamFault("stalled", f"no event for {self.limit_s:g} s") from error

    def stop(self) -> None:
        """Drop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, delay_s: float) -> None:
        self.stop()
        self._armed_s = delay_s
        self._timer = self._loop.call_later(delay_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._task is None:
            return  # the consumer is at work; the next wait sets a new timer
        left_s = self._since + self.limit_s - self._loop.time()
        if left_s > 0:
            self._arm(left_s)
        else:
            self._expired = True
            self._task.cancel()


def says_something(text: str) -> bool:
    """Whether a person would see anything of the text: neither spaces nor what has no width."""
    return any(letter.isprintable() and not letter.isspace() for letter in text)


def answered(stop: StopReason, *, has_text: bool, has_calls: bool) -> None:
    """Refuse an answer with nothing in it: an empty turn is never silent.

    Blank text says nothing, and a search that nothing was made of is no answer either.

    Raises:
        StreamFault: There is neither text nor a local call, nor a reason to go on.
    """
    if has_text or has_calls or stop == "pause":
        return
    if stop in ("refusal", "content-filter"):
        raise StreamFault("content_filter", f"stopped by {stop} before any text")
    if stop == "context-window":
        raise StreamFault("model_context_window_exceeded")
    if stop == "max-tokens":
        raise StreamFault("output_limit", "the limit of output tokens left no room for an answer")
    raise StreamFault("empty_answer", f"stopped by {stop} without text or calls")


def number(usage: Mapping[str, Any], name: str) -> int:
    """A count of tokens; 0 when it is absent or null, or no count."""
    value = usage.get(name)
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else 0
