"""In processes of their own: what is settled in this one would stay for all other tests."""

from __future__ import annotations

import subprocess
import sys

PRELUDE = """
import gc, threading
from steersman_runtime import heap
"""


def told(script: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_what_lives_at_the_start_is_not_looked_at_again() -> None:
    script = """
kept = [[] for _ in range(10_000)]
cycle = []; cycle.append(cycle); del cycle
heap.settle()
print(gc.get_freeze_count() > 10_000, len(gc.get_objects()) < 1000)
print(gc.get_threshold() == heap.THRESHOLDS, gc.isenabled())
cycle = []; cycle.append(cycle); del cycle
print(gc.collect())
"""

    assert told(script) == ["True", "True", "True", "True", "1"]


def test_nothing_is_collected_during_an_import_and_everything_after_the_last() -> None:
    script = """
inside, outside = threading.Event(), threading.Event()
def other():
    with heap.importing():
        inside.set()
        outside.wait()
thread = threading.Thread(target=other)
thread.start()
inside.wait()
with heap.importing():
    kept = [[] for _ in range(10_000)]
print(gc.isenabled(), gc.get_freeze_count() > 10_000)
outside.set()
thread.join()
print(gc.isenabled(), gc.get_freeze_count() > 10_000)
"""

    assert told(script) == ["False", "False", "True", "True"]


def test_an_import_that_fails_leaves_the_collector_at_work() -> None:
    script = """
try:
    with heap.importing():
        import no_such_module
except ImportError:
    print(gc.isenabled())
"""

    assert told(script) == ["True"]
