"""A terminal as a person sees it: enough of one to find out what is on the screen in the end."""

from __future__ import annotations

import re

_SEQUENCE = re.compile(
    r"\x1b\[(?P<private>\??)(?P<numbers>[0-9;]*)(?P<final>[A-Za-z])|\x1b\][^\x07]*\x07|\x1b[=>]"
)


class Terminal:
    """Takes what a program writes. `lines` is everything, what has scrolled away included."""

    def __init__(self, height: int = 24, width: int = 80) -> None:
        self.height = height
        self.width = width
        self.lines: list[str] = [""]
        self.row = 0
        self.column = 0
        self.cursor_shown = True
        self._rest = ""

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).rstrip("\n")

    def feed(self, data: str) -> None:
        data, self._rest = self._rest + data, ""
        at = 0
        while at < len(data):
            character = data[at]
            if character == "\x1b":
                match = _SEQUENCE.match(data, at)
                if match is None:
                    self._rest = data[at:]  # the rest of it comes with the next piece
                    return
                self._sequence(match)
                at = match.end()
                continue
            self._character(character)
            at += 1

    def _character(self, character: str) -> None:
        match character:
            case "\n":
                self.row += 1
                self.column = 0
                if self.row == len(self.lines):
                    self.lines.append("")
            case "\r":
                self.column = 0
            case "\b":
                self.column = max(0, self.column - 1)
            case "\x07":
                pass
            case _:
                if self.column == self.width:
                    self._character("\n")
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + character + line[self.column + 1 :]
                self.column += 1

    def _sequence(self, match: re.Match[str]) -> None:
        final, numbers = match["final"], match["numbers"]
        count = int(numbers.split(";")[0] or 1) if numbers and final else 1
        top = max(0, len(self.lines) - self.height)
        match final:
            case "A":
                self.row = max(top, self.row - count)
            case "B":
                self.row = min(len(self.lines) - 1, self.row + count)
            case "C":
                self.column += count
            case "D":
                self.column = max(0, self.column - count)
            case "K":
                line = self.lines[self.row]
                self.lines[self.row] = "" if numbers == "2" else line[: self.column]
            case "J":
                self.lines[self.row] = self.lines[self.row][: self.column]
                del self.lines[self.row + 1 :]
            case "h" | "l" if match["private"] and numbers == "25":
                self.cursor_shown = final == "h"
            case _:  # colours, bracketed paste
                pass
