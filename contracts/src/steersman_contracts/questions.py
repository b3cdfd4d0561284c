"""Questions that a model asks a person, and what counts as an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from steersman_contracts.errors import InvalidRequest
from steersman_contracts.parts import JsonObject

ASK: Final = "ask_user_question"
MAX_ANSWER: Final = 10_000

Label = Annotated[
    str,
    msgspec.Meta(min_length=1, max_length=100, description="What the person picks: a few words."),
]


class Option(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of the answers to choose from."""

    label: Label
    description: Annotated[
        str, msgspec.Meta(max_length=500, description="What it means or leads to.")
    ] = ""


class Question(msgspec.Struct, frozen=True, omit_defaults=True):
    """One question, with answers to choose from."""

    question: Annotated[
        str, msgspec.Meta(min_length=1, max_length=1000, description="The whole question.")
    ]
    options: Annotated[
        tuple[Option, ...],
        msgspec.Meta(min_length=2, max_length=4, description="Different labels, the best first."),
    ]
    multi_select: Annotated[
        bool, msgspec.Meta(description="Whether several options may be picked.")
    ] = False
    free_text: Annotated[
        bool, msgspec.Meta(description="Whether the person may write an answer of their own.")
    ] = True


class AskArguments(msgspec.Struct, frozen=True):
    """The arguments of `ask_user_question`."""

    questions: Annotated[tuple[Question, ...], msgspec.Meta(min_length=1, max_length=4)]


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a person says to one question: options, words of their own, or both."""

    selected: Annotated[tuple[Label, ...], msgspec.Meta(max_length=4)] = ()
    """Labels of options."""
    text: Annotated[str, msgspec.Meta(max_length=MAX_ANSWER)] = ""


def problem_of(asked: AskArguments) -> str | None:
    """Why these questions cannot be asked, if they cannot."""
    for number, question in enumerate(asked.questions):
        labels = [option.label for option in question.options]
        if len(set(labels)) < len(labels):
            return f"questions[{number}] has two options of the same label"
    return None


def check_answers(asked: AskArguments, answers: Sequence[Answer]) -> None:
    """Refuse what does not answer the questions.

    Raises:
        InvalidRequest: There are more or fewer answers than questions, an option is none of those
            that were offered, several were picked where one may be, there are words where none are
            wanted, or there is nothing at all.
    """
    if len(answers) != len(asked.questions):
        raise InvalidRequest(
            f"there are {len(asked.questions)} questions, and {len(answers)} answers",
            field="answers",
        )
    for number, (question, answer) in enumerate(zip(asked.questions, answers, strict=True)):
        where = f"answers[{number}]"
        labels = [option.label for option in question.options]
        unknown = [label for label in answer.selected if label not in labels]
        if unknown:
            raise InvalidRequest(
                f"{unknown[0]!r} is not an option; there are: {', '.join(map(repr, labels))}",
                field=f"{where}.selected",
            )
        if len(set(answer.selected)) < len(answer.selected):
            raise InvalidRequest("an option is picked twice", field=f"{where}.selected")
        if len(answer.selected) > 1 and not question.multi_select:
            raise InvalidRequest("only one option may be picked", field=f"{where}.selected")
        if answer.text and not question.free_text:
            raise InvalidRequest("this question takes one of its options", field=f"{where}.text")
        if not answer.selected and not answer.text.strip():
            raise InvalidRequest("this question is not answered", field=where)


def result_of(asked: AskArguments, answers: Sequence[Answer]) -> JsonObject:
    """What the model gets."""
    return {
        "answers": [
            {"question": question.question, "selected": list(answer.selected)}
            | ({"text": answer.text} if answer.text else {})
            for question, answer in zip(asked.questions, answers, strict=True)
        ]
    }
