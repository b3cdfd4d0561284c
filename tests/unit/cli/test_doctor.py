"""What `steersman doctor` says about the machine."""

from __future__ import annotations

from pathlib import Path

from steersman.datadir import DataDir
from steersman.doctor import examine
from steersman_contracts import cgroups


def test_control_groups_that_are_not_ours_are_reported_with_what_that_disables(
    tmp_path: Path,
) -> None:
    try:
        problem = cgroups.problem_of(cgroups.here())
    except cgroups.NotHere as error:
        problem = str(error)

    (finding,) = [one for one in examine(DataDir(tmp_path)) if one.name == "control groups"]

    assert not finding.required
    if problem is None:
        assert (finding.state, finding.detail) == ("ok", "version 2, and ours to divide")
    else:
        assert (finding.state, finding.detail) == ("missing", problem)
        assert finding.disables == "limits of memory and processes for a command as a whole"
        assert "Delegate=yes" in finding.fix
