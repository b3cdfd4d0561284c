"""Chatting line by line. Between turns nothing runs here: the prompt has the process to itself."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from rich.console import Console
from rich.text import Text

from steersman.chat.advice import failure
from steersman.chat.conversation import Conversation, resume_hint
from steersman.chat.painter import Painter
from steersman.chat.prompt import history_file, open_history, read_message
from steersman.chat.screen import Screen
from steersman.chat.turn import LEAVE_WITHIN_S, watch
from steersman.chat.wishes import Wishes, find_model
from steersman.chat.words import harmless
from steersman.client import Client, ClientError
from steersman_contracts.rest import UpdateChatBody

_COMMAND: Final = re.compile(r"/([a-z]+)(?:\s+(.*))?", re.DOTALL)
_HELP: Final = """\
/model NAME    answer with another model from now on; without NAME: say which it is
/models        list the models
/new           start another chat
/title TEXT    give this chat a title
/interrupt     end the turn that runs in this chat
/quit          leave (Ctrl-D too); /help shows this
A line that ends in \\ goes on in the next one. Ctrl-C ends the turn, not the program."""


class Repl:
    """The interactive chat."""

    def __init__(
        self, runner: asyncio.Runner, client: Client, console: Console, *, reasoning: bool
    ) -> None:
        self._run = runner.run
        self._client = client
        self._console = console
        self._reasoning = reasoning
        self._painter = Painter(console, reasoning=reasoning)
        self._conversation: Conversation | None = None
        self._wishes = Wishes()
        self._pressed_at = 0.0
        self._code: int | None = None

    def run(self, wishes: Wishes, conversation: Conversation | None) -> int:
        """Go on until the person leaves. Returns the exit code."""
        self._wishes, self._conversation = wishes, conversation
        keep = open_history(history_file(os.environ))
        self._say(f"Steersman at {self._client.url}, /help for help")
        try:
            if conversation is not None:
                self._guarded(self._watch)
            while self._code is None:
                self._once()
        finally:
            keep()
        self._goodbye()
        return self._code

    def _once(self) -> None:
        try:
            text = read_message(
                self._painter.marks.prompt, colour=self._console.color_system is not None
            )
        except EOFError:
            self._console.print()
            self._code = 0
            return
        except KeyboardInterrupt:
            self._on_ctrl_c()
            return
        if not text:
            return
        try:
            self._obey(text)
        except KeyboardInterrupt:  # before the turn was being watched
            self._say("not sent")

    def _on_ctrl_c(self) -> None:
        now = time.monotonic()
        self._console.print()
        if now - self._pressed_at <= LEAVE_WITHIN_S:
            self._code = 0
        else:
            self._say("Ctrl-C again or Ctrl-D leaves")
        self._pressed_at = now

    # -- what was typed --------------------------------------------------------------------------

    def _obey(self, text: str) -> None:
        command = _COMMAND.fullmatch(text)
        if command is None:
            self._guarded(lambda: self._send(text))
            return
        argument = (command[2] or "").strip()
        commands: dict[str, Callable[[], None]] = {
            "help": lambda: self._say(_HELP),
            "model": lambda: self._guarded(lambda: self._model(argument)),
            "models": lambda: self._guarded(self._models),
            "new": self._new,
            "title": lambda: self._guarded(lambda: self._title(argument)),
            "interrupt": lambda: self._guarded(self._interrupt),
            "quit": self._quit,
            "exit": self._quit,
        }
        action = commands.get(command[1])
        if action is None:
            self._say(f"there is no /{command[1]}; /help lists what there is")
        else:
            action()

    def _guarded(self, action: Callable[[], None]) -> None:
        """Do it; what goes wrong is said, and the prompt comes back."""
        try:
            action()
        except ClientError as error:
            self._console.print(Text(failure(error, self._client.url).text, "red"))

    def _send(self, text: str) -> None:
        if self._conversation is None:
            self._conversation, _ = self._run(
                Conversation.create(self._client, self._wishes.new_chat(text))
            )
        else:
            self._run(self._conversation.send(self._wishes.message(text)))
        # The chat has the model from here on; somebody else may change it meanwhile.
        self._wishes = replace(self._wishes, model=None)
        self._watch()

    def _watch(self) -> None:
        conversation = self._conversation
        assert conversation is not None  # the callers have one
        self._console.print()
        self._painter.begin()
        code = self._run(watch(conversation, Screen(self._console, self._painter)))
        self._console.print()
        if conversation.left:
            self._code = code
        elif conversation.view.deleted:
            self._new()

    def _new(self) -> None:
        self._conversation = None
        self._painter = Painter(self._console, reasoning=self._reasoning)
        self._say("a new chat begins with your next message")

    def _model(self, name: str) -> None:
        if name:
            model = self._run(find_model(self._client, name))
            self._wishes = replace(self._wishes, model=model)
            self._say(f"{model} answers from now on")
            return
        chat = self._conversation.view.chat if self._conversation else None
        model = self._wishes.model or (chat.model if chat else None)
        self._say(model or "the default model; /models shows which that is")

    def _models(self) -> None:
        for model in self._run(self._client.list_models()):
            if model.availability == "disabled":
                continue
            mark = "*" if model.is_default else " "
            self._say(f"{mark} {model.name:<40} {model.display_name}")

    def _title(self, title: str) -> None:
        if not title:
            self._say("/title TEXT")
        elif self._conversation is None:
            self._wishes = replace(self._wishes, title=title)
        else:
            body = UpdateChatBody(title=title)
            self._run(self._client.update_chat(self._conversation.chat_id, body))

    def _interrupt(self) -> None:
        if self._conversation is None:
            self._say("nothing runs")
            return
        chat = self._run(self._client.interrupt(self._conversation.chat_id))
        self._say(f"the chat is {chat.status.value}")

    def _quit(self) -> None:
        self._code = 0

    # -- words -----------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        self._console.print(Text(harmless(text), "dim"))

    def _goodbye(self) -> None:
        if self._conversation is not None:
            self._say(resume_hint(self._conversation.chat_id))
