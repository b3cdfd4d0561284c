"""Rewriting the asserts of all test files, shared by the workers of a run.

Workers collect the same files at the same time, and where nothing is cached each of them rewrites
all: seven seconds of work, four times. Here each does its share first and finds the others' later.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from _pytest.assertion.rewrite import (
    PYC_TAIL,
    _read_pyc,  # pyright: ignore[reportPrivateUsage] - pytest has no public way to its cache
    _rewrite_test,  # pyright: ignore[reportPrivateUsage]
    _write_pyc,  # pyright: ignore[reportPrivateUsage]
    assertstate_key,
    get_cache_dir,
    try_makedirs,
)


def rewrite_share(config: pytest.Config) -> None:
    """Rewrite what is this worker's to rewrite; nothing in a run without workers."""
    worker = getattr(config, "workerinput", None)
    state = config.stash.get(assertstate_key, None)
    if worker is None or state is None or sys.dont_write_bytecode:
        return
    number = int(worker["workerid"].removeprefix("gw"))
    for file in _files(config)[number :: worker["workercount"]]:
        folder = get_cache_dir(file)
        cached = folder / (file.name.removesuffix(".py") + PYC_TAIL)
        if try_makedirs(folder) and _read_pyc(file, cached) is None:
            source_hash, code = _rewrite_test(file, config)
            _write_pyc(state, code, source_hash, cached)


def _files(config: pytest.Config) -> list[Path]:
    """The test files below the folders that are asked for."""
    folders = [config.invocation_params.dir / argument for argument in config.args]
    return sorted({file for folder in folders for file in folder.rglob("test_*.py")})
