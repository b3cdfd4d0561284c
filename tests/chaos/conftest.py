from __future__ import annotations

from collections.abc import Generator

import pytest
from chaos.deploying import Deployment, deployed


@pytest.fixture(scope="package")
def deployment() -> Generator[Deployment]:
    """One for all tests here: each leaves it whole."""
    with deployed() as running:
        yield running
