"""Messages of chats, kept between turns, so that a turn does not read its whole history again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence

from steersman_chatloop.decide import after_boundary
from steersman_chatloop.prompt import Preparation
from steersman_contracts.chats import Message
from steersman_contracts.ids import ChatId


class History:
    """The messages of one chat, up to a revision, ordered by id.

    What is before the newest boundary is let go of: no model sees it again, and a chat that goes
    on for days would fill the memory with it.
    """

    def __init__(self) -> None:
        self._messages: dict[int, Message] = {}
        self._start = 0
        """The newest boundary; nothing before it is kept."""
        self.torn = False
        """The boundary was taken back: what was before it has to be read again, from the start."""
        self.revision = 0
        self.preparation = Preparation()
        """What was prepared of it for models already."""
        self._for_model: Sequence[Message] | None = None

    @property
    def messages(self) -> list[Message]:
        """The messages from the newest boundary on that are not deleted, in order."""
        return list(self._messages.values())

    @property
    def for_model(self) -> Sequence[Message]:
        """What of it a model may see, which is asked for several times in every step."""
        if self._for_model is None:
            self._for_model = after_boundary(self.messages)
        return self._for_model

    def apply(self, changed: Collection[Message]) -> None:
        """Take in messages that changed, deleted ones as tombstones."""
        self._for_model = None
        ordered = True
        newest = next(reversed(self._messages), 0)
        for message in changed:
            self.revision = max(self.revision, message.revision)
            if message.deleted:
                self._messages.pop(message.id, None)
                continue
            if message.id < self._start:
                continue
            ordered = ordered and (message.id > newest or message.id in self._messages)
            self._messages[message.id] = message
            newest = max(newest, message.id)
        if not ordered:
            self._messages = dict(sorted(self._messages.items()))
        self._let_go(changed)

    def _let_go(self, changed: Collection[Message]) -> None:
        boundaries = (m.id for m in changed if m.boundary is not None)
        start = max((i for i in boundaries if i in self._messages), default=0)
        if start > self._start:
            self._messages = {i: m for i, m in self._messages.items() if i >= start}
            self._start, self.torn = start, False
            self.preparation = Preparation()  # it holds on to what it has prepared
        elif self._start and self._start not in self._messages:
            self.torn = True

    def forget(self) -> None:
        """Begin anew, as if nothing had been read yet."""
        self._messages, self._start, self.revision, self.torn = {}, 0, 0, False
        self._for_model = None
        self.preparation = Preparation()


class Histories:
    """The histories that were used last; the rest is read again when it is needed."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._histories: OrderedDict[ChatId, History] = OrderedDict()

    def take(self, chat_id: ChatId) -> History:
        """The history of a chat, for one owner at a time; empty when it is not known."""
        return self._histories.pop(chat_id, None) or History()

    def give_back(self, chat_id: ChatId, history: History) -> None:
        """Keep a history for the chat's next turn."""
        self._histories[chat_id] = history
        while len(self._histories) > self._keep:
            self._histories.popitem(last=False)
