"""What counts as an answer to a question."""

from __future__ import annotations

import pytest

from steersman_contracts.errors import InvalidRequest
from steersman_contracts.questions import (
    Answer,
    AskArguments,
    Option,
    Question,
    check_answers,
    problem_of,
    result_of,
)

ONE = Question("Which?", (Option("red"), Option("blue")), free_text=False)
MANY = Question("Which ones?", (Option("red"), Option("blue"), Option("green")), multi_select=True)


def test_an_answer_picks_and_says() -> None:
    asked = AskArguments((ONE, MANY))
    answers = (Answer(("red",)), Answer(("red", "green"), "and pink"))

    check_answers(asked, answers)
    assert result_of(asked, answers) == {
        "answers": [
            {"question": "Which?", "selected": ["red"]},
            {"question": "Which ones?", "selected": ["red", "green"], "text": "and pink"},
        ]
    }


@pytest.mark.parametrize(
    ("answers", "field"),
    [
        ((), "answers"),
        ((Answer(("red",)),), "answers"),
        ((Answer(("pink",)), Answer(("red",))), "answers[0].selected"),
        ((Answer(("red", "blue")), Answer(("red",))), "answers[0].selected"),
        ((Answer(("red",), "or so"), Answer(("red",))), "answers[0].text"),
        ((Answer(("red",)), Answer(("red", "red"))), "answers[1].selected"),
        ((Answer(("red",)), Answer((), "  ")), "answers[1]"),
    ],
)
def test_what_is_no_answer_is_refused_by_its_place(answers: tuple[Answer, ...], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_answers(AskArguments((ONE, MANY)), answers)

    assert refused.value.details["field"] == field


def test_options_need_names_of_their_own() -> None:
    twice = Question("Which?", (Option("red"), Option("red", "the same")))

    assert problem_of(AskArguments((ONE,))) is None
    assert problem_of(AskArguments((ONE, twice))) is not None
