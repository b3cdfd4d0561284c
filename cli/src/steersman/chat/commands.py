"""What a person can ask for beside talking: `/name arguments`, each with a line of help."""

from __future__ import annotations

import difflib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple, cast, get_args

from steersman.chat.conversation import Conversation, resume_hint
from steersman.chat.decisions import (
    ANSWER_USAGE,
    Misused,
    limits_text,
    open_questions,
    question_lines,
    read_answers,
    read_limits,
)
from steersman.chat.output import plain_text
from steersman.chat.schemas import read_schema, schema_text
from steersman.chat.wishes import Wishes, find_model, sendable
from steersman.chat.words import shorten
from steersman.client import Client
from steersman_contracts.chats import Chat, ChatSnapshot, Message, Role, Status
from steersman_contracts.ids import ChatId, is_chat_id
from steersman_contracts.model_options import EFFORTS
from steersman_contracts.policies import Scope
from steersman_contracts.rest import EditMessageBody, EditQueuedBody, UpdateChatBody

_COMMAND: Final = re.compile(r"/([a-z]+)(?:\s+(.*))?", re.DOTALL)
_LISTED: Final = 20
_MOST_AGENTS: Final = 200
_LINE: Final = 60


@dataclass
class Talk:
    """What commands see and change.

    Attributes:
        conversation: None until the first message.
        say: Prints a line.
        moved: The conversation is another one: nothing of it is on the screen.
        watch: A turn was started: show it.
        leaves: The person wants to leave.
        listed: The chats that `/chats` showed last, in that order.
    """

    client: Client
    say: Callable[[str], None]
    wishes: Wishes = field(default_factory=Wishes)
    conversation: Conversation | None = None
    moved: bool = False
    watch: bool = False
    leaves: bool = False
    listed: tuple[Chat, ...] = ()

    def go_to(self, chat_id: ChatId | None) -> None:
        """Go on in another chat; None begins one with the next message."""
        self.conversation = None if chat_id is None else Conversation(self.client, chat_id)
        self.wishes = replace(self.wishes, title="")
        self.moved = True

    def here(self) -> Conversation:
        """The present conversation.

        Raises:
            Misused: There is none yet.
        """
        if self.conversation is None:
            raise Misused("there is no chat yet: it begins with your first message")
        return self.conversation


class Command(NamedTuple):
    """A command and how it is explained."""

    arguments: str
    help: str
    run: Callable[[Talk, str], Awaitable[None]]


def parse(text: str) -> tuple[str, str] | None:
    """Name and arguments of a command; None when the text is a message."""
    found = _COMMAND.fullmatch(text)
    return None if found is None else (found[1], (found[2] or "").strip())


async def obey(talk: Talk, name: str, argument: str) -> None:
    """Do what was asked for.

    Raises:
        ClientError: It cannot be done, or there is no such command.
    """
    command = COMMANDS.get(name) or COMMANDS.get(_ALIASES.get(name, ""))
    if command is None:
        near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.6)
        hint = f"did you mean /{near[0]}?" if near else "/help lists what there is"
        raise Misused(f"there is no /{name}: {hint}")
    await command.run(talk, argument)


async def _help(talk: Talk, name: str) -> None:
    name = name.lstrip("/")
    if name in COMMANDS:
        talk.say(_help_line(name))
        return
    if name:
        raise Misused(f"there is no /{name}: /help lists what there is")
    for known in COMMANDS:
        talk.say(_help_line(known))
    talk.say("A line that ends in \\ goes on in the next one. Ctrl-C ends the turn, twice leaves.")


def _help_line(name: str) -> str:
    command = COMMANDS[name]
    return f"{f'/{name} {command.arguments}':<24} {command.help}"


# -- which chat ------------------------------------------------------------------------------------


async def _new(talk: Talk, _: str) -> None:
    talk.go_to(None)
    talk.say("a new chat begins with your next message")


async def _chats(talk: Talk, words: str) -> None:
    page = await talk.client.list_chats(limit=_LISTED, words=words or None)
    talk.listed = page.chats
    for number, chat in enumerate(page.chats, start=1):
        mark = "*" if talk.conversation and chat.id == talk.conversation.chat_id else " "
        unread = " (unread)" if chat.has_unread else ""
        title = shorten(chat.title or "(no title)", _LINE)
        talk.say(f"{mark}{number:>3}  {chat.status.value:<15} {title}{unread}")
    if not page.chats:
        talk.say("no chat is like that" if words else "there is no chat yet")
    elif page.next_cursor is not None:
        talk.say(f"and more: /chats WORDS finds them; these are the last {_LISTED}")


