"""One readable log out of many processes."""

import contextlib
import json
import queue
import re
import threading
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias, cast

import click

Format: TypeAlias = Literal["pretty", "json"]
Level: TypeAlias = Literal["debug", "info", "warning", "error"]

LEVELS: Final[Mapping[str, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_ALIASES: Final = {"warn": "warning", "critical": "error", "exception": "error", "fatal": "error"}
_LEVEL_COLOURS: Final = {"debug": "bright_black", "warning": "yellow", "error": "red"}
_NAME_COLOURS: Final = ("cyan", "green", "magenta", "blue", "bright_cyan", "bright_green")
# Said once by each line's prefix, or of no use to a reader.
_HIDDEN_KEYS: Final = frozenset({"event", "level", "timestamp", "service", "instance", "logger"})
_MULTILINE_KEYS: Final = ("exception", "stack")
# How PostgreSQL, nats-server and llama.cpp say how serious a line is.
_FOREIGN: Final[tuple[tuple[re.Pattern[str], Level], ...]] = (
    # Passwords in a private file are what we want.
    (re.compile(r"\[WRN\] Plaintext passwords detected"), "debug"),
    (re.compile(r"(?:ERROR|FATAL|PANIC):  |\[(?:ERR|FTL)\] | E srv "), "error"),
    (re.compile(r"WARNING:  |\[WRN\] | W srv "), "warning"),
    (re.compile(r"(?:LOG|NOTICE|INFO|DETAIL|HINT):  |\[(?:INF|DBG|TRC)\](?: |$)"), "debug"),
)
_MAX_PENDING: Final = 10_000


def render(name: str, line: str, *, log_format: Format, level: Level, width: int = 0) -> str | None:
    """One line of one process as a line of the merged log, or None to leave it out."""
    entry = _parse(line)
    severity = _severity(entry, line)
    if LEVELS[severity] < LEVELS[level]:
        return None
    if log_format == "json":
        plain = {"service": name, "level": severity, "event": "output", "line": line}
        return line if entry is not None else json.dumps(plain, ensure_ascii=False)
    text = _clean(line) if entry is None else _pretty(entry, severity)
    prefix = click.style(f"{name:<{width}} │ ", fg=_colour(name))
    colour = _LEVEL_COLOURS.get(severity) if entry is None else None
    return "\n".join(
        prefix + (click.style(part, fg=colour) if colour else part) for part in text.split("\n")
    )


def _parse(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return cast("dict[str, Any]", entry) if isinstance(entry, dict) and "event" in entry else None


def _severity(entry: Mapping[str, Any] | None, line: str) -> Level:
    if entry is not None:
        said = str(entry.get("level", "info")).lower()
        found = _ALIASES.get(said, said)
        return cast("Level", found) if found in LEVELS else "info"
    for pattern, level in _FOREIGN:
        if pattern.search(line):
            return level
    return "info"


def _pretty(entry: Mapping[str, Any], severity: Level) -> str:
    values = [
        f"{click.style(key, dim=True)}={_value(value)}"
        for key, value in entry.items()
        if key not in _HIDDEN_KEYS and key not in _MULTILINE_KEYS
    ]
    head = [
        click.style(_time(entry.get("timestamp")), dim=True),
        click.style(f"{severity:<7}", fg=_LEVEL_COLOURS.get(severity)),
        click.style(_clean(str(entry["event"])), bold=True),
    ]
    below = [_clean(str(entry[key])) for key in _MULTILINE_KEYS if entry.get(key)]
    return "\n".join([" ".join([*head, *values]).rstrip(), *below])


def _time(value: object) -> str:
    try:
        return datetime.fromisoformat(str(value)).astimezone().strftime("%H:%M:%S")
    except ValueError:
        return "--:--:--"


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = _clean(text).replace("\n", "\\n")
    return json.dumps(text, ensure_ascii=False) if " " in text or not text else text


def _clean(text: str) -> str:
    # A process may pass on what others wrote; none of it shall move the reader's cursor.
    return "".join(c for c in text if c in "\n\t" or c.isprintable())


def _colour(name: str) -> str:
    return _NAME_COLOURS[sum(name.split("-")[0].encode()) % len(_NAME_COLOURS)]


class Output:
    """Standard output, written by a thread of its own.

    A reader that stops reading (a paused terminal, a pager) must stop neither us nor the processes
    whose pipes we empty. What does not fit meanwhile is counted and dropped.
    """

    def __init__(self) -> None:
        self._lines: queue.Queue[str | None] = queue.Queue(_MAX_PENDING)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write_all, name="output", daemon=True)
        self._thread.start()

    def write(self, text: str) -> None:
        """Write a line, soon."""
        try:
            self._lines.put_nowait(text)
        except queue.Full:
            self._dropped += 1

    def close(self, timeout_s: float = 1.0) -> None:
        """Write what is pending, but wait for no reader longer than that."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)
        self._thread.join(timeout_s)

    def _write_all(self) -> None:
        while (text := self._lines.get()) is not None:
            try:
                if self._dropped:
                    click.echo(f"… {self._dropped} lines were left out: nobody read them in time")
                    self._dropped = 0
                click.echo(text)
            except OSError:  # the reader is gone for good; we go on without one
                return
