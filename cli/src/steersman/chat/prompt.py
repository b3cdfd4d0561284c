"""What a person types: lines with a history, and several of them where each ends in a backslash."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

_HISTORY_LENGTH: Final = 1000


def history_file(env: Mapping[str, str]) -> Path:
    """Where lines are kept between starts."""
    state = env.get("XDG_STATE_HOME")
    base = Path(state) if state and Path(state).is_absolute() else Path.home() / ".local" / "state"
    return base / "steersman" / "chat-history"


def read_message(mark: str, *, colour: bool, read: Callable[[str], str] = input) -> str:
    """One message; a line that ends in a backslash goes on in the next one.

    Raises:
        EOFError: There will be no more.
        KeyboardInterrupt: Ctrl-C.
    """
    lines: list[str] = []
    while True:
        line = read(_prompt(mark if not lines else "…" if mark != ">" else "...", colour=colour))
        if not line.endswith("\\"):
            lines.append(line)
            return "\n".join(lines).strip()
        lines.append(line[:-1])


def _prompt(mark: str, *, colour: bool) -> str:
    # The two bytes tell readline that what is between them takes no room on the line.
    return f"\x01\x1b[1;36m\x02{mark}\x01\x1b[0m\x02 " if colour else f"{mark} "


def open_history(path: Path) -> Callable[[], None]:
    """Load earlier lines, where readline is present; returns how to keep the new ones."""
    try:
        import readline  # not everywhere
    except ImportError:
        return lambda: None
    with suppress(OSError):
        readline.read_history_file(path)
    readline.set_history_length(_HISTORY_LENGTH)

    def keep() -> None:
        with suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
            readline.write_history_file(path)

    return keep
