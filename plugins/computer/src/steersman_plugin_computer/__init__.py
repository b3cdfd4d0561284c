"""A tool that sees and uses the virtual desktop of a chat."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress
from typing import Any, Final

from steersman_contracts.computer_use import TOOL, ComputerArguments, to_action
from steersman_contracts.desktop import MAX_DURATION_S
from steersman_contracts.errors import SteersmanError
from steersman_contracts.hooks import Tool, ToolContext, ToolResult, hookimpl
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import FilePart, TextPart
from steersman_contracts.rpc.caller import Caller, HasCaller
from steersman_contracts.rpc.desktop import (
    CANCEL_ACTION,
    PERFORM_ACTION,
    ActionReply,
    CancelAction,
    PerformAction,
)

DESCRIPTION: Final = """\
See and use a desktop with mouse and keyboard: a Linux desktop of your own, with a taskbar that \
has a web browser and a terminal where they are installed.

Take a screenshot first. Coordinates are pixels of the newest screenshot; [0, 0] is its upper left \
corner. Every action answers with a new screenshot once the screen is still; if none comes, the \
screen looks as before. Aim at the middle of what you click. Look closer with zoom before you \
click something small; coordinates stay those of the whole screenshot. Type text with type, press \
keys with key. Give programs that load a moment with wait. A person may take control: then your \
input is refused, and when you get it back you must take a screenshot before anything else."""

_TIMEOUT_S: Final = MAX_DURATION_S + 60
_REMEMBERED: Final = 1_000


class _Seen:
    """The digest of the last screenshot of each chat."""

    def __init__(self) -> None:
        self._digests: OrderedDict[str, str] = OrderedDict()

    def get(self, chat_id: str) -> str:
        return self._digests.get(chat_id, "")

    def put(self, chat_id: str, digest: str) -> None:
        self._digests[chat_id] = digest
        self._digests.move_to_end(chat_id)
        while len(self._digests) > _REMEMBERED:
            self._digests.popitem(last=False)


_seen: Final = _Seen()


async def computer(context: ToolContext, args: ComputerArguments) -> ToolResult:
    """Do one action on the chat's desktop."""
    rpc = context.rpc if isinstance(context, HasCaller) else None
    if rpc is None:
        return ToolResult.error("this tool host has no way to the desktop service")
    try:
        request = PerformAction(
            ChatId(context.chat_id),
            context.call_id,
            to_action(args),
            last_digest=_seen.get(context.chat_id),
        )
        reply = await rpc.call(PERFORM_ACTION, request, deadline_s=_TIMEOUT_S)
    except SteersmanError as error:
        return ToolResult.error(str(error))
    except asyncio.CancelledError:
        await _cancel(rpc, context)
        raise
    return _result(context.chat_id, reply, zoomed=args.action == "zoom")


async def _cancel(rpc: Caller, context: ToolContext) -> None:
    """A key must not stay down because nobody waits for it any more."""
    with suppress(SteersmanError):
        await rpc.call(
            CANCEL_ACTION, CancelAction(ChatId(context.chat_id), context.call_id), deadline_s=1.5
        )


def _result(chat_id: str, reply: ActionReply, *, zoomed: bool) -> ToolResult:
    content: list[TextPart | FilePart] = [TextPart(reply.text)]
    if reply.picture is not None:
        picture = reply.picture
        if not zoomed:
            _seen.put(chat_id, picture.digest)
        suffix = picture.media_type.partition("/")[2]
        content.append(
            FilePart(
                picture.media_type, f"screenshot-{picture.digest[:8]}.{suffix}", None, picture.data
            )
        )
    return ToolResult(content=tuple(content), is_error=reply.is_error)


@hookimpl
def tools() -> list[Tool[Any]]:
    """List the one tool."""
    return [
        Tool(TOOL, DESCRIPTION, ComputerArguments, computer, timeout_s=_TIMEOUT_S, exclusive=True)
    ]
