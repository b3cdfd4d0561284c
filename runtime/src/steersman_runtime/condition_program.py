"""Conditions of rules, evaluated as a program of its own: see `steersman_runtime.conditions`.

A frame is a length (four bytes, the highest first) and JSON. It reads `{"values": …, "conditions":
[…]}` and writes one frame for each condition: `true`, `false`, or `null` where it cannot be
evaluated; or it reads `{"compile": […]}` and writes what is wrong with each, `null` for nothing.

A condition can take for ever or all memory, and nothing stops that inside a process: here the
limits of the system do. It imports nothing of ours.
"""

from __future__ import annotations

import json
import math
import resource
import struct
import sys
from functools import lru_cache
from types import ModuleType
from typing import Any, BinaryIO, Final

# Its command line brings a toolkit for terminals along.
sys.modules["cel.cli"] = ModuleType("cel.cli")

import cel  # noqa: E402  # only now

CPU_S: Final = 1
"""Seconds for one condition, rounded up to the next whole second of this process."""
MEMORY: Final = 512 << 20
_LENGTH: Final = struct.Struct(">I")


def main() -> None:
    """Answer until nobody asks any more."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    while (frame := _read(asked)) is not None:
        request = json.loads(frame)
        for condition in request.get("compile", ()):
            _give_time()
            _write(answers, _problem_of(condition))
        for condition in request.get("conditions", ()):
            _give_time()
            _write(answers, _holds(condition, request["values"]))


def _give_time() -> None:
    # The end comes also where whoever asked has died meanwhile.
    used = resource.getrusage(resource.RUSAGE_SELF)
    until = math.ceil(used.ru_utime + used.ru_stime) + CPU_S
    resource.setrlimit(resource.RLIMIT_CPU, (until, resource.RLIM_INFINITY))


def _holds(condition: str, values: dict[str, Any]) -> bool | None:
    try:
        found = _program(condition).execute(values)
    except Exception:  # noqa: BLE001  # the library raises many kinds, and all mean the same here
        return None
    return found if isinstance(found, bool) else None


def _problem_of(condition: str) -> str | None:
    try:
        cel.compile(condition)
    except Exception as error:  # noqa: BLE001  # as above
        return str(error)
    return None


@lru_cache(maxsize=1000)
def _program(condition: str) -> cel.Program:
    return cel.compile(condition)


def _read(source: BinaryIO) -> bytes | None:
    head = source.read(_LENGTH.size)
    return source.read(*_LENGTH.unpack(head)) if len(head) == _LENGTH.size else None


def _write(target: BinaryIO, answer: object) -> None:
    body = json.dumps(answer).encode()
    target.write(_LENGTH.pack(len(body)) + body)
    target.flush()


if __name__ == "__main__":
    main()
