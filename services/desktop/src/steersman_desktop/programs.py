"""The programs that a virtual desktop is made of, and what to install for the missing ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from typing import Final

from steersman_contracts.errors import DesktopUnavailable

PACKAGES: Final = {"Xvnc": "tigervnc-standalone-server", "setpriv": "util-linux"}
"""Program and the Debian package that has it."""
WINDOW_MANAGERS: Final = ("icewm", "openbox")
"""The first that is there is used; icewm costs least and keeps the screen still."""
TASKBAR: Final = "icewm"
"""The one that has a taskbar, which belongs to the first picture."""
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
TERMINALS: Final = ("xterm",)


def missing_programs(found: Callable[[str], str | None] = shutil.which) -> tuple[str, ...]:
    """The programs that this machine lacks, by name; `found` says where one is."""
    return tuple(sorted(program for program in PACKAGES if found(program) is None))


def first_of(names: Iterable[str], found: Callable[[str], str | None] = shutil.which) -> str | None:
    """Where the first program is that this machine has."""
    return next((path for name in names if (path := found(name)) is not None), None)


def unavailable(missing: Iterable[str]) -> DesktopUnavailable:
    """Why there is no desktop, for a person and, in the details, for programs."""
    names = list(missing)
    packages = " ".join(PACKAGES[name] for name in names)
    return DesktopUnavailable(
        f"virtual desktops need {', '.join(names)} on the machine of the desktop service; "
        f"on Debian and Ubuntu: apt-get install {packages}",
        missing=names,
    )
