"""What holds for all tests."""

from __future__ import annotations

import sys
from collections.abc import Generator
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

# A busy machine makes examples slow, which says nothing about the code under test.
settings.register_profile(
    "steersman",
    settings(),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("steersman")


@pytest.fixture(autouse=True)
def plugins_as_they_were() -> Generator[None]:
    """A test that loads plugins anew leaves the modules that other tests have imported."""
    before = _plugin_modules()
    yield
    for name, module in _plugin_modules().items():
        if before.get(name, module) is not module:
            sys.modules[name] = before[name]
    sys.modules.update({n: m for n, m in before.items() if n not in sys.modules})


def _plugin_modules() -> dict[str, ModuleType]:
    return {n: m for n, m in list(sys.modules.items()) if n.startswith("steersman_plugin_")}
