"""The guide for plugins teaches code that runs, and has a section for every hook."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

from steersman_contracts.hooks import ToolHooks

GUIDE = Path(__file__).parents[3] / "docs" / "plugins.md"


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_code_of_the_guide_passes_its_own_tests(tmp_path: Path) -> None:
    file = tmp_path / "test_guide.py"
    # One after the other they are one module: the first as it is taught, then the hooks.
    file.write_text("\n\n".join(blocks()))

    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)],
        cwd=tmp_path,
        # Nothing but pytest: what is installed here for tests of ours takes seconds to import.
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout
    tests = [name for name in _functions() if name.startswith("test_")]
    assert f"{len(tests)} passed" in ran.stdout


def test_every_hook_has_a_section_and_an_example() -> None:
    hooks = {name for name in vars(ToolHooks) if not name.startswith("_")}
    sections = set(re.findall(r"^### (\w+)$", GUIDE.read_text(), re.MULTILINE))

    assert hooks <= sections
    assert hooks <= set(_functions())


def _functions() -> list[str]:
    module = ast.parse("\n\n".join(blocks()))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node.name for node in module.body if isinstance(node, kinds)]
