"""The plugin alone, without a service."""

from __future__ import annotations

from pathlib import Path

import pytest

import steersman_plugin_glossary as glossary
from steersman_contracts.hooks import PluginOff
from steersman_contracts.testing import check_plugin, running_plugin

TERMS = {"terms": {"SLA": "a promise"}}


async def test_it_is_what_a_deployment_expects_of_a_plugin() -> None:
    await check_plugin(glossary, settings=TERMS)


async def test_without_terms_it_is_off(tmp_path: Path) -> None:
    with pytest.raises(PluginOff, match="no terms are stored"):
        async with running_plugin(glossary, tmp_path):
            pass


@pytest.mark.parametrize(
    ("term", "answer"),
    [("sla", "SLA: a promise"), ("SLO", "'SLO' is not in the glossary; 1 terms are")],
)
async def test_terms_are_found_in_any_case(term: str, answer: str, tmp_path: Path) -> None:
    async with running_plugin(glossary, tmp_path, settings=TERMS) as plugin:
        assert (await plugin.call("define_term", {"term": term})).text == answer


async def test_a_proposal_is_written_into_the_workspace(tmp_path: Path) -> None:
    async with running_plugin(glossary, tmp_path, settings=TERMS) as plugin:
        await plugin.call("propose_term", {"term": "SLO", "meaning": "an aim"})

    assert (tmp_path / "glossary-proposals.txt").read_text() == "SLO: an aim\n"
