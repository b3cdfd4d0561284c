"""Templates of workspaces: what can be written, what is taken, and how they are ranked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman_contracts.errors import InvalidRequest, NotFound
from steersman_contracts.workspaces import Parameter, TemplateSummary
from steersman_tools.templates import (
    BadTemplate,
    Templates,
    fill,
    page_of,
    parse,
    problem_of,
    variables,
)

WHOLE = """
name = "Python"
description = "A project in Python."
icon = "snake"
driver = "local"

[[parameters]]
name = "version"
options = ["3.11", "3.12"]
default = "3.12"

[[parameters]]
name = "workers"
type = "integer"
minimum = 1
maximum = 8
default = 2

[[parameters]]
name = "tests"
type = "boolean"
default = true

[[parameters]]
name = "project"
pattern = "[a-z]+"
maximum = 10

[environment]
PYTHONUTF8 = "1"

[setup]
script = "python3 -m venv venv"
timeout_s = 60
"""


def test_a_template_says_what_it_asks_and_what_commands_see() -> None:
    source = parse(WHOLE)

    values = fill(source.parameters, {"project": "sea", "workers": 3})

    assert values == {"version": "3.12", "workers": 3, "tests": True, "project": "sea"}
    assert variables(source, values) == {
        "PYTHONUTF8": "1",
        "PARAM_VERSION": "3.12",
        "PARAM_WORKERS": "3",
        "PARAM_TESTS": "true",
        "PARAM_PROJECT": "sea",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = [", "Invalid value"),
        ("", "missing required field `name`"),
        ('name = "a"\nicno = "x"', "unknown field `icno`"),
        ('name = "a"\ndriver = "chroot"', "Invalid enum value 'chroot'"),
        ('name = "a"\n[container]\ncpus = 1.5', "only the driver 'container' has a container"),
        ('name = "a"\ndriver = "container"\n[container]\nimage = "-v /:/host"', "container.image"),
        ('name = "a"\n[environment]\n"A B" = "x"', "not a variable of an environment: 'A B'"),
        ('name = "a"\n[[parameters]]\nname = "A"', "matching regex"),
        ('name = "a"\n[[parameters]]\nname = "a"\npatern = "x"', "unknown field `patern`"),
        ('name = "a"\n[[parameters]]\nname = "a"\npattern = "("', "the pattern of 'a'"),
        ('name = "a"\n[[parameters]]\nname = "a"\ndefault = 3', "does not take its own 3"),
        (
            'name = "a"\n[[parameters]]\nname = "a"\ntype = "integer"\noptions = [1, true]',
            "does not take its own True",
        ),
        ('name = "a"\n[[parameters]]\nname = "a"\n[[parameters]]\nname = "a"', "the same name"),
        ('name = "a"\n[setup]\nscript = "x"\ntimeout_s = 0', "setup.timeout_s"),
    ],
)
def test_what_is_wrong_with_a_template_is_said(text: str, said: str) -> None:
    with pytest.raises(BadTemplate) as raised:
        parse(text)

    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("given_values", "field", "said"),
    [
        ({}, "parameters.project", "is missing"),
        ({"project": "a", "other": 1}, "parameters.other", "there is no parameter 'other'"),
        ({"project": 7}, "parameters.project", "it is no string"),
        ({"project": "a", "workers": True}, "parameters.workers", "it is no integer"),
        ({"project": "a", "workers": 1.0}, "parameters.workers", "it is no integer"),
        ({"project": "a", "workers": 9}, "parameters.workers", "the most is 8"),
        ({"project": "a", "workers": 0}, "parameters.workers", "the least is 1"),
        ({"project": "a", "tests": "true"}, "parameters.tests", "it is no boolean"),
        ({"project": "a", "version": "2.7"}, "parameters.version", "the options are '3.11'"),
        ({"project": "$(reboot)"}, "parameters.project", "does not match '[a-z]+'"),
        ({"project": "a\n"}, "parameters.project", "does not match"),
        ({"project": "a" * 11}, "parameters.project", "the most is 10"),
        ({"project": "\0"}, "parameters.project", "no text"),
        ({"project": "\ud800"}, "parameters.project", "no text"),
        ({"project": "a", "workers": None}, "parameters.workers", "is missing"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(
    given_values: dict[str, Any], field: str, said: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        fill(parse(WHOLE).parameters, given_values)

    assert refused.value.details["field"] == field
    assert said in str(refused.value)


@given(st.text(max_size=50) | st.integers() | st.booleans() | st.none() | st.floats())
def test_what_is_taken_can_be_put_into_an_environment(value: object) -> None:
    parameters = [Parameter("a", kind) for kind in ("string", "integer", "boolean")]
    taken = [one for one in parameters if problem_of(one, value) is None]

    assert len(taken) <= 1
    for parameter in taken:
        shown = variables(parse('name = "a"'), fill([parameter], {"a": value}))["PARAM_A"]
        assert "\0" not in shown
        assert shown.encode().decode() == shown


def summary(template_id: str, name: str, uses: int = 0, description: str = "") -> TemplateSummary:
    return TemplateSummary(template_id, name, description, uses=uses)


def test_templates_are_ranked_by_match_and_then_by_use() -> None:
    templates = [
        summary("web", "Web page", 9),
        summary("b-node", "Node", 3),
        summary("a-node", "Something with node", 7),
        summary("node", "Plain", 0),
        summary("deno", "Deno", 50, "Not node at all."),
        summary("nodes", "Nodes", 1),
    ]

    page = page_of(templates, " NODE ", 1)

    assert [one.id for one in page.templates] == ["b-node", "node", "a-node", "nodes", "deno"]
    assert [one.id for one in page_of(templates, "", 1).templates] == [
        *("deno", "web", "a-node", "b-node", "nodes", "node"),
    ]
    assert page_of(templates, "rust", 1).templates == ()


def test_a_page_has_ten() -> None:
    templates = [summary(f"t{number:02}", "T") for number in range(21)]

    pages = [page_of(templates, "", number) for number in (1, 2, 3, 4)]

    assert [len(page.templates) for page in pages] == [10, 10, 1, 0]
    assert {(page.pages, page.total) for page in pages} == {(3, 21)}
    assert [one.id for page in pages for one in page.templates] == [one.id for one in templates]


def test_a_folder_of_the_administrator_adds_replaces_and_cannot_break(tmp_path: Path) -> None:
    for name, text in (
        ("default", 'name = "Ours"'),
        ("python", WHOLE),
        ("broken", "name = ["),
        ("Not-An-Id", 'name = "x"'),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "template.toml").write_text(text)
    (tmp_path / "empty").mkdir()
    (tmp_path / "binary").mkdir()
    (tmp_path / "binary" / "template.toml").write_bytes(b"\xff")
    templates = Templates(tmp_path)

    found = {one.id: (one.name, one.uses) for one in templates.summaries({"python": 4})}

    assert found == {"default": ("Ours", 0), "python": ("Python", 4)}
    assert templates.template("python", {}).has_setup
    for template_id in ("broken", "empty", "../python", "Not-An-Id", "binary"):
        with pytest.raises(NotFound):
            templates.source(template_id)


def test_there_is_a_default_without_any_folder() -> None:
    (only,) = Templates().summaries({})

    assert (only.id, only.driver) == ("default", "local")
    source = Templates().source("default")
    assert fill(source.parameters, {}) == {"repository": "", "branch": ""}
    for hostile in ("--upload-pack=x", "ext::sh -c x", "file:///etc", "https://a b", "-x"):
        with pytest.raises(InvalidRequest):
            fill(source.parameters, {"repository": hostile})
    with pytest.raises(InvalidRequest):
        fill(source.parameters, {"branch": "--force"})
