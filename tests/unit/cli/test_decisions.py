"""What the model waits for, in words; and what a person types to decide."""

from __future__ import annotations

import pytest

from steersman.chat.decisions import (
    Misused,
    limit_hint,
    limit_text,
    limits_text,
    question_lines,
    read_answers,
    read_limits,
)
from steersman_contracts.questions import Answer, AskArguments, Option, Question
from steersman_contracts.rest_prompts import LimitsBody
from steersman_contracts.terms import LimitReached, TurnLimits

ONE = Question("Which?", (Option("red", "like a rose"), Option("blue")), free_text=False)
MANY = Question("Which ones?", (Option("red"), Option("blue")), multi_select=True)


def test_questions_are_shown_with_numbered_answers() -> None:
    assert question_lines(AskArguments((ONE, MANY))) == [
        "Which?",
        "  1  red: like a rose",
        "  2  blue",
        "Which ones? (several may be picked)",
        "  1  red",
        "  2  blue",
        "  or words of your own",
    ]


@pytest.mark.parametrize(
    ("words", "answers"),
    [
        ("2; 1,2", (Answer(("blue",)), Answer(("red", "blue")))),
        ("red; neither, really", (Answer(("red",)), Answer(text="neither, really"))),
    ],
)
def test_answers_are_numbers_labels_or_words(words: str, answers: tuple[Answer, ...]) -> None:
    assert read_answers(AskArguments((ONE, MANY)), words) == answers


def test_one_answer_may_hold_a_semicolon() -> None:
    assert read_answers(AskArguments((MANY,)), "red; or not") == (Answer(text="red; or not"),)


@pytest.mark.parametrize("words", ["1", "3; 1", "0; 1", "green; 1", "1; 1; 1"])
def test_what_does_not_answer_is_refused_here(words: str) -> None:
    with pytest.raises(Misused):
        read_answers(AskArguments((ONE, MANY)), words)


def test_limits_are_read_as_they_are_shown() -> None:
    limits = TurnLimits(steps=9, cost_micros=1_500_000, wall_s=120)

    assert limits_text(None) == "a turn may use what it needs"
    assert limits_text(limits) == "one turn: steps=9 cost=1.5 minutes=2"
    assert read_limits(limits, "tokens=5000 steps=none") == LimitsBody(None, 5000, 1_500_000, 120)
    assert read_limits(limits, "none") == LimitsBody()
    for words in ("steps", "steps=0", "steps=x", "speed=3", "cost=inf", "cost=nan"):
        with pytest.raises(Misused):
            read_limits(limits, words)


@pytest.mark.parametrize(
    ("reached", "text", "hint"),
    [
        (LimitReached("steps", 5, 5), "this turn has taken 5 of 5 steps", "steps=10"),
        (LimitReached("tokens", 1000, 1200), "this turn has used 1,200 of 1,000 tokens", None),
        (
            LimitReached("cost_micros", 500_000, 500_001),
            "this turn has cost 0.5000 of 0.5000",
            None,
        ),
        (LimitReached("wall_s", 120, 130), "this turn takes 2 of 2 minutes", "minutes=4"),
    ],
)
def test_a_limit_says_how_it_is_raised(reached: LimitReached, text: str, hint: str | None) -> None:
    assert limit_text(reached) == text
    body = read_limits(None, limit_hint(reached))
    (value,) = [v for v in (body.steps, body.tokens, body.cost_micros, body.wall_s) if v]
    assert value == reached.limit * 2
    assert hint in (None, limit_hint(reached))
    assert limit_hint(LimitReached("steps", 5, 12)) == "steps=24"
