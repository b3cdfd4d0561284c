"""The example servers of the MCP SDK, out of its own source: nothing of them is ours."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

_LOCK = Path(__file__).parents[2] / "requirements" / "dev.txt"


def unpack_examples(into: Path) -> Path:
    """The folder `examples` of the version that is installed, as its hash in the lock says.

    Skips the test where the registry does not have it for us: wheels hold no examples.
    """
    pinned = re.search(r"^mcp==.*(?:\\\n.*)+", _LOCK.read_text(), re.MULTILINE)
    assert pinned is not None
    wanted = into / "mcp.txt"
    wanted.write_text(pinned[0])
    # pip asks a source for its metadata, which what is in our own lock makes.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-build-isolation", "--no-binary", "mcp", "--require-hashes"]
    command += ["--requirement", str(wanted), "--dest", str(into)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    sources = list(into.glob("mcp-*.tar.gz"))
    if done.returncode != 0 or not sources:
        pytest.skip(f"the registry has no source of the MCP SDK for us: {done.stderr[-300:]}")
    with tarfile.open(sources[0]) as source:
        source.extractall(into, filter="data")
    (examples,) = into.glob("mcp-*/examples")
    return examples
