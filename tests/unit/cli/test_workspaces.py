"""What `steersman workspace` and `steersman policy` understand and show."""

from __future__ import annotations

import click
import pytest

from steersman.policy import report_lines
from steersman.workspaces import diff_lines, read_values
from steersman_contracts.ids import MessageId
from steersman_contracts.rpc.policies import DryRunReport, JudgedCall, Outcome
from steersman_contracts.workspace_diff import FileChange, RepositoryDiff, WorkspaceDiff
from steersman_contracts.workspaces import Parameter, Template

TEMPLATE = Template(
    "t",
    "T",
    parameters=(Parameter("a"), Parameter("n", "integer"), Parameter("b", "boolean")),
)


def test_parameters_have_the_types_of_the_template() -> None:
    values = read_values(TEMPLATE, ["a=1=2", "n=7", "b=true"])

    assert values == {"a": "1=2", "n": 7, "b": True}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("a", "is not NAME=VALUE"),
        ("c=1", "there are: a, n, b"),
        ("n=x", "is no integer"),
        ("b=2", "is no boolean"),
    ],
)
def test_what_is_no_parameter_is_refused(given: str, said: str) -> None:
    with pytest.raises(click.ClickException) as refused:
        read_values(TEMPLATE, [given])

    assert said in refused.value.message


def test_a_diff_cannot_steer_a_terminal() -> None:
    changes = (FileChange("e\x1b[2Jvil", "??", 1, 0),)
    diff = "+++ b/e\x1b[2Jvil\n+\x1b]0;x\x07"
    found = WorkspaceDiff("w", "d", (RepositoryDiff("r", "main", 1, changes=changes, diff=diff),))

    lines = diff_lines(found, stat=False)

    assert "\x1b" not in "".join(lines)
    assert lines[0] == "r on main: 1 file"
    assert len(diff_lines(found, stat=True)) == 2
    assert diff_lines(WorkspaceDiff("w", "d"), stat=True) == ["there is no repository"]


def test_a_report_shows_what_would_have_changed() -> None:
    same = JudgedCall(MessageId(1), "a", "ls", "{}", Outcome("allow"), Outcome("allow"))
    other = JudgedCall(MessageId(1), "b", "rm", "{}", Outcome("allow"), Outcome("deny"))
    report = DryRunReport((same, other), 1)

    assert report_lines(report, everything=False) == [
        "allow → deny    rm {}",
        "1 of 2 calls would have gone another way",
    ]
    assert report_lines(report, everything=True)[0].startswith("allow  ")
