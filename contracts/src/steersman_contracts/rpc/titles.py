"""Names for chats: a chatloop takes the task of naming one, and says what a model found."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from steersman_contracts.chats import TitleSource, Usage
from steersman_contracts.ids import ChatId, ModelName
from steersman_contracts.rpc import Actor, Method
from steersman_contracts.rpc.chats import ChatReply
from steersman_contracts.rpc.worker import ModelAccess

MAX_ATTEMPTS: Final = 3
"""How often naming a chat is tried, unless a person asks for it."""


class RegenerateTitle(msgspec.Struct, frozen=True):
    """Have a model find another title, also in place of a person's."""

    actor: Actor
    chat_id: ChatId


class TakeTitle(msgspec.Struct, frozen=True):
    """Ask whether the chat wants a name, and for what is needed to find one."""

    chat_id: ChatId


class TitleTask(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is needed to find a name. Holds keys: it goes to chatloop and nowhere else."""

    text: str = ""
    """The beginning of the first message; empty when there is nothing to do."""
    models: tuple[ModelAccess, ...] = ()
    """Whom to ask, the cheapest first."""
    replaces: TitleSource = "auto"
    """Given back with the title, which is refused when it is no longer so."""


class SetGeneratedTitle(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a model found. An empty title only counts what it used."""

    chat_id: ChatId
    title: Annotated[str, msgspec.Meta(max_length=200)]
    model: ModelName
    replaces: TitleSource
    usage: Usage | None = None


class TitleSet(msgspec.Struct, frozen=True):
    """Whether the chat has the title now: a person may have been faster."""

    accepted: bool


REGENERATE_TITLE: Final = Method("store", "chats.regenerate_title", RegenerateTitle, ChatReply)
TAKE_TITLE: Final = Method("store", "worker.take_title", TakeTitle, TitleTask)
SET_GENERATED_TITLE: Final = Method(
    "store", "worker.set_generated_title", SetGeneratedTitle, TitleSet
)
