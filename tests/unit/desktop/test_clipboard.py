"""The extended clipboard of RFB, as bytes."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman_desktop import clipboard


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=200))
def test_what_is_provided_is_heard(text: str) -> None:
    sent = clipboard.provide(text)

    kind, length = struct.unpack(">BxxxI", sent[:8])
    assert (kind, 2**32 - length) == (6, len(sent) - 8)
    assert clipboard.heard(sent[8:]).text == text


def test_other_messages_have_no_text() -> None:
    assert clipboard.heard(clipboard.our_caps()[8:]).text is None
    sent = clipboard.message(clipboard.TEXT | clipboard.NOTIFY)

    assert clipboard.heard(sent[8:]) == (clipboard.TEXT | clipboard.NOTIFY, None)


@pytest.mark.parametrize("body", [b"no zlib", zlib.compress(b"abc")])
def test_what_is_damaged_is_refused(body: bytes) -> None:
    flags = struct.pack(">I", clipboard.TEXT | clipboard.PROVIDE)

    with pytest.raises(ValueError, match="a clipboard"):
        clipboard.heard(flags + body)


def test_what_is_too_long_is_not_taken() -> None:
    flags = struct.pack(">I", clipboard.TEXT | clipboard.PROVIDE)
    bomb = zlib.compress(struct.pack(">I", 1 << 30) + bytes(1 << 24))

    assert clipboard.heard(flags + bomb).text is None
