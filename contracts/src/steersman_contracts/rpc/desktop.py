"""Virtual desktops.

Any instance of the desktop service takes a request and hands it to the one that has the desktop.
The service does not know whose a chat is: the gateway asks the store before it calls for a person.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Final, Literal, TypeAlias, TypeVar

import msgspec

from steersman_contracts.desktop import Action
from steersman_contracts.ids import ChatId, UserId
from steersman_contracts.rpc import Actor, Method, Nothing

DesktopState: TypeAlias = Literal["absent", "starting", "ready", "stopping", "gone", "failed"]
ViewMode: TypeAlias = Literal["view", "control"]

Q = TypeVar("Q", bound=msgspec.Struct)
R = TypeVar("R", bound=msgspec.Struct)

CallKey = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class GetDesktop(msgspec.Struct, frozen=True):
    """The desktop of a chat."""

    actor: Actor
    chat_id: ChatId


class DesktopControl(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who holds the input of a desktop: a person, or (without `holder`) the agent."""

    revision: int = 0
    """Grows with every change."""
    holder: UserId | None = None
    private: bool = False
    """Screenshots are withheld from the model while the person holds it."""
    since: datetime | None = None
    reason: str = ""
    """Why it changed last: `taken`, `given_back`, `timeout`, `disconnected`, `stopped`, `agent`."""
    agent: ChatId | None = None
    """Of a desktop that agents share: the chat below its own whose agent has the agents' side."""


class Desktop(msgspec.Struct, frozen=True, omit_defaults=True):
    """A desktop that can be watched and used."""

    chat_id: ChatId
    state: DesktopState
    reason: str = ""
    """Why it failed, or why it is not whole."""
    width: int = 0
    """Native pixels; 0 until it is ready."""
    height: int = 0
    declared_width: int = 0
    """The pixels of screenshots and coordinates."""
    declared_height: int = 0
    generation: int = 0
    """Grows when a dead one is replaced: its windows are gone then."""
    viewers: int = 0
    control: DesktopControl = DesktopControl()
    recording: str = ""
    """The id of the recording that runs; empty if none does."""


class StartDesktop(msgspec.Struct, frozen=True, omit_defaults=True):
    """Have a desktop; one that runs already stays as it is."""

    actor: Actor
    chat_id: ChatId
    width: int | None = None
    height: int | None = None


class ResizeDesktop(msgspec.Struct, frozen=True):
    """Give a desktop that runs another size, in native pixels; for who has control."""

    actor: Actor
    chat_id: ChatId
    width: int
    height: int


class GetClipboard(msgspec.Struct, frozen=True):
    """What was last copied on the desktop."""

    actor: Actor
    chat_id: ChatId


class Clipboard(msgspec.Struct, frozen=True):
    """Text."""

    text: str


class PutClipboard(msgspec.Struct, frozen=True):
    """Put text into the clipboard of the desktop; for who has control."""

    actor: Actor
    chat_id: ChatId
    text: str


class StopDesktop(msgspec.Struct, frozen=True):
    """End a desktop and everything on it; none at all is fine."""

    actor: Actor
    chat_id: ChatId


class GetScreenshot(msgspec.Struct, frozen=True):
    """The screen as a person may see it."""

    actor: Actor
    chat_id: ChatId


class Picture(msgspec.Struct, frozen=True):
    """A picture of the screen."""

    media_type: str
    data: bytes
    width: int
    height: int
    digest: str
    """Of the pixels: equal pictures have equal ones."""


class PerformAction(msgspec.Struct, frozen=True, omit_defaults=True):
    """Do something on the desktop of a chat, which is started if need be.

    The same key again returns what came of it and presses nothing.
    """

    chat_id: ChatId
    key: CallKey
    action: Action
    actor: Actor | None = None
    """The person who does it; None is the agent."""
    last_digest: str = ""
    """Of the picture that the caller has; an equal one is not sent again."""
    look: bool = True
    """False: no picture is wanted, because another action follows at once."""
    call_id: str = ""
    """The tool call in the chat that this belongs to, for recordings."""
    agent: ChatId | None = None
    """The chat whose agent does it, where that uses the desktop of a chat above it. This and the
    next are filled in by the service."""
    above: tuple[ChatId, ...] = ()
    """The chats above that agent, up to the one whose desktop it is."""


