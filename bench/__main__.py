"""`python -m bench`: run scenarios, print the table, write the JSON.

Exits with 1 when a scenario failed: when it could not be run, or an answer was not complete. A row
over its budget is marked, and is no failure: the budgets hold on a quiet machine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console

from bench import report
from bench.children import clean_environment
from bench.context import FULL, QUICK, Bench
from bench.figures import Failure, Row, Wrong
from bench.processes import Machine
from bench.providers import run_providers
from bench.scenarios import SCENARIOS

_FILES: Final = 65_536
_WIDTH: Final = 150
_SCENARIO_S: Final = 150.0


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    # The SDK, too, must find the provider where it is told to look.
    for name in set(os.environ) - set(clean_environment()):
        del os.environ[name]
    _allow_many_files()
    directory = Path(tempfile.mkdtemp(prefix="steersman-bench-"))
    directory.chmod(0o755)  # as root, Postgres runs as somebody else and must get through
    try:
        return uvloop.run(_run(options, directory))
    finally:
        if options.keep:
            print(f"kept: {directory}", file=sys.stderr)
        else:
            shutil.rmtree(directory, ignore_errors=True)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--only", default="", metavar="NAME,...", help=f"of: {', '.join(SCENARIOS)}"
    )
    parser.add_argument("--quick", action="store_true", help="fewer samples: to try it out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--keep", action="store_true", help="keep data and logs, and say where")
    options = parser.parse_args(arguments)
    options.only = [name for name in options.only.split(",") if name] or list(SCENARIOS)
    if unknown := sorted(set(options.only) - set(SCENARIOS)):
        parser.error(f"no scenario {unknown[0]!r}; there are: {', '.join(SCENARIOS)}")
    return options


def _allow_many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _run(options: argparse.Namespace, directory: Path) -> int:
    began, before = datetime.now(UTC), Machine.now()
    progress = Console(stderr=True)
    rows: list[Row] = []
    failures: list[Failure] = []
    noise: dict[str, dict[str, float]] = {}
    async with run_providers(directory) as providers:
        bench = Bench(directory, providers, QUICK if options.quick else FULL)
        try:
            for name in [name for name in SCENARIOS if name in options.only]:
                since, machine = time.monotonic(), Machine.now()
                found = await _scenario(bench, name)
                noise[name] = {
                    "seconds": round(time.monotonic() - since, 1),
                    "load": round(machine.load[0], 2),
                    "steal": round(Machine.now().steal_share(machine), 4),
                }
                if isinstance(found, Failure):
                    failures.append(found)
                    progress.print(f"{name}: failed", style="red")
                else:
                    rows += found
                    progress.print(f"{name}: {noise[name]['seconds']} s", style="dim")
        finally:
            await bench.close()
    content = report.report(
        began, quick=options.quick, before=before, scenarios=noise, rows=rows, failures=failures
    )
    # Into a file or a pipe, a table of 80 columns would be all line breaks.
    console = Console() if sys.stdout.isatty() else Console(width=_WIDTH)
    report.show(console, content, rows)
    whole = not options.quick and len(options.only) == len(SCENARIOS)
    # Parts of a run and quick ones are not kept unless they are asked for.
    path: Path | None = options.json or (report.default_path(began) if whole else None)
    if path is not None:
        report.write(path, content)
        print(f"written: {path}")
    return 1 if failures else 0


async def _scenario(bench: Bench, name: str) -> list[Row] | Failure:
    try:
        async with asyncio.timeout(_SCENARIO_S):
            return await SCENARIOS[name](bench)
    except Wrong as error:
        return Failure(name, str(error))
    except TimeoutError:
        return Failure(name, f"did not end, within {_SCENARIO_S:g} s at the latest")
    except Exception as error:  # noqa: BLE001  # the other scenarios still tell something
        return Failure(name, f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    sys.exit(main())
