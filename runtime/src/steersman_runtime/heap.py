"""The garbage collector, told what never becomes garbage.

Code that was imported lives as long as the process. The collector does not know that: it walks
through the hundreds of thousands of objects of a provider's SDK again and again, 0.3 s at a time,
in which nothing is streamed. That was a quarter of the CPU of a short turn.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

THRESHOLDS: Final = (5_000, 10, 10)
"""New objects before the young ones are looked through. Hundreds of chats keep thousands of objects
for a moment each; Python's own 700 finds them alive every time."""

_lock = threading.Lock()
_importing = 0


def settle() -> None:
    """All that lives now stays for good: once, when a process has started.

    Not for tests that run a service in their own process: what they leave would stay, too.
    """
    gc.set_threshold(*THRESHOLDS)
    gc.collect()
    gc.freeze()


@contextmanager
def importing() -> Generator[None]:
    """Import something large while others work, without looking for garbage in between.

    Works from any thread, also several at once.
    """
    global _importing  # noqa: PLW0603, RUF100  # the collector is one for the process
    with _lock:
        _importing += 1
        gc.disable()
    try:
        yield
    finally:
        with _lock:
            _importing -= 1
            if not _importing:
                gc.freeze()
                gc.enable()
