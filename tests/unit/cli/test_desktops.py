"""What `steersman desktop` understands and shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from steersman.desktops import desktop_lines, mark_line, read_size
from steersman.main import main
from steersman_contracts.ids import ChatId, UserId
from steersman_contracts.rest_desktop import StartDesktopBody
from steersman_contracts.rpc.desktop import Desktop, DesktopControl
from steersman_contracts.rpc.desktop_recordings import ActionMark, ControlMark, FrameMark, Mark

CHAT = ChatId("01a00000-0000-7000-8000-000000000000")
BARE = {"STEERSMAN_URL": None, "STEERSMAN_TOKEN": None, "STEERSMAN_DATA_DIR": None}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("state", "../models"), "not the id of a chat"),
        (("start", CHAT, "--size", "large"), "WIDTHxHEIGHT"),
        (("start", CHAT, "--size", "12x"), "WIDTHxHEIGHT"),
        (("files", "../models"), "not the id of a chat"),
        (("server", CHAT, "--none", "--use", "vnc.test:1"), "either --use"),
        (("server", CHAT, "--password-stdin"), "either --use"),
        (("recordings", "get", CHAT, "../../desktop"), "not the id of a recording"),
        (("recordings", "download", CHAT, "20261123T120000-0123abcd", "-", "--format", "x"), "zip"),
    ],
)
def test_bad_usage_is_refused_before_anything_happens(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    result = CliRunner(env=BARE).invoke(main, ["desktop", *words, "--data", str(tmp_path)])

    assert result.exit_code == 2, result.output
    assert said in result.output


def test_a_size_is_two_numbers() -> None:
    assert read_size("1920x1080") == StartDesktopBody(1920, 1080)
    assert read_size(None) == StartDesktopBody()


def test_a_desktop_is_shown_with_who_has_control() -> None:
    control = DesktopControl(2, UserId("ann"), private=True)
    ready = Desktop(CHAT, "ready", width=1280, height=800, viewers=2, control=control)

    assert desktop_lines(ready) == [
        "state    ready",
        "size     1280x800",
        "viewers  2",
        "control  ann, in private",
    ]
    assert desktop_lines(Desktop(CHAT, "failed", "no\x1b[2J")) == ["state    failed: no�[2J"]


@pytest.mark.parametrize(
    ("mark", "line"),
    [
        (FrameMark(1.5, 3), "     1.50  picture 3"),
        (
            ActionMark(2.0, {"action": "type", "text": "a\x9bb"}, is_error=True),
            '     2.00  agent: {"action":"type","text":"a�b"}  (failed)',
        ),
        (
            ControlMark(3.25, "e", UserId("ann"), private=True, reason="taken"),
            "     3.25  control: ann in private (taken)",
        ),
    ],
)
def test_what_happened_cannot_steer_a_terminal(mark: Mark, line: str) -> None:
    assert mark_line(mark) == line
