"""Bytes are put in where files are referred to, within bounds; nothing else is touched."""

from __future__ import annotations

from datetime import UTC, datetime

from steersman_chatloop.attachments import MAX_REQUEST_BYTES, with_bytes
from steersman_contracts.chats import Message, Role
from steersman_contracts.ids import MessageId
from steersman_contracts.parts import FilePart, Part, TextPart, ToolResultPart

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def message(number: int, *parts: Part, role: Role = Role.USER) -> Message:
    return Message(MessageId(number), role, parts, number, NOW)


def file(file_id: str) -> FilePart:
    return FilePart("image/png", f"{file_id}.png", file_id)


class Files:
    def __init__(self, **contents: bytes) -> None:
        self.contents = contents
        self.asked: list[str] = []

    async def fetch(self, file_id: str) -> bytes | None:
        self.asked.append(file_id)
        return self.contents.get(file_id)


async def test_messages_without_files_are_the_same_objects() -> None:
    history = (message(1, TextPart("a")), message(2, FilePart("image/png", data=b"inline")))

    assert all(
        a is b for a, b in zip(history, await with_bytes(history, Files().fetch), strict=True)
    )


async def test_a_file_is_read_once_and_put_in_everywhere() -> None:
    files = Files(a=b"A")
    result = ToolResultPart("c", "look", (TextPart("seen"), file("a")))

    first, second = await with_bytes(
        (message(1, TextPart("x"), file("a")), message(2, result, role=Role.TOOL)), files.fetch
    )

    filled = FilePart("image/png", "a.png", "a", data=b"A")
    assert first.parts == (TextPart("x"), filled)
    assert second.parts == (ToolResultPart("c", "look", (TextPart("seen"), filled)),)
    assert files.asked == ["a"]


async def test_a_missing_file_is_a_short_text() -> None:
    (one,) = await with_bytes(
        (message(1, file("gone"), FilePart("text/csv", "", "x")),), Files().fetch
    )

    assert one.parts == (
        TextPart("[The file 'gone.png' (image/png) is not available any more.]"),
        TextPart("[A file (text/csv) is not available any more.]"),
    )


async def test_only_the_newest_fifty_reach_the_model() -> None:
    names = [f"f{n}" for n in range(60)]
    files = Files(**{name: name.encode() for name in names})

    found = await with_bytes([message(n, file(name)) for n, name in enumerate(names)], files.fetch)

    assert files.asked == names[:9:-1]
    assert [isinstance(one.parts[0], FilePart) for one in found] == [False] * 10 + [True] * 50


async def test_a_request_has_room_for_the_newest() -> None:
    half = bytes(MAX_REQUEST_BYTES // 2)
    files = Files(a=half, b=half, c=half)

    found = await with_bytes([message(n, file(f)) for n, f in enumerate("abc")], files.fetch)

    assert [isinstance(one.parts[0], FilePart) for one in found] == [False, True, True]
