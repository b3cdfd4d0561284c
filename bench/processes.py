"""What processes cost, read from the operating system."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

_PROC: Final = Path("/proc")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class _Stat(NamedTuple):
    parent: int
    own_s: float
    reaped_s: float


def _stat(pid: int) -> _Stat:
    # The name of the program may hold anything, but it ends with the last parenthesis.
    fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    user, system, reaped_user, reaped_system = (int(field) / _TICKS for field in fields[11:15])
    return _Stat(int(fields[1]), user + system, reaped_user + reaped_system)


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used, with those of children that it has waited for."""
    stat = _stat(pid)
    return stat.own_s + stat.reaped_s


def tree_cpu_s(root: int) -> float:
    """The same for a process and all its living descendants."""
    stats: dict[int, _Stat] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            try:
                stats[int(entry.name)] = _stat(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended meanwhile
    total = 0.0
    todo = [root]
    while todo:
        pid = todo.pop()
        if (stat := stats.get(pid)) is not None:
            total += stat.own_s + stat.reaped_s
        todo.extend(child for child, other in stats.items() if other.parent == pid)
    return total


class Cpu(NamedTuple):
    """CPU seconds by service."""

    by_service: Mapping[str, float]

    @property
    def total_s(self) -> float:
        return sum(self.by_service.values())

    def since(self, before: Cpu) -> Cpu:
        return Cpu({name: used - before.by_service[name] for name, used in self.by_service.items()})

    def per(self, units: float, *, scale: float = 1.0) -> dict[str, float]:
        """By service, for each of `units`."""
        return {name: round(used * scale / units, 4) for name, used in self.by_service.items()}


def rss_bytes(pid: int) -> int:
    """Resident memory; pages shared with other processes count in full."""
    return int((_PROC / str(pid) / "statm").read_text().split()[1]) * _PAGE


def pss_bytes(pid: int) -> int:
    """Resident memory; of shared pages only the share of this process."""
    for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"the kernel does not tell the proportional memory of {pid}")


class Machine(NamedTuple):
    """The CPU time of the whole machine so far, and its load."""

    total: int
    idle: int
    steal: int
    load: tuple[float, float, float]

    @classmethod
    def now(cls) -> Machine:
        # user nice system idle iowait irq softirq steal; guest time is part of user already.
        fields = [int(f) for f in (_PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]]
        return cls(sum(fields), fields[3] + fields[4], fields[7], os.getloadavg())

    def steal_share(self, before: Machine) -> float:
        """Of all CPU time since then, what other machines on the same host took."""
        return (self.steal - before.steal) / max(1, self.total - before.total)

    def busy_share(self, before: Machine) -> float:
        """Of all CPU time since then, what anybody used."""
        return 1 - (self.idle - before.idle) / max(1, self.total - before.total)


def cpu_model() -> str:
    """As the processor calls itself."""
    for line in (_PROC / "cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"
