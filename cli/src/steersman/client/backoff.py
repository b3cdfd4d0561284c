"""How long to wait before the next try."""

from typing import Final

FIRST_S: Final = 0.2
LONGEST_S: Final = 5.0


class Backoff:
    """0.2 s, doubling to 5 s; longer when the other side asks for it."""

    def __init__(self) -> None:
        self._next_s = FIRST_S

    def next_s(self, at_least_s: float | None = None) -> float:
        """The wait before this try."""
        wait_s = max(self._next_s, at_least_s or 0.0)
        self._next_s = min(self._next_s * 2, LONGEST_S)
        return wait_s

    def reset(self) -> None:
        """It worked: the next trouble is a new one."""
        self._next_s = FIRST_S
