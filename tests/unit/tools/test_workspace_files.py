"""Files of a workspace as people see them, whatever a program has put there."""

from __future__ import annotations

import os
from pathlib import Path

from steersman_tools.workspace_files import browse


def test_names_that_are_shown_alike_are_all_listed(tmp_path: Path) -> None:
    for name in (b"b", b"\xff", b"a", b"\xfe", b"\xc3\xa4"):
        os.close(os.open(os.fsencode(tmp_path) + b"/" + name, os.O_CREAT | os.O_WRONLY))

    folder = browse(tmp_path, "")

    assert [entry.name for entry in folder.entries] == ["?", "?", "a", "b", "ä"]
    assert folder.total == 5
