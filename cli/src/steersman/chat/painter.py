"""Turns a view into lines: final ones are given once, the rest is drawn anew each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, NamedTuple, TypeAlias

from rich.console import Console, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from steersman.chat.blocks import Rows, markdown_rows, split, to_rows, window
from steersman.chat.words import ASCII, UNICODE, call_text, harmless, result_lines, shorten
from steersman.client.reducer import View
from steersman_contracts.chats import Message, PendingRetry, Role, Visibility
from steersman_contracts.parts import (
    FilePart,
    FileReferencePart,
    Part,
    Parts,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

Kind: TypeAlias = Literal["", "user", "text", "reasoning", "tool", "notice"]

_RESULT_LINES: Final = 6
_STOPS: Final = {
    "max-tokens": "cut off: the model's limit for one answer is reached",
    "context-window": "cut off: the conversation fills the model's context",
    "refusal": "the model refused to go on",
    "content-filter": "stopped by the provider's content filter",
}


class Painted(NamedTuple):
    """What there is to show."""

    rows: Rows
    """Final; to be printed now, and never again."""
    live: Rows
    """Below that, until the next time."""


class Painter:
    """Remembers what has been printed.

    Args:
        console: How wide the terminal is, and what it can do.
        reasoning: Show what the model thinks.
    """

    def __init__(self, console: Console, *, reasoning: bool = True) -> None:
        self._console = console
        self._reasoning = reasoning
        self.marks = ASCII if console.options.ascii_only else UNICODE
        self._rows: Rows = []
        self._kind: Kind = ""
        self._last_id = 0
        self._mine: set[int] = set()
        self._printed: dict[int, str] = {}
        self._episode = (0, 0)
        self._retry_seen: PendingRetry | None = None
        self._queue_size = 0

    def skip(self, message_id: int) -> None:
        """This message was typed here: it is on the screen already."""
        self._mine.add(message_id)

    def skip_before(self, message_id: int) -> None:
        """Leave out older messages than this one."""
        self._last_id = max(self._last_id, message_id - 1)

    def begin(self) -> None:
        """Something else was printed meanwhile: what comes next needs no empty line before it."""
        self._kind = ""

    def paint(self, view: View) -> Painted:
        """What is new since the last time."""
        for message in view.messages:
            if message.id > self._last_id:
                self._last_id = message.id
                self._message(message)
        self._notices(view)
        live: Rows = []
        preview = view.preview
        if preview is not None:
            episode = (preview.history_version, preview.attempt)
            if episode != self._episode:
                self._drop_printed()
                self._episode = episode
            live = self._parts(preview.parts, final=False)
        rows, self._rows = self._rows, []
        return Painted(rows, live)

    def note(self, text: str, style: str = "dim", mark: str = "") -> None:
        """A line of our own, printed with the next paint."""
        line = Text(f"{mark} {text}" if mark else text, style=style)
        self._emit("notice", to_rows(self._console, line))

    # -- messages --------------------------------------------------------------------------------

    def _message(self, message: Message) -> None:
        if message.visibility is Visibility.MODEL or message.id in self._mine:
            return
        match message.role:
            case Role.USER:
                self._drop_printed()
                self._emit("user", self._user_rows(message.parts))
            case Role.ASSISTANT:
                if not self._continues(message.parts):
                    self._drop_printed()
                self._parts(message.parts, final=True)
                self._printed.clear()
                if message.stop in _STOPS:
                    self.note(_STOPS[message.stop], "yellow", self.marks.stopped)
            case Role.TOOL:
                results = [part for part in message.parts if isinstance(part, ToolResultPart)]
                for part in results:
                    self._emit("tool", self._result_rows(part, named=len(results) > 1))
            case Role.SYSTEM:
                if message.boundary is not None:
                    self._emit("notice", to_rows(self._console, self._boundary()))

    def _boundary(self) -> RenderableType:
        rule = "-" if self.marks is ASCII else "─"
        return Rule("the model sees nothing above this line", characters=rule, style="dim")

    def _user_rows(self, parts: Parts) -> Rows:
        text = "\n".join(_user_text(part) for part in parts).strip()
        return self._hanging(
            f"{self.marks.prompt} ", Text(harmless(text), style="bold"), "bold cyan"
        )

    def _continues(self, parts: Parts) -> bool:
        """Whether this is the answer whose beginning is on the screen."""
        for index, printed in self._printed.items():
            part = parts[index] if index < len(parts) else None
            text = part.text if isinstance(part, TextPart | ReasoningPart) else ""
            if part is None or not text.startswith(printed):
                return False
        return True

    def _drop_printed(self) -> None:
        """The beginning of an answer that is on the screen leads nowhere: say so."""
        if any(text.strip() for text in self._printed.values()):
            self.note("(this answer was dropped)")
        self._printed.clear()

    # -- parts -----------------------------------------------------------------------------------

    def _parts(self, parts: Parts, *, final: bool) -> Rows:
        """Print what is final of an answer; returns the rest."""
        live: Rows = []
        for index, part in enumerate(parts):
            # Only what nothing can be added to is final, and only if all before it is.
            finished = final or (index < len(parts) - 1 and not live)
            match part:
                case TextPart():
                    live += self._text(index, part.text, finished=finished)
                case ReasoningPart():
                    if self._reasoning:
                        live += self._thought(index, part.text, finished=finished)
                case ToolCallPart():
                    whole = final or (finished and part.invalid is None)
                    live += self._once(index, "tool", whole, lambda p=part: self._call_rows(p))
                case ToolResultPart():
                    live += self._once(
                        index, "tool", finished, lambda p=part: self._result_rows(p, named=False)
                    )
                case SourcePart() | FilePart():
                    live += self._once(index, "tool", finished, lambda p=part: self._aside(p))
                case _:
                    pass
        return live

    def _once(self, index: int, kind: Kind, finished: bool, render: Callable[[], Rows]) -> Rows:
        if index in self._printed:
            return []
        rows = render()
        if not finished:
            return self._spaced(kind, rows)
        self._printed[index] = ""
        self._emit(kind, rows)
        return []

    def _text(self, index: int, text: str, *, finished: bool) -> Rows:
        printed = self._printed.get(index, "")
        blocks, tail = split(harmless(text[len(printed) :]))
        if finished:
            blocks, tail = [*blocks, tail], ""
        for block in blocks:
            self._emit("text", markdown_rows(self._console, block))
        self._printed[index] = text[: len(text) - len(tail)]
        height = self._console.size.height
        return self._spaced("text", markdown_rows(self._console, window(tail, height)))

    def _thought(self, index: int, text: str, *, finished: bool) -> Rows:
        printed = self._printed.get(index, "")
        rest = text[len(printed) :]
        whole = len(rest) if finished else rest.rfind("\n") + 1
        done, tail = rest[:whole], rest[whole:]
        self._printed[index] = printed + done
        self._emit("reasoning", self._dim_rows(done), continued=bool(printed))
        rows = self._dim_rows(tail)
        return rows if printed or done else self._spaced("reasoning", rows)

    def _dim_rows(self, text: str) -> Rows:
        text = harmless(text.rstrip("\n"))
        return to_rows(self._console, Text(text, style="dim italic")) if text.strip() else []

    def _call_rows(self, part: ToolCallPart) -> Rows:
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{self.marks.call} ", "cyan")
        line.append(harmless(part.tool), "bold cyan")
        line.append(f"({call_text(part, self.marks.more)})", "cyan")
        return to_rows(self._console, line)

    def _result_rows(self, part: ToolResultPart, *, named: bool) -> Rows:
        width = max(10, self._console.width - 5)
        style = "red" if part.is_error else "dim"
        lines = result_lines(part, _RESULT_LINES, self.marks.more)
        if named:
            lines[0] = f"{harmless(part.tool)}: {lines[0]}"
        text = Text("\n".join(shorten(line, width, self.marks.more) for line in lines), style)
        return self._hanging(f"  {self.marks.result} ", text, style)

    def _aside(self, part: SourcePart | FilePart) -> Rows:
        if isinstance(part, SourcePart):
            text = f"{part.title} <{part.url}>" if part.title else part.url
        else:
            text = f"[{part.name or 'a file'}: {part.media_type}]"
        line = Text(f"{self.marks.call} {harmless(text)}", "blue", no_wrap=True, overflow="fold")
        return to_rows(self._console, line)

    def _hanging(self, lead: str, text: RenderableType, style: str) -> Rows:
        table = Table.grid(padding=0)
        table.add_column(no_wrap=True, width=len(lead))
        table.add_column(overflow="fold")
        table.add_row(Text(lead, style), text)
        return to_rows(self._console, table)

    # -- notices ---------------------------------------------------------------------------------

    def _notices(self, view: View) -> None:
        retry = view.retry
        if retry is not None and retry != self._retry_seen:
            self._retry_seen = retry
            self._drop_printed()
            text = f"attempt {retry.attempt} failed ({retry.kind}): {harmless(retry.message)}"
            self.note(text, "yellow", self.marks.retry)
        if len(view.queue) > self._queue_size:
            waiting = (
                "1 message waits" if len(view.queue) == 1 else f"{len(view.queue)} messages wait"
            )
            self.note(f"{waiting} in the queue", "dim", self.marks.waits)
        self._queue_size = len(view.queue)

    # -- lines -----------------------------------------------------------------------------------

    def _emit(self, kind: Kind, rows: Rows, *, continued: bool = False) -> None:
        if rows:
            self._rows += rows if continued else self._spaced(kind, rows)
            self._kind = kind

    def _spaced(self, kind: Kind, rows: Rows) -> Rows:
        """With an empty line before it, where one belongs."""
        tight = self._kind == "" or (kind == self._kind and kind in {"tool", "notice"})
        return rows if tight or not rows else [[], *rows]


def _user_text(part: Part) -> str:
    match part:
        case TextPart():
            return part.text
        case FileReferencePart():
            return f"[{part.file_name}:{part.start_line}-{part.end_line}]"
        case FilePart():
            return f"[{part.name or 'a file'}]"
        case _:
            return ""
