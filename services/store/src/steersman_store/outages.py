"""What PostgreSQL says when not the request is wrong, in words for whoever can mend it."""

from __future__ import annotations

from typing import Final

_CLASSES: Final = ("08", "53", "57", "58")
"""Connections, resources, somebody's intervention, the system around the server."""

_SENTENCES: Final = {
    "25006": "the database is read-only: an administrator must let it take writes again "
    "(is it a standby now, or is default_transaction_read_only on?)",
    "53100": "the disk of the database is full: an administrator must make room on it",
    "53200": "the database is out of memory: an administrator must give it more",
    "53300": "the database has no connection left: an administrator can raise its "
    "max_connections, or lower STEERSMAN_STORE_POOL_SIZE",
    "57P03": "the database is starting or stopping",
    "58030": "the database cannot use its disk: an administrator must look at the disk, and at "
    "the log of PostgreSQL",
}
_OTHERWISE: Final = "the database cannot take this at the moment"

UNWRITABLE: Final = frozenset({"25006", "53100", "58030"})
"""Reading goes on, so that it takes a write to find out whether it is over."""


def is_outage(sqlstate: str) -> bool:
    """Whether the same request may succeed once the database is well again."""
    return sqlstate[:2] in _CLASSES or sqlstate in _SENTENCES


def sentence(sqlstate: str) -> str:
    """What is wrong and who can do what about it."""
    return _SENTENCES.get(sqlstate, _OTHERWISE)
