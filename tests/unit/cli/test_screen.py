from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console
from unit.cli.chat_log import ChatLog
from unit.cli.vt import Terminal

from steersman.chat.painter import Painter
from steersman.chat.screen import Screen
from steersman.chat.words import UNICODE
from steersman.client import Interruption, View
from steersman_contracts.chats import Role, Status
from steersman_contracts.deltas import (
    ReasoningDelta,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
)
from steersman_contracts.parts import TextPart, ToolResultPart

WIDTH, HEIGHT = 60, 16


class Stage:
    """A screen on a terminal, fed with the events of a chat."""

    def __init__(self, *, reasoning: bool = True) -> None:
        self.file = io.StringIO()
        self.console = Console(
            file=self.file,
            force_terminal=True,
            width=WIDTH,
            height=HEIGHT,
            color_system="standard",
            legacy_windows=False,
            _environ={},
        )
        self.terminal = Terminal(HEIGHT, WIDTH)
        self.now = 0.0
        self.screen = Screen(
            self.console, Painter(self.console, reasoning=reasoning), clock=lambda: self.now
        )
        self.view = View()
        self.chat = ChatLog()
        self._read = 0
        self._fed = 0

    def draw(self) -> str:
        """Let everything that has happened be drawn; returns what can be seen."""
        for event in self.chat.log[self._fed :]:
            self._fed += 1
            self.view.apply(event)
            self.screen.show(self.view)
            self.screen.draw()
        self.screen.draw()
        return self.seen()

    def end(self) -> str:
        self.draw()
        self.screen.end(self.view)
        return self.seen()

    def seen(self) -> str:
        written = self.file.getvalue()
        self.terminal.feed(written[self._read :])
        self._read = len(written)
        return self.terminal.text


@pytest.fixture
async def stage() -> Stage:
    return Stage()


def begin(stage: Stage) -> ChatLog:
    stage.chat.send("hello")
    stage.screen.skip(stage.chat.messages[0].id)
    stage.chat.begin()
    return stage.chat


async def test_an_answer_appears_word_by_word_and_stands_once_in_the_end(stage: Stage) -> None:
    with stage.screen:
        chat = begin(stage)
        chat.stream(TextDelta(0, "# The sea\n\nGrey **waves"))
        assert "Grey **waves" in stage.draw()
        chat.stream(TextDelta(0, "** fold.\n\n- one\n- two\n\n"))
        chat.stream(TextDelta(0, "```python\nprint(1)\n```\nDone"))
        stage.draw()
        chat.stream(TextDelta(0, ", and out."))
        chat.end("completed")
        seen = stage.end()
    lines = [line.strip() for line in stage.terminal.lines if line.strip()]

    assert "Grey waves fold." in seen
    assert lines == [
        *(line for line in lines if "The sea" in line or set(line) <= set("┏┓┗┛━")),
        "Grey waves fold.",
        "• one",
        "• two",
        "print(1)",
        "Done, and out.",
    ]
    stage.seen()
    assert stage.terminal.cursor_shown


async def test_reasoning_calls_results_and_text_come_in_their_order(stage: Stage) -> None:
    with stage.screen:
        chat = begin(stage)
        chat.stream(ReasoningDelta(0, "Let me"), ReasoningDelta(0, " look."))
        chat.stream(TextDelta(1, "I look."), ToolCallStarted(2, "c1", "read_file"))
        chat.stream(ToolArgumentsDelta(2, '{"path": "a.txt"'))
        assert "read_file" in stage.draw()
        chat.stream(ToolArgumentsDelta(2, "}"))
        chat.commit()
        chat.progress("c1", 1)
        assert "running read_file" in stage.draw()
        assert "c1 1" in stage.seen()
        result = ToolResultPart("c1", "read_file", (TextPart("\n".join("abcdefghij")),))
        chat.begin()
        chat.commit((Role.TOOL, (result,)))
        chat.begin()
        chat.stream(TextDelta(0, "It says so."))
        chat.end("completed")
        seen = stage.end()

    assert seen.splitlines() == [
        "Let me look.",
        "",
        "I look.",
        "",
        '● read_file(path="a.txt")',
        "  ⎿ a",
        "    b",
        "    c",
        "    d",
        "    e",
        "    … 5 more lines",
        "",
        "It says so.",
    ]


async def test_reasoning_can_be_left_out() -> None:
    stage = Stage(reasoning=False)
    with stage.screen:
        chat = begin(stage)
        chat.stream(ReasoningDelta(0, "secret"), TextDelta(1, "open"))
        chat.end("completed")

        assert stage.end() == "open"
    assert "secret" not in stage.file.getvalue()


async def test_an_error_of_a_tool_is_red(stage: Stage) -> None:
    with stage.screen:
        chat = begin(stage)
        chat.stream(ToolCallStarted(0, "c1", "t"))
        chat.commit((Role.TOOL, (ToolResultPart("c1", "t", (TextPart("no"),), is_error=True),)))
        stage.draw()

    assert "\x1b[31mno" in stage.file.getvalue()


async def test_an_attempt_that_failed_leaves_no_text_behind_that_looks_like_an_answer(
    stage: Stage,
) -> None:
    with stage.screen:
        chat = begin(stage)
        chat.stream(TextDelta(0, "Finished block.\n\nOne mom"))
        stage.draw()
        chat.retry()
        stage.now = 5.0
        assert "trying again in 1 s" in stage.draw()
        stage.now = 5.6
        assert "trying again in 0 s" in stage.draw()
        chat.begin()
        chat.stream(TextDelta(0, "It worked."))
        chat.end("completed")
        seen = stage.end()

    assert seen.splitlines() == [
        "Finished block.",
        "",
        "(this answer was dropped)",
        "↻ attempt 1 failed (overloaded): busy",
        "",
        "It worked.",
    ]


