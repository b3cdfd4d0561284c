"""Pixels of a screen as pictures: cut, scaled, encoded. Slow: call it in a thread."""

from __future__ import annotations

import hashlib
import io
from typing import Any, Final

from PIL import Image

from steersman_contracts.rpc.desktop import Picture

PNG_LEVEL: Final = 3
"""Half the time of the default, for a tenth more bytes."""
MAX_PNG: Final = 700 << 10
"""Bytes above which the picture is a photograph, and smaller and faster as JPEG."""
JPEG_QUALITY: Final = 85


def load() -> None:
    """Load what pictures are written with: else the first picture of a service waits for it."""
    Image.preinit()


def whole(pixels: bytes, size: tuple[int, int], declared: tuple[int, int], unlike: str) -> Picture:
    """A picture of the screen in its declared size.

    Args:
        pixels: Four bytes each, blue first.
        size: Native.
        declared: The size that is wanted.
        unlike: A digest; a picture that has it comes without its bytes.
    """
    digest = hashlib.blake2b(
        pixels, digest_size=16, key=repr((size, declared)).encode()
    ).hexdigest()
    if digest == unlike:
        return Picture("image/png", b"", *declared, digest)
    image = Image.frombuffer("RGB", size, pixels, "raw", "BGRX", 0, 1)
    if declared != size:
        image = _scaled(image, declared)
    return _encoded(image, digest)


def part(
    pixels: bytes,
    size: tuple[int, int],
    region: tuple[int, int, int, int],
    fit: tuple[int, int],
) -> Picture:
    """A region in native pixels, made as large as fits into `fit`."""
    image = Image.frombuffer("RGB", size, pixels, "raw", "BGRX", 0, 1).crop(region)
    scale = min(fit[0] / image.width, fit[1] / image.height)
    target = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    image = _scaled(image, target)
    return _encoded(image, hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest())


def _scaled(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    scale: Any = image  # the types of `resize` mention arrays of a library that is not here
    return scale.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)


def _encoded(image: Image.Image, digest: str) -> Picture:
    media_type, data = "image/png", _saved(image, "PNG", compress_level=PNG_LEVEL)
    if len(data) > MAX_PNG:
        media_type, data = "image/jpeg", _saved(image, "JPEG", quality=JPEG_QUALITY)
    return Picture(media_type, data, image.width, image.height, digest)


def _saved(image: Image.Image, form: str, **options: int) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()
