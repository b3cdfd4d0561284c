"""Chatting line by line. Between turns nothing runs here: the prompt has the process to itself."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

from rich.console import Console
from rich.text import Text

from steersman.chat.advice import failure
from steersman.chat.commands import Talk, obey, parse
from steersman.chat.conversation import Conversation, resume_hint
from steersman.chat.painter import Painter
from steersman.chat.prompt import history_file, open_history, read_message
from steersman.chat.screen import Screen
from steersman.chat.turn import LEAVE_WITHIN_S, watch
from steersman.chat.wishes import Wishes
from steersman.chat.words import harmless
from steersman.client import Client, ClientError


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
        self._talk = Talk(client, self._say)
        self._pressed_at = 0.0
        self._code: int | None = None

    def run(self, wishes: Wishes, conversation: Conversation | None) -> int:
        """Go on until the person leaves. Returns the exit code."""
        self._talk.wishes, self._talk.conversation = wishes, conversation
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
        command = parse(text)
        if command is None:
            self._guarded(lambda: self._send(text))
        else:
            self._guarded(lambda: self._command(*command))

    def _guarded(self, action: Callable[[], None]) -> None:
        """Do it; what goes wrong is said, and the prompt comes back."""
        try:
            action()
        except ClientError as error:
            self._console.print(Text(failure(error, self._client.url).text, "red"))

    def _command(self, name: str, argument: str) -> None:
        talk = self._talk
        talk.moved = talk.watch = False
        self._run(obey(talk, name, argument))
        if talk.moved:
            self._painter = Painter(self._console, reasoning=self._reasoning)
        if talk.watch:
            self._watch()
        if talk.leaves:
            self._code = 0

    def _send(self, text: str) -> None:
        talk = self._talk
        if talk.conversation is None:
            talk.conversation, _ = self._run(
                Conversation.create(self._client, talk.wishes.new_chat(text))
            )
        else:
            self._run(talk.conversation.send(talk.wishes.message(text)))
        # Somebody else may change what the chat has now.
        talk.wishes = talk.wishes.taken()
        self._watch()

    def _watch(self) -> None:
        conversation = self._talk.here()
        self._console.print()
        self._painter.begin()
        code = self._run(watch(conversation, Screen(self._console, self._painter)))
        self._console.print()
        if conversation.left:
            self._code = code
        elif conversation.view.deleted:
            self._command("new", "")

    # -- words -----------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        self._console.print(Text(harmless(text), "dim"))

    def _goodbye(self) -> None:
        if self._talk.conversation is not None:
            self._say(resume_hint(self._talk.conversation.chat_id))
