"""People who watch a chat: they lose their connection, come back, and miss nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

import msgspec
from chaos.deploying import Deployment

from steersman.client import Client, View
from steersman.client.stream import Received
from steersman_contracts import events as e
from steersman_contracts.chats import Message
from steersman_contracts.ids import ChatId


@dataclass(frozen=True)
class Segment:
    """What arrived after one position of the log, until the next snapshot."""

    epoch: str
    after: int
    seqs: list[int]


class Watcher:
    """One view of a chat, folded from the public event stream alone.

    Args:
        deployment: Whose gateways are asked, one after the other.
        chat_id: The chat.
        dice: When to cut the connection; None stays connected for as long as the gateway does.
    """

    def __init__(self, deployment: Deployment, chat_id: ChatId, dice: random.Random | None) -> None:
        self._deployment = deployment
        self._dice = dice
        self.chat_id = chat_id
        self.view = View()
        self.segments: list[Segment] = []
        self.gaps: list[str] = []
        self.lost_previews = 0
        self.cuts = 0
        self.losses = 0
        self._cursor: str | None = None
        self._changed = asyncio.Condition()
        self._number = dice.randrange(8) if dice is not None else 0

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            self._number += 1
            async with self._deployment.client(self._number) as client:
                await self._watch(client)
            self.cuts += 1

    async def _watch(self, client: Client) -> None:
        dice = self._dice
        events_left = dice.randrange(1, 60) if dice is not None else None
        stream = client.events(
            self.chat_id, cursor=self._cursor, on_interruption=lambda _: self._count_loss()
        )
        async with aclosing(stream) as events:
            async for received in events:
                await self._take(received)
                if events_left is not None:
                    events_left -= 1
                    if events_left <= 0:
                        return

    def _count_loss(self) -> None:
        self.losses += 1

    async def _take(self, received: Received) -> None:
        self._note(received)
        lost = self.view.preview_lost
        self.view.apply(received.event)
        self.lost_previews += self.view.preview_lost and not lost
        self._cursor = received.id or self._cursor
        async with self._changed:
            self._changed.notify_all()

    def _note(self, received: Received) -> None:
        match received.event:
            case e.StreamSync(epoch=epoch, position=position, snapshot=snapshot):
                if snapshot is not None or not self.segments:
                    self.segments.append(Segment(epoch, position, []))
            case e.StreamGap(reason=reason):
                self.gaps.append(reason)
            case _:
                self.segments[-1].seqs.append(int(received.id.rsplit(".", 1)[1]))

    async def shows(self, stored: Sequence[Message], timeout_s: float) -> None:
        """Wait until the view is the stored history, to the byte."""
        wanted = msgspec.json.encode(stored)

        def same() -> bool:
            view = self.view
            return view.resting and msgspec.json.encode(view.messages) == wanted

        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(same)
        except TimeoutError:
            raise AssertionError(self._difference(stored)) from None

    def _difference(self, stored: Sequence[Message]) -> str:
        shown = {message.id: message for message in self.view.messages}
        kept = {message.id: message for message in stored}
        lines = [
            f"{self.chat_id}: the view is {self.view.status} at {self.view.version}, "
            f"cursor {self._cursor}, {self.cuts} cuts, {self.losses} losses, gaps {self.gaps}"
        ]
        lines += [
            f"  message {key}: shown {shown.get(key)}\n    stored {kept.get(key)}"
            for key in sorted({*shown, *kept})
            if shown.get(key) != kept.get(key)
        ]
        return "\n".join(lines)

    def broken(self, epoch: str, log: Sequence[int]) -> list[str]:
        """Each event of the log was shown once, in order, from its beginning to its end."""
        found: list[str] = []
        for segment in self.segments:
            if segment.epoch != epoch or not segment.seqs:
                continue
            last = segment.seqs[-1]
            wanted = [seq for seq in log if segment.after < seq <= last]
            if segment.seqs != wanted:
                twice = sorted({s for s in segment.seqs if segment.seqs.count(s) > 1})
                missing = sorted(set(wanted) - set(segment.seqs))
                found.append(
                    f"{self.chat_id} after {segment.after}: twice {twice}, missing {missing}"
                )
        return found
