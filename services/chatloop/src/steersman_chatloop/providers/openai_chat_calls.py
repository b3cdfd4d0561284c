"""Tool calls as the servers of Chat Completions stream them, well and badly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from steersman_chatloop.providers.base import StepEvent
from steersman_chatloop.providers.native import CallIds, Origin
from steersman_contracts.deltas import (
    PartClosed,
    ToolArgumentsDelta,
    ToolCallStarted,
    parse_arguments,
)
from steersman_contracts.parts import JsonObject

_KNOWN: Final = frozenset({"index", "id", "type", "function"})


class _Call:
    __slots__ = ("extra", "index", "name", "text", "wire_id")

    def __init__(self, wire_id: str) -> None:
        self.wire_id = wire_id
        self.name = ""
        self.index = -1
        self.text: list[str] = []
        self.extra: JsonObject = {}

    @property
    def opened(self) -> bool:
        return self.index >= 0

    def parses(self) -> bool:
        text = "".join(self.text)
        return bool(text) and parse_arguments(text)[1] is None


class OpenCalls:
    """The calls of one completion, by their place in `tool_calls`."""

    def __init__(self, origin: Origin, ids: CallIds, open_part: Callable[[], int]) -> None:
        self._origin = origin
        self._ids = ids
        self._open_part = open_part
        self._by_place: dict[int, _Call] = {}
        self._all: list[_Call] = []

    def __bool__(self) -> bool:
        return any(call.opened for call in self._all)

    def feed(self, piece: JsonObject, out: list[StepEvent]) -> None:
        """Take in one element of `delta.tool_calls`."""
        function: JsonObject = piece.get("function") or {}
        wire_id: str = piece.get("id") or ""
        name: str = function.get("name") or ""
        call = self._find(piece.get("index"), wire_id, name)
        if not _KNOWN.issuperset(piece):
            call.extra |= {key: piece[key] for key in piece.keys() - _KNOWN if piece[key]}
        if not call.opened and name:
            call.name = name
            call.index = self._open_part()
            out.append(ToolCallStarted(call.index, self._ids.take(call.wire_id), name))
            out.extend(ToolArgumentsDelta(call.index, text) for text in call.text)
        arguments = function.get("arguments")
        if not arguments:
            return
        text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
        if text == "null" and not call.text:
            return  # no arguments, in the words of some servers
        call.text.append(text)
        if call.opened:
            out.append(ToolArgumentsDelta(call.index, text))

    def _find(self, place: int | None, wire_id: str, name: str) -> _Call:
        """The call that the piece continues, or a new one.

        Ollama and some proxies give every call the place 0 or none: then a new id starts a new
        call, or a name after arguments that are whole.
        """
        if place is None:
            place = next(
                (at for at, call in self._by_place.items() if wire_id and call.wire_id == wire_id),
                max(self._by_place, default=0),
            )
        call = self._by_place.get(place)
        other_id = call is not None and wire_id and call.wire_id and wire_id != call.wire_id
        anew = call is not None and name and not wire_id and call.opened and call.parses()
        if call is None or other_id or anew:
            call = self._by_place[place] = _Call(wire_id)
            self._all.append(call)
        elif wire_id and not call.wire_id:
            call.wire_id = wire_id
        return call

    def close(self, out: list[StepEvent], *, cut: bool) -> None:
        """Close all calls; after a cut, all but the last."""
        opened = [call for call in self._all if call.opened]
        for call in opened[:-1] if cut else opened:
            metadata = self._origin.keep(call.extra) if call.extra else None
            out.append(PartClosed(call.index, metadata))
