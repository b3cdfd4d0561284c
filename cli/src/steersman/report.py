"""What `steersman up` tells its reader: progress, the services' lines, and the summary."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from steersman.logs import LEVELS, Format, Level, Output, render
from steersman.processes import describe_exit

_WIDTH: Final = 10
_MARKS: Final = {"info": ("•", "cyan"), "warning": ("!", "yellow"), "error": ("✗", "red")}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the summary shows."""

    url: str
    sign_in_url: str
    token: str
    default_model: str | None
    data: Path


class Report:
    """Everything that is written, in the form that was asked for."""

    def __init__(self, log_format: Format, level: Level) -> None:
        self._format: Format = log_format
        self._level: Level = level
        self._output = Output()
        self._started = time.monotonic()
        self.on_start: Callable[[], None] | None = None

    def close(self) -> None:
        """Write what is pending."""
        self._output.close()

    def line(self, name: str, line: str) -> None:
        """A process wrote a line."""
        text = render(name, line, log_format=self._format, level=self._level, width=_WIDTH)
        if text is not None and line:
            self._output.write(text)

    def started(self, name: str, pid: int, starts: int) -> None:
        """A process was started, or started again."""
        if starts > 1:
            self.event("info", "process.restarted", f"{name} runs again", name=name, pid=pid)
        if self.on_start is not None:
            self.on_start()

    def ended(self, name: str, code: int, again_in_s: float | None) -> None:
        """A process ended that should not have."""
        text = f"{name} {describe_exit(code)}"
        if again_in_s is not None:
            text += f"; starting it again in {again_in_s:g} s"
        self.event("error", "process.ended", text, name=name, status=code)

    def ready(self, name: str, since: float, note: str = "") -> None:
        """A part or a service is ready; `since` is the monotonic time of its start."""
        took = time.monotonic() - since
        text = f"{name:<{_WIDTH}} ready after {took:.1f} s{note}"
        duration_ms = round(took * 1000)
        if self._format == "pretty":
            self._output.write(click.style("✓ ", fg="green") + text)
        else:
            self.event("info", "part.ready", text, name=name, duration_ms=duration_ms)

    def event(self, level: Level, event: str, text: str, **values: object) -> None:
        """Something the supervisor itself has to say; `event` and `values` are for programs."""
        if self._format == "json":
            now = datetime.now(UTC).isoformat()
            entry = {"service": "supervisor", "level": level, "timestamp": now, "event": event}
            self._output.write(json.dumps({**entry, **values, "text": text}, ensure_ascii=False))
        elif LEVELS[level] >= LEVELS["info"]:
            mark, colour = _MARKS[level]
            self._output.write(click.style(f"{mark} ", fg=colour) + text)

    def failure(self, text: str, name: str, lines: list[str]) -> None:
        """Why the start failed, with the last words of the culprit."""
        self.event("error", "start.failed", text, name=name, last_lines=lines)
        if self._format == "pretty" and lines:
            self._output.write(click.style(f"  the last lines of {name}:", dim=True))
            for line in lines:
                shown = render(name, line, log_format="pretty", level="debug", width=_WIDTH)
                self._output.write(f"  {shown}")

    def summary(self, facts: Facts) -> None:
        """Where everything is, once it runs."""
        took = time.monotonic() - self._started
        if self._format == "json":
            self.event(
                "info",
                "steersman.ready",
                f"ready after {took:.1f} s",
                url=facts.url,
                data=str(facts.data),
                default_model=facts.default_model,
                duration_ms=round(took * 1000),
            )
            return
        for line in summary_lines(facts, took):
            self._output.write(line)


def summary_lines(facts: Facts, took_s: float) -> list[str]:
    """The summary as lines that survive being copied: no frame on either side."""

    def row(label: str, value: str, note: str = "") -> str:
        dim = click.style(note, dim=True)
        return f"  {click.style(f'{label:<8}', fg='cyan')} {value}{'  ' + dim if note else ''}"

    rule = click.style("─" * 78, fg="cyan")
    model = facts.default_model or "none yet"
    add = "" if facts.default_model else "steersman provider add"
    return [
        rule,
        click.style(f"  Steersman is ready after {took_s:.1f} s", bold=True),
        "",
        row("sign in", facts.sign_in_url, "once, within 15 minutes"),
        row("API", f"{facts.url}/api/v1"),
        row("token", facts.token),
        row("model", model, add),
        row("data", str(facts.data), "the token is in api-token"),
        "",
        '  Try:  steersman chat "Write two lines about the sea"',
        "  Ctrl-C stops everything; what was said stays.",
        rule,
    ]
