"""Tools that see and use the virtual desktop of a chat, and carry files to it and from it."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from steersman_contracts.computer_history import screenshot_name
from steersman_contracts.computer_use import BATCH, TOOL, ComputerArguments, to_actions
from steersman_contracts.desktop import MAX_DURATION_S, Action, TakeScreenshot, Zoom
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
from steersman_plugin_computer.transfer import FILE_TOOLS

DESCRIPTION: Final = """\
See and use a desktop with mouse and keyboard: a Linux desktop of your own, with a taskbar that \
has a web browser and a terminal where they are installed.

Take a screenshot first. Coordinates are pixels of the newest screenshot; [0, 0] is its upper left \
corner. Every action answers with a new screenshot once the screen is still; if none comes, the \
screen looks as before. Aim at the middle of what you click. Look closer with zoom before you \
click something small; coordinates stay those of the whole screenshot. Type text with type, press \
keys with key. Give programs that load a moment with wait. A person may take control: then your \
input is refused, and when you get it back you see the screen before anything is pressed. \
Several actions whose outcome you are sure of can go into one batch."""

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
    """Do one action on the chat's desktop, or a batch of them."""
    rpc = context.rpc if isinstance(context, HasCaller) else None
    if rpc is None:
        return ToolResult.error("this tool host has no way to the desktop service")
    try:
        wanted = to_actions(args)
        if args.action == BATCH:
            return await _batch(rpc, context, wanted)
        request = PerformAction(
            ChatId(context.chat_id),
            context.call_id,
            wanted[0],
            last_digest=_seen.get(context.chat_id),
            call_id=context.call_id,
        )
        reply = await _perform(rpc, request)
    except SteersmanError as error:
        return ToolResult.error(str(error))
    return _result(context.chat_id, reply, zoomed=args.action == "zoom")


async def _batch(rpc: Caller, context: ToolContext, wanted: Sequence[Action]) -> ToolResult:
    """Do actions in order until one fails. The answer always has the screen as it is then."""
    chat_id = ChatId(context.chat_id)
    said: list[str] = []
    reply = ActionReply("")
    for number, action in enumerate(wanted):
        last = number == len(wanted) - 1
        request = PerformAction(
            chat_id,
            _key(context.call_id, str(number)),
            action,
            look=last,
            call_id=context.call_id,
        )
        reply = await _perform(rpc, request)
        said.append(reply.text)
        if reply.is_error:
            said[-1] = f"Action {number + 1} of {len(wanted)} failed: {reply.text}"
            if not last:
                said.append("The actions after it were not done.")
            break
    if reply.picture is None or isinstance(wanted[-1], Zoom):
        looking = PerformAction(chat_id, _key(context.call_id, "look"), TakeScreenshot())
        seen = await _perform(rpc, looking)
        reply = msgspec.structs.replace(reply, picture=seen.picture)
    reply = msgspec.structs.replace(reply, text=" ".join(said))
    return _result(context.chat_id, reply, zoomed=False)


async def _perform(rpc: Caller, request: PerformAction) -> ActionReply:
    try:
        return await rpc.call(PERFORM_ACTION, request, deadline_s=_TIMEOUT_S)
    except asyncio.CancelledError:
        # A key must not stay down because nobody waits for it any more.
        with suppress(SteersmanError):
            await rpc.call(
                CANCEL_ACTION, CancelAction(request.chat_id, request.key), deadline_s=1.5
            )
        raise


def _key(call_id: str, part: str) -> str:
    """The key of a part of a call; those of providers may be as long as keys may be."""
    digest = hashlib.blake2b(call_id.encode("utf-8", "surrogatepass"), digest_size=16)
    return f"{digest.hexdigest()}/{part}"


def _result(chat_id: str, reply: ActionReply, *, zoomed: bool) -> ToolResult:
    content: list[TextPart | FilePart] = [TextPart(reply.text)]
    if reply.picture is not None:
        picture = reply.picture
        if not zoomed:
            _seen.put(chat_id, picture.digest)
        name = screenshot_name(picture.width, picture.height, picture.digest, picture.media_type)
        if zoomed:
            name = name.replace("screen", "zoom", 1)
        content.append(FilePart(picture.media_type, name, None, picture.data))
    return ToolResult(content=tuple(content), is_error=reply.is_error)


@hookimpl
def tools() -> list[Tool[Any]]:
    """List the tools."""
    return [
        Tool(TOOL, DESCRIPTION, ComputerArguments, computer, timeout_s=_TIMEOUT_S, exclusive=True),
        *FILE_TOOLS,
    ]
