"""Pages that are made from code say what the code says."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[3] / "docs"


def test_the_page_of_the_state_machine_is_the_table_of_the_store() -> None:
    rendered = runpy.run_path(str(DOCS / "render_state_machine.py"))["render"]()

    assert (DOCS / "state-machine.md").read_text() == rendered
