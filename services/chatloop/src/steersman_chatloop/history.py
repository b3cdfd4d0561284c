"""Messages of chats, kept between turns, so that a turn does not read its whole history again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from steersman_chatloop.prompt import Preparation
from steersman_contracts.chats import Message
from steersman_contracts.ids import ChatId


class History:
    """The messages of one chat, up to a revision, ordered by id."""

    def __init__(self) -> None:
        self._messages: dict[int, Message] = {}
        self.revision = 0
        self.preparation = Preparation()
        """What was prepared of it for models already."""

    @property
    def messages(self) -> list[Message]:
        """All messages that are not deleted, in order."""
        return list(self._messages.values())

    def apply(self, changed: Iterable[Message]) -> None:
        """Take in messages that changed, deleted ones as tombstones."""
        ordered = True
        newest = next(reversed(self._messages), 0)
        for message in changed:
            self.revision = max(self.revision, message.revision)
            if message.deleted:
                self._messages.pop(message.id, None)
                continue
            ordered = ordered and (message.id > newest or message.id in self._messages)
            self._messages[message.id] = message
            newest = max(newest, message.id)
        if not ordered:
            self._messages = dict(sorted(self._messages.items()))


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
