"""What the desktop service writes into the book of who did what."""

from __future__ import annotations

from typing import Final

import msgspec

from steersman_contracts.ids import ChatId, UserId
from steersman_contracts.rpc import Method, Nothing
from steersman_contracts.rpc.desktop import DesktopControl

CONTROL_CHANGED: Final = "desktop.control_changed"
"""The action of such entries."""


class RecordControl(msgspec.Struct, frozen=True):
    """The input of a desktop has changed hands. The same revision is written down once."""

    chat_id: ChatId
    person: UserId | None
    """Who took it, or who had it."""
    control: DesktopControl


RECORD_CONTROL: Final = Method("store", "desktop_audit.record", RecordControl, Nothing, safe=True)
