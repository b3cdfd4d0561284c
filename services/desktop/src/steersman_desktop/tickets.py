"""Secrets that open something once, and for a short time. Only their digests are kept."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, Generic, TypeVar

T = TypeVar("T")

MAX_OPEN: Final = 10_000
"""Secrets that nobody has used yet; the oldest is forgotten first."""
MAX_EACH: Final = 100
"""Of one owner: who asks for ever more makes only their own worthless."""


def digest(secret: str) -> str:
    """Hex SHA-256."""
    return hashlib.sha256(secret.encode()).hexdigest()


class OneTime(Generic[T]):
    """Secrets, and what each of them stands for."""

    def __init__(
        self, good_s: float, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._good = timedelta(seconds=good_s)
        self._clock = clock
        self._open: dict[str, tuple[datetime, str, T]] = {}

    def make(self, value: T, owner: str = "") -> tuple[str, datetime]:
        """A new secret for `value`, and until when it is good.

        Args:
            value: What it stands for.
            owner: Who asks; empty: not counted.
        """
        now = self._clock()
        # All are good for equally long: the oldest are the first to end.
        while self._open:
            oldest = next(iter(self._open))
            if self._open[oldest][0] > now and len(self._open) < MAX_OPEN:
                break
            del self._open[oldest]
        own = [key for key, (_, of, _) in self._open.items() if of == owner] if owner else []
        if len(own) >= MAX_EACH:
            del self._open[own[0]]
        secret = secrets.token_urlsafe(32)
        expires = now + self._good
        self._open[digest(secret)] = (expires, owner, value)
        return secret, expires

    def take(self, key: str) -> T | None:
        """What the secret with this digest stands for: once, and not after its time."""
        expires, _, value = self._open.pop(key, (None, "", None))
        return value if expires is not None and self._clock() < expires else None
