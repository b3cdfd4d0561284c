"""Characters that a server has cut in two, between two events or within one.

JSON can name a half of a surrogate pair alone, and servers do so that stream UTF-16 in pieces. Two
halves at the seam of two texts become their character; any other half shows as U+FFFD. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeAlias, cast

from steersman_contracts.parts import JsonObject

Path: TypeAlias = tuple[str, ...]
"""Names from the event inwards; of a list the last item on the way to the end of a text, and the
first one on the way to its beginning."""

_TEXTS: Final = frozenset(
    {
        "arguments",
        "content",
        "delta",
        "partial_json",
        "reasoning",
        "reasoning_content",
        "refusal",
        "summary",
        "text",
        "thinking",
    }
)
"""Under these names texts go on from event to event, whatever the wire format."""
_SAME: Final = ("type", "index", "output_index", "content_index", "summary_index")
"""Where these differ, a text does not go on."""
_REPLACEMENT: Final = "\ufffd"


class _Half(NamedTuple):
    """The first half of a character, at the end of a text."""

    path: Path
    half: str


class Halves:
    """Holds an event back whose text ends within a character, until the next one is there."""

    __slots__ = ("_held", "_open")

    def __init__(self) -> None:
        self._held: JsonObject | None = None
        self._open: list[_Half] = []

    @property
    def waits(self) -> bool:
        """Whether an event is held back."""
        return self._held is not None

    def take(self, event: JsonObject) -> Iterator[JsonObject]:
        """Take in an event, with its halves, and yield what can be passed on, without any."""
        held = self._held
        if held is not None:
            if event.get("type") == "ping":  # says nothing, and comes at any time
                yield event
                return
            if all(held.get(name) == event.get(name) for name in _SAME):
                for path, half in self._open:
                    _join(held, event, path, half)
            self._held = None
            yield held
        self._open = list(_ends(event, ()))
        found = cast("JsonObject", whole(event))
        if self._open:
            self._held = found
        else:
            yield found

    def end(self) -> Iterator[JsonObject]:
        """What is held back when nothing follows."""
        held, self._held = self._held, None
        if held is not None:
            yield held


def whole(value: Any) -> Any:
    """A JSON value in which no character is half."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [whole(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {whole(k): whole(v) for k, v in cast("JsonObject", value).items()}
    return value


def _ends(value: Any, path: Path) -> Iterator[_Half]:
    """The texts of an event that end within a character."""
    if isinstance(value, list) and value:
        value = cast("list[Any]", value)[-1]
    if isinstance(value, dict):
        for name, item in cast("JsonObject", value).items():
            yield from _ends(item, (*path, name))
    elif (
        isinstance(value, str)
        and path
        and path[-1] in _TEXTS
        and "\ud800" <= value[-1:] <= "\udbff"
    ):
        yield _Half(path, value[-1])


def _join(held: JsonObject, event: JsonObject, path: Path, half: str) -> None:
    """Give the text that is held back the whole character, if the event has the rest of it."""
    before, after = _holder(held, path, -1), _holder(event, path, 0)
    name = path[-1]
    rest = None if after is None else after.get(name)
    if before is None or after is None or not isinstance(rest, str):
        return
    if "\udc00" <= rest[:1] <= "\udfff":
        before[name] = before[name].removesuffix(_REPLACEMENT) + whole(half + rest[0])
        after[name] = rest[1:]


def _holder(value: Any, path: Path, at: int) -> JsonObject | None:
    """The object in which a text stands; None if there is none."""
    for name in path[:-1]:
        value = cast("JsonObject", value).get(name) if isinstance(value, dict) else None
        if isinstance(value, list) and value:
            value = cast("list[Any]", value)[at]
    return cast("JsonObject", value) if isinstance(value, dict) else None
