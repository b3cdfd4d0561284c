"""Stands in for Docker where there is none: its command line, and containers as plain processes.

It takes the options that the tools service gives, and no others, and answers as Docker and Podman
do. What runs in a container is real. There is no isolation whatever: the engines are not ours to
test. Run as `python container_engine.py STATE COMMAND …`; STATE is a directory with `registry` in
it, the names of the images that can be pulled, a line each.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TextIO

DOOMED = "registry.test/doomed:1"
"""Ends at once, as an image without our service in it does."""


class Container:
    def __init__(self, state: Path, name: str) -> None:
        self.file = state / "containers" / name
        self.log = state / f"{name}.log"
        self.name = name

    def read(self) -> dict[str, Any]:
        return json.loads(self.file.read_text())

    @property
    def pid(self) -> int:
        return int(self.read()["pid"])

    @property
    def status(self) -> str:
        try:
            found = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return "exited"
        return "exited" if found in "ZX" else "running"

    def end(self, patience_s: float) -> None:
        until = time.monotonic() + patience_s
        if patience_s and self.status == "running":
            os.kill(self.pid, signal.SIGTERM)
        while self.status == "running" and time.monotonic() < until:
            time.sleep(0.02)
        if self.status == "running":
            os.killpg(self.pid, signal.SIGKILL)
        while self.status == "running":
            time.sleep(0.02)


def _say(text: str, stream: TextIO = sys.stdout) -> None:
    stream.write(f"{text}\n")
    stream.flush()


def containers(state: Path) -> list[Container]:
    return [Container(state, path.name) for path in sorted((state / "containers").iterdir())]


def ps(state: Path, arguments: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--all", action="store_true", required=True)
    parser.add_argument("--filter", required=True)
    parser.add_argument("--format", choices=("{{.State}}", "{{.Names}}"), required=True)
    options = parser.parse_args(arguments)
    kind, label = options.filter.split("=", 1)
    assert kind == "label"
    for one in containers(state):
        if label in one.read()["labels"]:
            _say(one.status if options.format == "{{.State}}" else one.name)
    return 0


def image(state: Path, arguments: list[str]) -> int:
    *rest, name = arguments
    assert rest == ["inspect", "--format", "{{.Id}}"]
    if name in (state / "images").read_text().splitlines():
        _say("sha256:1")
        return 0
    _say(f"Error: No such image: {name}", sys.stderr)
    return 1


def pull(state: Path, arguments: list[str]) -> int:
    (name,) = arguments
    _say(f"Trying to pull {name}...")
    if name not in (state / "registry").read_text().splitlines():
        _say("Error response from daemon: manifest unknown", sys.stderr)
        return 1
    with (state / "images").open("a") as images:
        images.write(f"{name}\n")
    return 0


def run(state: Path, arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for flag in ("--detach", "--read-only"):
        parser.add_argument(flag, action="store_true", required=True)
    for option in (
        *("--pull", "--name", "--hostname", "--user", "--workdir", "--tmpfs", "--cap-drop"),
        *("--security-opt", "--memory", "--cpus", "--pids-limit", "--volume", "--env-file"),
    ):
        parser.add_argument(option, required=True)
    parser.add_argument("--network")
    parser.add_argument("--label", action="append", required=True)
    parser.add_argument("image")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    assert (options.pull, options.cap_drop, options.security_opt) == (
        *("never", "ALL", "no-new-privileges"),
    )
    if options.image not in (state / "images").read_text().splitlines():
        _say(f"Unable to find image {options.image!r} locally", sys.stderr)
        return 125
    one = Container(state, options.name)
    try:
        file = one.file.open("x")
    except FileExistsError:
        _say(f'Conflict. The container name "/{one.name}" is already in use', sys.stderr)
        return 125
    host, _, inside = options.volume.partition(":")
    variables = dict(line.split("=", 1) for line in Path(options.env_file).read_text().splitlines())
    variables = {name: host if value == inside else value for name, value in variables.items()}
    own = {"PATH": os.environ["PATH"], "STEERSMAN_WORKSPACES_DIR": str(state / "own" / one.name)}
    program, *rest = options.command
    assert program == "python"
    argv = [sys.executable, *rest]
    if options.image == DOOMED:
        argv = [sys.executable, "-c", "raise SystemExit('No module named steersman_tools')"]
    with file, one.log.open("w") as log:
        process = subprocess.Popen(
            argv,
            env={**own, **variables},
            cwd=host,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        facts = {"pid": process.pid, "labels": options.label, "options": vars(options)}
        json.dump(facts, file)
    _say("0123456789ab")
    return 0


def main(state: Path, command: str, arguments: list[str]) -> int:
    match command:
        case "ps":
            return ps(state, arguments)
        case "image":
            return image(state, arguments)
        case "pull":
            return pull(state, arguments)
        case "run":
            return run(state, arguments)
        case "stop":
            flag, seconds, name = arguments
            assert flag == "-t"
            Container(state, name).end(float(seconds))
        case "rm":
            *flags, name = arguments
            assert flags == ["--force", "--volumes"]
            Container(state, name).end(0)
            Container(state, name).file.unlink()
        case "logs":
            flag, lines, name = arguments
            assert flag == "--tail"
            _say("\n".join(Container(state, name).log.read_text().splitlines()[-int(lines) :]))
        case _:
            _say(f"unknown command: {command}", sys.stderr)
            return 125
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
