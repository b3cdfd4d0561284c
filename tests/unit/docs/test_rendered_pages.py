"""Pages that are made from code say what the code says."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import msgspec

DOCS = Path(__file__).parents[3] / "docs"


def test_the_page_of_the_state_machine_is_the_table_of_the_store() -> None:
    rendered = runpy.run_path(str(DOCS / "render_state_machine.py"))["render"]()

    assert (DOCS / "state-machine.md").read_text() == rendered


def test_the_asyncapi_document_is_what_the_types_say() -> None:
    rendered = runpy.run_path(str(DOCS / "render_asyncapi.py"))["render"]()

    assert (DOCS / "asyncapi.yaml").read_text() == rendered


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = runpy.run_path(str(DOCS / "render_asyncapi.py"))["document"]()
    found = set(re.findall(rb'"\$ref":"#/([^"]+)"', msgspec.json.encode(document)))

    assert len(found) > 20
    for reference in found:
        node = document
        for key in reference.decode().split("/"):
            node = node[key]
