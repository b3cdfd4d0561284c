"""Large images are made to fit; everything else stays as it is."""

from __future__ import annotations

import io
import struct
import zlib
from datetime import UTC, datetime

import pytest
from PIL import Image

from steersman_chatloop.providers.base import StepRequest
from steersman_chatloop.providers.images import LIMITS, MAX_PIXELS, Limit, fitted, fitted_part
from steersman_contracts.chats import Message, Role
from steersman_contracts.ids import ChatId, MessageId, ModelName
from steersman_contracts.parts import FilePart, TextPart, ToolResultPart
from steersman_contracts.rpc.worker import ModelAccess

NOW = datetime(2026, 11, 1, tzinfo=UTC)
SMALL = Limit(side=100, size=5_000)


def picture(width: int, height: int, kind: str = "PNG", mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    gradient = Image.linear_gradient("L").transform(
        (width, height), Image.Transform.EXTENT, (0, 0, 256, 256)
    )
    gradient.convert(mode).save(out, kind)
    return out.getvalue()


def size_of(part: FilePart | TextPart) -> tuple[int, int]:
    assert isinstance(part, FilePart)
    with Image.open(io.BytesIO(part.data or b"")) as image:
        return image.size


@pytest.mark.parametrize(
    ("kind", "media_type", "mode", "gives"),
    [
        ("PNG", "image/png", "RGB", "image/png"),
        ("PNG", "image/png", "RGBA", "image/png"),
        ("GIF", "image/gif", "P", "image/png"),
        ("JPEG", "image/jpeg", "RGB", "image/jpeg"),
        ("WEBP", "image/webp", "RGB", "image/png"),
    ],
)
def test_an_image_with_too_many_pixels_is_scaled(
    kind: str, media_type: str, mode: str, gives: str
) -> None:
    part = FilePart(media_type, "a", data=picture(400, 200, kind, mode))
    found = fitted_part(part, Limit(100, 100_000))
    assert isinstance(found, FilePart)
    assert (found.media_type, size_of(found), found.name) == (gives, (100, 50), "a")


def test_an_image_with_too_many_bytes_is_compressed() -> None:
    noise = io.BytesIO()
    Image.effect_noise((100, 100), 80).convert("RGBA").save(noise, "PNG")
    part = FilePart("image/png", data=noise.getvalue())
    found = fitted_part(part, SMALL)
    assert isinstance(found, FilePart)
    assert found.media_type == "image/jpeg"
    assert len(found.data or b"") <= SMALL.size < len(noise.getvalue())


def test_the_same_bytes_give_the_same_image() -> None:
    data = picture(300, 300)
    first = fitted_part(FilePart("image/png", data=data), SMALL)
    assert fitted_part(FilePart("image/png", data=data), SMALL) is first


@pytest.mark.parametrize("data", [picture(50, 50), b"\x89PNG", b"", b"\xff\xd8\xff", b"GIF89a"])
def test_what_fits_or_cannot_be_read_stays_as_it_is(data: bytes) -> None:
    part = FilePart("image/png", data=data)
    assert fitted_part(part, SMALL) is part


def header_of(width: int, height: int) -> bytes:
    """A PNG that says how large it is, and has nothing else."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    begin = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head
    return begin + struct.pack(">I", zlib.crc32(head)) + struct.pack(">I", 0) + b"IDAT" + bytes(4)


def test_words_stand_in_for_a_small_file_with_a_huge_picture() -> None:
    part = FilePart("image/png", "map.png", data=header_of(20_000, 20_000))
    found = fitted_part(part, SMALL)
    assert found == TextPart(
        "[file 'map.png', image/png: 20000 x 20000 pixels are too many to be shown]"
    )
    assert fitted_part(part, SMALL) is found


def test_a_huge_photograph_is_read_at_a_smaller_size() -> None:
    side = int(MAX_PIXELS**0.5) + 100
    out = io.BytesIO()
    Image.new("L", (side, side), 77).save(out, "JPEG", quality=1)
    found = fitted_part(FilePart("image/jpeg", data=out.getvalue()), LIMITS["anthropic"])
    assert isinstance(found, FilePart)
    assert size_of(found) == (LIMITS["anthropic"].side,) * 2


async def test_images_in_results_are_scaled_too_and_everything_else_is_the_same() -> None:
    large = FilePart("image/png", data=picture(2_500, 100))
    result = ToolResultPart("c", "look", (TextPart("seen"), large))
    model = ModelAccess(ModelName("p/m"), "anthropic", "p", "m")
    messages = (
        Message(MessageId(1), Role.USER, (TextPart("hi"), large), 1, NOW),
        Message(MessageId(2), Role.TOOL, (result,), 2, NOW),
    )
    request = StepRequest(ChatId("c"), model, "", messages, ())
    found = await fitted(request)
    first, second = found.messages
    assert first.parts[0] is messages[0].parts[0]
    assert isinstance(first.parts[1], FilePart)
    assert size_of(first.parts[1])[0] == LIMITS["anthropic"].side
    assert isinstance(second.parts[0], ToolResultPart)
    assert second.parts[0].content == (TextPart("seen"), first.parts[1])

    plain = StepRequest(ChatId("c"), model, "", messages[:0], ())
    assert await fitted(plain) is plain
