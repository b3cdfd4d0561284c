"""What a file is follows from its content; a name only tells kinds of text apart."""

from __future__ import annotations

import pytest

from steersman_store.content import Content
from steersman_store.files import file_name


def media_type(content: bytes, name: str, *, chunk: int = 4096) -> str | None:
    found = Content()
    for start in range(0, len(content), chunk):
        found.feed(content[start : start + chunk])
    return found.media_type(name)


@pytest.mark.parametrize(
    ("content", "name", "expected"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a.txt", "image/png"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "a", "image/jpeg"),
        (b"GIF87a\1\0\1\0", "a.png", "image/gif"),
        (b"GIF89a\1\0\1\0", "a.gif", "image/gif"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "a", "image/webp"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "a.webp", None),
        (b"%PDF-1.4\n\0", "a.html", "application/pdf"),
        (b"\n%PDF-1.4\n", "a.pdf", "text/plain"),
        (b"<script>alert(1)</script>", "a.png", "text/plain"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a.svg", "text/plain"),
        (b"# Title\n", "README.MD", "text/markdown"),
        (b"a,b\n1,2\n", "numbers.csv", "text/csv"),
        (b"a,b\n1,2\n", "numbers", "text/plain"),
        (b' {"a": [1, 2.5e3, "\\u00e9", null]}\n', "a.txt", "application/json"),
        (b"\xef\xbb\xbf[1]", "a", "application/json"),
        (b'{"a": 1', "a.json", "text/plain"),
        (b"[link](http://a)", "a.md", "text/markdown"),
        (b"[" * 100_000, "a.json", "text/plain"),
        (b"12", "a.json", "text/plain"),
        (b"", "empty.md", "text/markdown"),
        ("Grüße ☃".encode(), "a", "text/plain"),
        (b"\x1b[31mred\x1b[0m\r\n\t\f", "a.log", "text/plain"),
        ("Grüße".encode("latin-1"), "a.txt", None),
        ("Grüße".encode("utf-16"), "a.txt", None),
        ("☃".encode()[:2], "a.txt", None),
        (b"text with a NUL \0", "a.txt", None),
        (b"\x7fELF\2\1\1\0", "a.txt", None),
        (b"PK\3\4", "a.docx", None),
    ],
)
def test_the_content_says_what_a_file_is(content: bytes, name: str, expected: str | None) -> None:
    assert media_type(content, name) == expected


@pytest.mark.parametrize("chunk", [16, 17, 4096])
def test_where_chunks_begin_makes_no_difference(chunk: int) -> None:
    snow = '{"snow": "' + "☃" * 1000 + '"}'

    assert media_type(snow.encode(), "a", chunk=chunk) == "application/json"
    assert media_type(snow.encode() + b"\xff", "a", chunk=chunk) is None
    assert media_type(snow.encode() + b"x", "a.md", chunk=chunk) == "text/markdown"


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("/etc/passwd", "passwd"),
        ("..\\..\\win.ini", "win.ini"),
        ("a\r\nSet-Cookie: b.png", "a\ufffd\ufffdSet-Cookie: b.png"),
        ("tide\u202egnp.exe", "tide\ufffdgnp.exe"),
        ("  ", ""),
        ("x" * 300, "x" * 255),
    ],
)
def test_a_name_is_kept_without_what_would_mislead(name: str, kept: str) -> None:
    assert file_name(name) == kept
