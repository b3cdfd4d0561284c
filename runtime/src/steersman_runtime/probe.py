"""`python -m steersman_runtime.probe URL`: the health check of a container without curl.

Exits with 0 when the URL answers with a status below 400 within two seconds, with 1 otherwise.
"""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from typing import Final

_TIMEOUT_S: Final = 2.0


def is_healthy(url: str) -> bool:
    """Ask once."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
            return answer.status < 400  # the first status that is an error
    except (urllib.error.URLError, OSError, ValueError):
        return False


if __name__ == "__main__":
    sys.exit(0 if len(sys.argv) == 2 and is_healthy(sys.argv[1]) else 1)
