"""What robots.txt lets us read, after RFC 9309."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import httpx2

from steersman_contracts.addresses import Refused
from steersman_plugin_web.getting import AGENT, Failed, Getter

SIZE_MAX: Final = 500 * 1024
KEPT_S: Final = 3_600.0
UNREACHABLE_KEPT_S: Final = 60.0
ORIGINS_MAX: Final = 64
LINES_MAX: Final = 5_000
"""Of one robots.txt, so that those of all origins fit into memory."""
_SAFE: Final = "!#$%&'()*+,/:;=?@[]~"


@dataclass(frozen=True, slots=True)
class Rules:
    """The lines that apply to us: pattern and whether it allows."""

    lines: tuple[tuple[str, bool], ...] = ()

    def allow(self, path: str) -> bool:
        """Whether a path (with its query) may be read: the longest match wins, then `Allow`."""
        fits = [(len(pattern), allows) for pattern, allows in self.lines if _fits(pattern, path)]
        return max(fits)[1] if fits else True


NOTHING: Final = Rules((("/", False),))


def parse_robots(text: str, agent: str = AGENT) -> Rules:
    """Pick the lines of the groups for `agent`, or else those of the groups for everybody."""
    groups: dict[str, list[tuple[str, bool]]] = {}
    named: list[str] = []
    in_names = False
    for line in text.removeprefix("\ufeff").splitlines()[:LINES_MAX]:
        key, colon, value = line.partition("#")[0].partition(":")
        key, value = key.strip().lower(), value.strip()
        if not colon:
            continue
        if key == "user-agent":
            named = [*named, value.lower()] if in_names else [value.lower()]
            groups.setdefault(value.lower(), [])
            in_names = True
        elif key in {"allow", "disallow"}:
            in_names = False
            if value:  # an empty one forbids nothing
                pattern = quote(value, safe=_SAFE)  # as paths are: only what is no ASCII changes
                for name in named:
                    groups[name].append((pattern, key == "allow"))
    return Rules(tuple(groups.get(agent.lower(), groups.get("*", []))))


def _fits(pattern: str, path: str) -> bool:
    # No regular expression: a hostile one would take for ever. Each piece is taken at its first
    # place, which is right because what lies between may be anything.
    ends = pattern.endswith("$")
    first, *pieces = pattern.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    at = len(first)
    if not pieces:
        return not ends or at == len(path)
    if ends:
        last = pieces.pop()
        if len(path) - len(last) < at or not path.endswith(last):
            return False
        path = path[: len(path) - len(last)]
    for piece in pieces:
        found = path.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return True


class Robots:
    """Asks robots.txt of each origin, and remembers the answer for an hour.

    Args:
        getter: Reads it, with all checks.
        clock: Seconds, monotonic.
    """

    def __init__(self, getter: Getter, clock: Callable[[], float] = time.monotonic) -> None:
        self._getter = getter
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, Rules, str]] = OrderedDict()

    async def check(self, url: httpx2.URL) -> None:
        """Let a URL pass.

        Raises:
            Refused: The site does not want it read, or its robots.txt cannot be had now.
        """
        origin = f"{url.scheme}://{url.netloc.decode('ascii')}"
        until, rules, why = self._known.get(origin, (float("-inf"), NOTHING, ""))
        now = self._clock()
        if until <= now:
            kept_s, rules, why = await self._ask(origin)
            self._known[origin] = now + kept_s, rules, why
            while len(self._known) > ORIGINS_MAX:
                self._known.popitem(last=False)
        if not rules.allow(url.raw_path.decode("ascii")):
            raise Refused(why or f"robots.txt of {url.host!r} does not want this page to be read")

    async def _ask(self, origin: str) -> tuple[float, Rules, str]:
        try:
            page = await self._getter.get(
                httpx2.URL(f"{origin}/robots.txt"), max_bytes=SIZE_MAX, any_status=True
            )
        except Failed as failed:
            return UNREACHABLE_KEPT_S, NOTHING, f"robots.txt cannot be read: {failed}"
        if page.status >= 500:
            why = f"robots.txt of {origin} answered with HTTP status {page.status}; try again later"
            return UNREACHABLE_KEPT_S, NOTHING, why
        if page.status >= 400:
            return KEPT_S, Rules(), ""
        return KEPT_S, parse_robots(page.body.decode(errors="replace")), ""
