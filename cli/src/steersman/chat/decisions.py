"""What the model waits for, in words, and what a person types to decide: plain functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from steersman.client import ClientError
from steersman_contracts.chats import Chat
from steersman_contracts.questions import ASK, Answer, AskArguments, Question
from steersman_contracts.rest_prompts import LimitsBody
from steersman_contracts.terms import LimitReached, TurnLimits

ANSWER_USAGE: Final = (
    "/answer 1 picks the first answer; 1,3 picks two; own words answer freely; "
    "; separates the answers to several questions"
)
_LIMITS: Final = ("steps", "tokens", "cost", "minutes")
_MICROS: Final = 1_000_000


class Misused(ClientError):
    """The command exists and wants other arguments; the text says which."""


def open_questions(chat: Chat) -> list[tuple[str, AskArguments]]:
    """The calls that ask the person, in order."""
    found: list[tuple[str, AskArguments]] = []
    for call in chat.action.calls if chat.action else ():
        if call.tool != ASK:
            continue
        try:
            found.append((call.call_id, msgspec.convert(call.arguments, AskArguments)))
        except msgspec.ValidationError:
            continue  # a tool of a client, which is called the same
    return found


def question_lines(asked: AskArguments) -> list[str]:
    """The questions with their numbered answers."""
    lines: list[str] = []
    for question in asked.questions:
        several = " (several may be picked)" if question.multi_select else ""
        lines.append(f"{question.question}{several}")
        for number, option in enumerate(question.options, start=1):
            more = f": {option.description}" if option.description else ""
            lines.append(f"  {number}  {option.label}{more}")
        if question.free_text:
            lines.append("  or words of your own")
    return lines


def read_answers(asked: AskArguments, words: str) -> tuple[Answer, ...]:
    """What was typed after `/answer`.

    Raises:
        Misused: It does not answer the questions.
    """
    single = len(asked.questions) == 1
    pieces = [words.strip()] if single else [piece.strip() for piece in words.split(";")]
    if len(pieces) != len(asked.questions):
        raise Misused(f"there are {len(asked.questions)} questions: {ANSWER_USAGE}")
    return tuple(
        _answer(question, piece) for question, piece in zip(asked.questions, pieces, strict=True)
    )


def _answer(question: Question, piece: str) -> Answer:
    labels = [option.label for option in question.options]
    picked = [number.strip() for number in piece.split(",")]
    if all(number.isdecimal() for number in picked):
        numbers = [int(number) for number in picked]
        if not all(1 <= number <= len(labels) for number in numbers):
            raise Misused(f"the answers are numbered 1 to {len(labels)}")
        return Answer(tuple(labels[number - 1] for number in numbers))
    if piece in labels:
        return Answer((piece,))
    if not question.free_text:
        raise Misused(f"{question.question!r} takes one of its answers: {ANSWER_USAGE}")
    return Answer(text=piece)


def limit_text(reached: LimitReached) -> str:
    """Which limit is reached, for people."""
    match reached.kind:
        case "steps":
            return f"this turn has taken {reached.used} of {reached.limit} steps"
        case "tokens":
            return f"this turn has used {reached.used:,} of {reached.limit:,} tokens"
        case "cost_micros":
            used, limit = reached.used / _MICROS, reached.limit / _MICROS
            return f"this turn has cost {used:.4f} of {limit:.4f}"
        case "wall_s":
            return f"this turn takes {reached.used // 60} of {reached.limit // 60} minutes"


def limit_hint(reached: LimitReached) -> str:
    """What doubles it, or what was used if agents have gone far beyond it."""
    double = 2 * (reached.limit if reached.used < 2 * reached.limit else reached.used)
    match reached.kind:
        case "cost_micros":
            return f"cost={double / _MICROS:g}"
        case "wall_s":
            return f"minutes={max(1, double // 60)}"
        case kind:
            return f"{kind}={double}"


def limits_text(limits: TurnLimits | None) -> str:
    """The limits as `/limits` reads them."""
    if limits is None:
        return "a turn may use what it needs"
    cost = None if limits.cost_micros is None else limits.cost_micros / _MICROS
    minutes = None if limits.wall_s is None else limits.wall_s / 60
    values: Sequence[float | None] = (limits.steps, limits.tokens, cost, minutes)
    pairs = zip(_LIMITS, values, strict=True)
    return "one turn: " + " ".join(f"{name}={v:g}" for name, v in pairs if v is not None)


def read_limits(present: TurnLimits | None, words: str) -> LimitsBody:
    """What was typed after `/limits`: those that are named change, `none` removes all.

    Raises:
        Misused: It is none of that.
    """
    now = present or TurnLimits()
    if words == "none":
        return LimitsBody()
    values: dict[str, int | None] = {
        "steps": now.steps,
        "tokens": now.tokens,
        "cost": now.cost_micros,
        "minutes": now.wall_s,
    }
    factors = {"cost": _MICROS, "minutes": 60}
    for word in words.split():
        name, _, value = word.partition("=")
        try:
            name = _LIMITS[_LIMITS.index(name)]
            values[name] = None if value == "none" else _amount(float(value), factors.get(name, 1))
        except (ValueError, OverflowError) as error:
            names = ", ".join(f"{known}=NUMBER" for known in _LIMITS)
            raise Misused(f"/limits takes {names}, or none") from error
    return LimitsBody(values["steps"], values["tokens"], values["cost"], values["minutes"])


def _amount(value: float, factor: int) -> int:
    amount = round(value * factor)
    if amount < 1:
        raise ValueError
    return amount
