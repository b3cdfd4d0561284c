"""The sources of a grounded answer of Gemini, and which of its words each of them supports.

Google says it after the text, in bytes of UTF-8; we count characters, and do not believe a position
whose words are not those that it names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from steersman_contracts.parts import JsonObject, SourcePart

_KINDS: Final = ("web", "maps", "retrievedContext")
MAX_SPANS: Final = 100
"""Places that are kept for one source."""
ROOM: Final = 100
"""Indexes that are kept free behind a search or a text, for the sources that belong there."""


class Place(NamedTuple):
    """Where sources may stand: behind the result of a search, or behind a text."""

    first: int
    """The first free index of `ROOM`."""
    start: int
    """Characters of the answer before the search or the text."""
    end: int | None
    """Behind the text; None for a search, which all that follows may be based on."""


def places(
    sources: list[SourcePart], rooms: list[Place], behind: int
) -> Iterator[tuple[int, SourcePart]]:
    """The index of each source: Google names them when the whole answer is there.

    A source stands behind the last search before the words that it supports; where the search
    itself does not show, behind the text with these words.

    Args:
        sources: In order.
        rooms: In order.
        behind: The index behind everything, for what has no room.
    """
    used: dict[int, int] = {}
    for source in sources:
        room = _room(source, rooms)
        taken = used.get(room.first, 0) if room is not None else ROOM
        if room is None or taken >= ROOM:
            yield behind, source
            behind += 1
        else:
            used[room.first] = taken + 1
            yield room.first + taken, source


def _room(source: SourcePart, rooms: list[Place]) -> Place | None:
    searches = [room for room in rooms if room.end is None]
    if not source.cited:
        return (searches or rooms or [None])[-1]
    at = source.cited[0][0]
    before = [room for room in searches if room.start <= at]
    if before:
        return before[-1]
    return next((r for r in rooms if r.end is not None and r.start <= at < r.end), None)


class Sources:
    """Collects what the chunks of an answer say; each answers for all that came before."""

    def __init__(self) -> None:
        self._titles: dict[str, str] = {}
        self._segments: dict[str, dict[tuple[int, int, str], None]] = {}

    def ground(self, grounding: JsonObject) -> None:
        """Take in the metadata of grounding, by search or by maps."""
        uris: list[str | None] = []
        for chunk in grounding.get("groundingChunks") or ():
            found = _about(chunk)
            uri: str | None = found.get("uri")
            uris.append(uri)
            if uri:
                self._titles.setdefault(uri, found.get("title") or "")
        for support in grounding.get("groundingSupports") or ():
            segment: JsonObject = support.get("segment") or {}
            at = segment.get("startIndex") or 0, segment.get("endIndex") or 0
            for index in support.get("groundingChunkIndices") or ():
                if isinstance(index, int) and 0 <= index < len(uris) and (uri := uris[index]):
                    self._support(uri, *at, segment.get("text") or "")

    def cite(self, citations: JsonObject) -> None:
        """Take in the metadata of citations: what the model repeats from elsewhere."""
        for found in citations.get("citationSources") or citations.get("citations") or ():
            if uri := found.get("uri"):
                self._titles.setdefault(uri, found.get("title") or "")
                if end := found.get("endIndex"):
                    self._support(uri, found.get("startIndex") or 0, end, "")

    def _support(self, uri: str, start: int, end: int, words: str) -> None:
        segments = self._segments.setdefault(uri, {})
        if len(segments) < MAX_SPANS:
            segments[start, end, words] = None

    def parts(self, text: str) -> list[SourcePart]:
        """The sources of an answer with this text: in the order in which it cites them."""
        data = text.encode("utf-8", "surrogatepass")
        cited = {
            uri: tuple(sorted(set(filter(None, (_place(data, text, *one) for one in segments)))))
            for uri, segments in self._segments.items()
        }
        found = [
            SourcePart(uri, title, cited=cited.get(uri, ())) for uri, title in self._titles.items()
        ]
        # Stable: what is not cited anywhere stays in order behind the rest.
        return sorted(found, key=lambda part: part.cited[0] if part.cited else (len(text) + 1, 0))


def _about(chunk: JsonObject) -> JsonObject:
    """What a chunk says of its source, whatever kind that is."""
    for kind in _KINDS:
        if found := chunk.get(kind):
            return found
    return {}


def _place(data: bytes, text: str, start: int, end: int, words: str) -> tuple[int, int] | None:
    """The same place in characters; None when there is no such place."""
    if 0 <= start < end <= len(data):
        try:
            before, inside = data[:start].decode(), data[start:end].decode()
        except UnicodeDecodeError:  # in the middle of a character
            before, inside = "", ""
        if inside and (not words or inside == words):
            return len(before), len(before) + len(inside)
    # The text may have come in parts that Google counts one by one.
    at = text.find(words) if words and text.count(words) == 1 else -1
    return None if at < 0 else (at, at + len(words))