async def test_an_interrupted_answer_stays_and_says_so(stage: Stage) -> None:
    with stage.screen:
        chat = begin(stage)
        chat.stream(TextDelta(0, "1, 2, 3"))
        stage.draw()
        stage.screen.interrupting()
        assert "1, 2, 3" in stage.draw()
        assert "interrupting" in stage.seen()
        chat.end("interrupted")

        assert stage.end() == "1, 2, 3\n\n■ interrupted"


async def test_an_error_says_what_to_do(stage: Stage) -> None:
    with stage.screen:
        chat = begin(stage)
        chat.end("error")

        seen = stage.end()

    assert "✗ generic: broken" in seen
    assert "send another message" in seen


async def test_what_was_streamed_stays_on_the_screen_of_who_leaves(stage: Stage) -> None:
    with stage.screen:
        begin(stage).stream(TextDelta(0, "half an answ"))
        stage.draw()

        assert stage.end() == "half an answ"


async def test_a_queued_message_is_announced_and_shown_when_its_turn_begins(stage: Stage) -> None:
    with stage.screen:
        chat = begin(stage)
        chat.send("and then?")
        assert "1 message waits in the queue" in stage.draw()
        chat.end("completed")
        chat.begin()
        chat.stream(TextDelta(0, "Then this."))
        chat.end("completed")
        seen = stage.end()

    assert f"{UNICODE.prompt} and then?\n\nThen this." in seen


async def test_a_lost_connection_is_told_until_it_is_back(stage: Stage) -> None:
    with stage.screen:
        begin(stage)
        stage.draw()
        stage.screen.interrupted(Interruption("refused", 2.0, 1))
        assert "connection lost (refused), again in 2 s" in stage.draw()
        stage.screen.connected()

        assert "connection lost" not in stage.draw()


@pytest.mark.parametrize("make", ["- item {}\n", "line {}\n", "word{} "])
async def test_what_does_not_fit_the_screen_is_whole_in_the_end(stage: Stage, make: str) -> None:
    with stage.screen:
        chat = begin(stage)
        chat.stream(TextDelta(0, "```\n" if make.startswith("line") else ""))
        for number in range(50):
            chat.stream(TextDelta(0, make.format(number)))
        stage.draw()
        assert len(stage.terminal.lines) <= HEIGHT
        chat.end("completed")
        seen = stage.end().split()

    for number in range(50):
        expected = f"word{number}" if make.startswith("word") else str(number)
        assert seen.count(expected) == 1


async def test_nothing_that_others_wrote_reaches_the_terminal_as_a_command(stage: Stage) -> None:
    evil = "\x1b]0;title\x07\x1b[2J\x9b31m\x08\r"
    with stage.screen:
        chat = begin(stage)
        chat.stream(TextDelta(0, f"text {evil} text"), ToolCallStarted(1, "c", f"t{evil}"))
        stage.draw()
        chat.commit((Role.TOOL, (ToolResultPart("c", "t", (TextPart(evil),)),)))
        chat.send(evil)
        chat.end("completed")
        stage.end()

    written = stage.file.getvalue()
    assert "\x1b]0" not in written
    assert "\x1b[2J" not in written
    assert not set("\x9b\x07\x08") & set(written)


@pytest.fixture
def count_writes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    writes = 0
    write = stage.file.write

    def counted(text: str) -> int:
        nonlocal writes
        writes += 1
        return write(text)

    monkeypatch.setattr(stage.file, "write", counted)
    return lambda: writes


async def test_many_events_at_once_are_one_drawing(
    stage: Stage, count_writes: Callable[[], int]
) -> None:
    with stage.screen:
        chat = begin(stage)
        for number in range(500):
            chat.stream(TextDelta(0, f"{number} "))
        before = count_writes()
        for event in chat.log:
            stage.view.apply(event)
            stage.screen.show(stage.view)
        assert count_writes() == before
        stage.screen.draw()

        assert count_writes() == before + 1
        assert stage.view.status is Status.RUNNING


async def test_what_waits_in_the_queue_is_shown_while_it_waits(stage: Stage) -> None:
    with stage.screen:
        chat = begin(stage)
        for text in ("then this\nand that", "x" * 100, "\x1b[31mred", "last"):
            chat.send(text)
        seen = stage.draw()
        chat.end("completed")
        after = stage.draw()

    assert f"  {UNICODE.waits} then this and that\n" in seen
    assert f"  {UNICODE.waits} {'x' * (WIDTH - 7)}{UNICODE.more}\n" in seen
    assert "\N{REPLACEMENT CHARACTER}[31mred" in seen
    assert f"  {UNICODE.more} 1 more" in seen
    assert f"{UNICODE.waits} then this and that" not in after
    assert f"{UNICODE.waits} last" in after


async def test_a_cleared_context_is_a_line_across_the_screen(stage: Stage) -> None:
    with stage.screen:
        chat = begin(stage)
        chat.stream(TextDelta(0, "before"))
        chat.end("completed")
        stage.draw()
        chat.clear()
        chat.send("hello again")
        stage.draw()
        seen = stage.end()

    lines = seen.splitlines()
    (rule,) = [line for line in lines if "the model sees nothing above this line" in line]
    assert set(rule) > {"─"}
    assert lines.index("before") < lines.index(rule)
    assert "The context was cleared." not in seen
