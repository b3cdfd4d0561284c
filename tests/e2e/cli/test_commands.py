"""Each command of the chat, against a whole deployment."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from tempfile import NamedTemporaryFile

import pytest
from e2e.cli.conftest import StartChat, text_of, until
from e2e.cli.terminal import PROMPT, terminal
from support.deployment import Deployment

from steersman.chat.commands import COMMANDS, Talk, obey
from steersman.chat.decisions import Misused
from steersman.client import ApiProblem, Client, View
from steersman_contracts.chats import Chat, Role, Status
from steersman_contracts.ids import ChatId, ModelName
from steersman_contracts.parts import TextPart, ToolResultPart
from steersman_contracts.rest import CreateChatBody, RuleInput, SendMessageBody
from steersman_contracts.terms import TurnLimits


class Person:
    """Somebody who types commands in a chat in which one question was answered."""

    def __init__(self, client: Client, chat_id: ChatId, deployment: Deployment) -> None:
        self.client = client
        self.chat_id = chat_id
        self.deployment = deployment
        self.lines: list[str] = []
        self.talk = Talk(client, self.lines.append)
        self.talk.go_to(chat_id)

    async def type(self, text: str) -> list[str]:
        """Give a command; returns what it said."""
        self.lines.clear()
        self.talk.moved = self.talk.watch = False
        name, _, argument = text.removeprefix("/").partition(" ")
        await obey(self.talk, name, argument)
        return self.lines

    @property
    def here(self) -> ChatId | None:
        return self.talk.conversation and self.talk.conversation.chat_id

    async def chat(self) -> Chat:
        return await self.client.get_chat(self.chat_id)

    async def said(self, chat_id: ChatId | None = None) -> list[str]:
        """The history once the chat rests."""
        view = await until(self.client, chat_id or self.chat_id, lambda view: view.resting)
        return [text_of(message) for message in view.messages]

    async def refuses(self, text: str, why: str) -> None:
        with pytest.raises(Misused, match=why):
            await self.type(text)


@pytest.fixture
async def person(client: Client, start_chat: StartChat, deployment: Deployment) -> Person:
    chat_id = await start_chat("demo/echo", "one")
    await until(client, chat_id, lambda view: view.resting and len(view.messages) == 2)
    return Person(client, chat_id, deployment)


async def _help(person: Person) -> None:
    assert len(await person.type("/help")) == len(COMMANDS) + 1


async def _model(person: Person) -> None:
    assert await person.type("/model count") == ["demo/count answers from now on"]
    assert await person.type("/model") == ["demo/count"]


async def _models(person: Person) -> None:
    assert any("demo/echo" in line for line in await person.type("/models"))


async def _interrupt(person: Person) -> None:
    assert await person.type("/interrupt") == ["the chat is waiting"]


async def _retry(person: Person) -> None:
    old = (await person.client.list_messages(person.chat_id)).messages
    await person.type("/retry")
    assert person.talk.watch
    assert await person.said() == ["one", "one"]
    new = (await person.client.list_messages(person.chat_id)).messages
    assert {message.id for message in old}.isdisjoint(message.id for message in new)


async def _edit(person: Person) -> None:
    (shown,) = await person.type("/edit")
    assert shown.endswith("your last message: one")
    await person.type("/edit another\nline")
    assert person.talk.watch
    assert await person.said() == ["another\nline", "another\nline"]


async def _queue(person: Person) -> None:
    assert await person.type("/queue") == ["nothing waits"]
    person.deployment.signal("chatloop", signal.SIGSTOP)  # so that the turn cannot end
    try:
        for text in ("busy", "a", "b", "c"):
            await person.client.send_message(person.chat_id, SendMessageBody(text=text))
        assert await person.type("/queue") == ["  1  a", "  2  b", "  3  c"]
        assert await person.type("/queue edit 2 B and\nmore") == ["changed"]
        assert await person.type("/queue drop 1") == ["dropped"]
        assert await person.type("/queue") == ["  1  B and more", "  2  c"]
        for wrong in ("first 3", "first", "drop x", "edit 1", "sing 1"):
            await person.refuses(f"/queue {wrong}", "/queue first N")
        await person.type("/queue first 2")
        assert person.talk.watch
        assert await person.type("/queue") == ["  1  c", "  2  B and more"]
    finally:
        person.deployment.signal("chatloop", signal.SIGCONT)
    view = await until(person.client, person.chat_id, lambda view: view.resting and not view.queue)
    asked = [text_of(message) for message in view.messages if message.role is Role.USER]
    assert asked == ["one", "busy", "c", "B and\nmore"]


async def _clear(person: Person) -> None:
    await person.type("/clear")
    newest = (await person.client.list_messages(person.chat_id)).messages[-1]
    assert newest.boundary == "clear"


async def _compact(person: Person) -> None:
    await person.refuses("/compact now", "/compact undo")
    await person.type("/compact")
    assert person.talk.watch
    await until(person.client, person.chat_id, _has_rested_after_a_summary)
    assert await person.type("/compact undo") == ["the model sees again what the summary replaced"]
    assert [m.role for m in (await person.client.list_messages(person.chat_id)).messages] == [
        Role.USER,
        Role.ASSISTANT,
    ]


def _has_rested_after_a_summary(view: View) -> bool:
    return view.resting and len(view.messages) == 4


async def _asked(person: Person) -> ChatId:
    """A chat of the person's that waits for a decision about a tool call."""
    body = CreateChatBody(model=ModelName("demo/tour"))
    chat_id = (await person.client.create_chat(body)).chat.id
    rules = [RuleInput("ask", tool="write_file", reason="it writes")]
    await person.client.put_policy("chat", rules, chat_id=chat_id)
    await person.client.send_message(chat_id, SendMessageBody(text="show me"))
    await until(person.client, chat_id, lambda view: view.status is Status.REQUIRES_ACTION)
    person.talk.go_to(chat_id)
    return chat_id


