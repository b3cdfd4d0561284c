"""What a person can do about what went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from steersman.chat.decisions import (
    ANSWER_USAGE,
    limit_hint,
    limit_text,
    open_questions,
    question_lines,
)
from steersman.chat.words import Marks, harmless, shorten
from steersman.client import ApiProblem, ClientError, UnexpectedAnswer, Unreachable, View
from steersman.client.access import NothingRuns
from steersman_contracts.chats import Chat, ChatError, ErrorKind, Status
from steersman_contracts.terms import Plan

ERROR: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 4
INTERRUPTED: Final = 130

_BY_KIND: Final[Mapping[ErrorKind, str]] = {
    "overloaded": "send another message to try again, in a moment",
    "rate_limit": "send another message to try again, in a moment",
    "usage_limit": "the account at the provider is used up; choose another model with --model",
    "auth": "the provider refused the key: steersman provider add {provider} --key-env VARIABLE",
    "config": "choose another model: steersman model list",
    "context_overflow": "the chat no longer fits the model: start a new one",
    "timeout": "send another message to try again",
    "content_filter": "say it in other words, or choose another model",
    "provider_disabled": "choose another model: steersman model list",
    "missing_key": "give it a key: steersman provider add {provider} --key-env VARIABLE",
    "generic": "send another message to try again; the log of the server says more",
}


class Line(NamedTuple):
    """A line about how it ended."""

    text: str
    style: str
    mark: str = ""


def error_text(error: ChatError) -> str:
    """An error of a turn in one sentence."""
    text = f"{error.kind}: {error.message}"
    if error.detail and error.detail not in error.message:
        text += f" ({error.detail})"
    return harmless(text)


def error_advice(error: ChatError) -> str:
    """What to do about it."""
    return harmless(_BY_KIND[error.kind].format(provider=error.provider or "NAME"))


def end_lines(view: View, marks: Marks) -> list[Line]:
    """What there is to say at the end of a turn, if it is not the usual one."""
    chat = view.chat
    if view.deleted:
        return [Line("this chat was deleted", "yellow", marks.stopped)]
    if chat is None or not view.resting:
        return []
    if chat.status is Status.ERROR and chat.last_error is not None:
        error = chat.last_error
        return [
            Line(error_text(error), "red", marks.failed),
            Line(f"  {error_advice(error)}", "dim"),
        ]
    if chat.status is Status.REQUIRES_ACTION:
        return _waiting_lines(chat, marks)
    if chat.plan is not None and chat.plan.state == "proposed" and chat.plan_mode:
        return _plan_lines(chat.plan, marks)
    match chat.last_outcome:
        case "interrupted":
            return [Line("interrupted", "yellow", marks.stopped)]
        case "action_expired":
            return [Line("stopped: nobody answered a call in time", "yellow", marks.stopped)]
        case "loop":
            return [Line("stopped: the model went in circles", "yellow", marks.stopped)]
        case "step_limit":
            return [Line("stopped: the turn took too many steps", "yellow", marks.stopped)]
        case _:
            return []


def _waiting_lines(chat: Chat, marks: Marks) -> list[Line]:
    if chat.action and chat.action.approvals:
        asked = chat.action.approvals[0]
        given = harmless(shorten(msgspec.json.encode(asked.arguments).decode(), 200))
        why = f" ({harmless(asked.reason)})" if asked.reason else ""
        return [
            Line(f"asks to run {asked.tool} {given}{why}", "yellow", marks.waits),
            Line("  /approve [once|chat|always] or /deny [REASON]", "dim"),
        ]
    if chat.action and chat.action.limit:
        reached = chat.action.limit
        goes_on = f"/limits {limit_hint(reached)} goes on"
        if reached.chat_id is not None:
            goes_on = f"{goes_on}, in the chat {reached.chat_id} whose limit it is"
        return [
            Line(f"waits: {limit_text(reached)}", "yellow", marks.waits),
            Line(f"  {goes_on}; /interrupt ends the turn", "dim"),
        ]
    if questions := open_questions(chat):
        lines = question_lines(questions[0][1])
        return [
            *(Line(harmless(line), "yellow", marks.waits) for line in lines[:1]),
            *(Line(harmless(line), "yellow") for line in lines[1:]),
            Line(f"  {ANSWER_USAGE}", "dim"),
        ]
    return [Line("waits for the result of a client-side tool", "yellow", marks.waits)]


def _plan_lines(plan: Plan, marks: Marks) -> list[Line]:
    return [
        Line("proposes a plan:", "yellow", marks.waits),
        *(Line(f"  {harmless(line)}", "") for line in plan.text.splitlines()),
        Line("  /plan approve [COMMENT], or /plan reject COMMENT", "dim"),
    ]


def exit_code(view: View) -> int:
    """What the end of a turn means to a shell."""
    chat = view.chat
    if chat is None or view.deleted:
        return ERROR
    if chat.status is not Status.WAITING:
        return ERROR
    match chat.last_outcome:
        case "completed" | None:
            return 0
        case "interrupted":
            return INTERRUPTED
        case _:
            return ERROR


class Failure(NamedTuple):
    """An error of the command: what to say, and the exit code."""

    text: str
    code: int


def failure(error: ClientError, url: str | None = None) -> Failure:
    """What to tell about an error of the client."""
    match error:
        case NothingRuns():
            return Failure(f"{error}: start it with `steersman up`", UNREACHABLE)
        case Unreachable():
            return Failure(f"{error}: start it with `steersman up`", UNREACHABLE)
        case ApiProblem(code="unauthenticated"):
            where = f" at {url}" if url else ""
            return Failure(f"the token is not accepted{where}: see --token, --data", ERROR)
        case ApiProblem(code="unknown_model"):
            return Failure(f"{error}: see `steersman model list`", ERROR)
        case ApiProblem(code="not_found"):
            return Failure(f"{error}", ERROR)
        case ApiProblem():
            field = f" [{error.field}]" if error.field else ""
            return Failure(f"{error} ({error.code}){field}", ERROR)
        case UnexpectedAnswer():
            where = f" at {url}" if url else ""
            return Failure(f"this is no Steersman that we know{where}: {error}", UNREACHABLE)
        case _:
            return Failure(str(error), ERROR)