async def _agents(talk: Talk, _: str) -> None:
    page = await talk.client.list_chats(
        limit=_MOST_AGENTS, parent_id=talk.here().chat_id, archived="any"
    )
    talk.listed = tuple(sorted(page.chats, key=lambda chat: (chat.created_at, chat.id)))
    for number, chat in enumerate(talk.listed, start=1):
        away = " (put away)" if chat.archived else ""
        title = shorten(chat.title, _LINE)
        talk.say(f"{number:>4}  {chat.status.value:<15} {chat.agent_kind}: {title}{away}")
    talk.say("/resume NUMBER looks at one" if page.chats else "this chat has no agents")


async def _resume(talk: Talk, which: str) -> None:
    if is_chat_id(which):
        chat = await talk.client.get_chat(ChatId(which))
    elif which.isdecimal() and 0 < int(which) <= len(talk.listed):
        chat = talk.listed[int(which) - 1]
    else:
        raise Misused("/resume NUMBER goes to a chat that was listed, or by its id")
    talk.go_to(chat.id)
    talk.watch = True


async def _fork(talk: Talk, title: str) -> None:
    snapshot = await talk.here().look()
    if not snapshot.messages:
        raise Misused("there is nothing to fork yet")
    source = snapshot.chat
    fork = await talk.client.fork(source.id, snapshot.messages[-1].id, sendable(title))
    talk.go_to(fork.id)
    talk.say(f"this is a copy now; the original stays: {resume_hint(source.id)}")


async def _archive(talk: Talk, _: str) -> None:
    chat = await talk.client.archive(talk.here().chat_id)
    talk.go_to(None)
    talk.say(f"put away; /unarchive {chat.id} brings it back. A new chat begins here")


async def _unarchive(talk: Talk, which: str) -> None:
    if not is_chat_id(which):
        raise Misused("/unarchive ID: the id that /archive told")
    chat = await talk.client.unarchive(ChatId(which))
    talk.go_to(chat.id)
    talk.watch = True


async def _delete(talk: Talk, sure: str) -> None:
    chat_id = talk.here().chat_id
    if sure != "yes":
        raise Misused("/delete yes removes this chat for good; /archive only puts it away")
    await talk.client.delete_chat(chat_id)
    talk.go_to(None)
    talk.say("deleted; a new chat begins with your next message")


# -- this chat -------------------------------------------------------------------------------------


async def _title(talk: Talk, title: str) -> None:
    if not title:
        raise Misused("/title TEXT")
    if talk.conversation is None:
        talk.wishes = replace(talk.wishes, title=sendable(title))
        return
    body = UpdateChatBody(title=sendable(title))
    await talk.client.update_chat(talk.conversation.chat_id, body)


async def _pin(talk: Talk, position: str) -> None:
    if position and (not position.isdecimal() or int(position) == 0):
        raise Misused("/pin POSITION, 1 being the first")
    chat = await talk.client.pin(talk.here().chat_id, int(position or 1))
    talk.say(f"pinned at {chat.pin_position}")


async def _unpin(talk: Talk, _: str) -> None:
    await talk.client.unpin(talk.here().chat_id)
    talk.say("no longer pinned")


async def _clear(talk: Talk, _: str) -> None:
    await talk.client.clear_context(talk.here().chat_id)
    talk.say("the model no longer sees what was said so far; you still do")


async def _compact(talk: Talk, undo: str) -> None:
    chat_id = talk.here().chat_id
    if undo == "undo":
        await talk.client.undo_compaction(chat_id)
        talk.say("the model sees again what the summary replaced")
    elif undo:
        raise Misused("/compact, or /compact undo")
    else:
        await talk.client.compact(chat_id)
        talk.watch = True


async def _approve(talk: Talk, scope: str) -> None:
    if scope not in get_args(Scope) and scope:
        raise Misused(f"/approve, or /approve with one of: {', '.join(get_args(Scope))}")
    await _decide(talk, approved=True, scope=cast("Scope", scope or "once"))


async def _deny(talk: Talk, reason: str) -> None:
    await _decide(talk, approved=False, reason=reason)


async def _decide(talk: Talk, *, approved: bool, scope: Scope = "once", reason: str = "") -> None:
    """Decide about the first call that the chat asks about."""
    chat = await talk.client.get_chat(talk.here().chat_id)
    asked = chat.action.approvals if chat.action else ()
    if not asked:
        raise Misused("nothing waits for your decision")
    chat = await talk.client.resolve_approval(
        chat.id, asked[0].call_id, approved=approved, scope=scope, reason=reason
    )
    talk.say(f"{asked[0].tool}: {'allowed' if approved else 'refused'}")
    talk.watch = chat.status is Status.RUNNING
    if len(asked) > 1:
        talk.say(f"{asked[1].tool} waits next: /approve or /deny")


