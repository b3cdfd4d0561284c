"""Text that must not be seen."""

from __future__ import annotations


class Secret(str):
    """A string that does not show itself in logs and tracebacks. `reveal` gives the value."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret('***')"

    def reveal(self) -> str:
        """The value, as a plain string."""
        return str.__str__(self)
