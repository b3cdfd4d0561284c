"""Whether a turn has used what its chat allows for one: plain decisions."""

from __future__ import annotations

from datetime import datetime

from steersman_contracts.terms import LimitKind, LimitReached, Terms


def limit_reached(terms: Terms, *, steps: int, now: datetime) -> LimitReached | None:
    """The first limit that is reached, if one is.

    Args:
        terms: The chat's limits, and what the turn has used.
        steps: Model steps committed in this turn.
        now: By our clock, for the time that has passed; the store's may differ by a little.
    """
    limits, spent = terms.limits, terms.spent
    if limits is None:
        return None
    used: dict[LimitKind, tuple[int | None, int]] = {"steps": (limits.steps, steps)}
    if spent is not None:
        passed_s = max(0, int((now - spent.started_at).total_seconds()))
        used |= {
            "tokens": (limits.tokens, spent.tokens),
            "cost_micros": (limits.cost_micros, spent.cost_micros),
            "wall_s": (limits.wall_s, passed_s),
        }
    for kind, (limit, amount) in used.items():
        if limit is not None and amount >= limit:
            return LimitReached(kind, limit, amount)
    return None
