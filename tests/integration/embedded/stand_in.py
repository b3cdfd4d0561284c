"""A supervisor of stand-ins, as a program of its own: tests signal it and read its lines."""

import asyncio
import json
import signal
import sys

from steersman.command import Command
from steersman.processes import RestartPolicy, Supervisor

SCRIPTS = {
    "plain": "exec sleep 600",
    "stubborn": "trap '' TERM INT HUP; echo ignoring; while :; do sleep 600; done",
    # Its helper is in its session, its daemon in one of its own.
    "parent": "sleep 600 & echo helper $!; setsid sleep 600 & echo daemon $!; wait",
    "brief": "echo last words; exit 7",
}


class Lines:
    """Reports everything as JSON lines."""

    def line(self, name: str, line: str) -> None:
        say("line", name=name, line=line)

    def started(self, name: str, pid: int, starts: int) -> None:
        say("started", name=name, pid=pid, starts=starts)

    def ended(self, name: str, code: int, again_in_s: float | None) -> None:
        say("ended", name=name, code=code, again_in_s=again_in_s)


def say(event: str, **values: object) -> None:
    sys.stdout.write(json.dumps({"event": event, **values}) + "\n")
    sys.stdout.flush()


async def main(kinds: list[str]) -> None:
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    async with Supervisor(Lines(), RestartPolicy(first_s=0.01, longest_s=0.04)) as supervisor:
        for stage, kind in enumerate(kinds):
            command = Command(
                name=kind,
                argv=("/bin/sh", "-c", SCRIPTS[kind]),
                env={"PATH": "/usr/bin:/bin"},
                stop_timeout_s=0.2,
            )
            supervisor.start(command, stage=stage)
        supervisor.keep_running()
        await told.wait()
    say("stopped")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
