from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import httpx2
import msgspec
import pytest
from unit.cli.chat_log import CHAT_ID, NOW, new_chat
from unit.cli.test_calls import client_of

from steersman.chat.commands import COMMANDS, Talk, obey, parse
from steersman.chat.decisions import Misused
from steersman.chat.schemas import NoSchema
from steersman.client import Client
from steersman_contracts.chats import Status
from steersman_contracts.ids import ChatId
from steersman_contracts.rest import ChatList


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
async def talk(lines: list[str]) -> Talk:
    return Talk(Client("http://127.0.0.1:1", "token"), lines.append)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/help", ("help", "")),
        ("/model demo/echo", ("model", "demo/echo")),
        ("/edit  two\nlines ", ("edit", "two\nlines")),
        ("/etc/passwd is a file", None),
        ("what is /help?", None),
        ("/", None),
        ("/HELP", None),
    ],
)
def test_a_command_begins_with_a_slash_and_a_word(
    text: str, expected: tuple[str, str] | None
) -> None:
    assert parse(text) == expected


async def test_the_form_of_answers_can_be_chosen_before_the_first_message(
    talk: Talk, lines: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "form.json"
    path.write_text('{"type": "object"}')
    await obey(talk, "schema", str(path))
    assert talk.wishes.new_chat("hello").response_schema == {"type": "object"}
    for text, why in (("[1]", "holds no JSON Schema"), ("{", "holds no JSON Schema")):
        path.write_text(text)
        with pytest.raises(NoSchema, match=why):
            await obey(talk, "schema", str(path))
    with pytest.raises(NoSchema, match="cannot be read"):
        await obey(talk, "schema", str(tmp_path / "none.json"))
    await obey(talk, "schema", "none")
    await obey(talk, "schema", "")
    assert talk.wishes.response_schema is None
    assert lines[-1].startswith("answers are free; /schema FILE")


async def test_the_help_has_a_line_for_every_command(talk: Talk, lines: list[str]) -> None:
    await obey(talk, "help", "")

    assert len(lines) == len(COMMANDS) + 1
    for name, line in zip(COMMANDS, lines, strict=False):
        assert line.startswith(f"/{name} ")
        assert COMMANDS[name].help in line
        assert len(line) < 100

    for spelled in ("edit", "/edit"):
        lines.clear()
        await obey(talk, "help", spelled)
        assert lines == [line for line in lines if line.startswith("/edit [TEXT]")]


@pytest.mark.parametrize(
    ("name", "argument", "text"),
    [
        ("quee", "", "did you mean /queue?"),
        ("sing", "", "/help lists what there is"),
        ("help", "sing", "there is no /sing"),
        ("clear", "", "there is no chat yet"),
        ("compact", "", "there is no chat yet"),
        ("approve", "", "there is no chat yet"),
        ("agents", "", "there is no chat yet"),
        ("pin", "first", "/pin POSITION"),
        ("pin", "0", "/pin POSITION"),
        ("resume", "3", "/resume NUMBER"),
        ("unarchive", "x", "/unarchive ID"),
        ("title", "", "/title TEXT"),
    ],
)
async def test_what_cannot_be_is_explained(talk: Talk, name: str, argument: str, text: str) -> None:
    with pytest.raises(Misused, match=text):
        await obey(talk, name, argument)


async def test_a_title_may_be_given_before_there_is_a_chat(talk: Talk) -> None:
    await obey(talk, "title", "Ships")
    assert talk.wishes.new_chat("hello").title == "Ships"

    await obey(talk, "new", "")
    assert talk.wishes.new_chat("hello").title == ""


@pytest.mark.parametrize("name", ["quit", "exit"])
async def test_leaving(talk: Talk, name: str) -> None:
    await obey(talk, name, "")
    assert talk.leaves


async def test_the_effort_is_one_of_the_scale(talk: Talk, lines: list[str]) -> None:
    await obey(talk, "effort", "high")
    assert talk.wishes.message("hi").effort == "high"
    assert talk.wishes.new_chat("hi").effort == "high"
    assert talk.wishes.edit("ho").effort == "high"
    await obey(talk, "effort", "")
    assert lines == ["the effort is high from now on", "high"]
    assert talk.wishes.taken().message("hi").effort is None
    await obey(talk, "effort", "default")
    assert talk.wishes.effort is None
    with pytest.raises(Misused, match="there is no effort 'hard'"):
        await obey(talk, "effort", "hard")


async def test_the_agents_of_a_chat_are_listed_as_they_were_spawned(lines: list[str]) -> None:
    old = msgspec.structs.replace(
        new_chat(),
        id=ChatId(f"{CHAT_ID[:-1]}1"),
        title="look",
        agent_kind="explore",
        archived=True,
    )
    new = msgspec.structs.replace(
        new_chat(Status.RUNNING),
        id=ChatId(f"{CHAT_ID[:-1]}2"),
        title="do",
        agent_kind="general",
        created_at=NOW + timedelta(seconds=1),
    )
    asked: list[dict[str, str]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(dict(request.url.params))
        return httpx2.Response(200, content=msgspec.json.encode(ChatList((new, old))))

    async with client_of(answer) as client:
        talk = Talk(client, lines.append)
        talk.go_to(CHAT_ID)
        await obey(talk, "agents", "")

    assert asked == [{"limit": "200", "archived": "any", "parent_id": CHAT_ID}]
    assert lines == [
        "   1  waiting         explore: look (put away)",
        "   2  running         general: do",
        "/resume NUMBER looks at one",
    ]
    assert [chat.id for chat in talk.listed] == [old.id, new.id]