async def _approve(person: Person) -> None:
    await person.refuses("/approve", "nothing waits")
    chat_id = await _asked(person)
    await person.refuses("/approve for ever", "once, chat, always")
    assert await person.type("/approve chat") == ["write_file: allowed"]
    assert person.talk.watch
    view = await until(person.client, chat_id, lambda view: view.status is Status.WAITING)
    assert view.chat is not None
    assert view.chat.last_outcome == "completed"


async def _deny(person: Person) -> None:
    chat_id = await _asked(person)
    assert await person.type("/deny not today") == ["write_file: refused"]
    view = await until(person.client, chat_id, lambda view: view.status is Status.WAITING)
    told = [
        part.content[0].text
        for message in view.messages
        for part in message.parts
        if isinstance(part, ToolResultPart) and isinstance(part.content[0], TextPart)
    ]
    assert "a person refused this call: not today" in told


async def _fork(person: Person) -> None:
    (told,) = await person.type("/fork a copy")
    assert f"--resume {person.chat_id}" in told
    assert person.talk.moved
    assert person.here not in {None, person.chat_id}
    assert await person.said(person.here) == ["one", "one"]
    assert (await person.client.get_chat(person.here or person.chat_id)).title == "a copy"


async def _title(person: Person) -> None:
    await person.type("/title Ships at sea")
    assert (await person.chat()).title == "Ships at sea"


async def _pin(person: Person) -> None:
    assert await person.type("/pin") == ["pinned at 1"]
    assert (await person.chat()).pin_position == 1


async def _unpin(person: Person) -> None:
    await person.type("/pin")
    await person.type("/unpin")
    assert (await person.chat()).pin_position is None


async def _new(person: Person) -> None:
    await person.type("/new")
    assert (person.here, person.talk.moved) == (None, True)
    await person.refuses("/fork", "there is no chat yet")


async def _chats(person: Person) -> None:
    await person.type("/title Zanzibar")
    assert await person.type("/chats zanzibar") == ["*  1  waiting         Zanzibar (unread)"]
    assert await person.type("/chats zanzibar -zanzibar") == ["no chat is like that"]


async def _resume(person: Person) -> None:
    await person.type("/title Lighthouse")
    await person.type("/new")
    await person.type("/chats lighthouse")
    await person.type("/resume 1")
    assert (person.here, person.talk.watch) == (person.chat_id, True)
    await person.type("/new")
    await person.type(f"/resume {person.chat_id}")
    assert person.here == person.chat_id