class CancelAction(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an action gives is no longer wanted: end it, and let go of what it holds."""

    chat_id: ChatId
    key: CallKey
    agent: ChatId | None = None
    """As in `PerformAction`."""


class ActionReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of an action."""

    text: str
    is_error: bool = False
    """Nothing was done, or it was not finished; the text says why."""
    picture: Picture | None = None
    unchanged: bool = False
    """The screen is as it was in the picture of `last_digest`."""


class TakeControl(msgspec.Struct, frozen=True, omit_defaults=True):
    """A person takes the input, at once: what the agent is doing ends."""

    actor: Actor
    chat_id: ChatId
    private: bool = False


class ReturnControl(msgspec.Struct, frozen=True):
    """The person gives the input back to the agent."""

    actor: Actor
    chat_id: ChatId


class MakeTicket(msgspec.Struct, frozen=True):
    """Let a person watch, once."""

    actor: Actor
    chat_id: ChatId
    mode: ViewMode


class DesktopTicket(msgspec.Struct, frozen=True):
    """Opens the live view once."""

    ticket: str
    mode: ViewMode
    expires_at: datetime


class RedeemTicket(msgspec.Struct, frozen=True):
    """A gateway has got a ticket from somebody; it is worth nothing afterwards."""

    chat_id: ChatId
    digest: str
    """Hex SHA-256 of the ticket."""


class ViewGrant(msgspec.Struct, frozen=True):
    """Where and with which key, good once and for seconds, a gateway connects a viewer."""

    user_id: UserId
    mode: ViewMode
    address: str
    """`host:port` of the instance that has the desktop."""
    key: str


GET_DESKTOP: Final = Method("desktop", "sessions.get", GetDesktop, Desktop, safe=True)
START_DESKTOP: Final = Method(
    "desktop", "sessions.start", StartDesktop, Desktop, deadline_s=45.0, safe=True
)
STOP_DESKTOP: Final = Method(
    "desktop", "sessions.stop", StopDesktop, Desktop, deadline_s=30.0, safe=True
)
GET_SCREENSHOT: Final = Method(
    "desktop", "screen.get", GetScreenshot, Picture, deadline_s=30.0, safe=True
)
PERFORM_ACTION: Final = Method(
    "desktop", "screen.act", PerformAction, ActionReply, deadline_s=400.0, safe=True
)
CANCEL_ACTION: Final = Method("desktop", "screen.cancel", CancelAction, Nothing, safe=True)
TAKE_CONTROL: Final = Method("desktop", "control.take", TakeControl, Desktop, safe=True)
RETURN_CONTROL: Final = Method("desktop", "control.give_back", ReturnControl, Desktop, safe=True)
RESIZE_DESKTOP: Final = Method(
    "desktop", "sessions.resize", ResizeDesktop, Desktop, deadline_s=30.0, safe=True
)
GET_CLIPBOARD: Final = Method("desktop", "clipboard.get", GetClipboard, Clipboard, safe=True)
PUT_CLIPBOARD: Final = Method("desktop", "clipboard.put", PutClipboard, Nothing, safe=True)
MAKE_TICKET: Final = Method("desktop", "view.ticket", MakeTicket, DesktopTicket, deadline_s=45.0)
REDEEM_TICKET: Final = Method("desktop", "view.redeem", RedeemTicket, ViewGrant)


def at_host(method: Method[Q, R], host: str) -> Method[Q, R]:
    """The same method, of one instance of the service and of no other."""
    return replace(method, name=f"at-{host}.{method.name.replace('.', '-')}")