async def _answer(talk: Talk, words: str) -> None:
    chat = await talk.client.get_chat(talk.here().chat_id)
    asked = open_questions(chat)
    if not asked:
        raise Misused("the model does not ask anything")
    call_id, questions = asked[0]
    if not words:
        for line in question_lines(questions):
            talk.say(line)
        talk.say(ANSWER_USAGE)
        return
    chat = await talk.client.answer(chat.id, read_answers(questions, words), call_id)
    talk.watch = chat.status is Status.RUNNING
    if len(asked) > 1:
        for line in question_lines(asked[1][1]):
            talk.say(line)


async def _plan(talk: Talk, argument: str) -> None:
    verb, _, comment = argument.partition(" ")
    conversation = talk.conversation
    if verb in ("on", "off") and conversation is None:
        talk.wishes = replace(talk.wishes, plan_mode=verb == "on")
    elif verb in ("on", "off") and conversation is not None:
        body = UpdateChatBody(plan_mode=verb == "on")
        await talk.client.update_chat(conversation.chat_id, body)
    elif verb == "approve":
        chat = await talk.client.approve_plan(talk.here().chat_id, sendable(comment.strip()))
        talk.watch = chat.status is Status.RUNNING
        return
    elif verb == "reject":
        chat = await talk.client.reject_plan(talk.here().chat_id, sendable(comment.strip()))
        talk.watch = chat.status is Status.RUNNING
        return
    elif argument:
        raise Misused("/plan on, /plan off, /plan approve [COMMENT], /plan reject [COMMENT]")
    else:
        await _show_plan(talk)
        return
    talk.say("tools only look around" if verb == "on" else "tools may change things")


async def _show_plan(talk: Talk) -> None:
    if talk.conversation is None:
        talk.say("on" if talk.wishes.plan_mode else "off: /plan on only looks around at first")
        return
    chat = await talk.client.get_chat(talk.conversation.chat_id)
    talk.say("plan mode is on" if chat.plan_mode else "plan mode is off")
    if chat.plan is not None:
        talk.say(f"the newest plan was {chat.plan.state}:\n{chat.plan.text}")


async def _limits(talk: Talk, argument: str) -> None:
    chat = await talk.client.get_chat(talk.here().chat_id)
    if not argument:
        talk.say(limits_text(chat.limits))
        return
    chat = await talk.client.put_limits(chat.id, read_limits(chat.limits, argument))
    talk.say(limits_text(chat.limits))
    talk.watch = chat.status is Status.RUNNING


async def _schema(talk: Talk, argument: str) -> None:
    if not argument:
        if talk.conversation is None:
            talk.say(schema_text(talk.wishes.response_schema))
        else:
            chat = await talk.client.get_chat(talk.conversation.chat_id)
            talk.say(schema_text(chat.response_schema))
        return
    schema = {} if argument == "none" else read_schema(Path(argument))
    if talk.conversation is None:
        talk.wishes = replace(talk.wishes, response_schema=schema or None)
    else:
        body = UpdateChatBody(response_schema=schema)
        await talk.client.update_chat(talk.conversation.chat_id, body)
    talk.say("answers have that form from the next turn on" if schema else "answers are free")


async def _model(talk: Talk, name: str) -> None:
    if name:
        model = await find_model(talk.client, name)
        talk.wishes = replace(talk.wishes, model=model)
        talk.say(f"{model} answers from now on")
        return
    chat = talk.conversation.view.chat if talk.conversation else None
    model = talk.wishes.model or (chat.model if chat else None)
    talk.say(model or "the default model; /models shows which that is")


async def _effort(talk: Talk, level: str) -> None:
    if not level:
        chat = talk.conversation.view.chat if talk.conversation else None
        effort = talk.wishes.effort or (chat.effort if chat else None)
        talk.say(effort or f"the model's own; /effort {'|'.join(EFFORTS)} or default")
    elif level == "default":
        talk.wishes = replace(talk.wishes, effort=None)
        if talk.conversation is not None:
            await talk.client.update_chat(talk.conversation.chat_id, UpdateChatBody(effort=None))
        talk.say("the model thinks as hard as it is set to")
    elif (found := next((one for one in EFFORTS if one == level), None)) is not None:
        talk.wishes = replace(talk.wishes, effort=found)
        talk.say(f"the effort is {found} from now on")
    else:
        raise Misused(f"there is no effort {level!r}: {', '.join(EFFORTS)} or default")


async def _models(talk: Talk, _: str) -> None:
    for model in await talk.client.list_models():
        if model.availability == "disabled":
            continue
        mark = "*" if model.is_default else " "
        talk.say(f"{mark} {model.name:<40} {model.display_name}")


# -- the turn --------------------------------------------------------------------------------------


async def _interrupt(talk: Talk, _: str) -> None:
    if talk.conversation is None:
        talk.say("nothing runs")
        return
    chat = await talk.client.interrupt(talk.conversation.chat_id)
    talk.say(f"the chat is {chat.status.value}")


