"""From what was asked for to a chat that is watched: once, or line by line."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import click

from steersman.chat.conversation import Conversation, resume_hint
from steersman.chat.output import Output, PlainOutput
from steersman.chat.turn import watch
from steersman.chat.wishes import Wishes, find_model
from steersman.chat.words import harmless
from steersman.client import Client, ClientError
from steersman.client.access import Access
from steersman_contracts.ids import ChatId
from steersman_contracts.rest import UpdateChatBody

if TYPE_CHECKING:
    from steersman.chat.repl import Repl

_PATIENCE_S: Final = 15.0


@dataclass(frozen=True, kw_only=True)
class Request:
    """The way to chat."""

    text: str | None
    resume: str | None
    """None: a new chat; empty: the last one."""
    interactive: bool
    plain: bool
    reasoning: bool


def start(access: Access, request: Request, wishes: Wishes) -> int:
    """Chat; returns the exit code.

    Raises:
        ClientError: What was asked for cannot be had.
    """
    with asyncio.Runner() as runner:
        client = Client(access.url, access.token)
        try:
            wishes, chat_id = runner.run(_prepare(client, request, wishes))
            if not request.interactive:
                return runner.run(_once(client, request, wishes, chat_id))
            conversation = None if chat_id is None else Conversation(client, chat_id)
            client.patience_s = _PATIENCE_S
            return _interactive(runner, client, request).run(wishes, conversation)
        finally:
            runner.run(client.aclose())


async def _prepare(
    client: Client, request: Request, wishes: Wishes
) -> tuple[Wishes, ChatId | None]:
    """Look up what the wishes mean; and find out at once whether anybody answers."""
    if wishes.model is not None:
        wishes = replace(wishes, model=await find_model(client, wishes.model))
    chat_id = ChatId(request.resume) if request.resume else None
    if request.resume == "":
        page = await client.list_chats(limit=1)
        if not page.chats:
            raise ClientError("there is no chat to go on with")
        chat_id = page.chats[0].id
    if chat_id is not None and (wishes.system or wishes.response_schema is not None):
        body = UpdateChatBody(
            system_prompt=wishes.system or None, response_schema=wishes.response_schema
        )
        await client.update_chat(chat_id, body)
    elif chat_id is not None:
        await client.get_chat(chat_id)
    elif request.interactive:
        await client.me()
    return wishes, chat_id


async def _once(client: Client, request: Request, wishes: Wishes, chat_id: ChatId | None) -> int:
    """Send one message, or none, and watch until the chat rests."""
    if chat_id is None:
        conversation, _ = await Conversation.create(client, wishes.new_chat(request.text))
    else:
        conversation = Conversation(client, chat_id)
        if request.text is not None:
            await conversation.send(wishes.message(request.text))
    client.patience_s = _PATIENCE_S  # it was there a moment ago: a restart is waited for
    code = await watch(conversation, _output(request))
    if conversation.left:
        click.echo(f"the turn goes on; {resume_hint(conversation.chat_id)}", err=True)
    return code


# Drawing takes a while to import, and nothing of it is needed in a pipe.


def _output(request: Request) -> Output:
    if request.plain or os.environ.get("TERM") in {"dumb", "unknown"}:
        # In a pipe the text stays what it is, to the letter.
        return PlainOutput(clean=harmless if sys.stdout.isatty() else str)
    from rich.console import Console

    from steersman.chat.painter import Painter
    from steersman.chat.screen import Screen

    console = Console(highlight=False, emoji=False)
    return Screen(console, Painter(console, reasoning=request.reasoning))


def _interactive(runner: asyncio.Runner, client: Client, request: Request) -> Repl:
    from rich.console import Console

    from steersman.chat.repl import Repl

    console = Console(highlight=False, emoji=False)
    return Repl(runner, client, console, reasoning=request.reasoning)