async def _archive(person: Person) -> None:
    (told,) = await person.type("/archive")
    assert f"/unarchive {person.chat_id}" in told
    assert (person.here, (await person.chat()).archived) == (None, True)


async def _unarchive(person: Person) -> None:
    await person.type("/archive")
    await person.type(f"/unarchive {person.chat_id}")
    assert (person.here, (await person.chat()).archived) == (person.chat_id, False)


async def _delete(person: Person) -> None:
    await person.refuses("/delete", "/delete yes")
    assert (await person.chat()).status is Status.WAITING
    await person.type("/delete yes")
    with pytest.raises(ApiProblem, match="no such chat"):
        await person.chat()
    assert person.here is None


async def _effort(person: Person) -> None:
    assert await person.type("/effort high") == ["the effort is high from now on"]
    assert await person.type("/effort") == ["high"]
    await person.refuses("/effort hard", "there is no effort 'hard'")
    await person.type("/effort default")
    assert (await person.chat()).effort is None


async def _agents(person: Person) -> None:
    assert await person.type("/agents") == ["this chat has no agents"]


async def _answer(person: Person) -> None:
    await person.refuses("/answer 1", "the model does not ask anything")


async def _plan(person: Person) -> None:
    assert await person.type("/plan on") == ["tools only look around"]
    assert (await person.chat()).plan_mode
    assert await person.type("/plan off") == ["tools may change things"]
    assert not (await person.chat()).plan_mode
    await person.refuses("/plan sing", "/plan approve")


async def _limits(person: Person) -> None:
    (told,) = await person.type("/limits steps=9")
    assert "9" in told
    assert (await person.chat()).limits == TurnLimits(steps=9)
    await person.type("/limits none")
    assert (await person.chat()).limits is None


async def _schema(person: Person) -> None:
    with NamedTemporaryFile("w", suffix=".json") as file:
        file.write('{"type": "object"}')
        file.flush()
        (told,) = await person.type(f"/schema {file.name}")
    assert told.startswith("answers have that form")
    assert (await person.chat()).response_schema == {"type": "object"}
    assert "".join(await person.type("/schema")).split() == ["{", '"type":', '"object"', "}"]
    assert await person.type("/schema none") == ["answers are free"]
    assert (await person.chat()).response_schema is None
    await person.refuses("/schema /dev/null", "holds no JSON Schema")


async def _quit(person: Person) -> None:
    await person.type("/quit")
    assert person.talk.leaves


CASES: dict[str, Callable[[Person], Awaitable[None]]] = {
    case.__name__[1:]: case
    for case in (
        *(_help, _model, _models, _interrupt, _retry, _edit, _queue, _clear, _fork, _title),
        *(_compact, _approve, _deny, _effort, _agents, _answer, _plan, _limits, _schema),
        *(_pin, _unpin, _new, _chats, _resume, _archive, _unarchive, _delete, _quit),
    )
}


@pytest.mark.parametrize("name", COMMANDS)
async def test_every_command_does_what_its_help_says(person: Person, name: str) -> None:
    await CASES[name](person)


async def test_commands_and_boundaries_on_a_terminal(
    env: dict[str, str], client: Client, start_chat: StartChat
) -> None:
    chat_id = await start_chat("demo/echo", "question")
    await until(client, chat_id, lambda view: view.resting and len(view.messages) == 2)
    async with terminal(env, "chat", "--resume", chat_id) as person:
        await person.until(PROMPT, count=2)  # the first one stands before the message
        person.type("/clear\r")
        await person.until("no longer sees")
        person.type("after that\r")
        await person.until("sees nothing above this line")
        await person.until("after that", count=2)
        person.type("/edit in other words\r")
        await person.until("in other words", count=2)
        person.type("/sing\r")
        await person.until("there is no /sing")
        person.type("/quit\r")
        assert await person.end() == 0

    stored = (await client.list_messages(chat_id)).messages
    said = [text_of(message) for message in stored if message.role is not Role.SYSTEM]
    assert said == ["question", "question", "in other words", "in other words"]
