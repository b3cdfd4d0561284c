"""Which paths a glob means, in time that grows with the path and not with what could match.

A regular expression would try every way in which several `*` can share a name, and hold up the
whole process meanwhile: twelve of them and one long name take years.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

KNOWN_MAX: Final = 20_000
"""Steps that are remembered; then it begins to learn anew."""

_TOKEN: Final = re.compile(r"\*\*/|\*\*|\[(?P<negated>[!^]?)(?P<members>\]?[^]]*)\]|.", re.DOTALL)

_Test: TypeAlias = Callable[[str], object]


class _State(dict[str, "_State"]):
    """Where one can be after some characters; by the next character, where one is then."""

    def __init__(self, at: frozenset[int], *, accepting: bool) -> None:
        super().__init__()
        self.at = at
        self.accepting = accepting


class PathPattern:
    """A glob for whole paths.

    Without a slash it is about the name, at any depth. `*` and `?` stay within a name, `**/` is
    any number of directories, `{a,b}` is either, `[…]` is a set of characters.

    Raises:
        ValueError: A brace is not closed.
        re.error: A set is none.
    """

    def __init__(self, glob: str) -> None:
        # A graph with numbers for its places: which need no character, and which need one.
        self._free: list[list[int]] = [[]]
        self._steps: list[list[tuple[_Test, int]]] = [[]]
        at = 0 if "/" in glob else self._directories(0)
        self._end = self._all(glob.removeprefix("./").removeprefix("/"), at)
        self._known: dict[frozenset[int], _State] = {}
        self._learned = 0

    def fits(self, path: str) -> bool:
        """Whether it means that path."""
        state = self._state((0,))
        for char in path:
            following = state.get(char)
            state = self._learn(state, char) if following is None else following
            if not state.at:
                return False
        return state.accepting

    def _learn(self, state: _State, char: str) -> _State:
        if self._learned >= KNOWN_MAX:
            self._known, self._learned = {}, 0
        self._learned += 1
        state[char] = following = self._state(
            to for place in state.at for test, to in self._steps[place] if test(char)
        )
        return following

    def _state(self, places: Iterable[int]) -> _State:
        left, reached = list(places), set[int]()
        while left:
            place = left.pop()
            if place not in reached:
                reached.add(place)
                left += self._free[place]
        at = frozenset(reached)
        if at not in self._known:
            self._known[at] = _State(at, accepting=self._end in at)
        return self._known[at]

    def _all(self, glob: str, at: int) -> int:
        braces: list[tuple[int, list[int]]] = []
        for token in _TOKEN.finditer(glob):
            text, members = token[0], token["members"]
            if members is not None:
                at = self._step(at, _one_of(members, negated=bool(token["negated"])))
            elif text == "{":
                braces.append((at, []))
                at = self._place(at)
            elif braces and text == ",":
                braces[-1][1].append(at)
                at = self._place(braces[-1][0])
            elif braces and text == "}":
                at = self._place(at, *braces.pop()[1])
            else:
                at = self._simple(at, text)
        if braces:
            raise ValueError(f"glob {glob!r} has a '{{' without '}}'")
        return at

    def _simple(self, at: int, text: str) -> int:
        match text:
            case "**/":
                return self._directories(at)
            case "**":
                return self._any_number(at, _anything)
            case "*":
                return self._any_number(at, "/".__ne__)
            case "?":
                return self._step(at, "/".__ne__)
            case _:
                return self._step(at, text.__eq__)

    def _directories(self, at: int) -> int:
        return self._place(at, self._step(self._any_number(at, _anything), "/".__eq__))

    def _any_number(self, at: int, test: _Test) -> int:
        place = self._place(at)
        self._steps[place].append((test, place))
        return place

    def _step(self, at: int, test: _Test) -> int:
        place = self._place()
        self._steps[at].append((test, place))
        return place

    def _place(self, *before: int) -> int:
        """A new place, which is reached from others without a character."""
        place = len(self._free)
        self._free.append([])
        self._steps.append([])
        for other in before:
            self._free[other].append(place)
        return place


def _one_of(members: str, *, negated: bool) -> _Test:
    escaped = re.sub(r"[\\\[&~|]", r"\\\g<0>", members)
    return re.compile(f"[^/{escaped}]" if negated else f"(?!/)[{escaped}]").match


def _anything(_: str) -> bool:
    return True
