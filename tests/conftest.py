"""What holds for all tests."""

from __future__ import annotations

import gc

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

# The providers' SDKs and thousands of tests are hundreds of thousands of objects that stay until
# the end. Looking through them again and again is a tenth of a run.
gc.disable()


def pytest_collection_finish() -> None:
    """All that lives now stays."""
    gc.freeze()
    gc.set_threshold(5_000, 10, 10)
    gc.enable()