async def _edit(talk: Talk, text: str) -> None:
    conversation = talk.here()
    last = _last_question(await conversation.look())
    if not text:
        talk.say(f"/edit TEXT replaces your last message: {plain_text(last.parts)}")
        return
    body = talk.wishes.edit(sendable(text))
    await _replace(talk, conversation, last, body)


async def _retry(talk: Talk, _: str) -> None:
    conversation = talk.here()
    last = _last_question(await conversation.look())
    text = plain_text(last.parts)
    if not text:
        raise Misused("your last message holds more than text: send it again instead")
    await _replace(talk, conversation, last, talk.wishes.edit(text))


async def _replace(
    talk: Talk, conversation: Conversation, old: Message, body: EditMessageBody
) -> None:
    await conversation.edit(old.id, body)
    talk.wishes = talk.wishes.taken()
    talk.watch = True


def _last_question(snapshot: ChatSnapshot) -> Message:
    asked = [message for message in snapshot.messages if message.role is Role.USER]
    if not asked:
        raise Misused("there is no message of yours yet")
    return asked[-1]


_QUEUE_USAGE: Final = "/queue, or /queue first N, /queue drop N, /queue edit N TEXT"


async def _queue(talk: Talk, argument: str) -> None:
    conversation = talk.here()
    snapshot = await conversation.look()
    verb, _, rest = argument.partition(" ")
    if not verb:
        for number, queued in enumerate(snapshot.queue, start=1):
            line = " ".join(plain_text(queued.parts).split())
            talk.say(f"{number:>3}  {shorten(line, _LINE)}")
        if not snapshot.queue:
            talk.say("nothing waits")
        return
    number, _, text = rest.strip().partition(" ")
    if not number.isdecimal() or not 0 < int(number) <= len(snapshot.queue):
        raise Misused(_QUEUE_USAGE)
    chat_id, queued_id = conversation.chat_id, snapshot.queue[int(number) - 1].id
    if verb == "first":
        conversation.expect(await talk.client.promote_queued(chat_id, queued_id))
        talk.watch = True
    elif verb == "drop":
        await talk.client.delete_queued(chat_id, queued_id)
        talk.say("dropped")
    elif verb == "edit" and text.strip():
        body = EditQueuedBody(text=sendable(text.strip()))
        await talk.client.edit_queued(chat_id, queued_id, body)
        talk.say("changed")
    else:
        raise Misused(_QUEUE_USAGE)


async def _quit(talk: Talk, _: str) -> None:
    talk.leaves = True


COMMANDS: Final[dict[str, Command]] = {
    "help": Command("[NAME]", "show this, or the line of one command", _help),
    "model": Command("[NAME]", "answer with another model from now on; or say which it is", _model),
    "effort": Command("[LEVEL]", "think harder or less from now on; or say how hard", _effort),
    "models": Command("", "list the models", _models),
    "interrupt": Command("", "end the turn that runs in this chat", _interrupt),
    "retry": Command("", "have your last message answered again", _retry),
    "edit": Command("[TEXT]", "say your last message in other words, and go on from there", _edit),
    "queue": Command("[first|drop|edit N]", "show what waits; or change it", _queue),
    "clear": Command("", "let the model forget what was said so far", _clear),
    "compact": Command("[undo]", "have what was said so far summarised for the model", _compact),
    "approve": Command("[once|chat|always]", "let the tool call run that is asked about", _approve),
    "deny": Command("[REASON]", "refuse that tool call; the model is told why", _deny),
    "agents": Command("", "list the agents of this chat", _agents),
    "answer": Command("[1; 2,3; words]", "answer what the model asks", _answer),
    "plan": Command("[on|off|approve|reject]", "only look around; or decide about a plan", _plan),
    "limits": Command("[steps=9 …|none]", "what one turn may use before it waits", _limits),
    "schema": Command("[FILE|none]", "have answers as JSON of a JSON Schema", _schema),
    "fork": Command("[TITLE]", "go on in a copy of this chat", _fork),
    "title": Command("TEXT", "give this chat a title", _title),
    "pin": Command("[POSITION]", "keep this chat at the top of the list", _pin),
    "unpin": Command("", "no longer", _unpin),
    "new": Command("", "start another chat", _new),
    "chats": Command("[WORDS]", "list your chats, or those that hold the words", _chats),
    "resume": Command("NUMBER", "go on with a chat of that list, or with an id", _resume),
    "archive": Command("", "put this chat away", _archive),
    "unarchive": Command("ID", "bring a chat back, and go on with it", _unarchive),
    "delete": Command("yes", "remove this chat for good", _delete),
    "quit": Command("", "leave (Ctrl-D too)", _quit),
}
_ALIASES: Final = {"exit": "quit"}
