from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import steersman_plugin_files
from steersman_contracts.hooks import ToolResult
from steersman_contracts.parts import FilePart, JsonPart, TextPart
from steersman_contracts.testing import LocalContext, run_tool
from steersman_plugin_files.text import Page, decode, lines_of

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND"))


async def read(workspace: Path, path: str = "file", **arguments: Any) -> ToolResult:
    return await run_tool(
        steersman_plugin_files, "read_file", {"path": path, **arguments}, LocalContext(workspace)
    )


def page(result: ToolResult) -> tuple[dict[str, Any], str]:
    match result.parts():
        case (JsonPart(value=facts), TextPart(text=text)):
            return facts, text
        case other:
            raise AssertionError(other)


async def test_lines_come_numbered_with_what_the_file_is(workspace: Path) -> None:
    (workspace / "file").write_text("one\n\nthree")

    result = await read(workspace)

    facts, text = page(result)
    assert text == "     1\tone\n     2\t\n     3\tthree"
    assert facts == {
        "path": "file",
        "size": 10,
        "total_lines": 3,
        "total_lines_exact": True,
        "first_line": 1,
        "last_line": 3,
        "next_offset": None,
        "encoding": "utf-8",
        "line_endings": "lf",
        "final_newline": False,
    }


async def test_a_part_says_where_to_go_on(workspace: Path) -> None:
    (workspace / "file").write_text("".join(f"line {n}\n" for n in range(1, 11)))

    facts, text = page(await read(workspace, offset=4, limit=2))

    assert text == "     4\tline 4\n     5\tline 5\n[5 more lines; go on with offset=6]"
    assert (facts["first_line"], facts["last_line"], facts["next_offset"]) == (4, 5, 6)


async def test_following_next_offset_reads_every_line_once(workspace: Path) -> None:
    lines = [f"{n} " + "é" * (n % 700) for n in range(1, 900)]
    (workspace / "file").write_text("\n".join(lines) + "\n")
    offset: int | None = 1
    seen: list[str] = []
    calls = 0
    while offset is not None:
        facts, text = page(await read(workspace, offset=offset))
        assert len(text.encode()) <= 64 * 1024 + 100
        seen += [line.split("\t", 1)[1] for line in text.split("\n") if "\t" in line]
        offset = facts["next_offset"]
        calls += 1

    assert seen == lines
    assert calls > 5


async def test_an_offset_past_the_end_is_an_error_that_says_the_length(workspace: Path) -> None:
    (workspace / "file").write_text("one\ntwo\n")

    result = await read(workspace, offset=3)

    assert result == ToolResult.error(
        "offset 3 is past the end of 'file': it has 2 lines; use a smaller offset"
    )


async def test_an_empty_file_is_said_to_be_empty(workspace: Path) -> None:
    (workspace / "file").touch()

    facts, text = page(await read(workspace))

    assert text == "[the file is empty]"
    assert (facts["total_lines"], facts["first_line"]) == (0, None)


async def test_a_long_line_is_cut_and_says_how_much_is_missing(workspace: Path) -> None:
    (workspace / "file").write_text("x" * 2_500 + "\nend\n")

    _, text = page(await read(workspace))

    assert text.split("\n")[0].endswith("x… [500 more characters in this line]")
    assert text.endswith("     2\tend")


@pytest.mark.parametrize(
    ("data", "encoding", "endings"),
    [
        (b"a\r\nb\r\n", "utf-8", "crlf"),
        (b"a\r\nb\n", "utf-8", "mixed"),
        (b"\xef\xbb\xbfa\nb\n", "utf-8 with BOM", "lf"),
        (b"a", "utf-8", "none"),
    ],
)
async def test_encoding_and_line_endings_are_told_and_not_shown(
    workspace: Path, data: bytes, encoding: str, endings: str
) -> None:
    (workspace / "file").write_bytes(data)

    facts, text = page(await read(workspace))

    assert (facts["encoding"], facts["line_endings"]) == (encoding, endings)
    assert text.startswith("     1\ta")
    assert "\r" not in text
    assert "\ufeff" not in text


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x7fELF\x00\x01", "is binary data"),
        (b"caf\xe9\n", "is not UTF-8: text in Latin-1"),
        ("a\0b".encode("utf-16"), "is binary data"),
        (b"\xff\xfe\x00\xd8x", "is binary data"),
        ("text".encode("utf-32"), "is UTF-32 text"),
        (b"a" * 100_000 + b"\x00", "is binary data"),
    ],
)
async def test_what_is_no_text_is_said_and_not_dumped(
    workspace: Path, data: bytes, said: str
) -> None:
    (workspace / "file").write_bytes(data)

    result = await read(workspace)

    facts, text = page(result)
    assert not result.is_error
    assert said in text
    assert facts == {"path": "file", "size": len(data), "binary": True}


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", "image/jpeg"),
        (b"GIF89a\x01\x00\x01\x00\x00\x00\x00;", "image/gif"),
        (b"RIFF\x24\x00\x00\x00WEBPVP8 ", "image/webp"),
    ],
)
async def test_an_image_comes_back_as_an_image_whatever_it_is_called(
    workspace: Path, data: bytes, media_type: str
) -> None:
    (workspace / "file").write_bytes(data)

    result = await read(workspace)

    assert result.parts() == (
        JsonPart({"path": "file", "size": len(data), "media_type": media_type}),
        FilePart(media_type, name="file", data=data),
    )


async def test_a_text_that_begins_like_an_image_is_a_text(workspace: Path) -> None:
    (workspace / "file").write_text("GIF89a is a format\n")

    facts, _ = page(await read(workspace))

    assert facts["total_lines"] == 1


@pytest.mark.parametrize("over", [1, 6 * 1024 * 1024])
async def test_an_image_that_is_too_large_is_refused(workspace: Path, over: int) -> None:
    (workspace / "file").write_bytes(PNG + bytes(2 * 1024 * 1024 + over))

    result = await read(workspace)

    assert result.is_error
    assert "'file' is an image of more than 2097152 bytes" in result.text


async def test_a_huge_file_is_read_in_part_and_says_so(workspace: Path) -> None:
    size = 10 * 1024 * 1024 + 3
    (workspace / "file").write_bytes(("é" * 49 + "\n").encode() * (size // 99 + 1))

    facts, text = page(await read(workspace, limit=1))
    past = await read(workspace, offset=200_000)

    assert not facts["total_lines_exact"]
    assert facts["total_lines"] == -(-10 * 1024 * 1024 // 99)
    assert "only the first 10485760 of" in text
    assert "its first 10485760 bytes have 105917 lines" in past.text


@given(st.text())
def test_text_survives_decoding_and_encoding(text: str) -> None:
    if "\0" in text or text.startswith("\ufeff"):
        return
    for data in (text.encode(), b"\xef\xbb\xbf" + text.encode()):
        assert decode(data).encode() == data


@given(st.text(alphabet="a\n\r\x0b\u2028"))
def test_lines_add_up_to_the_text(text: str) -> None:
    lines = lines_of(text)
    assert "".join(lines) == text
    assert len(lines) == text.count("\n") + (not text.endswith("\n") and text != "")


@given(st.lists(st.text(max_size=20)), st.integers(0, 100))
def test_a_page_is_never_larger_than_its_limit(lines: list[str], limit: int) -> None:
    page = Page(limit)
    for line in lines:
        page.add(line)
    assert len(page.text().encode()) <= limit
