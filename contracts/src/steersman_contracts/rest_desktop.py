"""Bodies of the REST API of desktops."""

from __future__ import annotations

from typing import Annotated

import msgspec

from steersman_contracts.computer_use import ComputerArguments
from steersman_contracts.rpc.desktop import ViewMode
from steersman_contracts.rpc.desktop_servers import ServerAddress, ServerPassword


class StartDesktopBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The native size of a desktop that is yet to start; left out it is the deployment's."""

    width: int | None = None
    height: int | None = None


class TakeControlBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How control is taken."""

    private: bool = False
    """Also hide the screen from the model."""


class DesktopTicketBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the live view is for."""

    mode: ViewMode = "view"


class DesktopActionBody(ComputerArguments, frozen=True, forbid_unknown_fields=True):
    """An action in the words of the `computer` tool."""


class DesktopActionResult(msgspec.Struct, frozen=True):
    """What came of an action."""

    text: str
    is_error: bool = False


class ResizeDesktopBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The native size that a desktop is to have."""

    width: int
    height: int


class ClipboardBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Text for the clipboard, at most 256 KiB as UTF-8."""

    text: Annotated[str, msgspec.Meta(max_length=256 << 10)]


class DesktopServerBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A VNC server for the chat's desktop."""

    address: ServerAddress
    """`host:port`, which the administrator has to have allowed."""
    password: ServerPassword | None = None
    """Never shown again. Left out, the one that was stored for the same address stays."""
