"""The files of a new plugin."""

from __future__ import annotations

from pathlib import Path
from string import Template
from typing import Final


class KitExists(FileExistsError):
    """There is something at the place of the new package already."""


_PYPROJECT: Final = """\
[project]
name = "steersman-plugin-$name"
version = "0.1.0"
description = "A plugin for Steersman"
requires-python = ">=3.11"
dependencies = ["steersman-contracts"]

# Under this name the tools service finds it.
[project.entry-points."steersman.plugins"]
$name = "$module"

[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[tool.hatch.build.targets.wheel]
packages = ["src/$module"]

[tool.pytest.ini_options]
pythonpath = ["src"]

[tool.ruff]
line-length = 100
"""

_README: Final = """\
# steersman-plugin-$name

A plugin for Steersman with one tool, `$tool`.

- **Settings**: `greeting` (`STEERSMAN_PLUGIN_${variable}_GREETING`), the first word of its answer.
- **Test** it alone: `python -m pytest`. No service is needed.
- **Use** it: `pip install --editable .` where the tools service runs, then
  `steersman plugins reload`; `steersman plugins list` says whether it is in use, or why not.

The package imports `steersman_contracts` and nothing else of Steersman, whose `docs/plugins.md`
has a section for each hook.
"""

_MODULE: Final = '''\
"""One tool and no I/O: where to start."""

from __future__ import annotations

from typing import Annotated

import msgspec
from steersman_contracts.hooks import Tool, ToolContext, ToolResult, hookimpl

steersman_api = 1
"""The version of the plugin API that this was written for."""


class Settings(msgspec.Struct, frozen=True):
    """What an administrator may set."""

    greeting: Annotated[str, msgspec.Meta(description="The first word of the answer.")] = "Hello"


class Arguments(msgspec.Struct, frozen=True):
    """What the model gives."""

    name: Annotated[str, msgspec.Meta(description="Who is greeted.", min_length=1, max_length=100)]


async def greet(context: ToolContext, args: Arguments) -> ToolResult:
    """Run one call."""
    context.progress(f"greeting {args.name}")
    return ToolResult(f"{context.settings.greeting}, {args.name}!")


@hookimpl
def settings() -> type[Settings]:
    """Declare the settings."""
    return Settings


@hookimpl
def tools() -> list[Tool[Arguments]]:
    """List the tools."""
    return [
        Tool(
            "$tool",
            "Greets somebody by name. Use it when asked to greet; returns the greeting.",
            Arguments,
            greet,
            read_only=True,
        )
    ]


@hookimpl
def prompt() -> str:
    """Say what a model has to know."""
    return "Use `$tool` for every greeting: the administrator has chosen the words."
'''

_TEST: Final = '''\
"""The plugin alone, without a service."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from steersman_contracts.testing import check_plugin, running_plugin

import $module as my_plugin


def test_it_is_what_a_deployment_expects_of_a_plugin() -> None:
    asyncio.run(check_plugin(my_plugin))


def test_it_greets_with_the_word_that_was_set(tmp_path: Path) -> None:
    async def call() -> None:
        async with running_plugin(my_plugin, tmp_path, settings={"greeting": "Ahoy"}) as plugin:
            context = plugin.context()
            result = await plugin.call("$tool", {"name": "Ada"}, context)

        assert result.text == "Ahoy, Ada!"
        assert context.progressed == ["greeting Ada"]

    asyncio.run(call())


def test_arguments_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    async def call() -> None:
        async with running_plugin(my_plugin, tmp_path) as plugin:
            with pytest.raises(msgspec.ValidationError, match="name"):
                await plugin.call("$tool", {"name": ""})

    asyncio.run(call())
'''


def write_kit(name: str, into: Path) -> Path:
    """Write the package of a new plugin.

    Args:
        name: Of the plugin: lower-case letters, digits and single dashes.
        into: The folder in which its own is made.

    Returns:
        The folder of the package.

    Raises:
        KitExists: There is such a folder already; nothing was written.
    """
    word = name.replace("-", "_")
    module = f"steersman_plugin_{word}"
    names = {"name": name, "module": module, "tool": word, "variable": word.upper()}
    root = into / f"steersman-plugin-{name}"
    try:
        root.mkdir()
    except FileExistsError as error:
        raise KitExists(f"{root} exists already") from error
    files = {
        "pyproject.toml": _PYPROJECT,
        "README.md": _README,
        f"src/{module}/__init__.py": _MODULE,
        f"src/{module}/py.typed": "",
        f"tests/test_{word}.py": _TEST,
    }
    for path, text in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(Template(text).substitute(names), encoding="utf-8")
    return root
