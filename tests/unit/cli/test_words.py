from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from unit.cli.chat_log import ChatLog

from steersman.chat.blocks import markdown_rows, split
from steersman.chat.command import message_text
from steersman.chat.output import PlainOutput, answer_text
from steersman.chat.prompt import read_message
from steersman.chat.wishes import NoSuchModel, match_model
from steersman.chat.words import call_text, harmless, result_lines
from steersman.client import Interruption, Unreachable, View
from steersman_contracts.deltas import TextDelta
from steersman_contracts.ids import ModelName, ProviderId
from steersman_contracts.parts import (
    JsonPart,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from steersman_contracts.rpc.models import Model

MARKDOWN = (
    "# One\n\ntext *a*\nmore\n\n- x\n- y\n\n```py\ncode\n\nmore\n```\n\n| a |\n|---|\n| b |\n\nend"
)


@given(st.text("ab #*`-|>1.\n\t", max_size=60))
def test_blocks_put_together_are_the_text(text: str) -> None:
    found = split(text)

    assert "".join(found.finished) + found.tail == text


def test_only_the_last_block_may_still_change() -> None:
    found = split(MARKDOWN)

    assert [block.strip().split("\n")[0] for block in found.finished] == [
        *("# One", "text *a*", "- x", "```py", "| a |")
    ]
    assert found.tail == "end"


@pytest.mark.parametrize("fence", ["```", "````", "~~~", "  ```py"])
def test_a_code_block_is_one_block_until_it_is_closed(fence: str) -> None:
    code = f"{fence}\na\n\n# b\n``\n\nc"
    assert split(f"text\n\n{code}") == (["text\n\n"], code)
    assert split(code) == ([], code)

    closed = f"{code}\n{fence.strip().removesuffix('py')}\n"
    assert split(f"{closed}\nmore") == ([f"{closed}\n"], "more")


def test_three_backticks_in_a_line_are_no_code_block() -> None:
    assert split("```a``` b\n\nc") == (["```a``` b\n\n"], "c")


@given(st.text(max_size=50))
def test_harmless_text_is_as_long_and_has_no_control_characters(text: str) -> None:
    clean = harmless(text)

    assert len(clean) == len(text)
    assert all(ord(c) >= 32 or c in "\n\t" for c in clean)
    assert not any(0x7F <= ord(c) < 0xA0 for c in clean)


def test_a_call_is_one_short_line() -> None:
    call = ToolCallPart("c", "t", {"path": "a\nb", "limit": 3, "text": "x" * 500})

    assert call_text(call).startswith('path="a\\nb", limit=3, text="xxx')
    assert len(call_text(call)) < 120
    assert call_text(ToolCallPart("c", "t", {}, invalid='{"a": \n1')) == '{"a": 1'


def test_a_result_is_cut_after_some_lines() -> None:
    result = ToolResultPart("c", "t", (TextPart("a\nb\nc\nd"), JsonPart({"e": 1})))

    assert result_lines(result, 3) == ["a", "b", "… 3 more lines"]
    assert result_lines(ToolResultPart("c", "t"), 3) == ["(empty)"]


def test_an_answer_as_text_keeps_cited_sentences_together() -> None:
    call = ToolCallPart("c", "search", {}, provider_executed=True)
    source = SourcePart("http://a")

    assert answer_text((ReasoningPart("hm"), TextPart("One "), source, TextPart("two."))) == (
        "One two."
    )
    assert answer_text((TextPart("One.\n"), call, TextPart("Two."))) == "One.\n\nTwo."


def test_plain_output_prints_no_attempt_that_failed() -> None:
    chat = ChatLog()
    chat.send("hello")
    chat.begin()
    chat.stream(TextDelta(0, "wrong"))
    chat.retry()
    chat.begin()
    chat.stream(TextDelta(0, "right"))
    chat.end("completed")
    out, err = io.StringIO(), io.StringIO()
    output, view = PlainOutput(out, err), View()
    for event in chat.log:
        view.apply(event)
        output.show(view)
    output.end(view)

    assert (out.getvalue(), err.getvalue()) == ("right\n", "")


def test_plain_output_does_not_wait_for_ever() -> None:
    now = 0.0
    output = PlainOutput(io.StringIO(), io.StringIO(), clock=lambda: now)
    now = 1.0
    output.interrupted(Interruption("refused", 5.0, 1))
    now = 200.0
    with pytest.raises(Unreachable, match="refused"):
        output.interrupted(Interruption("refused", 5.0, 2))


def model(name: str) -> Model:
    provider, _, model_id = name.partition("/")
    return Model(ModelName(name), ProviderId(provider), model_id, model_id, enabled=True)


def test_a_short_name_means_the_only_model_that_is_called_so() -> None:
    models = [model("demo/echo"), model("a/big"), model("b/big"), model("c/org/x")]

    assert match_model(models, "echo") == "demo/echo"
    assert match_model(models, "c/org/x") == "c/org/x"
    assert match_model(models, "org/x") == "c/org/x"
    with pytest.raises(NoSuchModel, match="a/big or b/big"):
        match_model(models, "big")
    with pytest.raises(NoSuchModel, match="did you mean 'demo/echo'"):
        match_model(models, "demo/ecko")


@pytest.mark.parametrize(
    ("words", "source", "text"),
    [
        (("one", "two"), "unread", "one two"),
        ((), " piped \n", "piped"),
        ((), "\n", None),
        (("-",), "piped", "piped"),
        (("Explain", "this:", "-"), "a\nb\n", "Explain this:\n\na\nb"),
        (("-", "in", "short"), "text", "text\n\nin short"),
    ],
)
def test_words_and_the_input_make_one_message(
    words: tuple[str, ...], source: str, text: str | None
) -> None:
    assert message_text(words, io.StringIO(source)) == text


def test_a_backslash_goes_on_in_the_next_line() -> None:
    lines: Iterator[str] = iter(["one \\", "two\\", " three", "four"])
    prompts: list[str] = []

    def read(prompt: str) -> str:
        prompts.append(prompt)
        return next(lines)

    assert read_message(">", colour=False, read=read) == "one \ntwo\n three"
    assert prompts == ["> ", "... ", "... "]


def test_rows_have_no_spaces_at_their_end() -> None:
    console = Console(width=40, file=io.StringIO(), force_terminal=True, _environ={})
    for row in markdown_rows(console, MARKDOWN):
        text = "".join(segment.text for segment in row)
        assert text == text.rstrip()
