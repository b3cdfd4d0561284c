"""When a failed model call is tried again."""

from __future__ import annotations

from typing import Final

_FIRST_S: Final = 1.0
_LONGEST_S: Final = 60.0
MOST_S: Final = 3600.0
"""Who is told to come back later than this does not wait in the middle of a turn: it ends
with what the provider said."""


def delay_s(failures: int, retry_after_s: float | None) -> float:
    """Seconds to wait: 1 doubling to 60, no jitter, and never less than the provider asks for.

    Args:
        failures: Attempts at this step that have failed, at least 1.
        retry_after_s: What the provider asked for, if it did.
    """
    wait = min(_FIRST_S * 2.0 ** min(failures - 1, 10), _LONGEST_S)
    return max(wait, retry_after_s or 0.0)
