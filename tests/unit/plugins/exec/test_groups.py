"""Control groups of commands, where the kernel lets us have some."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from steersman_contracts.cgroups import (
    Group,
    Groups,
    NotHere,
    here,
    limits,
    make_groups,
    own_group,
    problem_of,
)
from steersman_contracts.sandbox import Limits, Unconfined
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

    def __init__(self, groups: Groups, limits: Limits | None = None) -> None:
        self._groups = groups
        self._limits = limits or Limits()

    @property
    def groups(self) -> Groups:
        return self._groups

    @property
    def limits(self) -> Limits:
        return self._limits


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


@pytest.fixture
def limiting(root: Path) -> Path:
    """A directory for groups to which the kernel passes both controllers on."""
    if (problem := problem_of(root)) is not None:
        pytest.skip(f"no limits can be set here: {problem}")
    (root / "cgroup.subtree_control").write_text("+memory +pids")
    return root


@pytest.mark.parametrize(
    ("limits", "command", "said"),
    [
        # Each of them keeps to the limit; together they do not.
        (
            Limits(memory_bytes=256 << 20),
            "for n in {1..6}; do head -c 60000000 /dev/zero | tail | wc -c & done; wait; echo $n",
            "",
        ),
        (
            Limits(processes=20),
            "for n in {1..60}; do sleep 30 & done 2>&1 | head -c 1000",
            "Resource temporarily unavailable",
        ),
    ],
    ids=["memory", "processes"],
)
async def test_a_limit_holds_for_all_that_a_command_starts(
    limiting: Path, workspace: Path, limits: Limits, command: str, said: str
) -> None:
    sandbox = Grouping(Groups(limiting), limits)
    launch = await asyncio.to_thread(prepare, command, workspace, ".", sandbox)
    capture = Capture()
    process = Process.start(launch, capture)
    async with asyncio.timeout(60):
        await process.exited.wait()
        await process.drain()
    text = capture.output().text
    await process.kill()
    await process.close()

    if said:
        assert said in text
    else:
        assert (process.exit_signal, text) == ("SIGKILL", "")


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


def test_the_limits_are_those_of_the_command_and_room_for_what_is_round_it() -> None:
    assert limits(("memory", "pids"), memory_bytes=1 << 30, processes=100) == (
        ("memory.max", "1073741824", True),
        ("memory.swap.max", "0", False),
        ("memory.oom.group", "1", False),
        ("pids.max", "108", True),
    )
    assert limits(("pids",), memory_bytes=1, processes=1) == (("pids.max", "9", True),)
    assert limits((), memory_bytes=1, processes=1) == ()


@pytest.fixture
def delegated(tmp_path: Path) -> Path:
    """The files of a group that is ours to divide, as plain ones: what is written stays there."""
    for group in (tmp_path, tmp_path / "steersman-commands"):
        group.mkdir(exist_ok=True)
        for name, content in (
            ("cgroup.controllers", "cpu io memory pids\n"),
            ("cgroup.subtree_control", "\n"),
            ("cgroup.procs", ""),
        ):
            (group / name).write_text(content)
    return tmp_path


def test_a_group_of_ours_is_divided_and_passes_both_limits_on(delegated: Path) -> None:
    left = delegated / "steersman-commands" / "of-a-process-that-died"
    left.mkdir()

    make_groups(delegated)

    for group in (delegated, delegated / "steersman-commands"):
        assert (group / "cgroup.subtree_control").read_text() == "+memory +pids"
    assert not left.exists()


def test_a_group_that_passes_them_on_already_is_left_as_it_is(delegated: Path) -> None:
    (delegated / "cgroup.subtree_control").write_text("memory cpu pids\n")

    make_groups(delegated)

    assert (delegated / "cgroup.subtree_control").read_text() == "memory cpu pids\n"


def test_a_group_is_killed_as_a_whole_and_gone_when_nothing_is_left_in_it(tmp_path: Path) -> None:
    path = tmp_path / "group"
    path.mkdir()
    (path / "cgroup.procs").write_text("")
    group = Group(path)

    group.kill()
    still_there = group.close()

    assert (path / "cgroup.kill").read_text() == "1"
    assert not still_there  # the kernel's files do not count, these do
    for file in list(path.iterdir()):
        file.unlink()
    assert group.close()
    assert group.close()
    assert not path.exists()


def test_a_group_without_its_limits_is_not_used(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"cgroup\.procs"):  # only the kernel makes that file
        Groups(tmp_path, controllers=()).open(memory_bytes=1, processes=1)

    assert list(tmp_path.iterdir()) == []
