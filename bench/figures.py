"""What a measurement is: a median with its spread, a budget, and the row that shows both."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

TIMES: Final = "\u00d7"
"""The unit of ratios."""
Verdict: TypeAlias = Literal["ok", "over", "failed", ""]


class Wrong(Exception):
    """The system did something that it must not do: a fast wrong run is a failure."""


class Figure(msgspec.Struct, frozen=True):
    """The median of all rounds, and the lowest and the highest round."""

    median: float
    low: float
    high: float


def percentile(values: Sequence[float], q: float) -> float:
    """The smallest value that at least the share `q` of all values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]


def over_rounds(values: Sequence[float]) -> Figure:
    """One value per round, in any order."""
    return Figure(statistics.median(values), min(values), max(values))


class Budget(msgspec.Struct, frozen=True):
    """A limit of DESIGN §10."""

    limit: float
    unit: str
    at_least: bool = False

    def holds(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {shown(self.limit)} {self.unit}"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table."""

    scenario: str
    what: str
    unit: str
    measured: Figure
    baseline: Figure | None = None
    """The same from the provider itself, called by the official SDK, unless `note` says other."""
    compared: Figure | None = None
    """What was added to the baseline, or the ratio to it; None: the measurement itself counts."""
    compared_unit: str = ""
    budget: Budget | None = None
    samples: int
    rounds: int
    note: str = ""
    details: dict[str, Any] = {}

    @property
    def judged(self) -> Figure:
        return self.measured if self.compared is None else self.compared

    @property
    def verdict(self) -> Verdict:
        if self.budget is None:
            return ""
        return "ok" if self.budget.holds(self.judged.median) else "over"


class Failure(msgspec.Struct, frozen=True):
    """A scenario that did not come to its end, or came to a wrong one."""

    scenario: str
    error: str


def shown(value: float) -> str:
    """Three significant digits, without an exponent."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}".removesuffix(".0")
    if size >= 1:
        return f"{value:.2f}".rstrip("0").removesuffix(".")
    return f"{value:.3f}".rstrip("0").removesuffix(".")
