"""The fakes as a process: `python -m fakes.serve --port 0`.

Prints one JSON line with the port and the base URLs, and serves until its stdin closes.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from fakes.script import Script
from fakes.server import FakeProviders
from fakes.wire import encode


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="fakes.serve", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--keep-requests", type=int, default=1_000)
    parser.add_argument("--scripts", type=Path, help="a JSON file: {model: script}")
    options = parser.parse_args(arguments)
    _run(options.port, options.keep_requests, options.scripts)


def _run(port: int, keep_requests: int, scripts: Path | None) -> None:
    found = (
        msgspec.json.decode(scripts.read_bytes(), type=dict[str, Script])
        if scripts is not None
        else {}
    )
    # Frames by the ten thousand per second are what uvloop is for; without it they only cost more.
    try:
        import uvloop
    except ImportError:
        runner = asyncio.Runner()
    else:
        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    with runner:
        runner.run(_serve(port, keep_requests, found))


async def _serve(port: int, keep_requests: int, scripts: dict[str, Script]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with FakeProviders(port=port, keep_requests=keep_requests) as fakes:
        for model, script in scripts.items():
            fakes.script(model, script)
        ready = {
            "port": fakes.port,
            "base_urls": {
                kind: fakes.base_url(kind) for kind in ("anthropic", "responses", "chat", "gemini")
            },
        }
        sys.stdout.write(encode(ready).decode() + "\n")
        sys.stdout.flush()
        reader = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        closed = loop.create_task(_until_closed(reader, stop))
        await stop.wait()
        closed.cancel()
        transport.close()


async def _until_closed(reader: asyncio.StreamReader, stop: asyncio.Event) -> None:
    while await reader.read(4096):
        pass
    stop.set()


if __name__ == "__main__":
    main()
