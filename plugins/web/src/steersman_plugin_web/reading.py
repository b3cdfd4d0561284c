"""From what a server sent to text: charsets, and the converter in its own process."""

from __future__ import annotations

import asyncio
import codecs
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE
from typing import Final

import msgspec

from steersman_contracts.addresses import Refused
from steersman_plugin_web import convert
from steersman_plugin_web.getting import Page

CONVERT_S: Final = 30.0
_TEXT: Final = re.compile(
    r"text/.+|application/(json|xml|javascript|yaml|x-yaml|toml|.+\+(json|xml|yaml))"
)
_HTML: Final = frozenset({"text/html", "application/xhtml+xml"})
_UNNAMED: Final = frozenset({"", "application/octet-stream", "binary/octet-stream"})
# Python knows more "encodings" than the web does, and some of them take quadratic time.
_CHARSETS: Final = re.compile(
    r"utf-(8|16|16-be|16-le)|utf-8-sig|ascii|cp(125\d|932|949|950|866|874)|iso8859-\d+|koi8-[ru]|"
    r"gb2312|gbk|gb18030|big5|shift_jis|euc_(jp|kr)|iso2022_jp|mac-roman"
)
_META: Final = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]{1,40})""", re.I
)
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Text(msgspec.Struct, frozen=True):
    """What can be read of a page; `cut` when there was more than is read."""

    text: str
    title: str = ""
    cut: bool = False


class _Told(msgspec.Struct):
    title: str = ""
    text: str = ""
    cut: bool = False
    refused: str | None = None


def is_readable(media_type: str) -> bool:
    """Whether pages of a media type are read; those without one are looked at."""
    return bool(
        media_type in _HTML | _UNNAMED
        or media_type == "application/pdf"
        or _TEXT.fullmatch(media_type)
    )


async def read_page(page: Page) -> Text:
    """Turn a page into text.

    Raises:
        Refused: It is of no kind that is read, or cannot be converted.
    """
    kind = kind_of(page)
    if kind == "pdf":
        if page.cut:
            raise Refused(f"the PDF is larger than {len(page.body)} bytes, which is the most read")
        return await _convert("pdf", page.body)
    text = decode(page.body, page.charset, html=kind == "html")
    if kind == "html":
        found = await _convert("html", f"{page.url}\n{text}".encode(errors="replace"))
        return msgspec.structs.replace(found, cut=found.cut or page.cut)
    return Text(text[: convert.TEXT_MAX], cut=page.cut or len(text) > convert.TEXT_MAX)


def kind_of(page: Page) -> str:
    """`html`, `pdf` or `text`, by media type, or by content where none was named.

    Raises:
        Refused: It is binary.
    """
    if page.media_type in _HTML:
        return "html"
    if page.media_type == "application/pdf":
        return "pdf"
    if page.media_type not in _UNNAMED:
        return "text"
    start = page.body[:1024].lstrip().lower()
    if start.startswith(b"%pdf-"):
        return "pdf"
    if start.startswith((b"<!doctype html", b"<html")):
        return "html"
    if b"\0" in page.body or not _is_utf8(page.body):
        named = page.media_type or "no type"
        raise Refused(f"{page.url} is binary ({named}), which is not read")
    return "text"


def _is_utf8(data: bytes) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(data)  # a character may be cut off at the end
    except UnicodeDecodeError:
        return False
    return True


def decode(data: bytes, declared: str | None, *, html: bool) -> str:
    """Decode text as a browser would: by its mark, its header, its meta tag, or by trying."""
    for mark, name in _BOMS:
        if data.startswith(mark):
            return data.decode(name, errors="replace")
    if (name := _charset(declared)) is not None:
        return data.decode(name, errors="replace")
    meta = _META.search(data[:4096]) if html else None
    # A tag that can be read as ASCII is not in UTF-16, whatever it says.
    if meta and (name := _charset(meta[1].decode("ascii"))) and not name.startswith("utf-16"):
        return data.decode(name, errors="replace")
    return data.decode("utf-8" if _is_utf8(data) else "cp1252", errors="replace")


def _charset(label: str | None) -> str | None:
    if label is None:
        return None
    try:
        name = codecs.lookup(label).name
    except (LookupError, ValueError):
        return None
    if name in {"ascii", "iso8859-1"}:  # what they mean on the web
        return "cp1252"
    return name if _CHARSETS.fullmatch(name) else None


async def _convert(kind: str, data: bytes) -> Text:
    # Isolated, and with nothing of the service's environment.
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", convert.__file__, kind),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        env={},
    )
    try:
        async with asyncio.timeout(CONVERT_S):
            out, _ = await process.communicate(data)
    except TimeoutError:
        raise Refused(f"the page could not be converted within {CONVERT_S:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise Refused("the page could not be converted: it takes too much time or memory")
    told = msgspec.json.decode(out, type=_Told)
    if told.refused is not None:
        raise Refused(told.refused)
    return Text(told.text, told.title, told.cut)
