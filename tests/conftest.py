"""What holds for all tests."""

from __future__ import annotations

import gc

import pytest
from hypothesis import HealthCheck, settings
from support.rewriting import rewrite_share
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

# A busy machine makes examples slow, which says nothing about the code under test.
settings.register_profile(
    "steersman",
    settings(),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("steersman")

# The providers' SDKs and thousands of tests are hundreds of thousands of objects that stay until
# the end. Looking through them again and again is a tenth of a run.
gc.disable()


def pytest_configure(config: pytest.Config) -> None:
    rewrite_share(config)


def pytest_collection_finish() -> None:
    """All that lives now stays."""
    gc.freeze()
    gc.set_threshold(5_000, 10, 10)
    gc.enable()


class Schedule(LoadFileScheduling):
    """A file stays with one worker, and so does everything that shares the deployment.

    A deployment is a dozen processes: a second one costs more than all that is asked of it.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        shares = path.startswith("tests/e2e/") and path != "tests/e2e/test_compose.py"
        return "tests/e2e" if shares else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Schedule:
    """Any `--dist`."""
    return Schedule(config, log)
