"""Control groups of commands, where the kernel lets us have some."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from steersman_contracts.cgroups import Groups, NotHere, here, own_group, problem_of
from steersman_contracts.sandbox import Unconfined
from steersman_plugin_exec.launch import prepare
from steersman_plugin_exec.output import Capture
from steersman_plugin_exec.process import Process

HYBRID = """\
24 23 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw
31 24 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
DELEGATED = "31 24 0:30 /user.slice /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n"


class Grouping(Unconfined):
    """No sandbox, and control groups."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups

    @property
    def groups(self) -> Groups:
        return self._groups


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory for groups, without any limits: those are the kernel's business."""
    try:
        root = here() / f"steersman-test-{secrets.token_hex(4)}"
        root.mkdir()
    except (NotHere, OSError) as error:
        pytest.skip(f"no control groups can be made here: {error}")
    yield root
    root.rmdir()


def groups_in(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir()]


def processes_in(group: Path) -> list[str]:
    return (group / "cgroup.procs").read_text().split()


async def test_a_command_ends_with_its_group_wherever_its_processes_have_gone(
    root: Path, workspace: Path
) -> None:
    groups = Groups(root, controllers=())
    command = "setsid sleep 300 & setsid setsid sleep 300 & echo started; wait"
    launch = await asyncio.to_thread(prepare, command, workspace, ".", Grouping(groups))
    process = Process.start(launch, Capture())
    (group,) = groups_in(root)
    async with asyncio.timeout(60):
        while len(processes_in(group)) < 3:  # noqa: ASYNC110  # the kernel tells nobody
            await asyncio.sleep(0.02)
        assert str(process.pid) in processes_in(group)

        await process.kill()
        while processes_in(group):  # noqa: ASYNC110  # as above
            await asyncio.sleep(0.02)
    await process.close()
    groups.open(memory_bytes=1, processes=1).close()  # whatever was left is removed with the next

    assert groups_in(root) == []


@pytest.mark.parametrize(
    ("mounts", "membership", "found"),
    [
        (HYBRID, "4:memory:/x\n0::/\n", "/sys/fs/cgroup/unified"),
        (HYBRID, "0::/steersman.service\n", "/sys/fs/cgroup/unified/steersman.service"),
        (DELEGATED, "0::/user.slice/a.service\n", "/sys/fs/cgroup/a.service"),
    ],
)
def test_our_own_group_is_found(mounts: str, membership: str, found: str) -> None:
    assert own_group(mounts, membership) == Path(found)


def test_a_machine_without_them_is_told() -> None:
    with pytest.raises(NotHere):
        own_group("24 23 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n", "4:memory:/x\n")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    assert problem_of(tmp_path) == ("its control group cannot be read: No such file or directory")
    (tmp_path / "cgroup.controllers").write_text("cpu io pids\n")
    assert problem_of(tmp_path) == "its control group has no controller memory"
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    assert problem_of(tmp_path) == (
        "its control group is not ours to divide (in systemd: Delegate=yes)"
    )
