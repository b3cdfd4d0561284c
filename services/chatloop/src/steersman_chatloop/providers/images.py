"""Large images, scaled to what a provider takes, in a thread.

The same bytes always give the same result, so that the prefix of a conversation stays as it is.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections import OrderedDict
from collections.abc import Iterator
from threading import Lock
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from steersman_chatloop.providers import neutral
from steersman_chatloop.providers.base import StepRequest
from steersman_chatloop.providers.neutral import IMAGES
from steersman_contracts.chats import Message
from steersman_contracts.parts import FilePart, Part, ResultContent, TextPart, ToolResultPart
from steersman_contracts.rpc.models import ProviderType

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS: Final = 120_000_000
"""More are not decoded: a small file can hold a picture that fills the memory. JPEGs can be read at
an eighth of their size; words stand in for anything else that is larger."""
_KEPT_BYTES: Final = 64 * 1024 * 1024
_QUALITY: Final = 85


class Limit(msgspec.Struct, frozen=True):
    """What a provider takes, or looks at."""

    side: int
    """Pixels of the longer side."""
    size: int
    """Bytes before base64."""


# Anthropic takes 2,000 pixels when there are many images, whatever it takes of one, and counts
# 5 MB in base64. The others scale to less than this themselves.
LIMITS: Final[dict[ProviderType, Limit]] = {
    "anthropic": Limit(2000, 3_700_000),
    "openai-responses": Limit(4096, 15_000_000),
    "openai-chat": Limit(2048, 7_000_000),
    "google": Limit(4096, 7_000_000),
    "anthropic-bedrock": Limit(2000, 3_700_000),
    "anthropic-vertex": Limit(2000, 3_700_000),
    "google-vertex": Limit(4096, 7_000_000),
}

_Fit: TypeAlias = FilePart | TextPart

_kept: OrderedDict[tuple[bytes, Limit], _Fit] = OrderedDict()
_keeping = Lock()


async def fitted(request: StepRequest) -> StepRequest:
    """The request with images that its provider takes; itself when all of them are."""
    limit = LIMITS.get(request.model.provider_type)
    plain = request.beginning.known(request.messages)
    if limit is None or not any(_images(request.messages[plain:])):
        return request
    messages = await asyncio.to_thread(_fit_all, request.messages, limit)
    return request if messages is None else msgspec.structs.replace(request, messages=messages)


def _images(messages: tuple[Message, ...]) -> Iterator[FilePart]:
    for message in messages:
        parts = message.parts
        if len(parts) == 1 and type(parts[0]) is TextPart:
            continue  # as most are; they are looked through before every step
        for part in parts:
            for item in part.content if isinstance(part, ToolResultPart) else (part,):
                if isinstance(item, FilePart) and item.data and item.media_type in IMAGES:
                    yield item


def _fit_all(messages: tuple[Message, ...], limit: Limit) -> tuple[Message, ...] | None:
    changed = {
        id(part): fit
        for part in _images(messages)
        if part.provider_metadata is None and (fit := fitted_part(part, limit)) is not part
    }
    if not changed:
        return None
    return tuple(_with(message, changed) for message in messages)


def _with(message: Message, changed: dict[int, _Fit]) -> Message:
    if not any(id(item) in changed for item in _images((message,))):
        return message
    parts = tuple(_replaced(part, changed) for part in message.parts)
    return msgspec.structs.replace(message, parts=parts)


def _replaced(part: Part, changed: dict[int, _Fit]) -> Part:
    if not isinstance(part, ToolResultPart):
        return changed.get(id(part), part)
    content: tuple[ResultContent, ...] = tuple(changed.get(id(item), item) for item in part.content)
    return msgspec.structs.replace(part, content=content)


def fitted_part(part: FilePart, limit: Limit) -> _Fit:
    """The image within the limit; itself when it is, and when it cannot be read.

    Words in place of an image that is too large to be scaled: every provider would refuse it.
    """
    data = part.data or b""
    key = (hashlib.blake2b(data, digest_size=16).digest(), limit)
    found = _kept.get(key)
    if found is None:
        found = _scaled(part, data, limit)
        if found is part:
            return part
        with _keeping:
            _kept[key] = found
            while len(_kept) > 1 and sum(map(_size, _kept.values())) > _KEPT_BYTES:
                _kept.popitem(last=False)
    return found


def _size(part: _Fit) -> int:
    return len((part.data if isinstance(part, FilePart) else None) or b"")


def _too_large(part: FilePart, width: int, height: int) -> TextPart:
    said = neutral.placeholder(part).removesuffix("]")
    return TextPart(f"{said}: {width} x {height} pixels are too many to be shown]")


def _scaled(part: FilePart, data: bytes, limit: Limit) -> _Fit:
    from PIL import Image, ImageOps

    Image.MAX_IMAGE_PIXELS = None  # it only warns; our own limit is below
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "GIF", "WEBP")) as image:
            width, height = image.size
            fits = max(width, height) <= limit.side and len(data) <= limit.size
            if fits:
                return part
            image.draft("RGB", (limit.side, limit.side))
            if image.width * image.height > MAX_PIXELS:
                return _too_large(part, width, height)
            upright = ImageOps.exif_transpose(image)
            if upright.mode not in ("RGB", "RGBA", "L"):  # a palette cannot be scaled smoothly
                upright = upright.convert("RGBA")
    except (OSError, ValueError, SyntaxError, EOFError):  # the provider says what is wrong
        return part
    side = limit.side
    lossless = part.media_type != "image/jpeg"
    while True:
        upright.thumbnail((side, side), Image.Resampling.LANCZOS)
        media_type, encoded = _encoded(upright, lossless=lossless)
        if len(encoded) <= limit.size or side < 64:
            return msgspec.structs.replace(part, media_type=media_type, data=encoded)
        if lossless:
            lossless = False
        else:
            side = side * 3 // 4


def _encoded(image: Image.Image, *, lossless: bool) -> tuple[str, bytes]:
    from PIL import Image

    out = io.BytesIO()
    if lossless:
        image.save(out, "PNG")
        return "image/png", out.getvalue()
    if image.mode != "RGB":
        shown = image.convert("RGBA")
        ground = Image.new("RGBA", shown.size, "white")
        image = Image.alpha_composite(ground, shown).convert("RGB")
    image.save(out, "JPEG", quality=_QUALITY)
    return "image/jpeg", out.getvalue()
